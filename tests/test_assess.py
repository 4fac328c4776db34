"""`seqtoolkit evaluate`: a checkpoint on any split and difficulty, with the numbers of its own run where nothing differs."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from seqtoolkit import ConfigError, Pipeline
from seqtoolkit.assess import Assessment, Cell, evaluate, keep
from seqtoolkit.assess.grid import Grid
from seqtoolkit.assess.interval import Z, wilson
from seqtoolkit.assess.picture import _curve, _heat_map, draw
from seqtoolkit.flow.metric import Accuracy, Metric
from seqtoolkit.host.assemble import make_source
from seqtoolkit.train.evaluate import Evaluation
from seqtoolkit.trained import Trained


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A small run, evaluated after 3 and 6 updates."""
    return Pipeline.load(
        "program_eval", [*tiny, "source.length=2", "run.seed=3", "run.checkpoint_every=3", "run.keep_every=3"]
    ).run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def trained(run):
    """Its last model."""
    return Trained.find(run.folder, "last")


def of_split(row, split):
    """What a row recorded of a split."""
    return {name.partition("/")[2]: value for name, value in row.items() if name.startswith(f"{split}/")}


class TestEvaluate:
    """The numbers."""

    @pytest.mark.parametrize(("checkpoint", "split"), [("3", "valid"), ("last", "valid"), ("last", "test")])
    def test_a_runs_own_setting_has_its_own_numbers(self, run, checkpoint, split):
        """Nothing said, or the test split: what was recorded of that checkpoint, to the last bit, on as many examples."""
        trained = Trained.find(run.folder, checkpoint)
        found = evaluate(trained, [] if split == "valid" else ["source.split=test"])
        (row,) = [row for row in trained.place.rows() if row["step"] == trained.step and f"{split}/loss" in row]
        (cell,) = found.cells
        assert cell.metrics == of_split(row, split)
        assert cell.examples == {"valid": 20, "test": 10}[split]
        assert (found.step, found.split, found.axes) == (trained.step, split, {})
        assert (found.run, found.run_id) == (run.folder.name, run.run_id)

    def test_each_cell_is_an_evaluation_of_its_own(self, trained):
        """A grid has, in each of its cells, what a pipeline with these settings finds."""
        words = ["examples=12", "source.length=1..3", "evaluate.source.split=test", "source.nesting=1,3"]
        found = evaluate(trained, words)
        assert found.axes == {"source.length": (1, 2, 3), "source.nesting": (1, 3)}
        assert [tuple(cell.at.values()) for cell in found.cells] == [(1, 1), (1, 3), (2, 1), (2, 3), (3, 1), (3, 3)]
        for length, nesting in ((1, 1), (3, 1), (2, 3)):
            overrides = [f"evaluate.source.length={length}", f"evaluate.source.nesting={nesting}"]
            plan = Pipeline.load(trained.place.config, [*overrides, "evaluate.source.split=test"]).plan
            source = make_source(plan.evaluate_origin, seed=3)
            update = (
                Pipeline.load(trained.place.config)
                .plan.learner.maker()(graph=trained.graph, device=torch.device("cpu"), steps=1, precision="f32")
                .update
            )
            wanted = Evaluation(trained.graph, source, 12)(update).metrics
            assert found.cell(length, nesting).metrics == of_split(wanted, "test")
        assert {cell.examples for cell in found.cells} == {12}
        assert found.origin["split"] == "test"
        assert not {"length", "nesting"} & found.origin.keys()
        with pytest.raises(KeyError, match=r"no cell at 9; the axes are source\.length, source\.nesting"):
            found.cell(9)

    def test_intervals_are_of_shares_alone(self, trained, monkeypatch):
        """Wilson's, an example being a draw, of each metric that says it is a share; the loss has none."""
        (cell,) = evaluate(trained).cells
        assert cell.intervals == {name: wilson(cell.metrics[name], 20) for name in ("accuracy", "sequence_accuracy")}
        monkeypatch.setattr(Accuracy, "share", Metric.share)
        (cell,) = evaluate(trained).cells
        assert cell.intervals.keys() == {"sequence_accuracy"}

    def test_what_was_trained_on(self, trained, monkeypatch):
        """A cell is marked where training had examples as hard; where the source does not say, where they are the same."""
        words = ["source.length=1..3", "source.nesting=1,2", "examples=4"]

        def marked(*words):
            return [tuple(cell.at.values()) for cell in evaluate(trained, words).cells if cell.trained]

        assert marked(*words) == [(1, 1), (2, 1)]
        assert marked("source.length=1..3", "examples=4") == [(1,), (2,)]
        assert marked("source.nesting=1,2", "source.length=3", "examples=4") == []
        assert marked("source.split=valid,test", "examples=4") == [("valid",), ("test",)]
        monkeypatch.setattr(type(trained.graph.source), "covers", {"length": (2, 3), "nesting": (1, 1)})
        assert marked(*words) == [(2, 1), (3, 1)]
        monkeypatch.setattr(type(trained.graph.source), "covers", {"length": (1, 3), "width": (1, 2)})
        assert marked(*words) == []
        monkeypatch.setattr(type(trained.graph.source), "covers", {})
        assert marked(*words) == [(2, 1)]
        assert marked("source.curriculum=mix,baseline", "examples=4") == [("mix",)]
        assert marked("source.split=valid,test", "source.nesting=2", "examples=4") == []
        assert marked("source.split=valid,test", "examples=4,5") == [
            (split, n) for split in ("valid", "test") for n in (4, 5)
        ]

    def test_examples_that_a_split_has_not(self, trained):
        """A cell whose task has no example says so, and the others have their numbers; where none has, that is an error."""
        words = ["source.problem=copy", "source.length=1", "examples=4"]
        found = evaluate(trained, [*words, "source.nesting=1,2"])
        some, none = found.cells
        assert none.error.startswith("split: valid has no program of length 1 and nesting 2")
        assert not none.metrics
        assert some.error is None
        assert some.metrics
        with pytest.raises(ValueError, match=r"^split: valid has no program of length 1 and nesting 2"):
            evaluate(trained, [*words, "source.nesting=2"])

    def test_data_that_cannot_be_read(self, trained, monkeypatch):
        """What is wrong with them stands behind the key that names them."""

        def prepare(source, report):
            raise ValueError("length: there is no such file")

        monkeypatch.setattr(type(trained.graph.source), "prepare", prepare)
        with pytest.raises(ValueError, match=r"^evaluate\.source\.length: there is no such file$"):
            evaluate(trained, ["examples=4"])

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["length=7"], "length: wanted examples or source.KEY, as in evaluate: of a pipeline"),
            (["exampels=7"], "exampels: wanted examples or source.KEY, as in evaluate: of a pipeline; did you mean examples?"),
            (["every=7"], "every: wanted examples or source.KEY, .*; it says when or how a run is evaluated, not on what"),
            (["model.core=lstm"], "model.core: wanted examples or source.KEY"),
            (["source=mix"], "source: wanted examples or source.KEY"),
            (["examples.x=1"], "examples.x: wanted examples or source.KEY"),
            (["source.lenght=7"], r"evaluate.source.lenght: .*did you mean .*length\?"),
            (["source.length=0"], "evaluate.source.length: wanted a whole number from 1 to 1,000, got 0"),
            (["source.length=two"], "evaluate.source.length: wanted .*, got 'two'"),
            (["source.split=dev"], "evaluate.source.split: wanted .*, got 'dev'"),
            (["examples=0"], "evaluate.examples: wanted at least 1, got 0"),
            (["7"], "'7': wanted KEY=VALUE, such as source.length=7 or source.length=1..5"),
            (["~source.length"], "'~source.length': wanted KEY=VALUE"),
            (["source.length="], "source.length: no value|no value; write source.length=null"),
            (["source.length=1,2,1"], "source.length: 1 stands there twice"),
            (["source.length=5..1"], r"source.length: wanted FROM..TO, upwards and of at most 1,000 values, got 5\.\.1"),
            (["source.length=1..3..0"], r"source.length: wanted FROM..TO"),
            (["source.length=0..1000000000"], "source.length: wanted FROM..TO"),
            (["source.length=1", "evaluate.source.length=2"], "source.length: given twice"),
            (["source.length=1..50", "source.nesting=1..50"], "source.length x source.nesting: 2,500 combinations, more than 1,000"),
            (
                ["examples=3", "source.grammar=learning_to_execute"],
                "^evaluate.source.grammar=learning_to_execute: the model was trained on question .*, and cannot read i64<",
            ),
        ],
    )  # fmt: skip
    def test_settings_that_cannot_be(self, trained, words, says):
        """A mistake is one line with the key, what was given and what is wanted; nothing is evaluated."""
        with pytest.raises(ConfigError, match=says) as caught:
            evaluate(trained, words)
        assert len(caught.value.problems) == 1

    def test_all_problems_at_once(self, trained):
        """Each wrong setting has its line, and each wrong value of an axis, once."""
        with pytest.raises(ConfigError) as caught:
            evaluate(trained, ["length=7", "every=3"])
        assert len(caught.value.problems) == 2
        with pytest.raises(ConfigError) as caught:
            evaluate(trained, ["source.length=0,1,1001", "source.nesting=1,2"])
        assert len(caught.value.problems) == 2

    def test_in_the_precision_of_the_run(self, run, trained):
        """A run in bf16 is evaluated in bf16: nearly the same loss, and not the same."""
        plain = evaluate(trained).cells[0].metrics["loss"]
        coarse = evaluate(Trained.find(run.folder, "last", overrides=["run.precision=bf16"])).cells[0].metrics["loss"]
        assert coarse != plain
        assert coarse == pytest.approx(plain, rel=0.02)

    def test_weights_are_read_once(self, run, monkeypatch):
        """However many cells there are."""
        read = []
        from seqtoolkit import trained as home

        monkeypatch.setattr(home, "load_weights", lambda path, real=home.load_weights: read.append(path) or real(path))
        trained = Trained.find(run.folder, "last")
        evaluate(trained, ["source.length=1..3", "examples=4"])
        assert len(read) == 1

    def test_leaves_all_as_it_was(self, trained):
        """The model is on the CPU and in evaluation mode, threads and random numbers are the caller's, each cell was told."""
        threads, random = torch.get_num_threads(), torch.get_rng_state()
        told = []
        torch.set_num_threads(2)
        try:
            evaluate(trained, ["source.length=1..3", "examples=4"], device="cpu", heard=lambda *each: told.append(each))
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(torch.get_rng_state(), random)
        assert not trained.model.training
        assert [(done, of, cell.at["source.length"]) for done, of, cell in told] == [(1, 3, 1), (2, 3, 2), (3, 3, 3)]
        with pytest.raises(ValueError, match=r"^device: wanted auto or a device of this machine, got 'abacus'"):
            evaluate(trained, device="abacus")


