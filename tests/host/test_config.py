"""Configs: a pipeline is validated as a whole, frozen, and can be run again from what it resolves to."""

import copy
import math
import pickle
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from seqtoolkit.host.config import Block, ConfigError, freeze, load


@dataclass(frozen=True)
class Run:
    """How long.

    Args:
        steps: How many updates.
    """

    steps: int = 100
    precision: Literal["auto", "f32"] = "auto"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: wanted at least 1, got {self.steps}")
        if self.steps > 10**9:
            raise ValueError("nobody can wait that long")


@dataclass(frozen=True)
class Evaluate:
    """When."""

    every: int = 10
    best: str | None = None


@dataclass(frozen=True)
class Decoding:
    """How a model answers."""

    decoding: Literal["parallel", "forced"] = "parallel"


SECTIONS = {"run": Run, "evaluate": Evaluate, "model": Decoding}
LEAST = {"source": {"use": "numbers", "length": 5}, "model": {"core": "memory"}}


@pytest.fixture
def plan_of(fakes):
    """Load and freeze a pipeline."""
    return lambda source=LEAST, *overrides: freeze(load(source, overrides), fakes, SECTIONS)


@pytest.fixture
def problems_of(plan_of):
    """The problems of a pipeline, each one line."""

    def find(*args):
        with pytest.raises(ConfigError) as caught:
            plan_of(*args)
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert all(line and "\n" not in line and line.isprintable() for line in caught.value.problems)
        return caught.value.problems

    return find


def test_defaults_are_filled_in(plan_of):
    """The shortest pipeline has every stage, every section and every parameter."""
    plan = plan_of()
    assert plan.resolved == {
        "source": {"use": "numbers", "length": 5, "scale": 1.0, "curriculum": "mix", "file": None, "seed": 0, "split": "train"},
        "transform": [],
        "batch": {"use": "pad", "size": 64, "multiple": 1},
        "model": {
            "encoder": {"use": "embed", "size": 64},
            "core": {
                "use": "memory", "slots": 4, "gate": "unit", "bias": True, "size": None, "shape": [2, 3], "names": None,
                "note": "", "rate": "auto",
            },
            "head": {"use": "mlp", "sizes": [8]},
            "decoding": "parallel",
        },
        "loss": {"use": "cross_entropy", "smoothing": 0.0},
        "metric": [{"use": "accuracy", "smoothing": 0.0}],
        "learner": {"use": "supervised", "optimizer": {"use": "adam", "lr": 0.001, "betas": [0.9, 0.999]}, "spare": None, "clip": None},
        "evaluate": {
            "every": 10, "best": None,
            "source": {"use": "numbers", "length": 5, "scale": 1.0, "curriculum": "mix", "file": None, "seed": 0, "split": "test"},
        },
        "run": {"steps": 100, "precision": "auto"},
        "track": {"use": "mlflow", "experiment": "default", "tags": {}},
    }  # fmt: skip
    assert list(plan.resolved) == [
        "source", "transform", "batch", "model", "loss", "metric", "learner", "evaluate", "run", "track",
    ]  # fmt: skip
    assert plan.sections == {"run": Run(), "evaluate": Evaluate(), "model": Decoding()}
    assert plan.transform == ()
    assert [block.use for block in plan.metric] == ["accuracy"]
    assert plan.evaluate_origin.params["split"] == "test"


def test_blocks_make_what_they_say(plan_of):
    """A block's maker is its factory with the parameters bound, and parts inside it are makers too."""
    plan = plan_of(
        LEAST, "learner.optimizer={use: sgd, lr: 1}", "learner.spare=adam", "source.file=a/b", "core=1", "~core"
    )
    core = plan.core.maker()(input_size=7)
    assert core.params["shape"] == (2, 3)
    assert core.params["input_size"] == 7
    learner = plan.learner.maker()(graph="graph")
    assert learner.optimizer.params == {"parameters": [1], "lr": 1.0}
    assert learner.spare(parameters=[2]).params["betas"] == (0.9, 0.999)
    assert plan.origin.maker()().params["file"] == Path("a/b")
    assert (plan.learner.params["optimizer"].kind, plan.learner.params["optimizer"].key) == (
        "optimizer",
        "learner.optimizer",
    )
    assert plan.origin.maker()(seed=3).seed == 3


