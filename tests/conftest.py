"""A toy experiment for the host's tests: a source, a core, a graph joined by hand, and all that drives it."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import fcntl
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from seqtoolkit.cli import main
from seqtoolkit.flow.batch import IGNORED, Pad, Stack
from seqtoolkit.flow.core import Core
from seqtoolkit.flow.counter import counter_bits
from seqtoolkit.flow.encoder import Embed
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.head import MLP
from seqtoolkit.flow.loss import CrossEntropy, NegativeLogLikelihood
from seqtoolkit.flow.metric import Accuracy, Perplexity, SequenceAccuracy
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.softmax import Softmax
from seqtoolkit.flow.source import Ragged, Source
from seqtoolkit.flow.spec import Spec, record
from seqtoolkit.train.checkpoint import Checkpoints
from seqtoolkit.train.evaluate import EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Supervised, Truncated
from seqtoolkit.train.loop import Fit, RunSettings
from seqtoolkit.train.optimize import adam
from seqtoolkit.train.schedule import cosine
from seqtoolkit.train.tracking.store import Store

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


class Echo(Source):
    """Symbols to be said again: a question has 1 to `length` of them, and so has its answer."""

    def __init__(self, seed=0, split="train", length=4, symbols=5):
        super().__init__(seed, split)
        self.length, self.symbols = length, symbols
        ids = f"i64<{symbols + 1}>"
        self.writes = record(question=f"{ids}[B L]", answer=f"{ids}[B A]", counted="bool[B A]")

    def draw(self, indexes):
        bits = counter_bits(self.seed, self.split, indexes, 1 + self.length)
        lengths = (1 + bits[:, 0] % np.uint64(self.length)).astype(np.int64)
        symbols = (1 + bits[:, 1:] % np.uint64(self.symbols)).astype(np.int64)
        said = Ragged(symbols[np.arange(self.length) < lengths[:, None]], lengths)
        return {"question": said, "answer": said, "counted": Ragged(np.ones(len(said.values), bool), lengths)}


class Rising(Echo):
    """An Echo with a curriculum as plain as can be: every third update that it hears of makes its questions longer."""

    def __init__(self, seed=0, split="train", length=1, symbols=5):
        super().__init__(seed, split, length, symbols)
        self.start, self.heard = length, []

    def observe(self, metrics):
        self.heard.append(metrics["loss"])
        self.recall(self.memory())

    def memory(self):
        return {"heard": list(self.heard)}

    def recall(self, memory):
        self.heard = list(memory["heard"])
        self.length = self.start + len(self.heard) // 3


class Song(Source):
    """A text of `length` tokens in as many tracks as a batch has rows, each going on where it ended; it has an end.

    The first token of a track is predicted from token 0. A row begins anew with each pass, and every `every` steps.
    """

    contiguous = True

    def __init__(self, seed=0, split="train", length=50, steps=4, every=0, symbols=7):
        super().__init__(seed, split)
        self.steps, self.every = steps, every
        ids = f"i64<{symbols}>"
        self.writes = record(inputs=f"{ids}[B T]", targets=f"{ids}[B U]", first="bool[B T]")
        bits = counter_bits(seed, split, np.arange(length), 1)[:, 0]
        self.tokens = (1 + bits % np.uint64(symbols - 1)).astype(np.int64)

    def tracks(self):
        return np.array_split(self.tokens, self.block * self.world)

    @property
    def windows(self):
        return -(-len(self.tracks()[0]) // self.steps)

    @property
    def size(self):
        return self.windows * self.block * self.world

    def draw(self, indexes):
        tracks = self.tracks()
        shape = (len(indexes), self.steps)
        inputs, targets, first = np.zeros(shape, np.int64), np.full(shape, IGNORED), np.zeros(shape, bool)
        for place, index in enumerate(indexes.tolist()):
            turn, row = divmod(index, len(tracks))
            begin = turn % self.windows * self.steps
            said = tracks[row][begin : begin + self.steps]
            read = np.concatenate([[0], tracks[row]])[begin : begin + len(said)]
            inputs[place, : len(said)], targets[place, : len(said)] = read, said
            first[place] = (begin + np.arange(self.steps)) % (self.every or len(self.tokens) + self.steps) == 0
        return {"inputs": inputs, "targets": targets, "first": first}


class Plain(Core):
    """A plain recurrent layer."""

    def __init__(self, input_size, size=7):
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.map = nn.Linear(input_size + size, size)

    def initial_state(self, batch_size):
        return self.map.weight.new_full((batch_size, self.output_size), 0.5)

    def step(self, inputs, state):
        state = torch.tanh(self.map(torch.cat([inputs, state], -1)))
        return state, state


def make_graph(source=None, *, size=8, dropout=0.0, decoding="parallel", decoder="shared", make_core=Plain):
    """A graph over `source`, an Echo where none is given, joined stage by stage as assemble does."""
    graph = Graph()
    graph.origin = source or Echo()
    graph.join("source", "echo", graph.source, {}, graph.source.writes)
    graph.collate = Pad(dict(graph.flowing), size=size)
    graph.join("batch", "pad", graph.collate, graph.collate.reads, graph.collate.writes)
    encoder = Embed(graph.flowing["inputs"], size=6, dropout=dropout)
    graph.join("model.encoder", "embed", encoder, record(inputs=encoder.reads), record(vectors=encoder.writes))
    core = make_core(6)
    graph.join("model.core", "plain", core, record(vectors=core.reads), record(outputs=core.writes))
    graph.flowing["outputs"] = Spec("f32", ("U", *graph.flowing["outputs"].axes[1:]))
    head = MLP(core.output_size, graph.flowing["targets"], sizes=[9], dropout=dropout)
    graph.join("model.head", "mlp", head, record(outputs=head.reads), record(predictions=head.writes))
    graph.model = Model(encoder, core, head, decoding, make_core(6) if decoder == "separate" else None)
    graph.loss = CrossEntropy()
    graph.metrics = {"accuracy": Accuracy(), "sequence_accuracy": SequenceAccuracy()}
    for key, part in (("loss", graph.loss), *((f"metric.{name}", each) for name, each in graph.metrics.items())):
        graph.join(key, key, part, record(**part.reads), {})
    return graph


def make_song_graph(source=None, *, size=3, dropout=0.0, make_core=Plain):
    """A graph over a contiguous source, a Song where none is given, that says how likely what comes next is."""
    graph = Graph()
    graph.origin = source or Song()
    graph.join("source", "song", graph.source, {}, graph.source.writes)
    graph.collate = Stack(dict(graph.flowing), size=size)
    graph.join("batch", "stack", graph.collate, graph.collate.reads, graph.collate.writes)
    encoder = Embed(graph.flowing["inputs"], size=6, dropout=dropout)
    core = make_core(6)
    head = Softmax(core.output_size, graph.flowing["targets"], encoder, dropout=dropout)
    graph.model = Model(encoder, core, head)
    graph.loss, graph.metrics = NegativeLogLikelihood(), {"perplexity": Perplexity()}
    return graph


def make_learner(graph, steps=20, **options):
    """A learner of a graph on the CPU: truncated over a contiguous source, else supervised."""
    options = {"optimizer": partial(adam, lr=0.01), "schedule": partial(cosine, warmup=3), "clip": 1.0, **options}
    make = Truncated if graph.source.contiguous else Supervised
    return make(graph, torch.device("cpu"), steps, options.pop("precision", "f32"), **options)


class Witness:
    """A relay that keeps what it is told, in order."""

    def __init__(self):
        self.logs, self.evaluations, self.saves, self.warnings, self.samples = [], [], [], [], []
        self.taken, self.views, self.replays = [], {}, {}

    def log(self, metrics, step):
        self.logs.append((step, dict(metrics)))

    def evaluated(self, step, metrics, samples, views, replays=()):
        taken = {name: value for name, value in metrics.items() if "/" not in name}
        self.taken.append((step, taken))
        self.evaluations.append((step, {name: value for name, value in metrics.items() if name not in taken}))
        self.samples.append(samples)
        self.views |= {step: views} if views else {}
        self.replays |= {step: replays} if replays else {}

    def saved(self, step, path, *, best):
        self.saves.append((step, path.name, best))

    def note(self, message):
        self.warnings.append(message)


def make_fit(folder, *, seed=0, source=None, relay=None, run=None, evaluate=None, learner=None, **graph):
    """One run in `folder` from a seed, of an Echo with dropout where nothing else is said."""
    torch.manual_seed(seed)
    source = source or Echo(seed)
    made = (make_song_graph if source.contiguous else make_graph)(source, **{"dropout": 0.2, **graph})
    run = RunSettings(**{"steps": 20, "log_every": 5, "checkpoint_every": 7, "seed": seed, **(run or {})})
    settings = EvaluateSettings(**{"every": 6, "examples": 20, "samples": 2, **(evaluate or {})})
    held = Song(seed, "valid") if source.contiguous else Echo(seed, "valid", length=3)
    evaluation = Evaluation(made, held, settings.examples, settings.samples)
    checkpoints = Checkpoints(Path(folder), run.keep_every)
    driver = make_learner(made, run.steps, **(learner or {}))
    return Fit(driver, run, settings, evaluation, checkpoints, relay or Witness())


def make_block(*pairs):
    """A block of (question, answer, counted), each a list."""
    names = ("question", "answer", "counted")
    kinds = (np.int64, np.int64, bool)
    columns = zip(*pairs, strict=True)
    return {
        name: Ragged(np.array([each for row in rows for each in row], kind), np.array([len(row) for row in rows]))
        for name, kind, rows in zip(names, kinds, columns, strict=True)
    }


@pytest.fixture(scope="session")
def toy():
    """The parts of the toy experiment, and what makes it."""
    return SimpleNamespace(
        Echo=Echo,
        Rising=Rising,
        Song=Song,
        Plain=Plain,
        Witness=Witness,
        graph=make_graph,
        song_graph=make_song_graph,
        learner=make_learner,
        fit=make_fit,
        block=make_block,
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors are quickest on one thread, and the machine is shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """An empty MLflow database, to be copied, for making one takes seconds; all test processes share it."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "database" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    with path.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            draft = path.with_name("draft.db")
            Store(f"sqlite:///{draft}")
            draft.rename(path)
    return path


@pytest.fixture(scope="session")
def tiny():
    """Overrides that make the default pipeline so small that it trains in a moment."""
    return [
        "source.nesting=1",
        "batch.size=8",
        "model.core=lstm",
        "model.core.hidden_size=16",
        "model.head.sizes=[16]",
        "run.steps=6",
        "run.log_every=2",
        "run.checkpoint_every=2",
        "evaluate.every=3",
        "evaluate.examples=20",
        "evaluate.test_examples=10",
        "track=none",
    ]


@pytest.fixture
def type_in(monkeypatch, capsys, tmp_path):
    """Type a command in an empty directory: exit code, what was printed, what was complained about."""
    monkeypatch.chdir(tmp_path)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["seqtoolkit", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return typed
