"""What a sweep tries: values and distributions as text, designs, their names and their mistakes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit import ConfigError, Pipeline
from seqtoolkit.host.resource import find_pipeline
from seqtoolkit.sweep.design import Design
from seqtoolkit.sweep.space import Choice, Range, Space, read, split
from seqtoolkit.sweep.study import Study

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab ,'\"[]{}:", min_size=1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab", min_size=1), inner),
    max_leaves=5,
)


@given(st.lists(VALUES.map(json.dumps), min_size=1))
def test_values_are_split_where_they_end(pieces):
    """Whatever YAML values are joined by commas, they come apart again as they were."""
    assert split(", ".join(pieces)) == [piece.strip() for piece in pieces]


@pytest.mark.parametrize("text", ["[1", "{a: 1", "'a", "[1}", '["a]', "int(1, 2"])
def test_what_is_not_closed_is_said(text):
    """A bracket, brace or quote that is not closed is named."""
    with pytest.raises(ValueError, match="is missing in"):
        split(text)


class TestRead:
    """The words of a command."""

    def test_values_are_scalars_or_their_text(self):
        """Scalars are what YAML makes of them; anything else is its text; the override has what was written."""
        words = ["a.b=rmc, 1e-3,null,true,'1',[64],{use: rmc, mem_slots: 8}", "c=[1,2]", "~d", "e={x: 1, y: 2}"]
        fixed, space = read(words, {})
        assert fixed == ["c=[1,2]", "~d", "e={x: 1, y: 2}"]
        assert space.axes["a.b"].names == ["rmc", 1e-3, None, True, "1", "[64]", "{use: rmc, mem_slots: 8}"]
        assert space.overrides({"a.b": "{use: rmc, mem_slots: 8}"}) == ["a.b={use: rmc, mem_slots: 8}"]
        assert space.overrides({"a.b": None}) == ["a.b=null"]

    def test_distributions(self):
        """Each is read with both ends, and a number drawn from it is written so that YAML reads that very number."""
        words = ["a=uniform(0, 1)", "b=loguniform(1e-4,1e-2)", "c=int(1,8)", "d=logint(16, 256)"]
        fixed, space = read(words, {})
        assert fixed == []
        assert list(space.axes.values()) == [
            Range(0.0, 1.0, whole=False, log=False),
            Range(1e-4, 1e-2, whole=False, log=True),
            Range(1, 8, whole=True, log=False),
            Range(16, 256, whole=True, log=True),
        ]
        assert space.overrides({"b": 1e-05, "c": 3}) == ["b=1e-05", "c=3"]
        written = [str(axis) for axis in read(["a=int(1, 2000001)", "b=uniform(0, 0.12345678)"], {})[1].axes.values()]
        assert written == ["int(1, 2000001)", "uniform(0, 0.12345678)"]

    def test_the_command_goes_over_the_pipeline(self):
        """A key of `sweep.space` gets other values, or one alone, from the command; the others stay."""
        pipeline = {"a": [1, 2], "b": ["x", {"use": "y"}], "c": "uniform(0, 1)"}
        fixed, space = read(["a=3", "b=p,q", "d=4,5"], pipeline)
        assert fixed == ["a=3"]
        assert {key: str(axis) for key, axis in space.axes.items()} == {"b": "p, q", "c": "uniform(0, 1)", "d": "4, 5"}
        assert read([], pipeline)[1].axes["b"].names == ["x", '{"use": "y"}']

    @pytest.mark.parametrize(
        ("words", "pipeline", "told"),
        [
            (["a=1,,2"], {}, "a: a value is missing in 1,,2"),
            (["a=1,"], {}, "a: a value is missing"),
            (["a=1,1"], {}, "a: 1 is there twice"),
            (["a=1,true"], {}, "a: 1 and true are one"),
            (["a=1,2", "a=3"], {}, "a: given twice, as 1,2 and as 3"),
            (["a=[1,2"], {}, "a: ] is missing in [1,2"),
            (["a=int(1,2),3"], {}, "a: int(1,2) is a distribution, which stands alone and not among values"),
            (["a=int(1)"], {}, "a: wanted two whole numbers in int(low, high), got int(1)"),
            (["a=int(0.5,2)"], {}, "a: wanted two whole numbers"),
            (["a=uniform(2,1)"], {}, "a: wanted low below high, got uniform(2,1)"),
            (["a=uniform(0,inf)"], {}, "a: wanted low below high"),
            (["a=loguniform(0,1)"], {}, "a: wanted low above 0 for a logarithmic range"),
            ([], {"a": []}, "sweep.space.a: wanted at least one value, got an empty list"),
            ([], {"a": "1,2"}, "sweep.space.a: wanted uniform(low, high)"),
        ],
    )
    def test_mistakes_are_said_with_their_key(self, words, pipeline, told):
        """What cannot be read is one line that begins with the key."""
        with pytest.raises(ConfigError) as error:
            read(words, pipeline)
        assert str(error.value).startswith(told)

    def test_all_mistakes_at_once(self):
        """Each word that cannot be read has its line."""
        with pytest.raises(ConfigError) as error:
            read(["a=1,,2", "b=uniform(2,1)", "c=1,1"], {"d": []})
        assert len(error.value.problems) == 4


class TestSpace:
    """What trials there are."""

    def test_a_grid_is_every_combination_in_order(self):
        """The last key's values change fastest."""
        space = Space({"a": Choice({"x": "x", "y": "y"}), "b": Choice({0: "0", 1: "1"})})
        assert [tuple(each.values()) for each in space.grid()] == [("x", 0), ("x", 1), ("y", 0), ("y", 1)]

    def test_probes_have_each_value_once(self):
        """Beside the first combination, each other value, the ends of each range, and what is no whole number in it."""
        space = Space({"a": Choice({"x": "x", "y": "y"}), "b": Range(1, 9, whole=True, log=False)})
        assert [tuple(each.values()) for each in space.probes()] == [("x", 1), ("y", 1), ("x", 9)]
        low, between, high = (each["a"] for each in Space({"a": Range(0.0, 10.0, whole=False, log=False)}).probes())
        assert (low, high) == (0, 10)
        assert low < between < high
        assert between != int(between)