def test_makers_share_nothing(plan_of):
    """What a part does to the lists that it is given does not reach the plan or the next part."""
    plan = plan_of(LEAST, "track.tags={a: b}")
    plan.track.maker()().params["tags"]["a"] = "c"
    assert plan.track.maker()().params["tags"] == {"a": "b"}


def test_bare_names_and_single_blocks(plan_of):
    """A name stands for a block, one block for a list of one, wherever a part is wanted; None for the default."""
    written = {
        **LEAST,
        "source": "letters",
        "metric": "errors",
        "transform": {"use": "crop", "length": 2},
        "batch": None,
    }
    plan = plan_of(written)
    assert (plan.origin.use, plan.batch.use) == ("letters", "pad")
    assert [(block.use, block.key) for block in plan.metric] == [("errors", "metric.0")]
    assert [block.params for block in plan.transform] == [{"length": 2}]
    mixed = plan_of({**LEAST, "source": {"use": "mix", "sources": "letters", "weights": [1]}})
    assert [block.use for block in mixed.origin.params["sources"]] == ["letters"]
    assert mixed.origin.params["weights"] == (1.0,)
    assert [type(each).__name__ for each in mixed.origin.maker()()] == ["Part", "tuple"]


def test_block_without_use_is_the_default_one(plan_of):
    """Where a part has a default, its parameters can be given without its name."""
    plan = plan_of({**LEAST, "batch": {"size": 8}, "learner": {"optimizer": {"lr": 0.5}}})
    assert plan.batch.params["size"] == 8
    assert (plan.learner.params["optimizer"].use, plan.learner.params["optimizer"].params["lr"]) == ("adam", 0.5)
    assert plan_of(LEAST, "learner.optimizer.lr=0.25").learner.params["optimizer"].params["lr"] == 0.25


def test_evaluation_source_differs_from_the_main_one(plan_of, problems_of):
    """It takes over what the pipeline's source says, but for what it says itself; another `use` stands alone."""
    plan = plan_of({**LEAST, "evaluate": {"source": {"curriculum": "baseline"}}}, "source.scale=3")
    assert {**plan.evaluate_origin.params} == {**plan.origin.params, "curriculum": "baseline", "split": "test"}
    assert plan.evaluate_origin.key == "evaluate.source"
    assert plan_of(LEAST, "evaluate.source.split=valid", "source.split=test").evaluate_origin.params["split"] == "valid"
    assert plan_of(LEAST, "evaluate.source=letters").evaluate_origin.params == {"alphabet": "abc", "split": "test"}
    same = plan_of(LEAST, "evaluate.source.use=numbers", "evaluate.source.seed=4").evaluate_origin
    assert (same.params["length"], same.params["seed"]) == (5, 4)
    mixed = plan_of({**LEAST, "source": {"use": "mix", "sources": ["letters"]}})
    assert mixed.evaluate_origin.params == {**mixed.origin.params, "sources": mixed.evaluate_origin.params["sources"]}
    assert problems_of(LEAST, "evaluate.source=3") == [
        "evaluate.source: wanted a mapping of what differs from source, got 3 (override evaluate.source=3)"
    ]
    assert len(problems_of(LEAST, "source.lenght=3")) == 1, "a fault of the source is told once"
    assert len(problems_of(LEAST, "source.length=${nowhere}")) == 1, "so is an interpolation that it takes over"
    assert problems_of(LEAST, "evaluate.source.lenght=3")[0].startswith(
        "evaluate.source.lenght: source numbers has no such"
    )


