"""Writing: how a trained model goes on with a person's text, and `seqtoolkit predict --prompt`."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import builtins
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seqtoolkit import Pipeline, writer
from seqtoolkit.flow.continuation import Sampling
from seqtoolkit.flow.source import Source
from seqtoolkit.flow.spec import record
from seqtoolkit.question import source_of
from seqtoolkit.trained import Trained
from seqtoolkit.writer import Writer

WORDS = ["<unk>", "<eos>", "the", "state", "of", "union", "is", "strong", ",", ".", '"']


class Words(Source):
    """Text in words; commas and points stand close to what is before them, what a quotation mark is close to changes."""

    end = 1
    vocabulary = WORDS

    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.writes = record(inputs=f"i64<{len(self.vocabulary)}>[B T]", targets=f"i64<{len(self.vocabulary)}>[B T]")

    def draw(self, indexes):
        raise NotImplementedError

    def encode(self, text):
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        return np.array([self.vocabulary.index(each) if each in self.vocabulary else 0 for each in words], np.int64)

    def decode(self, ids):
        text, quoted = "", False
        for word in (self.vocabulary[each] for each in ids):
            blank = " " if text and text[-1] != "\n" and not (text[-1] == '"' and quoted) else ""
            if word == '"':
                quoted = not quoted
            close = word in ",.\n" or word == "<eos>" or (word == '"' and not quoted)
            text += ("" if close else blank) + ("\n" if word == "<eos>" else word)
        return text


class Bytes(Words):
    """Text in the bytes of UTF-8, after <unk> and <eos>."""

    vocabulary = tuple(map(str, range(258)))

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64) + 2

    def decode(self, ids):
        return bytes(10 if each == self.end else each - 2 for each in ids).decode(errors="replace")


class Script(nn.Module):
    """Says what it is to say, an id a step, over and over, whatever it reads, and keeps what it read; others are unlikely."""

    def __init__(self, said, size, doubt=0.0):
        super().__init__()
        self.said, self.size, self.doubt, self.read, self.on = said, size, doubt, [], None

    def forward(self, inputs, state, first, answers):
        del first, answers
        state = torch.zeros(inputs.shape[1]) if state is None else state + 1
        self.read.append(inputs[:, 0].tolist())
        scores = torch.full((1, inputs.shape[1], self.size), self.doubt).log()
        scores[0, range(inputs.shape[1]), [self.said[int(each) % len(self.said)] for each in state]] = 0.0
        if self.on is not None:
            self.on(len(self.read))
        return scores, state


def scripted(source, text, doubt=0.0):
    """A trained model of the task `text` that goes on with this text, or these ids."""
    said = source.encode(text).tolist() if isinstance(text, str) else list(text)
    model = Script(said, len(source.vocabulary), doubt)
    plan = SimpleNamespace(origin=SimpleNamespace(use="text"))
    return SimpleNamespace(model=model, pipeline=SimpleNamespace(plan=plan))


def make(source, text, doubt=0.0, sampling=None, **given):
    """A Writer over a script."""
    return Writer(scripted(source, text, doubt), sampling or Sampling(), source=source, **given)


class TestStream:
    """Text in pieces."""

    def test_pieces_as_they_come(self):
        """A piece is out before the model is asked for the id after the next, and what is joined goes on with the prompt."""
        made = make(Words(), 'is strong, "the state" of union.')
        found = []
        for piece in made.stream("The state of the union", 10):
            found.append(piece)
            assert len(made.model.read) <= len(found) + 1
        assert "".join(found) == ' is strong, "the state" of union.'
        assert len(found) == 10

    @pytest.mark.parametrize("text", ["naïve — 漢字 🎈!", "\ufffd and \ufffd", "🎈🎈"])
    def test_characters_come_whole(self, text):
        """Of a character whose bytes have not all come nothing is told, of one that stands for nonsense it is when it is over."""
        source = Bytes()
        steps = len(source.encode(text))
        found = list(make(source, text).stream("", steps))
        assert "".join(found) == text
        assert all(piece in text for piece in found)

    def test_bytes_that_are_no_text(self):
        """They come to what decoding them all together comes to."""
        source = Bytes()
        for said in ([0xF0, 0x9F, 0x41], [0xC3], [0xFF, 0xFF, 0x42], [0xE2, 0x82]):
            ids = np.array(said) + 2
            assert "".join(make(source, ids).stream("é", len(said))) == source.decode(ids)

    @pytest.mark.parametrize(
        ("source", "prompt", "text"),
        [
            (Words(), "the state", " of union"),
            (Words(), "the state ", "of union"),
            (Words(), "the state\n", "of union"),
            (Words(), "", "of union"),
            (Bytes(), "the state ", "of union"),
            (Bytes(), "the state", "of union"),
            (Bytes(), "the state ", " of union"),
            (Words(), "nobody knows", " of union"),
        ],
    )
    def test_a_blank_between_prompt_and_text(self, source, prompt, text):
        """There is one where the task puts one, and none where the prompt has it already."""
        said = source.encode(text).tolist()
        assert "".join(make(source, said).stream(prompt, len(said))) == text
        assert make(source, said).continue_(prompt, len(said)) == [text]

    def test_what_the_model_reads(self):
        """The end of a document, then the prompt, in one piece; then what it said, id by id; nothing after the last."""
        made = make(Words(), "is strong.")
        assert "".join(made.stream("The union xyz", 3)) == " is strong."
        assert made.model.read == [[1, 2, 5, 0], [6], [7]]
        made = make(Words(), "is strong.")
        list(made.stream("", 1))
        assert made.model.read == [[1]]

    def test_the_end_of_a_document(self):
        """The text goes on after it, on a new line, unless it is to stop, and then says nothing of it."""
        said = [6, 7, 1, 2, 3]
        assert "".join(make(Words(), said).stream("the union", 5)) == " is strong\nthe state"
        stopping = make(Words(), said, stop_at_end=True)
        assert "".join(stopping.stream("the union", 5)) == " is strong"
        assert stopping.continue_("the union", 5, 2) == [" is strong"] * 2
        assert make(Words(), [1], stop_at_end=True).continue_("the union", 5) == [""]
        assert list(make(Words(), [1], stop_at_end=True).stream("the union", 5)) == []

    def test_unknown_words(self):
        """None is written, unless it may be."""
        doubtful = make(Words(), [0], doubt=1e-3, sampling=Sampling(seed=1))
        assert "<unk>" not in "".join(doubtful.stream("the", 50))
        assert "".join(make(Words(), [0], unknown=True).stream("the", 2)) == " <unk> <unk>"

    def test_long_texts_cost_no_more_a_word(self, monkeypatch):
        """Of a long text not every id is a piece of its own; nothing is lost."""
        monkeypatch.setattr(writer, "_FEW", 10)
        made = make(Words(), "is strong , the state of union .")
        pieces = list(made.stream("the", 100))
        assert 10 < len(pieces) < 60
        assert "".join(pieces) == make(Words(), made.model.said).continue_("the", 100)[0]


class TestContinue:
    """Whole texts."""

    def test_the_nth_text_is_that_of_the_nth_seed(self):
        """However many are written at once."""
        sampling = Sampling(seed=40)
        texts = make(Words(), "is strong", 0.2, sampling).continue_("the union", 20, writer.ROWS + 2)
        assert len(set(texts)) == writer.ROWS + 2
        for number in (0, 1, writer.ROWS, writer.ROWS + 1):
            alone = make(Words(), "is strong", 0.2, replace(sampling, seed=40 + number))
            assert "".join(alone.stream("the union", 20)) == texts[number]

    def test_the_prompt_is_read_once(self):
        """Whatever the number of texts."""
        made = make(Words(), "is strong")
        made.continue_("the state of the union", 2, 5)
        assert made.model.read == [[1, 2, 3, 4, 2, 5], [6]]


def test_no_text():
    """A task that is no text, and a prompt that is none, are said to be that."""
    with pytest.raises(ValueError, match=r"^the task text takes no prompts; ask a QUESTION$"):
        Writer(scripted(Words(), ""), Sampling(), source=SimpleNamespace())
    with pytest.raises(ValueError, match=r"^prompt: character 2 is no UTF-8$"):
        make(Words(), "is").stream("is\udcff", 3)


@pytest.fixture
def texts(monkeypatch):
    """`predict` finds a script of words, whatever the run is called; what it is."""
    trained = scripted(Words(), "is strong.", 0.05)
    monkeypatch.setattr("seqtoolkit.trained.Trained.find", lambda *_: trained)
    monkeypatch.setattr("seqtoolkit.question.source_of", lambda _: Words())
    return trained


def wanted(prompt, tokens=100, count=1, **sampling):
    """What comes of a prompt."""
    return make(Words(), "is strong.", 0.05, Sampling(**sampling)).continue_(prompt, tokens, count)


@pytest.mark.usefixtures("texts")
class TestPrompt:
    """The command."""

    def test_a_text(self, type_in):
        """The prompt stands before what comes, on stdout, and nothing besides."""
        (text,) = wanted("The union")
        assert type_in("predict", "r", "--prompt", "The union") == (0, f"The union{text}\n", "")
        assert len(text.split()) > 50

    def test_it_is_seen_while_it_is_written(self, type_in, texts, monkeypatch):
        """In a pipe too: when the model is asked for a word, all but the two before it are out."""

        class Pipe(io.StringIO):
            out = 0

            def flush(self):
                self.out = self.tell()

        pipe, seen = Pipe(), []
        texts.model.on, texts.model.doubt = lambda _: seen.append(pipe.getvalue()[: pipe.out]), 0.0
        monkeypatch.setattr(sys, "stdout", pipe)
        type_in("predict", "r", "--prompt", "The", "--tokens", 5)
        assert seen == ["", "The", "The is", "The is strong", "The is strong."]
        assert pipe.getvalue() == "The is strong. is strong\n"

    def test_how_it_goes_on(self, type_in):
        """Each option of sampling is heard."""
        options = {"temperature": 2.0, "top_k": 5, "top_p": 0.8, "seed": 3}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        found = [
            type_in("predict", "r", "--prompt", "The", "--tokens", 40, *(each for each in words if each != left))[1]
            for left in [None, *words]
        ]
        assert found[0] == f"The{wanted('The', 40, **options)[0]}\n"
        assert len(set(found)) == 5
        assert "<unk>" not in "".join(found)
        assert type_in("predict", "r", "--prompt", "The", "--unknown", "--temperature=9")[1].count("<unk>") > 3
        assert type_in("predict", "r", "--prompt", "The", "--temperature=0", "--tokens=4") == (
            0, "The is strong. is\n", "",
        )  # fmt: skip

    def test_stop_at_end(self, type_in, texts):
        """A text ends where the document does, where that is asked for."""
        texts.model.said, texts.model.doubt = [6, 1], 0.0
        assert type_in("predict", "r", "--prompt", "The", "--tokens", 4)[1] == "The is\nis\n\n"
        assert type_in("predict", "r", "--prompt", "The", "--stop-at-end")[1] == "The is\n"

    def test_several_texts(self, type_in):
        """They stand apart by an empty line, each with its prompt, from seeds that follow one another."""
        one, two, three = wanted("The", 5, 3, seed=1)
        _, out, _ = type_in("predict", "r", "--prompt", "The", "--tokens", 5, "--count", 3, "--seed", 1)
        assert out == f"The{one}\n\nThe{two}\n\nThe{three}\n"
        assert wanted("The", 5, seed=2) == [two]

    def test_json(self, type_in):
        """Each text has its prompt and its seed, with which it can be had again."""
        _, out, _ = type_in("predict", "r", "--prompt", "The", "--count", 2, "--seed", 7, "--json")
        texts = wanted("The", count=2, seed=7)
        assert json.loads(out) == [{"prompt": "The", "text": text, "seed": 7 + n} for n, text in enumerate(texts)]

    def test_from_stdin(self, type_in, monkeypatch):
        """A prompt may have lines; the break at its end is none of it. An empty one begins a document."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("The state\n\nof\n"))
        assert type_in("predict", "r", "--prompt", "-")[1] == f"The state\n\nof{wanted('The state of')[0]}\n"
        assert type_in("predict", "r", "--prompt", "")[1] == f"{wanted('')[0]}\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The\xff"), encoding="utf-8"))
        code, out, err = type_in("predict", "r", "--prompt", "-")
        assert (code, out, err) == (2, "", "seqtoolkit: stdin: byte 3 is no UTF-8\n")

    def test_prompts_that_are_typed(self, type_in, monkeypatch):
        """An empty line ends each; the next seeds are for the next one, so that the same prompt goes on another way."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("The state\nof\n\nThe state\nof\n"))
        (first,), (second,) = (wanted("The state of", 9, seed=seed) for seed in (0, 1))
        assert first != second
        _, out, err = type_in("predict", "r", "--tokens", 9)
        assert (out, err) == (f"The state\nof{first}\nThe state\nof{second}\n", "")
        monkeypatch.setattr(sys, "stdin", io.StringIO("The\n\nThe\n"))
        _, out, _ = type_in("predict", "r", "--tokens", 9, "--count", 2, "--json")
        texts = wanted("The", 9, 4)
        assert [json.loads(line) for line in out.splitlines()] == [
            {"prompt": "The", "text": text, "seed": seed} for seed, text in enumerate(texts)
        ]

    def test_ctrl_c(self, type_in, texts):
        """What was written stays, its line is ended, and the exit code is that of any command that is interrupted."""

        def interrupt(calls):
            if calls == 4:
                raise KeyboardInterrupt

        texts.model.on, texts.model.doubt = interrupt, 0.0
        code, out, err = type_in("predict", "r", "--prompt", "The union")
        assert (code, out) == (130, "The union is strong\n")
        assert err == "seqtoolkit: interrupted\n"

    def test_ctrl_c_at_a_terminal_ends_one_text(self, type_in, texts, monkeypatch):
        """Where prompts are typed by a person, the next one can be typed after it."""

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        def interrupt(calls):
            if calls == 3:
                raise KeyboardInterrupt

        typed = iter(["The", "", "The state", "", EOFError])

        def read(_):
            line = next(typed)
            if isinstance(line, str):
                return line
            raise line

        texts.model.on, texts.model.doubt = interrupt, 0.0
        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(builtins, "input", read)
        code, out, err = type_in("predict", "r", "--tokens", 4)
        assert (code, out) == (0, "The is\nThe state is strong. is\n")
        assert err.startswith("A text to go on with.\n")

    def test_a_terminal_is_not_at_the_model_s_command(self, type_in, texts, monkeypatch):
        """Characters that a terminal obeys are shown as such there, and left as they are in a pipe."""
        source = Bytes()
        made = scripted(source, "\x1b[2J\tred\n\x9b!")
        monkeypatch.setattr("seqtoolkit.question.source_of", lambda _: source)
        texts.model = made.model
        words = ("predict", "r", "--prompt", "", "--tokens", len(made.model.said))
        assert type_in(*words)[1] == "\x1b[2J\tred\n\x9b!\n"
        made.model.read.clear()
        monkeypatch.setattr("seqtoolkit.cli.prompt.sys.stdout.isatty", lambda: True)
        assert type_in(*words)[1] == "\ufffd[2J\tred\n\ufffd!\n"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["The", "--prompt", "The"], "QUESTION and --prompt: wanted one of them"),
            (["--prompt", "", "--batch", "x"], "--batch and --prompt: wanted one of them"),
            (["--prompt", "a", "--to", "x"], "--to: wanted --batch too, whose answers it takes"),
            (["The"], "QUESTION: the task text takes no questions; give it a --prompt"),
            (["--file", "x"], "--file: the task text takes no questions; give it a --prompt"),
            (["The", "--top-k=3"], "--top-k: wanted --prompt, not QUESTION: it says how a text goes on"),
            (["--prompt=a", "--temperature=-1"], "temperature: wanted a number of at least 0, got -1.0"),
            (["--prompt=a", "--top-p=0"], "top_p: wanted a probability above 0 and at most 1, got 0.0"),
            (["--prompt=a", "--top-k=-1"], "top_k: wanted at least 1, or 0 for all, got -1"),
        ],
    )
    def test_what_cannot_be(self, type_in, words, said):
        """A user's mistake is one line and exit code 2."""
        assert type_in("predict", "r", *words) == (2, "", f"seqtoolkit: {said}\n")

    def test_no_texts_at_all(self, type_in):
        """Texts of no length, and no texts, are refused."""
        for option in ("--tokens", "--count"):
            code, out, err = type_in("predict", "r", "--prompt", "The", option, 0)
            assert (code, out) == (2, "")
            assert option in err

    def test_a_model_that_diverged(self, type_in, texts, monkeypatch):
        """It is said in one line."""
        monkeypatch.setattr(texts.model, "forward", lambda *_: (torch.full((1, 1, 11), torch.nan), torch.zeros(1)))
        code, _, err = type_in("predict", "r", "--prompt", "The")
        assert code == 2
        assert err.startswith("seqtoolkit: nothing can be drawn: the model predicts NaN")