@pytest.fixture
def pipeline(tmp_path):
    """A function that writes the shipped pipeline with a section `sweep`."""

    def written(section):
        path = tmp_path / "mine.yaml"
        path.write_text(f"{Path(find_pipeline('program_eval')).read_text()}\nsweep: {json.dumps(section)}\n")
        return path

    return written


class TestDesign:
    """A pipeline, its space, and how it is searched."""

    def test_a_grid_in_the_pipeline(self, pipeline):
        """`sweep:` names what to go through; the command's options and values go over it; a run does not see it."""
        path = pipeline({"search": "random", "trials": 3, "space": {"run.seed": [0, 1]}})
        design = Design.load(path, ["model.core=lstm,rmc"], {"trials": 5})
        assert (design.settings.search, len(design.wanted())) == ("random", 5)
        assert list(design.space.axes) == ["run.seed", "model.core"]
        grid = Design.load(path, ["model.core=lstm,rmc", "sweep.trials=null"], {"search": "grid"})
        assert len(grid.wanted()) == 4
        plan = Pipeline.load(path).plan
        assert plan.sections["sweep"].trials == 3
        assert plan.resolved == Pipeline.load("program_eval").plan.resolved
        assert "sweep" not in plan.resolved

    def test_the_same_command_has_the_same_name(self, pipeline):
        """A name is of the pipeline, the space and the way to search; how many trials there are does not matter."""
        load = lambda *words, **options: Design.load("program_eval", words, options).name  # noqa: E731  a shorthand
        name = load("run.seed=0,1", search="random")
        assert name.startswith("sweep-program_eval-")
        assert name == load("run.seed=0,1", search="random", trials=7) == load("run.seed=0,1", "sweep.search=random")
        others = [
            load("run.seed=0,1"),
            load("run.seed=0,1,2", search="random"),
            load("run.seed=0,1", "run.steps=7", search="random"),
            load("run.seed=0,1", search="random", seed=1),
            load("run.seed=0,1", search="random", metric="valid/loss"),
            Design.load(pipeline({}), ["run.seed=0,1"], {"search": "random"}).name,
        ]
        assert len({name, *others}) == 7

    def test_a_part_and_what_is_inside_it(self):
        """A value that all trials share goes inside of a part that is swept; a swept block has its own."""
        words = ["model.core={use: lstm, hidden_size: 8},lstm", "model.core.num_layers=2"]
        design = Design.load("program_eval", words, {})
        cores = [design.pipeline(params).plan.core.params for params in design.space.grid()]
        assert [(core["hidden_size"], core["num_layers"]) for core in cores] == [(8, 2), (cores[1]["hidden_size"], 2)]

    def test_everything_wrong_is_named_at_once(self):
        """Each problem is told once, with how many trials have it; what all have is told alone."""
        words = ["model.core=lstm,lstn,rmc", "run.seed=0,1", "run.steps=x"]
        with pytest.raises(ConfigError) as error:
            Design.load("program_eval", words, {}).check()
        lines = error.value.problems
        assert len(lines) == 2
        assert "no core 'lstn'; did you mean lstm?" in lines[0] + lines[1]
        assert any(line.endswith("in 2 of 6 trials, the first model.core=lstn run.seed=0") for line in lines)
        assert any(line.startswith("run.steps: wanted int, got 'x'") and "trials" not in line for line in lines)

    def test_a_range_for_whole_numbers_is_checked(self):
        """A search is refused that would draw fractions for a key that wants whole numbers, although the ends are."""
        design = Design.load("program_eval", ["run.seed=uniform(0, 10)"], {"search": "random"})
        with pytest.raises(ConfigError, match=r"run\.seed: wanted int, got"):
            design.check()

    def test_ends_of_distributions_are_checked(self):
        """A search that draws is refused where one end of a range cannot be."""
        design = Design.load(
            "program_eval", ["model.core=lstm", "model.core.hidden_size=int(0,8)"], {"search": "random"}
        )
        with pytest.raises(ConfigError, match=r"in model\.core\.hidden_size=0"):
            design.check()

    @pytest.mark.parametrize(
        ("metric", "changes", "found"),
        [
            (None, [], ("valid/accuracy", "higher")),
            (None, ["evaluate.best=loss"], ("valid/loss", "lower")),
            (None, ["metric=sequence_accuracy", "evaluate.source.split=test"], ("test/sequence_accuracy", "higher")),
            ("test/loss", [], ("test/loss", "lower")),
        ],
    )
    def test_by_what_trials_are_judged(self, metric, changes, found):
        """By what chooses the best checkpoint, on the split of the evaluation, if nothing else is said."""
        design = Design.load("program_eval", ["run.seed=0,1", *changes], {"metric": metric})
        assert design.check()[:2] == found

    @pytest.mark.parametrize(
        ("words", "options", "told"),
        [
            (["run.sed=0,1"], {}, "run.sed: run has no such parameter; did you mean seed?"),
            (["run.seed=0"], {}, "sweep: wanted a key with several values, such as run.seed=0,1,2"),
            (["learner.optimizer.lr=uniform(0.1,1)"], {}, "learner.optimizer.lr=uniform(0.1, 1): a grid wants values;"),
            (["run.seed=0,1"], {"trials": 0, "search": "random"}, "sweep.trials: wanted at least 1, got 0"),
            (["run.seed=0,1"], {"trials": 3}, "sweep.trials: a grid has as many trials as combinations"),
            (["run.seed=0,1"], {"seed": -1}, "sweep.seed: wanted at least 0, got -1"),
            (
                ["run.seed=0,1"],
                {"metric": "valid/acuracy"},
                "metric: there is no valid/acuracy; did you mean valid/acc",
            ),
            (["run.seed=0,1"], {"search": "tpe"}, "sweep.search: wanted one of grid | random | optuna, got 'tpe'"),
            (["sweep.seed=0,1", "run.seed=0,1"], {}, "sweep.seed: wanted int, got '0,1'"),
            (["run.seed=0,1", "sweep.trails=3"], {}, "sweep.trails: sweep has no such parameter; did you mean trials?"),
        ],
    )
    def test_mistakes(self, words, options, told):
        """Each is one line with the key that it concerns."""
        with pytest.raises(ConfigError) as error:
            Design.load("program_eval", words, options).check()
        assert str(error.value).startswith(told)
        assert len(error.value.problems) == 1

    def test_a_grid_without_end_is_refused(self):
        """A grid of more than ten thousand trials is refused at once."""
        words = [f"a{n}={','.join(map(str, range(10)))}" for n in range(5)]
        with pytest.raises(ConfigError, match="100,000 trials, and at most 10,000"):
            Design.load("program_eval", words, {})


