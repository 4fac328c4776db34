"""Layout: how MLflow's page of an experiment shows its runs at first: columns and charts that compare them.

MLflow keeps a saved view as a tag of the experiment, `mlflow.sharedViewState.KEY`: JSON with a name and, deflated and in
base64, the state of the page. Its menu Views lists them, and an address with `viewStateShareKey=KEY` opens one.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqtoolkit.train.tracking.library import KIND_TAG, StoredRun

TAG = "mlflow.sharedViewState."
RUNS, CORES = "seqtoolkit-runs", "seqtoolkit-cores"
"""The keys of the views: every run by itself, and the mean over the runs of a core."""
_ALWAYS = ("model.core", "run.seed")
_SIZE = ("parameters",)
_QUIET = ("track", "evaluate")
_COLUMNS, _AXES = 8, 4
_TIMES = (("step", ""), ("metric", "examples"), ("metric", "seconds"))
_NAME = "attributes.`Run Name`"


def layout(runs: Sequence[StoredRun], now: int) -> dict[str, str]:
    """The tags of an experiment that make the two views of these runs.

    Columns are the core, the seed, other settings in which the runs differ, and the metrics of the test and validation
    splits; charts are parallel coordinates of these, and the learning curves by step, by examples and by seconds.

    Args:
        runs: What the experiment has.
        now: The time, in milliseconds since 1970.
    """
    runs = [run for run in runs if run.tags.get(KIND_TAG) != "sweep"]
    settings, metrics = _settings(runs), _metrics(runs)
    learning = [key for key in metrics if key.startswith("valid/")][:3]
    curves = [_curve(key, *each) for key in learning[:1] for each in _TIMES]
    sections = [_section("settings", "Settings and results", 1), _section("curves", "Learning curves", 3)]
    quality = [key for key in metrics if key.startswith("test/")] or metrics
    parallel = {
        **_card("PARALLEL", "settings", "parallel"),
        "selectedParams": settings[:_AXES],
        "selectedMetrics": quality[:_AXES],
        "showAllRuns": False,
    }
    state = _state(
        [*(f"params.`{key}`" for key in settings), *(f"metrics.`{key}`" for key in [*metrics[:_COLUMNS], "seconds"])],
        sections,
        [parallel, *curves] if quality else curves,
    )
    group = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "model.core"}]}
    means = {
        **state,
        "groupBy": group,
        "compareRunSections": sections[1:],
        "compareRunCharts": [_curve(key, *_TIMES[0]) for key in learning],
    }
    return {
        f"{TAG}{RUNS}": _saved("runs side by side", state, now),
        f"{TAG}{CORES}": _saved("cores: mean over runs", means, now),
    }


def _settings(runs: Iterable[StoredRun]) -> list[str]:
    """The core, the seed, then what differs between runs of one core, but for settings of looking at them; the size."""
    values: dict[tuple[str, str | None], set[str]] = {}
    for run in runs:
        for key, value in run.params.items():
            values.setdefault((key, run.params.get("model.core")), set()).add(value)
    differing = {key for (key, _), found in values.items() if len(found) > 1 and key.partition(".")[0] not in _QUIET}
    return [*_ALWAYS, *sorted(differing.difference(_ALWAYS, _SIZE))[:_COLUMNS], *_SIZE]


def _metrics(runs: Iterable[StoredRun]) -> list[str]:
    """What was measured on the test split and in validation, returns first, the loss last."""
    names = {name for run in runs for name in run.metrics}
    return [
        name
        for split in ("test/", "valid/")
        for name in sorted(
            (name for name in names if name.startswith(split)),
            key=lambda name: (name[-5:] == "/loss", name[-14:] != "episode_return", name),
        )
    ]


def _card(kind: str, section: str, name: str) -> dict[str, Any]:
    return {
        "uuid": f"seqtoolkit-{name}",
        "type": kind,
        "runsCountToCompare": 20,
        "metricSectionId": f"seqtoolkit-{section}",
        "deleted": False,
        "isGenerated": False,
    }


def _curve(metric: str, axis: str, by: str) -> dict[str, Any]:
    return {
        **_card("LINE", "curves", f"{metric}-{by or axis}"),
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": axis,
        "selectedXAxisMetricKey": by,
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": dict.fromkeys(("xMin", "xMax", "yMin", "yMax")),
    }


def _section(key: str, name: str, columns: int) -> dict[str, Any]:
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": f"seqtoolkit-{key}", "name": name, "columns": columns, **shown}


def _state(columns: list[str], sections: list[Any], charts: list[Any]) -> dict[str, Any]:
    """The state of the page, as MLflow 3.17 writes it."""
    return {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns, "duration", "runDateAndNestInfo"],
        "columnWidths": {_NAME: 230},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": sections,
        "compareRunCharts": charts,
    }


def _saved(name: str, state: Mapping[str, Any], now: int) -> str:
    """A view as it stands in its tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})