BAD = {
    "model.core=memori": "model.core: no core 'memori'; did you mean memory? (override model.core=memori)",
    "model.core.use=memori": "model.core.use: no core 'memori'; did you mean memory?",
    "model.core.use=3": "model.core.use: wanted the name of a core (gone, greedy, memory, plain), got 3",
    "model.core=3": "model.core: wanted a core, by its name or as {use: name, ...}; got 3",
    "model.core={slots: 3}": "model.core.use: wanted the name of a core (gone, greedy, memory, plain) (override",
    "model.core=gone": "model.core: core 'gone' of fake-parts 1.0: cannot import fake_parts:Gone: AttributeError",
    "model.core=greedy": "model.core: greedy takes *items: a part names each of its parameters",
    "model.core.slot=3": "model.core.slot: core memory has no such parameter; did you mean slots?",
    "model.core.xyz=3": "core memory has no such parameter; it takes slots, gate, bias, size, shape, names, note, rate (",
    "model.core.input_size=3": "core memory has no such parameter; it comes from what surrounds the part",
    "model.core.hook=3": "model.core.hook: core memory has no such parameter",
    "model.core.slots=four": "model.core.slots: wanted int, got 'four' (override model.core.slots=four)",
    "model.core.slots=1.5": "model.core.slots: wanted int, got 1.5",
    "model.core.slots=true": "model.core.slots: wanted int, got true",
    "model.core.slots=null": "model.core.slots: wanted int, got null",
    "model.core.slots=???": "model.core.slots: missing; wanted int",
    "model.core.bias=1": "model.core.bias: wanted bool, got 1",
    "model.core.gate=unitt": "model.core.gate: wanted one of unit | memory | null, got 'unitt'; did you mean unit?",
    "model.core.shape=[1]": "model.core.shape: wanted 2 values (tuple[int, int]), got 1",
    "model.core.shape=[1, x]": "model.core.shape.1: wanted int, got 'x'",
    "model.core.shape=1": "model.core.shape: wanted tuple[int, int], got 1",
    "model.core.names={a: b}": "model.core.names.a: wanted float, got 'b'",
    "model.core.names=[1]": "model.core.names: wanted dict[str, float], got a list of 1",
    "model.core.note=3": "model.core.note: wanted str, got 3; quote it to make it text",
    "model.core.rate=fast": "model.core.rate: wanted float | auto, got 'fast'",
    "model.head.sizes=[8, x]": "model.head.sizes.1: wanted int, got 'x'",
    "model.corr=3": "model.corr: model has no such parameter; did you mean core?",
    "model=3": "model: wanted a mapping, got 3",
    "~source": "source: missing; wanted a source: letters, mix, numbers, or an environment",
    "~source.length": "source.length: missing; wanted int",
    "metric=[accuracy, 3]": "metric.1: wanted a metric, by its name or as {use: name, ...}; got 3",
    "metric=3": "metric: wanted tuple[metric, ...], got 3",
    "learner.optimizer=adma": "learner.optimizer: no optimizer 'adma'; did you mean adam?",
    "learner.optimizer=null": "learner.optimizer: wanted an optimizer, by its name",
    "learner.spare.lr=3": "learner.spare.use: wanted the name of an optimizer (adam, sgd)",
    "learner.clip=big": "learner.clip: wanted float | null, got 'big'",
    "run.stepz=3": "run.stepz: run has no such parameter; did you mean steps?",
    "run.steps=0": "run.steps: wanted at least 1, got 0 (override run.steps=0)",
    "run.steps=10000000000": "run: nobody can wait that long",
    "run.precision=f16": "run.precision: wanted one of auto | f32, got 'f16'",
    "run=[]": "run: wanted a mapping, got a list of 0",
    "evaluate.evry=3": "evaluate.evry: evaluate has no such parameter; did you mean every?",
    "sauce=numbers": "sauce: no such key; did you mean source?",
    "core=memory": "core: no such key; did you mean model.core?",
    "zzz=1": "zzz: no such key; wanted one of environment, source, transform, batch, model, loss, metric, learner, evaluate, run, track",
    "run.steps=${nowhere}": "run.steps: Interpolation key 'nowhere' not found (override run.steps=${nowhere})",
    "run.steps=${run.steps}": "run.steps: ",
    "run.steps='${'": "run.steps: '${' is no interpolation: ",
    "run.steps=${oc.env:NO_SUCH_VARIABLE}": "run.steps: KeyError raised while resolving interpolation",
    "run.steps=${no_such:3}": "run.steps: Unsupported interpolation type no_such",
    "run.steps=${model.core}": "run.steps: wanted int, got a mapping (use, slots, gate, bias, ...)",
    "model.core.names.a=${model}": "model.core.names.a: Interpolation to parent node detected",
    "evaluate.every=${run.precision}": "evaluate.every: wanted int, got 'auto'",
    "run.steps": "override 'run.steps': wanted key=value, or ~key to remove a key",
}