class TestGrid:
    """How settings are read."""

    @pytest.mark.parametrize(
        ("word", "values"),
        [
            ("source.length=7", (7,)),
            ("source.length=1..4", (1, 2, 3, 4)),
            ("source.length=1..9..4,20", (1, 5, 9, 20)),
            ("source.length= 2 .. 3", (2, 3)),
            ("source.shift=-2..0", (-2, -1, 0)),
            ("source.split=valid,test", ("valid", "test")),
            ("source.weights={add: 1, multiply: 2}", ({"add": 1, "multiply": 2},)),
            ("source.list=[1, 2]", ([1, 2],)),
            ("source.name='a,b'", ("a,b",)),
            ("source.rate=0.5,1e-3", (0.5, 1e-3)),
            ("source.grammar=null,a..b", (None, "a..b")),
        ],
    )
    def test_values(self, word, values):
        """Commas part values and two dots span whole numbers; inside of brackets and quotes they are the value's own."""
        (setting,) = Grid.parse([word]).settings
        assert setting.values == values

    def test_cells(self):
        """Every combination, the last axis fastest; what has one value is no axis, and is an override all the same."""
        grid = Grid.parse(["source.a=1,2", "evaluate.examples=3", "source.b=x,y"])
        assert [each.key for each in grid.axes] == ["source.a", "source.b"]
        assert list(grid.cells())[1] == (
            {"source.a": 1, "source.b": "y"},
            ["evaluate.source.a=1", "evaluate.examples=3", "evaluate.source.b=y"],
        )
        assert [tuple(at.values()) for at, _ in grid.cells()] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
        assert list(Grid.parse([]).cells()) == [({}, [])]


