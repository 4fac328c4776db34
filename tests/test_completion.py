"""Completion: what shells are offered, in the words in which they ask, in a real bash, and that bad input stays silent."""
# ruff: noqa: D102  the methods of Registry are those of the class that it stands in for

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seqtoolkit import Pipeline
from seqtoolkit.cli import completion
from seqtoolkit.cli.key import Memory, offers
from seqtoolkit.host.plan import flat
from seqtoolkit.host.registry import discover
from seqtoolkit.host.resource import shipped


def cut(words):
    """The words of a line as bash hands them over: cut at = and :, which are words themselves."""
    return [part for word in words for part in (re.split("([=:]+)", word) if word else [""]) if part or not word]


def asked(*words, shell="bash"):
    """The variables in which a shell asks what the last of these words may become."""
    if shell == "bash":
        found = cut(("seqtoolkit", *words))
        asking = {"COMP_WORDS": "\n".join(found), "COMP_CWORD": str(len(found) - 1)}
    else:
        action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
        asking = {"_TYPER_COMPLETE_ARGS": " ".join(("seqtoolkit", *words)), **action}
    return {"_SEQTOOLKIT_COMPLETE": f"complete_{shell}", **asking}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A place for what completion remembers."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def ask(type_in, monkeypatch, home):
    """Ask as a shell does, in an empty directory: the lines that it gets; nothing goes wrong."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))

    def answered(*words, shell="bash"):
        for name, value in asked(*words, shell=shell).items():
            monkeypatch.setenv(name, value)
        _, out, err = type_in()
        assert err == ""
        return [line for line in out.splitlines() if line]

    return answered


def test_commands_and_options_are_offered(ask):
    """Commands by their beginning, those of a group, and options, -q and -v among those of each command."""
    assert {"run", "check", "plugins", "pipelines", "plot", "bench"} <= set(ask(""))
    assert ask("che") == ["check"]
    assert ask("plugins", "s") == ["show"]
    for words in ((), ("run",), ("plugins", "show")):
        assert ask(*words, "--qu") == ["--quiet"]
        assert ask(*words, "--verb") == ["--verbose"]


def test_pipelines_are_offered_by_name_and_as_files(ask, tmp_path):
    """Those that are shipped, and YAML files here and one folder further down."""
    for name in ("one.yaml", "two.yml", "three.txt", "deep/four.yaml", "deep/down/five.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert set(ask("run", "")) == {*shipped("pipelines"), "one.yaml", "two.yml", "deep/four.yaml"}
    assert ask("run", "program_ev") == ["program_eval"]
    assert ask("check", "deep/") == ["deep/four.yaml", "deep/down/five.yaml"]
    assert ask("check", "./o") == ["./one.yaml"]
    assert ask("pipelines", "copy", "program_ev") == ["program_eval"]


def test_runs_are_offered_from_the_folder(ask, tmp_path):
    """The folders that hold a run, the latest first, from where --folder says; its keys are those of its own pipeline."""
    for place in ("runs/2025-a", "runs/2026-b", "else/2027-c"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").write_text("model: {core: {use: lstm}}\n")
    (tmp_path / "runs" / "2024-none").mkdir()
    assert ask("plot", "attention", "") == ["2026-b", "2025-a"]
    assert ask("run", "--resume", "2025") == ["2025-a"]
    assert ask("run", "--resume=2025") == ["2025-a"]
    assert ask("run", "--folder", "else", "--resume", "") == ["2027-c"]
    assert "model.core.forget_bias=" in ask("run", "--resume", "2025-a", "model.core.f")
    assert "lstm" in ask("run", "--resume", "2025-a", "model.core=")


def test_parts_are_offered_by_name_and_by_kind(ask):
    """A name that several kinds have is offered with each of them; cores alone where a core is wanted."""
    assert ask("plugins", "show", "lst") == ["lstm"]
    assert ask("plugins", "show", "core:lst") == ["lstm"]
    names = ask("plugins", "show", "")
    assert {"adam", "rmc", "pad"} <= set(names)
    for kind in discover().kinds:
        for name in discover().names(kind):
            assert name in names or f"{kind}:{name}" in names
    assert ask("bench", "core", "rm") == ["rmc"]
    assert ask("bench", "core", "ada") == []


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("model.core=r", ["rmc"]),
        ("model.core=nothing", []),
        ("run.precision=", ["auto", "f32", "bf16", "f16"]),
        ("run.precision=f", ["f32", "f16"]),
        ("run.profile=", ["true", "false"]),
        ("run.step", ["run.steps=", "run.steps=1000"]),
        ("mod", ["model.encoder=", "model.encoder.", "model.core=", "model.core.", "model.head=", "model.head."]),
        ("learner.optimizer=", ["adam", "adamw", "rmsprop", "sgd"]),
        ("learner.optimizer.lr", ["learner.optimizer.lr="]),
        ("evaluate.source.nest", ["evaluate.source.nesting="]),
        ("metric.0", ["metric.0="]),
        ("nonsense", []),
        ("nonsense.", []),
        ("run.steps.x", []),
        ("run.steps.x=", []),
        ("=", []),
        ("a:b=c", []),
    ],
)
def test_keys_and_values_are_offered_level_by_level(ask, word, offered):
    """Keys of the pipeline's own blocks; a key that is alone stands beside its values, so that no space follows it."""
    found = ask("run", "program_eval", word)
    assert found[: len(offered)] == offered
    assert bool(found) == bool(offered)