@pytest.mark.parametrize("override", BAD)
def test_bad_value_is_one_line_with_its_key(override, problems_of):
    """Each mistake is told once: the full key, what was given, what is wanted, and what was probably meant."""
    (problem,) = problems_of(LEAST, override)
    assert problem.startswith(BAD[override]) or BAD[override] in problem


@pytest.mark.parametrize("override", [each for each in BAD if "evaluate.every" not in each])
def test_bad_value_is_told_alike_beside_an_interpolation(override, problems_of):
    """That a pipeline interpolates somewhere changes nothing about the mistakes elsewhere."""
    with_it = problems_of(LEAST, override, "evaluate.every=${batch.size}")
    assert with_it == problems_of(LEAST, override)


def test_all_problems_are_told_at_once(problems_of):
    """Mistakes of overrides, keys, parts, values and interpolations come together."""
    together = [each for each in BAD if each.startswith(("model.head", "run.p", "batch", "metric=[", "z", "learner.c"))]
    wanted = [BAD[each] for each in together]
    found = problems_of(LEAST, *together, "evaluate.best=${nowhere}", "nonsense")
    assert len(found) == len(together) + 2
    for line in [*wanted, "evaluate.best: Interpolation key 'nowhere' not found", "override 'nonsense'"]:
        assert any(each.startswith(line) for each in found)


