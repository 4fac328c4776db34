"""Sweeps on equal terms: `match_parameters` gives other cores the size at which the model has as many parameters."""

import json
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit import Pipeline
from seqtoolkit.cli.key import Memory, offers
from seqtoolkit.experiment import SECTIONS
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.config import ConfigError
from seqtoolkit.host.freezer import KEYS
from seqtoolkit.host.registry import discover
from seqtoolkit.host.schema import schema
from seqtoolkit.sweep import Sweep, crew, match
from seqtoolkit.sweep.board import table
from seqtoolkit.sweep.design import Design
from seqtoolkit.train.search import BARE

OTHERS = {
    "lstm": "hidden_size",
    "gru": "hidden_size",
    "dnc": "hidden_size",
    "entnet": "cell_size",
    "conv_lstm": "channels",
    "feedforward": "hidden_size",
}
BY_RMC = "match_parameters=rmc"
SMALL = [
    "batch.size=8",
    "model.head.sizes=[16]",
    "run.steps=2",
    "evaluate.every=2",
    "evaluate.examples=16",
    "evaluate.test_examples=0",
    "track=none",
]
STAND_IN = """
import json, sys
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "valid/accuracy": 0.5}) + "\\n")
notes = json.loads((folder / "run.json").read_text())
(folder / "run.json").write_text(json.dumps({**notes, "status": "FINISHED"}))
"""


def design(*words, pipeline="program_eval", **options):
    """A sweep's design."""
    return Design.load(pipeline, words, options)


def count(*words):
    """The parameters of the shipped pipeline with such changes."""
    return Pipeline.load("program_eval", words).check().parameters


def trials(made):
    """The sizes and the pipelines of the trials of a grid."""
    return [(made.matched(params), made.pipeline(params)) for params in made.space.grid()]


def sizes(*words, **options):
    """The sizes of the trials of a grid."""
    return [size for size, _ in trials(design(*words, **options))]


def mistakes(*words, **options):
    """What is wrong with a sweep, a line each."""
    with pytest.raises(ConfigError) as error:
        design(*words, **options).check()
    return error.value.problems


