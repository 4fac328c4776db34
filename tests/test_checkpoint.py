"""Checkpoints: whole or not at all, whatever happens while they are saved, and nothing foreign is believed."""

import errno
import io
import itertools
import json
import os
import pickle
import random
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seqtoolkit.train import checkpoint
from seqtoolkit.train.checkpoint import MANIFEST, STATE, WEIGHTS, CheckpointError, Checkpoints, load_state, load_weights


def _save(folder, step, *, best=False, mark=0, keep_every=0):
    """A small checkpoint that carries its step, and a mark, in its weights and in its state."""
    weights = {"w": torch.full((3, 4), float(step)), "mark": torch.tensor(mark)}
    state = {"step": step, "mark": mark, "nested": [{"rate": 0.1, "momentum": torch.arange(5.0)}, (1, None, "x")]}
    return Checkpoints(folder, keep_every).save(step, weights, state, best=best)


def _read(folder):
    """Step and mark of a checkpoint that is whole and of one piece."""
    weights, state = load_weights(folder), load_state(folder)
    assert folder.name == f"step_{state['step']:08d}"
    assert weights["w"].eq(state["step"]).all()
    assert weights["mark"] == state["mark"]
    assert state["nested"][0]["momentum"].tolist() == [0, 1, 2, 3, 4]
    return state["step"], state["mark"]


def _listing(folder):
    return sorted(each.name for each in folder.iterdir())


def test_round_trip(tmp_path):
    """Weights and state come back as they were, types, dtypes and all; tied, strided and empty tensors too."""
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    weights = model.state_dict() | {
        "half": torch.randn(4).bfloat16(),
        "turned": torch.arange(6).reshape(2, 3).T,
        "none": torch.zeros(0, 3),
        "one": torch.tensor(7),
        "flags": torch.tensor([True, False]),
    }
    state = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"betas": (0.9, 0.99)}]}, "best": None}
    folder = Checkpoints(tmp_path / "deep" / "er").save(5, weights, state)
    loaded = load_weights(folder)
    assert loaded.keys() == weights.keys()
    for name, each in weights.items():
        assert loaded[name].dtype == each.dtype
        assert torch.equal(loaded[name], each), name
    assert load_state(folder) == state
    model.load_state_dict({name: loaded[name] for name in model.state_dict()})


@pytest.mark.parametrize("keep_every", [0, 4])
def test_what_is_kept(tmp_path, keep_every):
    """The last, the best, and one each so many; the others, and drafts, are gone."""
    for step in range(1, 12):
        _save(tmp_path, step, best=step in (2, 6), keep_every=keep_every)
        best = {2, 6} & {max((each for each in (2, 6) if each <= step), default=0)}
        kept = best | {step} | {each for each in range(1, step + 1) if keep_every and each % keep_every == 0}
        names = [f"step_{each:08d}" for each in sorted(kept)]
        assert _listing(tmp_path) == sorted([*names, "last", *(["best"] if best else [])])
        checkpoints = Checkpoints(tmp_path)
        assert _read(checkpoints.find("last"))[0] == step
        assert {_read(checkpoints.find("best"))[0]} == best if best else checkpoints.find("best") is None
        assert checkpoints.find(str(step)) == checkpoints.find()
        assert checkpoints.find("1000") is None


def test_find_of_nothing(tmp_path):
    """No folder, no checkpoint, no such name: None."""
    for folder in (tmp_path, tmp_path / "missing"):
        for name in ("last", "best", "0", "3", "", "latest", "-1", "1_0", "../x", "²"):
            assert Checkpoints(folder).find(name) is None


@pytest.mark.parametrize(
    "pointer", [b"", b"\xff\x00\xfe", b"step_00000099\n", b"../elsewhere", b"step_", b"\n" * 9, None]
)
def test_a_pointer_that_is_wrong(tmp_path, pointer):
    """Where `last` names nothing that is whole, the latest whole one is the last; `best` is then unknown."""
    _save(tmp_path, 99_999_999, keep_every=1)
    _save(tmp_path, 100_000_000, keep_every=1)
    (tmp_path / "step_00000099").mkdir()
    (tmp_path / "step_200000000").mkdir()
    (tmp_path / "step_x").mkdir()
    for name in ("last", "best"):
        (tmp_path / name).unlink(missing_ok=True)
        if pointer is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(pointer)
    assert _read(Checkpoints(tmp_path).find("last"))[0] == 100_000_000
    assert Checkpoints(tmp_path).find("best") is None