def test_problem_has_the_line_of_its_key(problems_of, tmp_path):
    """A mistake in a file is told with file and line: that of the key, or of what it is missing in."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "source: {use: numbers}\nmodel:\n  core:\n    use: memory\n    slots: x\n    gate: y\n\nmetric:\n- z\n"
    )
    assert problems_of(path) == [
        f"source.length: missing; wanted int ({path}:1)",
        f"model.core.slots: wanted int, got 'x' ({path}:5)",
        f"model.core.gate: wanted one of unit | memory | null, got 'y' ({path}:6)",
        f"metric.0: no metric 'z'; wanted one of accuracy, errors ({path}:9)",
    ]
    assert "(override model.core.slots=z)" in problems_of(path, "model.core.slots=z")[1]


def test_interpolation_refers_to_what_is_written_and_to_defaults(plan_of):
    """${...} reaches any key, defaults included, whole blocks included, and what `evaluate.source` takes over."""
    plan = plan_of(
        {**LEAST, "batch": {"size": "${model.encoder.size}"}, "run": {"steps": "${evaluate.every}"}},
        "loss.use=${evaluate.best}", "evaluate.best=cross_entropy", "source.length=${batch.size}",
        "model.core.note=n${batch.multiple}", "learner.spare=${learner.optimizer}", "model.core.slots=${.shape.1}",
    )  # fmt: skip
    assert plan.batch.params["size"] == plan.origin.params["length"] == plan.evaluate_origin.params["length"] == 64
    assert plan.sections["run"].steps == 10
    assert (plan.loss.use, plan.core.params["note"], plan.core.params["slots"]) == ("cross_entropy", "n1", 3)
    assert plan.learner.params["spare"].params == plan.learner.params["optimizer"].params
    assert "${" not in str(plan.resolved)


def test_escaped_interpolation_stays_text(plan_of):
    r"""\${x} is the text ${x}, in what is run again too."""
    plan = plan_of(LEAST, r"model.core.note='\${x} \\\${y}'")
    assert plan.core.params["note"] == r"${x} \${y}"
    assert plan_of(plan.resolved) == plan


def test_interpolations_that_explode_are_refused(problems_of):
    """A few lines that stand for billions of values are refused, and so is one inside of what it stands for."""
    bomb = {f"k{n}": [f"${{model.core.names.k{n - 1}}}"] * 9 if n else [1] * 9 for n in range(12)}
    found = problems_of({**LEAST, "model": {"core": {"use": "memory", "names": bomb}}})
    assert any("stands for more than a pipeline can hold" in line for line in found)
    circle = {"use": "memory", "names": {"a": "${model.core.shape}"}, "shape": ["${model.core.names}"]}
    assert problems_of({**LEAST, "model": {"core": circle}})


def test_mapping_is_taken_as_plain_data(plan_of, problems_of):
    """Numpy's numbers, tuples, paths and OmegaConf's containers are plain data; keys are text; the rest is refused."""
    written = {
        "source": {"use": "numbers", "length": np.int64(3), "scale": np.float32(0.5), "file": Path("x")},
        "model": OmegaConf.create({"core": {"use": "memory", "shape": [1, 2], "note": "${run.precision}"}}),
        "metric": ("accuracy",),
    }
    before = copy.deepcopy(written)
    plan = plan_of(written, "source.scale=1")
    assert (plan.origin.params["length"], plan.core.params["note"]) == (3, "auto")
    assert written == before
    assert problems_of({**LEAST, "run": {"steps": object()}}) == ["run.steps: wanted plain data, got an object"]
    assert problems_of({**LEAST, 3: 4})[0] == "3: a key is text; quote it: '3'"
    loop = {**LEAST}
    loop["run"] = loop
    assert "nested more than" in problems_of(loop)[0]


def test_files_that_are_no_pipeline(problems_of, tmp_path):
    """Whatever is at the path, the answer is one line that names it."""
    texts = {
        "empty.yaml": (b"", "it is empty"),
        "comment.yaml": (b"# nothing\n", "it is empty"),
        "list.yaml": (b"- a\n", "it is a list of 1"),
        "text.yaml": (b"program", "it is 'program'"),
        "binary.yaml": (bytes(range(256)), "not a text file"),
        "wide.yaml": ("source: x".encode("utf-16"), "not a text file"),
        "syntax.yaml": (b"a: [1\n", "syntax.yaml:2:1: expected ',' or ']'"),
        "huge.yaml": (b"# " + b"x" * 2_000_000, "too long for a pipeline"),
    }
    for name, (content, message) in texts.items():
        (tmp_path / name).write_bytes(content)
        (problem,) = problems_of(tmp_path / name)
        assert message in problem
        assert name in problem
    assert problems_of(tmp_path) == [f"{tmp_path}: wanted a pipeline, this is a folder"]
    assert "did you mean" in problems_of(tmp_path / "empt.yaml")[0]
    assert problems_of("a\x00b")[0].startswith("no pipeline")
    assert problems_of("x" * 5000)[0].startswith("no pipeline")


def test_unreadable_file_is_told(problems_of, tmp_path, monkeypatch):
    """A file that may not be read is a line with the system's reason."""
    (tmp_path / "p.yaml").write_text("a: 1")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert problems_of(tmp_path / "p.yaml") == [f"{tmp_path / 'p.yaml'}: cannot be read: Permission denied"]