class TestSize:
    """Which size is chosen."""

    @pytest.mark.parametrize(("use", "width"), OTHERS.items())
    def test_the_closest_size_of_every_core(self, use, width):
        """The other core is within 1 % of the RMC, and neither one less nor one more comes closer."""
        wanted = count()
        reference, (size, pipeline) = trials(design(f"model.core.use=rmc,{use}", BY_RMC))
        assert reference[0] == {}
        assert reference[1].check().parameters == wanted
        (key, value), *more = size.items()
        assert (key, more) == (f"model.core.{width}", [])
        off = {
            each: abs(count(f"model.core={use}", f"{key}={each}") - wanted) for each in (value - 1, value, value + 1)
        }
        assert min(off, key=off.get) == value
        assert off[value] == abs(pipeline.check().parameters - wanted) < 0.01 * wanted

    @given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 50), st.integers(0, 4000))
    def test_the_search_is_brute_force_but_faster(self, square, line, start, wanted):
        """Of any count that does not fall, the size closest to what is wanted is found, the smaller of two, in few steps."""
        asked = []

        def parameters(size):
            asked.append(size)
            return start + line * (size // 3) + square * size * size + size

        value, found = match.closest(parameters, wanted)
        best = min(range(1, 4100), key=lambda size: abs(parameters(size) - wanted))
        assert (value, found) == (best, parameters(best))
        assert len(asked) - 4100 <= 2 * 13

    @given(st.integers(1, 300), st.integers(1, 200_000))
    def test_one_size_that_makes_fewer(self, single, wanted):
        """A size at which the count falls, as that of the encoder's vectors under a tied head, does not mislead."""

        def parameters(size):
            return 4 * size * size + 300 * size - (single * single if size == single else 0)

        value, found = match.closest(parameters, wanted)
        others = [size for size in range(1, 600) if size != single]
        assert found == parameters(value)
        assert abs(found - wanted) <= min(abs(parameters(size) - wanted) for size in others)

    def test_a_trial_is_a_pipeline_of_its_own(self):
        """The size stands in the resolved config, which has the same parameters when it runs alone, built for real."""
        (_, (size, pipeline)) = trials(design("model.core.use=rmc,lstm", BY_RMC, "run.seed=4"))
        resolved = pipeline.plan.resolved
        assert resolved["model"]["core"]["hidden_size"] == size["model.core.hidden_size"]
        assert f"model.core.hidden_size={size['model.core.hidden_size']}" in pipeline.config.changes
        assert Pipeline.from_config(resolved).build().parameters == pipeline.check().parameters

    def test_seeds_share_one_search(self, monkeypatch):
        """Trials that differ in what a model is not made of are searched once; another model is searched anew."""
        made, searched = match.assemble, []
        monkeypatch.setattr(match, "assemble", lambda *given, **more: (searched.append(1), made(*given, **more))[1])
        one = sizes("model.core=lstm,rmc", "run.seed=0", BY_RMC)
        alone = len(searched)
        assert alone > 5
        assert sizes("model.core=lstm,rmc", "run.seed=0,1,2", BY_RMC) == [one[0]] * 3 + [{}] * 3
        assert len(searched) == 2 * alone
        first, second = sizes("model.core=lstm", "model.head.sizes=[8],[512]", BY_RMC)
        assert first != second
        assert len(searched) > 3 * alone


class TestReference:
    """What the others are compared with."""

    @pytest.mark.parametrize(
        ("words", "reference"),
        [
            (["model.core=rmc,lstm"], ["model.core=rmc"]),
            (["model.core.use=rmc,lstm"], []),
            (
                ["model.core={use: rmc, mem_slots: 2}", "model.core.use=rmc,lstm"],
                ["model.core={use: rmc, mem_slots: 2}"],
            ),
            (["model.core={use: rmc, mem_slots: 2},lstm"], ["model.core={use: rmc, mem_slots: 2}"]),
            (["model.core=gru,lstm"], []),
            (["model.core=lstm", "run.seed=0,1"], []),
            (["model.core.use=rmc,lstm", "model.encoder.size=96"], ["model.encoder.size=96"]),
        ],
    )
    def test_its_block(self, words, reference):
        """It is the one that the sweep goes through, else the pipeline's, with what else the trial changes."""
        made = design(*words, BY_RMC)
        made.check()
        assert {found.wanted for found in made.match._found.values()} == {count(*reference)}

    def test_defaults_where_the_pipeline_has_another_core(self):
        """A core that neither the sweep nor the pipeline has is taken with its defaults."""
        made = design("run.seed=0,1", "match_parameters=gru", "model.core=lstm")
        made.check()
        assert [found.wanted for found in made.match._found.values()] == [count("model.core=gru")]

    def test_what_a_trial_changes_inside_of_the_core(self):
        """A change of a parameter that both have is the reference's as well; one that it lacks is the trial's alone."""
        words = ("model.core=lstm", "run.seed=0,1", "model.core.num_layers=2", "model.core.forget_bias=1.0")
        made = design(*words, "match_parameters=gru")
        made.check()
        assert [found.wanted for found in made.match._found.values()] == [count("model.core={use: gru, num_layers: 2}")]
        made = design(*words, "match_parameters=rmc")
        made.check()
        assert [found.wanted for found in made.match._found.values()] == [count("model.core.forget_bias=1.0")]

    def test_a_size_in_the_pipeline_gives_way(self):
        """The size in the pipeline's own block is written over, and what else stands there stays."""
        tree = Pipeline.load("program_eval", ["model.core={use: lstm, hidden_size: 7, num_layers: 2}"]).config.tree
        (_, (size, pipeline)) = trials(design("model.core.use=rmc,lstm", BY_RMC, pipeline=tree))
        core = pipeline.plan.core.params
        assert core["hidden_size"] == size["model.core.hidden_size"] > 50
        assert core["num_layers"] == 2

    def test_each_trial_has_its_own(self):
        """A setting that is swept besides changes the reference with the trial."""
        made = design("model.core.use=rmc,lstm", "model.encoder.size=16,128", BY_RMC)
        found = [pipeline.check().parameters for _, pipeline in trials(made)]
        assert found[0] != found[1]
        assert found[2:] == pytest.approx(found[:2], rel=0.01)

    def test_searches_that_draw(self):
        """A trial whose values are drawn is matched by these values."""
        made = design("model.core.use=rmc,lstm", "model.encoder.size=int(16,128)", BY_RMC, search="random", trials=2)
        made.check()
        drawn = {"model.core.use": "lstm", "model.encoder.size": 77}
        assert made.pipeline(drawn).check().parameters == pytest.approx(count("model.encoder.size=77"), rel=0.01)


class TestSetting:
    """How it is said."""

    def test_ways_to_say_it(self, tmp_path):
        """The bare word, the key, the option and the pipeline's section are one sweep, which has a name of its own."""
        words = ("model.core=rmc,lstm", "run.seed=0,1")
        named = {
            design(*words, BY_RMC).name,
            design(*words, f"sweep.{BY_RMC}").name,
            design(*words, match_parameters="rmc").name,
        }
        path = tmp_path / "program_eval.yaml"
        shipped = Pipeline.load("program_eval").config.tree
        path.write_text(json.dumps({**shipped, "sweep": {"match_parameters": "rmc"}}))
        assert design(*words, pipeline=path).match.reference == "rmc"
        assert len(named) == 1
        assert named.isdisjoint({design(*words).name, design(*words, "match_parameters=lstm").name})

    def test_a_sweep_without_it_keeps_its_name(self):
        """The name of a sweep that was begun before there was this setting is still found."""
        assert design("run.seed=0,1", pipeline={"model": {"core": "lstm"}}).name == "sweep-pipeline-c5a12682"

    def test_bare_words_mean_one_thing(self):
        """A setting may be given without `sweep.` where nothing else in a pipeline has its name; others may not."""
        assert set(BARE) <= {*schema(SECTIONS["sweep"]).fields}
        others = {name for key, each in SECTIONS.items() if key != "sweep" for name in schema(each).fields}
        assert not {*KEYS, *others} & set(BARE)
        made = design("run.seed=0,1", "search=random", "trials=7", "prune=true")
        assert (made.settings.search, made.settings.trials, made.settings.prune) == ("random", 7, True)
        assert "seed: no such key" in mistakes("run.seed=0,1", "seed=3")[0]

    def test_a_shell_completes_it(self, tmp_path):
        """The bare word and the key are offered to a sweep, and their values are cores; other commands know no bare word."""
        memory = Memory(discover(), tmp_path / "keys.json")
        assert [word for word, _ in offers(memory, {}, "match_parameters=ls", several=True)] == [
            "match_parameters=lstm"
        ]
        assert [word for word, _ in offers(memory, {}, "sweep.match_parameters=ls")] == ["sweep.match_parameters=lstm"]
        assert "match_parameters=" in [word for word, _ in offers(memory, {}, "ma", several=True)]
        assert offers(memory, {}, "match_parameters=ls") == []


class TestMistakes:
    """What is refused, in one line, before any trial begins."""

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (
                ["model.core=rmc,lstm", "match_parameters=lstn"],
                "sweep.match_parameters: no core 'lstn'; did you mean lstm?",
            ),
            (["model.core=rmc,lstm", "match_parameters=rmc,lstm"], "sweep.match_parameters: no core 'rmc,lstm'"),
            (["model.core=rmc,lstm", "match_parameters=adam"], "sweep.match_parameters: no core 'adam'"),
            (["model.core=rmc,lstm", "match_parameters=3"], "sweep.match_parameters: wanted str"),
            (
                ["model.core={use: lstm, hidden_size: 7},rmc", BY_RMC],
                "model.core.hidden_size: is 7, and sweep.match_parameters chooses it; leave one of them out, in model.core=",
            ),
            (
                ["model.core=lstm", "model.core.hidden_size=7,8", BY_RMC],
                "model.core.hidden_size: is 7, and sweep.match_parameters chooses it",
            ),
            (
                ["model.core=rmc,{use: rmc, mem_slots: 2},lstm", BY_RMC],
                "sweep.match_parameters: the sweep goes through 2 blocks of rmc (model.core=rmc, model.core={use: rmc,",
            ),
            (
                ["model.core=lstm,{use: rmc, mem_slots: 0}", BY_RMC],
                "sweep.match_parameters: with rmc as the core: model.core.mem_slots: wanted",
            ),
            (
                ["model.core=lstm,lstn", BY_RMC],
                "model.core: no core 'lstn'; did you mean lstm? (swept), in model.core=lstn",
            ),
            (["model.core=rmc,lstm", "run.steps=x", BY_RMC], "run.steps: wanted int, got 'x' (override run.steps=x)"),
            (["model.core={use: lstm, num_layers: 0},gru", BY_RMC], "model.core.num_layers: wanted a whole number"),
        ],
    )
    def test_one_line_with_the_key(self, words, told):
        """It begins with the key that it concerns."""
        assert mistakes(*words)[0].startswith(told)

    @pytest.mark.parametrize(
        ("width", "told"),
        [
            (
                "",
                "core lstm names no parameter as its size (`width` of its class), so it cannot be made as large as rmc",
            ),
            ("size", "core lstm names 'size' as its size, and takes no such parameter"),
            ("forget_bias", "model.core.forget_bias=1048576 makes "),
        ],
    )
    def test_a_core_without_a_size(self, monkeypatch, width, told):
        """A core that names no size, none that it has, or one that changes nothing, is named."""
        monkeypatch.setattr(discover().resolve("core", "lstm"), "width", width)
        (line,) = mistakes("model.core=lstm,{use: rmc, head_size: 64}", BY_RMC)
        assert line.startswith(f"sweep.match_parameters: {told}")

    def test_sizes_that_no_model_can_have(self):
        """A head may not take the outputs of the smallest cores: those are passed over. Where no size will do, it is said why."""
        words, head = (
            ("model.core.use=rmc,lstm", BY_RMC),
            "model.head={use: adaptive_softmax, cutoffs: [100, 400], div_value: %s}",
        )
        made = design(head % 4, *words, pipeline="language")
        made.check()
        reference, other = (pipeline.check().parameters for _, pipeline in trials(made))
        assert abs(other / reference - 1) < 0.01
        with pytest.raises(ConfigError, match="div_value: wanted vectors of at least 1"):
            design(head % 1e9, *words, pipeline="language").check()

    def test_a_size_that_comes_not_close_is_said(self, caplog):
        """Where even the closest size is more than 1 % away, one line says so, and the sweep goes on."""
        words = ("model.core={use: rmc, mem_slots: 1, head_size: 1, num_heads: 1},{use: lstm, num_layers: 3}", BY_RMC)
        with caplog.at_level(logging.WARNING, "seqtoolkit.sweep"):
            design(*words, "run.seed=0,1").check()
            design("model.core.use=rmc,lstm", BY_RMC).check()
        (line,) = caplog.messages
        assert line.startswith("model.core.hidden_size=1 (lstm) makes ")
        assert line.endswith("; no other size comes closer")