class TestWilson:
    """The interval of a share."""

    @given(st.integers(1, 10**6), st.floats(0, 1))
    def test_its_limits_are_shares_from_which_the_seen_is_just_as_far(self, count, share):
        """Each limit solves the equation that defines it; the share is inside, and the interval within 0 and 1."""
        low, high = wilson(share, count)
        assert 0 <= low <= share + 1e-12
        assert share - 1e-12 <= high <= 1
        for limit in (low, high):
            if 0 < limit < 1:
                assert (share - limit) ** 2 == pytest.approx(Z**2 * limit * (1 - limit) / count, rel=1e-6, abs=1e-14)

    def test_known_values(self):
        """Those of the literature: 15 of 148 and 0 of 10 (Newcombe 1998; Brown et al. 2001)."""
        assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
        assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=5e-5)

    @pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 3), (-0.1, 3), (math.nan, 3)])
    def test_what_is_no_share(self, share, count):
        """No draw, or a number that is none."""
        with pytest.raises(ValueError, match="wanted a share of at least one draw"):
            wilson(share, count)


def table(rows, columns, value=lambda row, column=0: (row + column) / 10, trained=lambda *_: False):
    """An assessment made up: `accuracy` with an interval, and `loss`."""
    axes = {"source.length": tuple(rows)} | ({"source.nesting": tuple(columns)} if columns else {})
    places = [(row, column) for row in rows for column in columns] if columns else [(row,) for row in rows]
    cells = tuple(
        Cell(
            dict(zip(axes, place, strict=True)),
            50,
            {"loss": 2.0, "accuracy": value(*place)},
            {"accuracy": wilson(value(*place), 50)},
            trained=trained(*place),
        )
        for place in places
    )
    return Assessment(
        run="a-run",
        run_id="f00",
        step=7,
        settings=("source.length=1..2",),
        kind="source",
        origin={"use": "task", "split": "test"},
        axes=axes,
        metrics={"accuracy": "higher", "loss": "lower"},
        cells=cells,
    )


