"""Questions of a person: what a trained model answers, beside the true answers, and `seqtoolkit predict`."""
# ruff: noqa: D102  the methods are those of the class they stand in for

import builtins
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqtoolkit import Pipeline
from seqtoolkit.flow.batch import IGNORED, Stack
from seqtoolkit.flow.mix import Mix
from seqtoolkit.flow.source import Ragged, Sample, Source
from seqtoolkit.flow.spec import record
from seqtoolkit.host.assemble import make_source
from seqtoolkit.question import LONGEST, Answered, Asker, Tally, answer, answer_lines
from seqtoolkit.trained import Trained

PROGRAMS = ["1+2", "(3-4)+5", "x=(3+4)for[2]x+=5", "7", "9-8", "6if 3<4 else 5", "1234567+1", "9+9+9+9+9+9+9+9+9"]


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The folder of a small run."""
    rest = [each for each in tiny if not each.startswith("run.steps")]
    return Pipeline.load("program_eval", [*rest, "run.steps=30"]).run(tmp_path_factory.mktemp("runs")).folder


@pytest.fixture(scope="module")
def trained(run):
    """Its last model."""
    return Trained.find(run, "last")


class TestAnswers:
    """What comes of texts."""

    @pytest.mark.parametrize("size", [1, 3, 64])
    def test_company_changes_no_answer(self, trained, size):
        """Whatever the size of the batches, the answers are those of the model to each question alone."""
        source = make_source(trained.pipeline.plan.evaluate_origin, seed=0)
        found = list(Asker(trained, size).stream(PROGRAMS))
        for question, answered in zip(PROGRAMS, found, strict=True):
            batch = trained.graph.batch(source.ask(question))
            with torch.no_grad():
                predictions, _ = trained.model(batch.inputs, None, batch.first, batch.answers)
            row = (each[:, 0].numpy() for each in (batch.inputs, batch.targets, predictions.argmax(-1)))
            sample = source.show(*row)
            right = sample.answer == sample.expected
            assert answered == Answered(question, sample.question, sample.answer, sample.expected, right)
        assert len({each.answer for each in found}) > 1

    def test_errors_stand_in_their_places(self, trained):
        """Of questions that are none it is said why; the others are answered, in order."""
        found = answer(trained, ["1+", "1+2", "?", "3+4"])
        assert [each.error is None for each in found] == [False, True, False, True]
        assert [each.expected for each in found] == [None, "3", None, "7"]
        assert found[0].error.startswith("line 1, column 3: expected a number")
        assert found[0].record() == {"question": "1+", "error": found[0].error}
        assert found[1].record() == {
            "question": "1+2",
            "answer": found[1].answer,
            "expected": "3",
            "correct": found[1].answer == "3",
        }

    def test_no_questions_no_answers(self, trained):
        """Nothing is made of nothing."""
        assert answer(trained, []) == []

    def test_a_task_that_takes_none(self, trained):
        """A model of a task that takes no questions cannot be asked, and that is said."""
        with pytest.raises(ValueError, match=r"^the task Silent takes no questions$"):
            Asker(trained, source=Silent())
        with pytest.raises(ValueError, match=r"^the task Silent takes no questions, such as '1{37}...'$"):
            Silent().ask("1" * 100)


class Silent(Source):
    """Takes no questions."""

    writes = record(row="i64<3>[B 2]")

    def draw(self, indexes):
        return {"row": np.zeros((len(indexes), 2), np.int64)}


class Unknowing(Source):
    """Symbols whose true answer nobody knows; it may have three."""

    writes = record(question="i64<6>[B L]", answer="i64<6>[B A]", counted="bool[B A]")
    asks = "symbols from 1 to 5: `12`"

    def draw(self, indexes):
        raise NotImplementedError

    def ask(self, question):
        length, three = np.array([len(question)]), np.array([3])
        said = Ragged(np.array(list(map(int, question))), length)
        return {
            "question": said,
            "answer": Ragged(np.full(3, IGNORED), three),
            "counted": Ragged(np.zeros(3, bool), three),
        }

    def show(self, inputs, targets, predictions):
        return Sample(str(inputs[inputs > 0].tolist()), "nobody knows", str(predictions.tolist()))


def untrained(graph):
    """A model that has seen nothing."""
    return SimpleNamespace(graph=graph)


def test_an_answer_that_is_not_known(toy):
    """It is neither right nor wrong, and said in as many steps as the task asks for."""
    asker = Asker(untrained(toy.graph(Unknowing())), source=Unknowing())
    for answered in asker(["12", "55555"]):
        assert answered.expected is answered.correct is answered.error is None
        assert len(json.loads(answered.answer)) == 3
        assert json.loads(answered.shown) == [int(each) for each in answered.question]


class Tripling(torch.nn.Module):
    """Says the first number of each question three times over: at its last step, or as ids."""

    def forward(self, inputs, state, first, answers):
        del first
        said = 3 * inputs[:1]
        ids = torch.nn.functional.one_hot(said[..., 0].long().clamp(0, 9), 10).float()
        return (said if self.numbers else ids).expand(answers, -1, -1), state


class Numbers(Source):
    """A row of numbers of any length; the answer is three times the first, as a number or as an id."""

    asks = "numbers: `1 2`"

    def __init__(self, *, ids=False):
        super().__init__()
        self.ids = ids
        self.writes = record(inputs="f32[B T 1]", targets="i64<10>[B 1]" if ids else "f32[B 1 1]")

    def draw(self, indexes):
        raise NotImplementedError

    def ask(self, question):
        inputs = torch.tensor([[[float(each)] for each in question.split()]])
        return {"inputs": inputs, "targets": 3 * inputs[:, :1, 0].long() if self.ids else 3 * inputs[:, :1]}


def numbers_of(source):
    """A graph over Numbers, as much as asking needs of it."""
    model = Tripling()
    model.numbers = not source.ids
    collate = Stack(source.writes, size=4)
    return SimpleNamespace(model=model, collate=collate, batch=collate)


@pytest.mark.parametrize("ids", [True, False])
def test_examples_of_several_shapes(ids):
    """Questions that cannot share a batch are answered in batches of their own, in order; numbers are neither right nor wrong."""
    source = Numbers(ids=ids)
    found = Asker(untrained(numbers_of(source)), source=source)(["1 2", "2 5 7", "3 4", "x", "1"])
    assert [each.answer for each in found] == (
        ["[3]", "[6]", "[9]", None, "[3]"] if ids else ["[3.0]", "[6.0]", "[9.0]", None, "[3.0]"]
    )
    assert [each.expected for each in found] == [each.answer for each in found]
    assert [each.correct for each in found] == ([True] * 3 + [None, True] if ids else [None] * 5)
    assert found[3].error == "could not convert string to float: 'x'"


class Digits(Unknowing):
    """Takes what it is made to take, and says its name."""

    def __init__(self, seed=0, split="train", takes="12"):
        super().__init__(seed, split)
        self.takes = takes

    @property
    def asks(self):
        return f"`{self.takes}`" if self.takes else ""

    def ask(self, question):
        if question not in self.takes:
            raise ValueError(f"not of {self.takes}")
        return super().ask(question)


def test_a_mix_asks_its_sources():
    """The first source that takes a question reads it; where none does, the first that takes any says why."""

    def mix(*takes):
        return Mix([lambda seed, split, each=each: Digits(seed, split, each) for each in takes])

    both = mix("", "12", "34")
    assert both.asks == "`12`"
    assert both.ask("1")["question"].values.tolist() == [1]
    assert both.ask("3")["question"].values.tolist() == [3]
    with pytest.raises(ValueError, match=r"^not of 12$"):
        both.ask("5")
    assert mix("", "").asks == ""
    with pytest.raises(ValueError, match=r"^the task Mix takes no questions, such as '1'$"):
        mix("", "").ask("1")


class TestLines:
    """JSON lines in, records out."""

    def ask(self, trained, *lines, size=None):
        tally = Tally()
        found = answer_lines(Asker(trained, size), io.BytesIO(b"".join(lines)), tally)
        return [each for some in found for each in some], tally

    def test_each_line_in_its_place(self, trained):
        """Texts and objects are answered, in order; what is none has an error with its line's number, empty lines counted."""
        found, tally = self.ask(
            trained,
            b'"1+2"\n',
            b"\n",
            b'{"question": "2+2", "id": 7}\r\n',
            b"1+2\n",
            b'{"program": "1"}\n',
            b"[1]\n",
            b'{"question": 3}\n',
            b'{"question": {"n": 3}}\n',
            b'"\xff"\n',
            b'"1+"\n',
            b'"4+4"',
            size=2,
        )
        assert [each.get("line") for each in found] == [None, None, 4, 5, 6, None, 8, 9, 10, None]
        assert [each.get("expected") for each in found] == ["3", "4", None, None, None, "3", None, None, None, "8"]
        asked = [each.get("question") for each in found]
        assert asked == ["1+2", "2+2", None, None, None, "3", '{"n": 3}', None, "1+", "4+4"]
        errors = {each["line"]: each["error"] for each in found if "line" in each}
        assert errors[4] == "not JSON: Extra data: line 1 column 2 (char 1)"
        assert errors[5] == 'wanted {"question": ...} or a text, got a mapping (program)'
        assert errors[6] == 'wanted {"question": ...} or a text, got a list of 1'
        assert errors[8].startswith("line 1, column 1: expected")
        assert errors[9].startswith("not JSON: 'utf-8' codec")
        assert tally.errors == len(errors) == 6
        assert tally.unknown == 0
        assert tally.right + tally.wrong == 4

    @pytest.mark.parametrize("line", [b"[" * 200_000, b"1" * 5000, b'"\\ud800"', b"null", b'{"question": null}'])
    def test_odd_lines(self, trained, line):
        """JSON that is too deep, a number too long, half a character and nothing at all are each an error of one line."""
        (found,), _ = self.ask(trained, line)
        assert found["line"] == 1
        assert "\n" not in found["error"]
        json.dumps(found)

    def test_a_line_too_long_to_hold(self, trained):
        """It is passed over piece by piece, an error in its place; a line of just that length is read."""
        text = b'"1+2"'
        just = text + b" " * (LONGEST - len(text)) + b"\n"
        found, _ = self.ask(trained, text + b" " * (3 * LONGEST) + b"\n", just, just[:-1])
        error = f"a line of more than {LONGEST:,} bytes"
        assert [each.get("error") for each in found] == [error, None, None]
        assert [each.get("line") for each in found] == [1, None, None]
        found, _ = self.ask(trained, text + b" " * (2 * LONGEST))
        assert [each.get("error") for each in found] == [error]

    def test_no_more_than_a_batch_is_read_ahead(self, trained):
        """However long the file, answers come while most of it is unread."""
        file = io.BytesIO(b'"1+1"\n' * 1000)
        stream = answer_lines(Asker(trained, 4), file)
        assert len(next(stream)) == 4
        assert file.tell() == 4 * len(b'"1+1"\n')