def test_changes_count_for_what_follows(ask):
    """After model.core=lstm the parameters of model.core are those of that part; so they are in check, in zsh and fish."""
    words = ("check", "program_eval", "model.core=dnc", "model.core.word")
    assert ask(*words)[0] == "model.core.word_size="
    assert ask(*words, shell="fish")[0].startswith("model.core.word_size=\t")
    assert ask(*words, shell="zsh")[0].startswith('_arguments \'*: :(("model.core.word_size=":"')
    assert ask("run", "program_eval", "model.core=r", shell="fish") == ["model.core=rmc\tcore"]


def walk(memory, tree, before=""):
    """Every word that is offered, level by level, from an empty one on."""
    for word, _ in offers(memory, tree, before):
        yield word
        if word.endswith(("=", ".")) and word != before:
            yield from walk(memory, tree, word)


def test_what_is_offered_is_a_pipeline(tmp_path):
    """Every key of the resolved pipeline is offered, and each value that is offered is one that the pipeline takes."""
    pipeline = Pipeline.load("program_eval")
    words = set(walk(Memory(discover(), tmp_path / "keys.json"), pipeline.config.tree))
    keys = {word.partition("=")[0] for word in words if "=" in word}
    known = {re.sub(r"\.use$", "", key) for key in flat(pipeline.plan.resolved)}
    unknown = {key for key in known - keys if not key.startswith(("evaluate.source", "source.", "metric", "sweep"))}
    assert not unknown
    given = sorted(word for word in words if word.partition("=")[2])
    assert len(given) > 50
    for word in given:
        tree = Pipeline.load("program_eval", [word]).config
        assert not list(tree.problems), word
    for word in [word for word in given if word.startswith(("run.", "learner.", "model.core"))]:
        assert Pipeline.load("program_eval", [word]).plan, word


def test_commas_part_values_where_several_are_taken(home):
    """A sweep's list is completed at its last value."""
    memory = Memory(discover(), home / "keys.json")
    assert offers(memory, {}, "model.core=lstm,rm", several=True) == [("model.core=lstm,rmc", "core")]
    assert offers(memory, {}, "model.core=lstm,rm") == []


