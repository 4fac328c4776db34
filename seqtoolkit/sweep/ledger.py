"""Ledger: the trials of a study as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from optuna.trial import FrozenTrial, TrialState

from seqtoolkit.sweep.crew import Member
from seqtoolkit.sweep.row import Row, Status
from seqtoolkit.sweep.study import Study, facts

_STATUS: dict[TrialState, Status] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def rows(study: Study, members: Mapping[int, Member]) -> list[Row]:
    """All trials by number; of those under way in this process, what their runs have written last."""
    return [_row(trial, study.distributions, members.get(trial.number)) for trial in study.trials()]


def _row(trial: FrozenTrial, keys: Iterable[str], member: Member | None) -> Row:
    known = dict(facts(trial))
    known.pop("again", None)
    status = known.pop("status", None)
    given = trial.params or trial.system_attrs.get("fixed_params", {})
    values = {key: given[key] for key in keys if key in given} | known.pop("matched", {})
    if trial.state is not TrialState.RUNNING or status != "killed":
        status = _STATUS[trial.state]
    if trial.state is TrialState.FAIL and "error" not in known:
        known["error"] = "its machine was lost"
    if member is not None:
        known |= {"step": member.reading.step, "best": member.reading.best, "seconds": round(member.seconds, 1)}
    elif status == "running" and trial.intermediate_values:
        known |= {"step": trial.last_step}
    return Row(trial.number, status, values, **known)
