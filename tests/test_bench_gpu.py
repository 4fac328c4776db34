"""The benchmark for a GPU, tried without one: it runs, checks first, counts right, and asks torch for nothing new."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bench" / "gpu.py"
CPU = torch.device("cpu")
KNOWN = """
    Generator __version__ accelerator accelerator.current_accelerator amp amp.GradScaler arange autocast
    bfloat16 bool clear_autocast_cache cuda cuda.CUDAGraph cuda.Event cuda.Stream cuda.current_stream
    cuda.default_generators cuda.get_device_name cuda.get_sync_debug_mode cuda.graph cuda.is_available cuda.is_bf16_supported
    cuda.max_memory_allocated cuda.memory_allocated cuda.reset_peak_memory_stats cuda.set_sync_debug_mode cuda.stream cuda.synchronize
    device dtype float16 float32 float64 manual_seed no_grad ones_like randint randn seed
    set_float32_matmul_precision set_num_threads stack tensor zeros
"""
"""Names of torch that 2.11, the oldest that is supported, has: look one up in its documentation before you add it."""


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", module)
    spec.loader.exec_module(module)
    return module


def test_it_runs_without_a_gpu(gpu, tmp_path, capsys):
    """Tiny sizes on a CPU: both settings, four levels each that are right and timed, and why each other is left out."""
    words = ["--device", "cpu", "--quick", "--repeats", "1", "--seed", "3", "--json", str(tmp_path / "table.json")]
    assert gpu.main(words) == 0
    written = json.loads((tmp_path / "table.json").read_text())
    assert [each["name"] for each in written["settings"]] == ["nth farthest", "program evaluation"]
    for setting in written["settings"]:
        rows = {row["level"]: row for row in setting["levels"]}
        assert list(rows) == ["plain f32", "plain bf16", "fused f32", "fused bf16"]
        assert rows["plain f32"]["ratio"] == rows["plain f32"]["error"] == 1
        assert all(0 < row["error"] <= 2 and row["milliseconds"] > 0 and row["peak"] > 0 for row in rows.values())
        floor = setting["floors"]["latency"] * 1e3
        assert all(row["of_latency"] == pytest.approx(floor / row["milliseconds"]) for row in rows.values())
        assert set(setting["others"].values()) == {"left out: wants a GPU"}
        assert len(setting["others"]) + len(rows) == 11
    assert "triton bf16, graph      left out: wants a GPU" in capsys.readouterr().out
    assert written["generation_milliseconds"] > 0


@pytest.mark.parametrize("what", ["outputs", "a gradient", "not a number"])
def test_a_level_that_is_wrong_is_not_timed(gpu, monkeypatch, capsys, what):
    """Off by a part in a thousand, forward or back, or no number: the level is named with what is off, the rest is timed."""
    from seqtoolkit_rmc.kernels import fused

    right = fused.unroll

    def wrong(parameters, settings, inputs, memory, fresh, first):
        found = right(parameters, settings, inputs, memory, fresh, first)
        if what == "a gradient":
            found.register_hook(lambda gradient: gradient * 1.001)
            return found
        return found * (1.001 if what == "outputs" else float("nan"))

    monkeypatch.setattr(fused, "unroll", wrong)
    assert gpu.main(["--device", "cpu", "--quick", "--repeats", "1", "--seed", "3", "--only", "fused f32"]) == 1
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if line.startswith("fused f32 ")]
    assert len(named) == 2
    assert all("WRONG: " in line and "the plain port's" in line for line in named)
    assert sum(line.startswith("plain f32 ") for line in lines) == 2


def test_a_backend_that_is_not_there_is_left_out(gpu, monkeypatch):
    """What a backend says it lacks is repeated; any other mistake is raised."""
    from seqtoolkit_rmc.kernels import fused

    setting, level = gpu.SETTINGS[0].quick(), gpu.Level("fused", "f32")
    monkeypatch.setattr(fused, "missing", lambda *_: "wants a sunny day")
    right, wrong = gpu.check(setting, [gpu.PLAIN, level], CPU, 3)
    assert list(right) == [gpu.PLAIN]
    assert wrong[level].startswith("left out: ")
    assert "wants a sunny day" in wrong[level]
    monkeypatch.setattr(fused, "missing", lambda *_: None)

    def broken(*_):
        raise ValueError("what is this")

    monkeypatch.setattr(fused, "unroll", broken)
    with pytest.raises(ValueError, match="what is this"):
        gpu.check(setting, [level], CPU, 3)


def test_a_lucky_port_condemns_nobody(gpu):
    """An error is held against the plain port's, or what that errs in the median where it was exact by chance."""
    exact = {name: torch.tensor([1.0, 2.0]) for name in "abc"}
    plain = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1.0, 2.001]), "c": torch.tensor([1.0, 2.001])}
    got = {**plain, "a": torch.tensor([1.0, 2.0015])}
    assert gpu.hold(got, plain, exact) == pytest.approx(1.5, rel=1e-3)
    with pytest.raises(gpu.Wrong, match=r"^a: relative error 1\.3e-03, the plain port's 0\.0e\+00 .* got 3$"):
        gpu.hold({**plain, "a": torch.tensor([1.0, 2.003])}, plain, exact)


def test_floors(gpu):
    """The counts are those that were made by hand: 311 GFLOP and 0.4 ms for nth farthest, 1.65 ms for programs."""
    farthest, program = (each.floors() for each in gpu.SETTINGS)
    assert farthest["flops"] == pytest.approx(311e9, rel=0.01)
    assert farthest["throughput"] == pytest.approx(0.39e-3, rel=0.02)
    assert program["latency"] == pytest.approx(1.65e-3)
    assert all(each["bytes"] / gpu.BANDWIDTH < each["throughput"] * 1.001 for each in (farthest, program))


def test_the_batches_are_what_is_said(gpu):
    """Vectors without restarts, or ids of which each row begins anew once, before its answer; another seed, others."""
    vectors, ids = (each.batch(1, CPU) for each in gpu.SETTINGS)
    assert (list(vectors.inputs.shape), vectors.answers, vectors.first) == ([8, 1600, 40], 1, None)
    assert (list(ids.inputs.shape), ids.answers) == ([110, 128], 10)
    assert ids.first.sum(0).tolist() == [1] * 128
    assert not ids.first[-10:].any()
    assert torch.equal(ids.inputs, gpu.SETTINGS[1].batch(1, CPU).inputs)
    assert not torch.equal(ids.inputs, gpu.SETTINGS[1].batch(2, CPU).inputs)


def _names(path):
    """The names that a file takes from torch."""
    chains = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    return {each.removeprefix("torch.") for each in chains if re.fullmatch(r"torch(\.\w+)+", each)}


@pytest.mark.parametrize(
    "name", ["bench/gpu.py", *(f"seqtoolkit/train/{name}.py" for name in ("capture", "learner", "optimize"))]
)
def test_nothing_newer_than_the_oldest_torch(name):
    """What is tried where there is no GPU runs on the torch that a GPU's machine may have: no name newer than 2.11."""
    found = _names(ROOT / name)
    assert found
    assert found - set(KNOWN.split()) == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
def test_it_runs_on_a_gpu(gpu, capsys):
    """Tiny sizes on a GPU: every level is right, the captured ones among them."""
    assert gpu.main(["--quick", "--repeats", "2", "--seed", "3"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "WRONG" not in out
    assert "fused bf16, graph" in out