@given(st.lists(st.text("ab=:.", max_size=6), min_size=1, max_size=4))
def test_what_bash_cuts_is_joined(words):
    """The last word is whole again, and what bash took for done of it is told; at a separator bash does not show spaces."""
    words = ["x", *words]
    found = cut(words)
    assume(not any(left[-1:] in ("=", ":") or right[:1] in ("=", ":") for left, right in pairwise(words)))
    former = {name: os.environ.get(name) for name in ("COMP_WORDS", "COMP_CWORD")}
    os.environ |= {"COMP_WORDS": "\n".join(found), "COMP_CWORD": str(len(found) - 1)}
    try:
        done = completion._join()
        assert os.environ["COMP_WORDS"].split("\n") == words
        assert os.environ["COMP_CWORD"] == str(len(words) - 1)
        assert words[-1] == done + ("" if found[-1][:1] in ("=", ":") else found[-1])
    finally:
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "broken.yaml", "model."),
        ("run", "nowhere.yaml", "model.core="),
        ("run", "list.yaml", "source."),
        ("run", "odd.yaml", "source."),
        ("run", "odd.yaml", "model.core."),
        ("run", "--resume", "none", "model."),
        ("run", "program_eval", "model.core={use", "model.core."),
        ("run", "program_eval", "~model", "model."),
        ("run", "--nothing", ""),
        ("nothing", ""),
        ("run", "'unbalanced"),
        ("-q", "-v", "run", "program_eval", "run.s"),
        ("--", "--", ""),
        ("plugins", "show", "::"),
    ],
)
def test_what_is_half_written_is_met_in_silence(ask, tmp_path, words):
    """No error and no traceback on either stream, whatever a line, a file or a run is like."""
    (tmp_path / "broken.yaml").write_text("source: {use: program_eval\nmodel: core: rmc\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "odd.yaml").write_text("source: {use: 3}\nmodel: {core: [1, {use: nothing}]}\nmetric: 7\nevaluate: x\n")
    assert not [line for line in ask(*words) if "rror" in line]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ar=:.,~'\"[]{} -$\\", max_size=8), max_size=4))
def test_any_words_are_met_in_silence(ask, words):
    """Whatever stands on the line, nothing is complained about."""
    ask("run", "program_eval", *words)


@pytest.mark.parametrize(
    ("words", "number"), [("a\nb", "many"), ("", "1"), ("seqtoolkit", "7"), ("seqtoolkit\nx", "-3")]
)
def test_a_shell_that_counts_wrong_is_met_in_silence(ask, monkeypatch, type_in, words, number):
    """A number of the word that is none, or of no word, is no traceback."""
    monkeypatch.setenv("_SEQTOOLKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", number)
    _, out, err = type_in()
    assert (err, "Traceback" in out) == ("", False)


def fresh(code, folder, environment):
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_answers_come_without_torch(tmp_path, home):
    """Commands, pipelines, runs and parts import neither torch nor mlflow, nor do keys once they are remembered."""
    ask = """
import json, os, sys
from seqtoolkit.cli import main
for name, variables in json.loads(os.environ["ASKED"]).items():
    os.environ |= variables
    try:
        main()
    except SystemExit:
        pass
    print("#", name, sorted({"torch", "mlflow"} & set(sys.modules)))
"""
    places = [
        ("che",),
        ("run", "pro"),
        ("plot", "attention", ""),
        ("plugins", "show", "l"),
        ("run", "program_eval", "model.core=r"),
    ]
    later = [
        ("run", "program_eval", "model.core."),
        ("run", "program_eval", "run.s"),
        ("check", "program_eval", "learner.optimizer."),
    ]
    memory = Memory(discover(), completion_file(home))
    for words in later:
        offers(memory, Pipeline.load("program_eval").config.tree, words[-1])
    questions = {" ".join(words): asked(*words) for words in [*places, *later]}
    said = fresh(ask, tmp_path, {"ASKED": json.dumps(questions), "XDG_CACHE_HOME": str(home)})
    for name in questions:
        assert f"# {name} []\n" in said
    assert "model.core.mem_slots=" in said


def completion_file(home):
    """The file in which completion remembers, with this home."""
    former = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(home)
    try:
        return Memory(discover()).path
    finally:
        os.environ.pop("XDG_CACHE_HOME") if former is None else os.environ.__setitem__("XDG_CACHE_HOME", former)


class Registry:
    """A registry of one part, whose module is a file that may change."""

    def __init__(self, place):
        self.place, self.asked = place, 0

    def owner(self, kind, name):
        return SimpleNamespace(parts={kind: {name: "module:Part"}})

    def resolve(self, kind, name):
        scope = {}
        exec(compile(self.place.read_text(), str(self.place), "exec"), scope)
        return scope["part"]

    def schema(self, kind, name):
        from seqtoolkit.host.schema import schema

        self.asked += 1
        return schema(self.resolve(kind, name))

    def name_of(self, kind, part):
        return None


def test_what_parts_take_is_remembered_until_their_module_changes(tmp_path):
    """A second shell is answered from the disk; after a change it looks again; a damaged or locked memory is no harm."""
    place, kept = tmp_path / "module.py", tmp_path / "cache" / "keys.json"
    place.write_text("def part(size: int = 3): ...\n")
    registry = Registry(place)
    names = lambda: [entry.name for entry in Memory(registry, kept).part("core", "x")]  # noqa: E731  asked again and again
    assert (names(), names(), registry.asked) == (["size"], ["size"], 1)
    place.write_text("def part(width: int = 3, *, deep: bool = True): ...\n")
    os.utime(place, ns=(1, 1))
    assert (names(), names(), registry.asked) == (["width", "deep"], ["width", "deep"], 2)
    for damage in ("{", "[]", '{"core module:Part": 3}', '{"core module:Part": {"file": 3, "stamp": 1}}'):
        kept.write_text(damage)
        assert names() == ["width", "deep"]
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("in the way")
    assert names() == ["width", "deep"]


class Bash:
    """A real bash at a terminal, where a person types."""

    def __init__(self, folder, environment):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.update(environment)
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.type("bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; source complete.sh; echo rea''dy\n")
        self.read("ready\r\n")

    def type(self, text):
        """Press these keys."""
        os.write(self.terminal, text.encode())

    def read(self, until):
        """What is shown until this is."""
        shown, end = "", time.monotonic() + 60
        while until not in shown:
            assert time.monotonic() < end, shown
            if select.select([self.terminal], [], [], 1)[0]:
                shown += os.read(self.terminal, 65536).decode()
        return shown

    def close(self):
        """Leave."""
        self.type("\x15exit\n")
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def test_a_real_bash_completes(tmp_path, home):
    """At a terminal, TAB completes a value after =, goes on from a key without a space, and completes after a colon."""
    show = "import sys; from seqtoolkit.cli import main; sys.argv += ['--show-completion', 'bash']; main()"
    script = fresh(show, tmp_path, {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    (tmp_path / "complete.sh").write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    bash = Bash(
        tmp_path, {"PATH": path, "PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null", "XDG_CACHE_HOME": str(home)}
    )
    try:
        for typed, shown in [
            ("run program_eval model.core=r", "model.core=rmc "),
            ("run program_eval run.precis", "run.precision="),
            ("plugins show core:lst", "core:lstm "),
        ]:
            bash.type(f"seqtoolkit {typed}\t")
            bash.type("\x01: [\x05]; echo do''ne\n")
            said = bash.read("done\r\n")
            assert f"seqtoolkit {typed.rpartition(' ')[0]} {shown}]" in said.replace("\r", ""), said
    finally:
        bash.close()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("export", ""), ["2026-b"]),
        (("register", "2026"), ["2026-b"]),
        (("ui", ""), ["2026-b"]),
        (("evaluate", ""), ["2026-b"]),
        (("evaluate", "2026-b", "source.le"), ["source.length=", "source.length=5"]),
        (("evaluate", "2026-b", "source.curriculum=baseline,mi"), ["baseline,mix"]),
        (("predict", ""), ["2026-b"]),
        (("runs", "show", ""), ["2026-b"]),
        (("runs", "list", "--pipeline", "program_ev"), ["program_eval"]),
        (("sweep", "program_ev"), ["program_eval"]),
        (("sweep", "program_eval", "model.core=rmc,ls"), ["rmc,lstm"]),
        (("compare", "x", "--by", "model.cor"), ["model.core"]),
    ],
)
def test_every_command_completes_what_it_takes(ask, tmp_path, words, offered):
    """Runs, pipelines and keys, in each command that takes one."""
    (tmp_path / "runs" / "2026-b").mkdir(parents=True)
    (tmp_path / "runs" / "2026-b" / "config.yaml").write_text("source: program_eval\n")
    assert ask(*words) == offered