def test_what_a_tally_says():
    """Only what there is is told."""
    assert str(Tally()) == "0 questions"
    assert str(Tally(right=1)) == "1 question; 1 of 1 right, accuracy 1.0000"
    assert str(Tally(1, 2, 3, 1004)) == (
        "1,010 questions; 1 of 3 right, accuracy 0.3333; 3 of which the answer is not known; 1,004 not understood"
    )


class TestPredict:
    """The command."""

    def test_arguments(self, run, trained, type_in):
        """Each question has a row with both answers; one that is none is told, and the exit code is 1."""
        code, out, err = type_in("predict", run, "1 + 2", "3+", "4+4", "--checkpoint", "last")
        one, two = answer(trained, ["1+2", "4+4"])
        rows = [line.split() for line in out.splitlines()]
        words = {True: "right", False: "wrong"}
        assert rows == [
            ["question", "answer", "expected"],
            ["1+2", one.answer, "3", words[one.correct]],
            ["4+4", two.answer, "8", words[two.correct]],
        ]
        assert code == 1
        told = err.splitlines()
        assert told[0].startswith("seqtoolkit: 3+: line 1, column 3: expected a number")
        assert told[1].startswith("3 questions; ")
        assert told[1].endswith("; 1 not understood")

    def test_one_argument(self, run, type_in):
        """One question needs no summary; with --json it is a list of one."""
        code, out, err = type_in("predict", run, "1+2", "--json")
        (found,) = json.loads(out)
        assert (code, err, found["question"], found["expected"]) == (0, "", "1+2", "3")

    @pytest.mark.parametrize("where", ["file", "stdin"])
    def test_a_whole_file_is_one_question(self, run, type_in, tmp_path, monkeypatch, where):
        """Line breaks inside belong to it."""
        (tmp_path / "program").write_text("(1\n+2)\n\n")
        monkeypatch.setattr(sys, "stdin", io.StringIO("(1\n+2)\n\n"))
        code, out, _ = type_in("predict", run, "--file", tmp_path / "program" if where == "file" else "-", "--json")
        assert code == 0
        assert json.loads(out)[0]["expected"] == "3"
        assert json.loads(out)[0]["question"] == "(1\n+2)"

    def test_batch(self, run, type_in, tmp_path, monkeypatch):
        """JSON lines from a file or stdin go to a file or stdout, the same ones; the summary is on stderr, errors are code 1."""
        lines = '"1+2"\n{"question": "7-3"}\nnonsense\n'
        (tmp_path / "in.jsonl").write_text(lines)
        code, out, err = type_in("predict", run, "--batch", tmp_path / "in.jsonl")
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 1
        assert [each.get("expected") for each in found] == ["3", "4", None]
        assert found[2]["line"] == 3
        assert err.startswith("3 questions; ")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert type_in("predict", run, "--batch", "-", "--to", "out.jsonl")[1] == ""
        assert (tmp_path / "out.jsonl").read_text() == out
        assert type_in("-q", "predict", run, "--batch", "in.jsonl") == (1, out, "")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["1+2", "--file", "x"], "QUESTION and --file: wanted one of them"),
            (["--file", "x", "--batch", "y"], "--file and --batch: wanted one of them"),
            (["--to", "x"], "--to: wanted --batch too, whose answers it takes"),
            (["--batch", "in.jsonl", "--to", "./in.jsonl"], "--to: in.jsonl is what --batch reads"),
            (["--file", "latin"], "latin: byte 1 is no UTF-8"),
            (["1+2", "--checkpoint", "7"], "has no checkpoint '7'"),
        ],
    )
    def test_what_cannot_be(self, run, type_in, tmp_path, words, said):
        """A user's mistake is one line and exit code 2; nothing is written over."""
        (tmp_path / "in.jsonl").write_text('"1"')
        (tmp_path / "latin").write_bytes(b"1\xff")
        code, out, err = type_in("predict", run, *words)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1
        assert (tmp_path / "in.jsonl").read_text() == '"1"'

    def test_a_file_that_is_not_there(self, run, type_in):
        """It is named, and the exit code is 1."""
        for words in (["--file", "lost"], ["--batch", "lost"]):
            code, _, err = type_in("predict", run, *words)
            assert code == 1
            assert "lost" in err

    def test_a_task_without_questions(self, type_in, run, monkeypatch):
        """It is said in one line."""
        monkeypatch.setattr("seqtoolkit.question.source_of", lambda trained: Silent())
        code, _, err = type_in("predict", run, "1")
        assert (code, err) == (2, "seqtoolkit: the task Silent takes no questions\n")

    def test_questions_of_many_lines(self, run, type_in, monkeypatch):
        """Lines up to an empty one, or to the end, are one question; blank ones between mean nothing."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("1+2\n\n\n \n(4+\n5)\n\n1+\n\n3-1"))
        code, out, err = type_in("predict", run, "--json")
        found = [json.loads(line) for line in out.splitlines()]
        assert [each["question"] for each in found] == ["1+2", "(4+\n5)", "1+", "3-1"]
        assert [each.get("expected") for each in found] == ["3", "9", None, "2"]
        assert code == 1
        assert err.startswith("4 questions; ")

    def test_ctrl_c_drops_a_question(self, run, type_in, monkeypatch):
        """What was typed of it is forgotten, and the prompt goes on."""
        typed = iter(["(9+", KeyboardInterrupt, "1+2", "", EOFError])

        def read(_):
            line = next(typed)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr(builtins, "input", read)
        code, out, _ = type_in("predict", run)
        assert code == 0
        assert out.splitlines()[-1] == "expected  3"
        assert out.count("answer ") == 1

    def test_on_a_terminal(self, run):
        """A person is told what is asked for, sees both answers, and leaves by Ctrl-D.

        readline may lose a Ctrl-C that arrives as it begins to listen; a person presses it again, and so does the test.
        """
        environment = {**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        process, leader = pty.fork()
        if process == 0:
            os.execve(sys.executable, [sys.executable, "-m", "seqtoolkit", "predict", str(run)], environment)
        seen, start, last = "", 0, ""
        try:
            for awaited, typed in (
                ("> ", "(1+\n"),
                (". ", "\x03"),
                ("> ", "1+2\n\n"),
                ("expected  3", ""),
                ("> ", "\x04"),
            ):
                while awaited not in seen[start:]:
                    if select.select([leader], [], [], 3 if last == "\x03" else 60)[0]:
                        seen += os.read(leader, 4096).decode()
                    else:
                        assert last == "\x03", seen
                        os.write(leader, last.encode())
                start = seen.index(awaited, start) + len(awaited)
                os.write(leader, typed.encode())
                last = typed
            status = os.waitpid(process, 0)[1]
            process = 0
        finally:
            os.close(leader)
            if process:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert "a program of program_eval, such as `" in seen
        assert "Ctrl-D leaves" in seen

    def test_who_stops_listening(self, run, tmp_path):
        """A pipe that is closed early ends the command without a word."""
        (tmp_path / "in.jsonl").write_text('"1+1"\n' * 20_000)
        command = f"{sys.executable} -m seqtoolkit -q predict {run} --batch in.jsonl | head -1"
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert json.loads(done.stdout)["expected"] == "2"
        assert done.stderr == ""