class TestStudy:
    """Trials in a storage."""

    SPACE = Space({"a": Choice({"x": "x", "y": "y", None: "null"}), "b": Range(1e-4, 1.0, whole=False, log=True)})

    def study(self, folder, search="random", seed=0):
        """The study in a folder's journal."""
        return Study("one", str(folder / "study.jsonl"), self.SPACE, "higher", search, seed)

    @pytest.mark.parametrize("search", ["random", "optuna"])
    def test_what_is_drawn_does_not_depend_on_who_draws(self, tmp_path, search):
        """Two processes that take turns draw what one alone would draw, and another seed draws other values."""
        found = []
        for name, processes, seed in (("one", 1, 0), ("two", 2, 0), ("other", 1, 1)):
            (tmp_path / name).mkdir()
            studies = [self.study(tmp_path / name, search, seed) for _ in range(processes)]
            studies[0].fill([{}] * 4)
            found.append([studies[n % processes].suggest(studies[n % processes].claim()) for n in range(4)])
        assert found[0] == found[1] != found[2]
        assert len({each["b"] for each in found[0]}) == 4

    def test_each_trial_is_claimed_once(self, tmp_path):
        """Trials are taken in order, each by one, and filling again adds only what is new."""
        first, second = self.study(tmp_path), self.study(tmp_path)
        first.fill([{}] * 3)
        second.fill([{}] * 3)
        assert [first.claim(), second.claim(), first.claim(), second.claim()] == [0, 1, 2, None]
        second.fill([{}] * 5)
        assert [second.claim(), first.claim(), second.claim()] == [3, 4, None]

    def test_a_torn_line_is_cut_off(self, tmp_path):
        """A journal whose last line was not written to its end is read, and written to, as if that were not there."""
        self.study(tmp_path).fill([{}] * 2)
        with (tmp_path / "study.jsonl").open("ab") as file:
            file.write(b'{"op_code": 4, "study')
        study = self.study(tmp_path)
        assert study.claim() == 0
        assert len(self.study(tmp_path).trials()) == 2