def test_name_of_a_pipeline(tmp_path, fakes):
    """A pipeline from a file is named after the file; the name does not make plans differ."""
    (tmp_path / "mine.yaml").write_text("\ufeffsource: letters\nmodel: {core: memory}\n", encoding="utf-8")
    plan = freeze(load(tmp_path / "mine.yaml"), fakes, SECTIONS)
    again = freeze(load(plan.resolved), fakes, SECTIONS)
    assert (plan.name, again.name) == ("mine", "pipeline")
    assert plan == again


def test_error_survives_pickling():
    """A ConfigError that comes from another process still has its problems."""
    assert pickle.loads(pickle.dumps(ConfigError(["a", "b\nc"]))).problems == ["a", "b c"]


BLOCKS = {
    "source": st.one_of(
        st.fixed_dictionaries(
            {"use": st.just("numbers"), "length": st.integers(-5, 5) | st.sampled_from([1e3, "${batch.size}"])},
            optional={"scale": st.floats(allow_nan=False) | st.integers(), "file": st.none() | st.text(max_size=5)},
        ),
        st.fixed_dictionaries({"use": st.just("mix"), "sources": st.lists(st.just("letters"), max_size=3)}),
    ),
    "model": st.fixed_dictionaries(
        {
            "core": st.fixed_dictionaries(
                {"use": st.just("memory")},
                optional={
                    "gate": st.sampled_from(["unit", "memory", None]),
                    "note": st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["\\${a}", "\\\\\\${", "a\\"]),
                    "names": st.dictionaries(st.text("abc.", min_size=1), st.integers(0, 9), max_size=2),
                    "shape": st.tuples(st.integers(), st.integers()),
                    "rate": st.floats(0, 1) | st.just("auto") | st.integers(0, 3),
                },
            )
        },
        optional={"head": st.just({"sizes": [1.0, 2]}), "decoding": st.sampled_from(["parallel", "forced"])},
    ),
}  # fmt: skip
OPTIONS = {
    "metric": st.sampled_from(["errors", [], ["accuracy", {"use": "errors", "smoothing": 1}]]),
    "learner": st.sampled_from([{"optimizer": "sgd"}, {"optimizer": {"lr": 1}, "spare": "adam"}, {"clip": 3}]),
    "evaluate": st.sampled_from(
        [{}, {"source": {"use": "letters", "split": "valid"}}, {"source": "letters"}, {"every": "${run.steps}"}]
    ),
    "run": st.fixed_dictionaries({"steps": st.integers(1, 10**6)}),
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.fixed_dictionaries(BLOCKS, optional=OPTIONS))
def test_resolved_pipeline_gives_the_same_plan(plan_of, written):
    """What a pipeline resolves to, as data or as a YAML file, is a pipeline that gives the very same plan."""
    try:
        plan = plan_of(written)
    except ConfigError as error:  # some text is a malformed interpolation
        assert all("no interpolation" in line or "not found" in line for line in error.problems)  # noqa: PT017
        return
    again = plan_of(plan.resolved)
    assert again == plan
    assert again.resolved == plan.resolved
    stored = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(plan.resolved))))
    assert plan_of(stored) == plan


def test_plan_is_compared_by_what_it_says(plan_of):
    """Plans differ where a value differs, wherever that is."""
    for override in (
        "source.seed=1",
        "learner.optimizer.lr=1",
        "run.steps=7",
        "evaluate.source.seed=1",
        "metric=errors",
    ):
        assert plan_of() != plan_of(LEAST, override)
    assert isinstance(plan_of().core, Block)