class TestFiles:
    """What is kept."""

    def test_json_and_csv(self):
        """Both have every number; what is no number is null in JSON, and a cell without any says why in both."""
        found = table([1, 2], [1, 3], trained=lambda row, column: row + column == 5)
        odd = replace(found.cells[1], metrics={"loss": math.nan, "accuracy": 0.4})
        gone = Cell(found.cells[2].at, 50, error="there is none")
        found = replace(found, cells=(found.cells[0], odd, gone, found.cells[3]))
        data = json.loads(found.json())
        assert data["axes"] == {"source.length": [1, 2], "source.nesting": [1, 3]}
        assert data["cells"][0] == {
            "at": {"source.length": 1, "source.nesting": 1},
            "examples": 50,
            "trained": False,
            "metrics": {"loss": 2.0, "accuracy": 0.2},
            "intervals": {"accuracy": list(wilson(0.2, 50))},
        }
        assert data["cells"][1]["metrics"] == {"loss": None, "accuracy": 0.4}
        assert data["cells"][2]["error"] == "there is none"
        rows = list(csv.DictReader(io.StringIO(found.csv())))
        assert len(rows) == 7
        low, high = wilson(0.2, 50)
        assert rows[0] == {
            "source.length": "1", "source.nesting": "1", "metric": "accuracy", "value": "0.2", "low": str(low),
            "high": str(high), "examples": "50", "trained": "0", "error": "",
        }  # fmt: skip
        assert [row["trained"] for row in rows] == ["0"] * 5 + ["1"] * 2
        assert (rows[4]["metric"], rows[4]["error"]) == ("", "there is none")

    def test_kept_with_the_run_and_in_its_store(self, trained, monkeypatch, tmp_path):
        """The run's folder has numbers and picture, its store is handed both; a folder of one's own has the table too."""
        handed = []
        monkeypatch.setattr("seqtoolkit.assess.file.attach", lambda *given: handed.append(given) or "why not")
        found = evaluate(trained, ["source.length=1..2", "examples=4"])
        kept = keep(found, trained, tmp_path / "new" / "folder")
        own = trained.place.path / "evaluations"
        name = "step_00000006-length=1..2-examples=4"
        assert handed == [(trained.place.path, own / f"{name}{end}", "evaluations") for end in (".json", ".png")]
        assert kept.unstored == "why not"
        assert [path.name for path in kept.paths] == [f"{name}{end}" for end in (".json", ".csv", ".png")]
        assert all(path.parent == tmp_path / "new" / "folder" for path in kept.paths)
        assert (own / f"{name}.json").read_text() == kept.paths[0].read_text() == found.json()
        assert kept.paths[1].read_text() == found.csv()
        again = keep(found, trained)
        assert again.paths == [own / f"{name}.json", own / f"{name}.png"]
        assert again.paths[1].read_bytes() == kept.paths[2].read_bytes()
        assert not [path for path in own.iterdir() if path.name.startswith(".")]

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ((), "step_00000007-test"),
            (("source.split=test", "evaluate.source.length=1"), "step_00000007-split=test-length=1"),
            (("source.weights={a: 1}",), r"step_00000007-weights=_a_1_-[0-9a-f]{8}"),
            (("source.grammar=/etc/../x",), r"step_00000007-grammar=_etc_.._x-[0-9a-f]{8}"),
            ((f"source.list={list(range(100))}",), r"step_00000007-[\w.,=]{80}-[0-9a-f]{8}"),
        ],
    )
    def test_names(self, trained, tmp_path, settings, name):
        """A file is named after checkpoint and settings, short and safe, and otherwise for every other setting."""
        found = replace(table([1], []), settings=settings, axes={}, cells=(table([1], []).cells[0],))
        path, _ = keep(found, replace(trained, place=type(trained.place)(tmp_path)), tmp_path / "to").paths
        assert re.fullmatch(name, path.stem)
        assert path.parent == tmp_path / "to"

    def test_a_folder_that_cannot_be(self, trained, tmp_path):
        """It is named in one line."""
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match=r"file cannot be written: "):
            keep(table([1], []), replace(trained, place=type(trained.place)(tmp_path)), tmp_path / "file")

    def test_pictures(self, tmp_path):
        """Two axes are a heat map, one is a curve, the same bytes each time; others are not drawn."""
        for columns in ([1, 2, 3], []):
            paths = [draw(table([1, 2], columns), tmp_path / f"{len(columns)}{place}.png") for place in (1, 2)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
            height, width, _ = imread(paths[0]).shape
            assert min(height, width) > 300
        assert draw(replace(table([1], []), axes={}), tmp_path / "none.png") is None
        assert draw(table(list(range(50)), [1, 2], lambda *_: 0.5), tmp_path / "big.png") is None
        with pytest.raises(OSError, match="No such file"):
            draw(table([1, 2], []), tmp_path / "lost" / "curve.png")

    def test_a_heat_map_has_its_numbers_and_its_frame(self):
        """Each cell has its number; the frame runs around what was trained on, and nowhere inside of it."""
        found = table([1, 2, 3], [1, 2, 4], trained=lambda row, column: row <= 2 and column <= 2)
        found = replace(found, cells=(*found.cells[:-1], Cell(found.cells[-1].at, 50, error="none there")))
        axis = Figure().subplots()
        _heat_map(axis, found, "accuracy")
        words = [text.get_text() for text in axis.texts]
        assert words == ["0.20", "0.30", "0.50", "0.30", "0.40", "0.60", "0.40", "0.50", "none"]
        edges = {tuple(map(tuple, line.get_xydata().tolist())) for line in axis.lines}
        wanted = {((x, -0.5), (x + 1, -0.5)) for x in (-0.5, 0.5)} | {((x, 1.5), (x + 1, 1.5)) for x in (-0.5, 0.5)}
        wanted |= {((-0.5, y), (-0.5, y + 1)) for y in (-0.5, 0.5)} | {((1.5, y), (1.5, y + 1)) for y in (-0.5, 0.5)}
        assert edges == wanted
        assert [each.get_text() for each in axis.get_xticklabels()] == ["1", "2", "4"]
        assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("nesting", "length", "accuracy")

    def test_a_curve_has_its_points_and_its_shade(self):
        """Values are evenly spaced; stretches that were trained on are shaded."""
        axis = Figure().subplots()
        _curve(axis, table([1, 2, 5], [], lambda row: row / 10, lambda row: row < 3), "accuracy")
        assert axis.lines[0].get_xydata().tolist() == [[0, 0.1], [1, 0.2], [2, 0.5]]
        assert [(each.get_x(), each.get_width()) for each in axis.patches] == [(-0.5, 1), (0.5, 1)]


class TestCommand:
    """What is printed."""

    def test_one_setting(self, run, type_in):
        """A row for each metric, with its interval, and where the numbers are kept."""
        code, out, err = type_in("evaluate", run.folder, "--checkpoint", "last")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0] == f"{run.folder.name}  step 6"
        assert lines[1].startswith("use=program_eval problem=program length=2 nesting=1 curriculum=baseline")
        assert lines[1].endswith("split=valid; 20 examples")
        rows = {line.split()[0]: line.split()[1:] for line in lines[3:6]}
        for name, (value, *_) in rows.items():
            assert value == f"{run.metrics[f'valid/{name}']:.4f}"
        low, high = wilson(run.metrics["valid/accuracy"], 20)
        assert rows["accuracy"][1] == f"({low:.3f}-{high:.3f})"
        assert lines[-1] == "stored  no: the run is in no tracking store"
        assert lines[-2] == f"numbers {run.folder}/evaluations/step_00000006-valid.json"

    def test_tables(self, run, type_in):
        """Two axes are a table for each metric, one and three are a list; what was trained on is marked."""
        code, out, _ = type_in("evaluate", run.folder, "source.length=1..3", "source.nesting=1,2", "examples=4")
        assert code == 0
        lines = [line.split() for line in out.splitlines()]
        place = lines.index(["accuracy"])
        assert lines[place + 1] == ["length", "\\", "nesting", "1", "2"]
        assert [line[0] for line in lines[place + 2 : place + 5]] == ["1", "2", "3"]
        assert [line[2].endswith("*") for line in lines[place + 2 : place + 5]] == [True, True, False]
        assert lines.index(["sequence_accuracy"]) < lines.index(["loss"])
        assert "* of a difficulty that it was trained on" in out
        words = ["source.length=1,2", "source.nesting=1,2", "source.split=valid,test", "examples=4"]
        code, out, _ = type_in("evaluate", run.folder, *words)
        head = ["length", "nesting", "split", "accuracy", "sequence_accuracy", "loss"]
        lines = [line.split() for line in out.splitlines()]
        rows = lines[lines.index(head) + 1 :][:8]
        assert [row[:3] for row in rows[:3]] == [["1", "1", "valid"], ["1", "1", "test"], ["1", "2", "valid"]]
        assert [row[-1] == "*" for row in rows] == [True, True, False, False] * 2
        code, out, _ = type_in("evaluate", run.folder, "source.length=1,2", "--split", "test", "--to", "here")
        assert "split=test; 10 examples each" in out
        assert [line.split()[0] for line in out.splitlines()[-4:]] == ["numbers", "table", "picture", "stored"]

    def test_for_programs(self, run, type_in, tmp_path):
        """--json and --csv print nothing else, and the same as the files have."""
        code, out, err = type_in("evaluate", run.folder, "source.length=1,2", "--json", "--to", "here")
        (path,) = (tmp_path / "here").glob("*.json")
        assert (code, err) == (0, "")
        assert json.loads(out) == json.loads(path.read_text())
        code, out, err = type_in("evaluate", run.folder, "source.length=1,2", "--csv")
        assert (code, err) == (0, "")
        assert out == path.with_suffix(".csv").read_text()

    @pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
    def test_numbers_that_cannot_be_kept_are_seen(self, run, type_in, tmp_path, form):
        """What was found is printed before it is written: a folder that cannot be loses nothing."""
        (tmp_path / "file").write_text("")
        code, out, err = type_in("evaluate", run.folder, "examples=4", "--to", "file", *form)
        assert code == 2
        assert err == "seqtoolkit: file cannot be written: File exists\n"
        assert "sequence_accuracy" in out

    def test_a_cell_without_examples(self, run, type_in):
        """It is left out of the table, and said below it."""
        words = ["source.problem=copy", "source.length=1", "source.nesting=1,2", "examples=4"]
        code, out, _ = type_in("evaluate", run.folder, *words)
        assert code == 0
        assert re.search(r"^2 +none +none +none", out, re.MULTILINE)
        assert "\nnesting=2: split: valid has no program of length 1 and nesting 2" in out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--json", "--csv"], "--json and --csv: wanted one of them"),
            (["--checkpoint", "5"], "has no checkpoint '5'"),
            (["source.size=3"], "evaluate.source.size: "),
            (["--split", "dev"], "evaluate.source.split: wanted"),
            (["--split", "test", "source.split=valid"], "source.split: given twice"),
        ],
    )
    def test_mistakes(self, run, type_in, words, said):
        """One line, exit code 2."""
        code, out, err = type_in("evaluate", run.folder, *words)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1