class KilledError(BaseException):
    """Stands for the end of the process: no `except Exception` runs after it."""


class Fault:
    """Lets the first `count` steps pass that touch the disk, then fails one (`once`), or all from there on."""

    STEPS = ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "open"), (os, "fsync"), (os, "unlink"), (os, "rmdir"),
             (io, "open"), (checkpoint, "save_file"), (Path, "write_bytes"))  # fmt: skip

    def __init__(self, monkeypatch, count, error, *, once):
        self.count, self.error, self.once, self.seen = count, error, once, 0
        for home, name in self.STEPS:
            monkeypatch.setattr(home, name, self._wrap(name, getattr(home, name)))

    def _wrap(self, name, function):
        def step(*args, **kwargs):
            self.seen += 1
            fails = self.seen == self.count if self.once else self.seen >= self.count
            if fails and name in ("save_file", "write_bytes"):  # half of the file is there
                function(*args, **kwargs)
                path = Path(args[1] if name == "save_file" else args[0])
                os.truncate(path, path.stat().st_size // 2)
            if fails:
                raise self.error
            return function(*args, **kwargs)

        return step

    @property
    def struck(self):
        """Whether it came to the step that fails."""
        return self.seen >= self.count


FAULTS = {
    "killed": (KilledError(), False),
    "full": (OSError(errno.ENOSPC, "No space left on device"), False),
    "once": (OSError(errno.EIO, "Input/output error"), True),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", [2, 3, 5], ids=["the best again", "the last again", "a new one"])
def test_after_any_failure_all_is_whole(tmp_path, monkeypatch, fault, step):
    """Failing at each step of a save leaves `last` and `best` whole, the former ones or the new one.

    The next save finds its way and leaves nothing behind.
    """
    error, once = FAULTS[fault]
    monkeypatch.setattr(os, "fsync", lambda _: None)
    former = tmp_path / "former"
    _save(former, 2, best=True)
    _save(former, 3)
    for count in itertools.count(1):
        folder = tmp_path / str(count)
        shutil.copytree(former, folder)
        with monkeypatch.context() as patch:
            struck = Fault(patch, count, error, once=once)
            caught = None
            try:
                _save(folder, step, best=True, mark=1)
            except (KilledError, CheckpointError) as error_:
                caught = error_
        if fault != "killed" and caught is not None:
            text = f"the checkpoint of step {step} could not be saved to {folder}: {error.strerror}"
            assert str(caught) == text
        if not struck.struck:
            break
        last, best = (_read(Checkpoints(folder).find(name)) for name in ("last", "best"))
        assert last in {(3, 0), (step, 1)}
        assert best in {(2, 0), (step, 1), *([(step, 0)] if step == 3 else [])}
        if caught is None:
            assert last == best == (step, 1)
        if last == (step, 1):
            assert best == (step, 1), "what `last` has learned of the best is named"
        _save(folder, 7, best=True, mark=2)
        assert _listing(folder) == ["best", "last", "step_00000007"]
        shutil.rmtree(folder)
    assert count > 20


@pytest.mark.parametrize("limit", [0, 30, 1000, 60_000, 100_000])
def test_a_full_disk(tmp_path, limit):
    """A real limit on the size of files: whichever file it stops, one line says why, and the last one stays."""
    _save(tmp_path, 3)
    weights = {"w": torch.full((3, 4), 4.0), "mark": torch.tensor(0), "big": torch.zeros(20_000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CheckpointError, match="the checkpoint of step 4 could not be saved to") as caught:
            Checkpoints(tmp_path).save(4, weights, {"step": 4, "moments": torch.zeros(30_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert "File too large" in str(caught.value)
    assert _listing(tmp_path) == ["last", "step_00000003"]
    assert _read(Checkpoints(tmp_path).find())[0] == 3


def test_a_place_that_cannot_be_written(tmp_path):
    """A file where the folder should be, above it or itself, and a file system that takes nothing."""
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/none")):
        with pytest.raises(CheckpointError, match=f"could not be saved to {folder}: ") as caught:
            _save(folder, 1)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def _flip(path, place, bit):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
def test_a_changed_bit(tmp_path, name):
    """A bit that is not as it was is found in every file; in the manifest, one that changes nothing may pass."""
    folder = _save(tmp_path, 3)
    path, chance = folder / name, random.Random(0)
    size = path.stat().st_size
    for place in range(size) if size < 300 else sorted(chance.sample(range(size), 200)):
        whole = path.read_bytes()
        _flip(path, place, chance.randrange(8))
        try:
            assert _read(folder) == (3, 0)
            assert name == MANIFEST
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017  either is right
            assert str(folder) in str(error)  # noqa: PT017
        path.write_bytes(whole)
    assert _read(folder) == (3, 0)


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
def test_a_file_cut_short_or_gone(tmp_path, name):
    """Every file is needed, to its end, and nothing may follow it."""
    folder = _save(tmp_path, 3)
    path, load = folder / name, load_weights if name == WEIGHTS else load_state
    whole = path.read_bytes()
    for data in (b"", whole[:1], whole[: len(whole) // 2], whole[:-3], whole + b"x", b"\xff" * 50):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{folder} is no checkpoint: {name} is missing"):
        load(folder)


def _sign(folder):
    """Make the manifest agree with the files, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"] = {name: checkpoint.digest(folder / name) for name in (WEIGHTS, STATE)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("forge", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, 2))])
def test_no_code_is_run(tmp_path, forge):
    """A state that would run code is refused, unread, though its checksum is right."""
    folder, trace = _save(tmp_path, 3), tmp_path / "trace"
    pickle.loads(pickle.dumps(Bomb(trace)))
    trace.unlink()  # the bomb is one
    forge({"step": Bomb(trace)}, folder / STATE)
    _sign(folder)
    with pytest.raises(CheckpointError, match="holds more than plain data, which could run"):
        load_state(folder)
    assert not trace.exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not one", bytes(100)])
def test_foreign_files(tmp_path, data):
    """Files of another kind are refused in one line, though their checksums are right."""
    folder = _save(tmp_path, 3)
    for name, load in ((WEIGHTS, load_weights), (STATE, load_state)):
        (folder / name).write_bytes(data)
        _sign(folder)
        with pytest.raises(CheckpointError, match=re.escape(str(folder / name))) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ('{"format": 2}', "has checkpoint format 2, this version of seqtoolkit reads format 1"),
        ('{"format": "new", "sha256": []}', "has checkpoint format new"),
        ("{}", "is no checkpoint of seqtoolkit"),
        ("[]", "is no checkpoint of seqtoolkit"),
        ("3", "is no checkpoint of seqtoolkit"),
        ("", "is no checkpoint of seqtoolkit"),
        ('{"format": 1}', "is no checkpoint of seqtoolkit"),
        ('{"format": 1, "sha256": {}}', "is no checkpoint of seqtoolkit"),
        ('{"format": 1, "sha256": 5}', "is no checkpoint of seqtoolkit"),
    ],
)
def test_other_manifests(tmp_path, manifest, says):
    """A later format is named as such; what is no manifest makes no checkpoint."""
    folder = _save(tmp_path, 3)
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(CheckpointError, match=says):
        load_weights(folder)


def test_what_is_no_folder(tmp_path):
    """A file, a folder of something else, and nothing at all."""
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    save_file({"w": torch.zeros(1)}, tmp_path / "other" / WEIGHTS)
    for name, says in (
        ("file", "cannot be read: Not a directory"),
        ("other", "manifest.json is missing"),
        ("no", "is missing"),
    ):
        with pytest.raises(CheckpointError, match=says):
            load_weights(tmp_path / name)


@pytest.mark.parametrize("value", [np.float64(1), np.zeros(2), {1, 2}, Path("x"), object(), print])
def test_a_state_that_could_not_be_read_again(tmp_path, value):
    """What `load_state` would refuse is refused at the save, with its place in the state and its type."""
    _save(tmp_path, 3)
    with pytest.raises(
        CheckpointError, match=rf"^state\.learner\.1\.rate cannot be saved: .* got {type(value).__name__}$"
    ):
        Checkpoints(tmp_path).save(4, {}, {"learner": [0, {"rate": value}]})
    assert _listing(tmp_path) == ["last", "step_00000003"]
    with pytest.raises(CheckpointError, match=r"the key .* of state cannot be saved"):
        Checkpoints(tmp_path).save(4, {}, {np.int64(3): 1})