class TestTrials:
    """What becomes of it in a sweep."""

    def test_the_table_has_sizes_and_parameters(self, tmp_path, monkeypatch):
        """Rows tell the size and the parameters of each trial, and the run's own config has them."""
        script = tmp_path / "stand_in.py"
        script.write_text(STAND_IN)
        monkeypatch.setattr(crew, "COMMAND", (sys.executable, str(script)))
        monkeypatch.chdir(tmp_path)
        sweep = Sweep.load("program_eval", ["model.core.use=rmc,lstm", *SMALL, BY_RMC])
        rows = {row.values["model.core.use"]: row for row in sweep.run(jobs=2)}
        assert rows["rmc"].values == {"model.core.use": "rmc"}
        found = rows["lstm"].values["model.core.hidden_size"]
        for row in rows.values():
            pipeline = Pipeline.of(RunFolder(Path(row.run)))
            assert pipeline.build().parameters == row.parameters
        assert pipeline.plan.core.params["hidden_size"] == found
        assert abs(rows["lstm"].parameters / rows["rmc"].parameters - 1) < 0.01
        shown = table(rows.values(), "valid/accuracy")
        heads = [column.header for column in shown.columns]
        assert heads[2:5] == ["core", "hidden_size", "parameters"]
        assert [str(each) for each in shown.columns[4].cells] == [f"{row.parameters:,}" for row in rows.values()]

    @pytest.mark.slow
    def test_a_real_sweep(self, type_in):
        """The command trains both cores, and its table has as many parameters for one as for the other."""
        code, out, _ = type_in("sweep", "program_eval", "model.core=rmc,lstm", BY_RMC, *SMALL, "--json")
        told = json.loads(out)["trials"]
        assert (code, {each["status"] for each in told}) == (0, {"finished"})
        rmc, lstm = sorted(told, key=lambda each: each["number"])
        assert lstm["parameters"] == pytest.approx(rmc["parameters"], rel=0.01)
        assert lstm["values"] == {
            "model.core": "lstm",
            "model.core.hidden_size": lstm["values"]["model.core.hidden_size"],
        }