class TestRun:
    """With a run as a shipped pipeline leaves it."""

    prompt = "She said the UNION"

    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        """A small run on a text that is gone since, and with it all that was made of it beside it."""
        place = tmp_path_factory.mktemp("text")
        text = place / "text.txt"
        text.write_text('The union is strong.\n"Is it?" she said.\n' * 20)
        small = ["batch.size=4", "source.bptt=8", "model.encoder.size=8", "run.steps=2"]
        small += ["model.core={use: lstm, hidden_size: 8}", "model.head=softmax"]
        data = [*(f"source.{each}={text}" for each in ("train", "valid", "test")), "source.vocabulary=20", "track=none"]
        rest = ["evaluate.baselines=false", "evaluate.every=2", "run.checkpoint_every=2"]
        folder = Pipeline.load("language", [*small, *data, *rest]).run(tmp_path_factory.mktemp("runs")).folder
        shutil.rmtree(place)
        return folder

    def test_words_of_its_text(self, run, type_in):
        """It goes on in the words that it has learned; the same seed says the same."""
        code, out, err = type_in("predict", run, "--prompt", self.prompt, "--tokens", 60)
        assert (code, err) == (0, "")
        assert out.startswith(self.prompt)
        known = {"The", "union", "is", "strong", "Is", "it", "she", "said"}
        assert known >= set(re.findall(r"\w+", out.removeprefix(self.prompt))) > {"union", "strong"}
        assert type_in("predict", run, "--prompt", self.prompt, "--tokens", 60)[1] == out

    def test_the_likeliest_words(self, run, type_in):
        """Without temperature they are what its model finds likeliest after all that stands there, word by word."""
        trained = Trained.find(run)
        source = source_of(trained)
        ids = [source.end, *source.encode(self.prompt).tolist()]
        with torch.no_grad():
            for _ in range(8):
                predictions, _ = trained.model(torch.tensor(ids)[:, None])
                ids.append(int(predictions[-1, 0, 1:].argmax()) + 1)
        before = len(source.decode(source.encode(self.prompt)))
        wanted = f"{self.prompt}{source.decode(np.array(ids[1:]))[before:]}\n"
        assert type_in("predict", run, "--prompt", self.prompt, "--temperature", 0, "--tokens", 8)[1] == wanted

    @pytest.mark.parametrize("words", [["--prompt", "The"], ["--seed", "3"]])
    def test_a_task_that_is_no_text(self, run, type_in, monkeypatch, words):
        """It takes no prompts, and says what it takes."""
        monkeypatch.setattr("seqtoolkit.question.source_of", lambda _: SimpleNamespace(asks="`1`"))
        said = "seqtoolkit: the task text takes no prompts; ask a QUESTION\n"
        assert type_in("predict", run, *words) == (2, "", said)