VALUES = [
    None, True, False, 0, -1, 1, 2.5, 1e3, 10**400, math.inf, math.nan, "", "numbers", "memory", "adam", "sgd", "use", "${",
    "${run.steps}", "${...use}", "${source}", "${oc.decode:'{'}",
    "\\${x}", "???", "a\nb", "\x00", "\ud800", "x" * 3000, [], [[]], [None], {}, {"use": None}, {"use": "memory"}, {"use": ["a"]},
    {"": 1}, {None: 1}, {1: 2}, {"a.b": {"c": "${a.b}"}}, ["${metric}"], object(), b"bytes", {"mix", "set"},
]  # fmt: skip
NAMES = [
    "use",
    "source",
    "sources",
    "model",
    "core",
    "length",
    "slots",
    "split",
    "",
    "\n",
    "a.b",
    "0",
    "${x}",
    "evaluate",
    "run",
]
OVERRIDES = [
    "model.core=plain", "source.length=${", "=", "~source", "~model.core.use", "a=", "metric.0=errors", "metric[3].x=1", "+x=1",
    "evaluate.source.use=letters", "evaluate.source=${source}", "run.steps=!!python/name:os.system", "x=&a [*a]", "model=", "\x00=1",
    "learner.optimizer.use=${model.core.use}", "~metric[0]", "source.sources[0]=numbers", "track.tags.${=x", "model.core=${model.head}",
]  # fmt: skip
FULL = """\
source: {use: mix, sources: [{use: numbers, length: 5}, letters], weights: [1, 2.5]}
batch: {use: pad, size: 64}
model:
  core: {use: memory, slots: 4, gate: memory, names: {a: 1}}
  head: {sizes: [256, 1e2]}
metric: [{use: accuracy}, errors]
learner: {use: supervised, optimizer: {use: adam, lr: 1e-3, betas: [0.9, 0.99]}, clip: 1}
evaluate: {every: 200, source: {use: numbers, length: 3, split: test}}
run: {steps: 2000, precision: auto}
track: {use: console, experiment: a, tags: {x: y}}
"""


def _mutate_tree(tree, chance):
    """Drop, replace, add or move something somewhere."""
    node, at = tree, None
    while isinstance(node, dict | list) and node and (at is None or chance.random() < 0.7):
        parent, at = node, chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = parent[at]
    if at is None:
        return
    match chance.randrange(4):
        case 0:
            del parent[at]
        case 1 | 2:
            parent[at] = chance.choice(VALUES)
        case _ if isinstance(parent, dict):
            parent[chance.choice(NAMES)] = copy.copy(chance.choice([node, *VALUES[:-3]]))


def _mutate_text(text, chance):
    """Drop, double or replace some characters."""
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(text))
        piece = text[start : start + chance.randrange(1, 12)]
        new = chance.choice(
            ["", piece * 2, chance.choice(":{}[],&*!|>'\"%@`#~-?$\n\t\\ \x00éx1"), "*a", "&a ", "<<: ", "!!set "]
        )
        text = text[:start] + new + text[start + len(piece) :]
    return text


def test_no_mutated_pipeline_makes_a_traceback(fakes, tmp_path):
    """Two thousand and more broken pipelines: each is frozen or refused with problems of one line, nothing else."""
    chance = random.Random(0)
    tree, path = OmegaConf.to_container(OmegaConf.create(FULL), resolve=False), tmp_path / "p.yaml"
    refused = 0
    for number in range(2100):
        if number % 6:
            source = copy.deepcopy(tree)
            for _ in range(chance.randrange(1, 4)):
                _mutate_tree(source, chance)
        else:
            path.write_text(_mutate_text(FULL, chance), encoding="utf-8")
            source = path
        overrides = chance.choices(OVERRIDES, k=chance.choice([0, 0, 1, 3]))
        try:
            plan = freeze(load(source, overrides), fakes, SECTIONS)
        except ConfigError as error:
            refused += 1
            assert error.problems  # noqa: PT017
            assert all(line and line.isprintable() for line in error.problems)  # noqa: PT017
        else:
            if number % 8 == 0:
                assert repr(freeze(load(plan.resolved), fakes, SECTIONS).resolved) == repr(plan.resolved)
    assert 1000 < refused < 2100
