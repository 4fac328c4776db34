"""The Triton backend: proofs of its kernels under Triton's interpreter, code for an H100, and what it declines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqtoolkit_rmc import RelationalMemory
from seqtoolkit_rmc.kernels import triton

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the package triton is not installed"
)
PROOFS = Path(__file__).with_name("interpreted_triton.py")
SHARED_MEMORY = 227 * 1024
"""Bytes that a program may have on an H100."""
SETTINGS = {
    "nth farthest": (1600, 1, {"mem_slots": 8, "num_heads": 1, "head_size": 256}),
    "program evaluation": (128, 1, {"mem_slots": 4, "num_heads": 4, "head_size": 64, "gate_style": "memory"}),
    "many slots and rows": (64, 20, {"mem_slots": 40, "num_heads": 3, "head_size": 20, "attention_mlp_layers": 3}),
}


@needs_triton
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_interpreted(marks):
    """Under the interpreter the kernels compute the reference's memories and gradients: the proofs of interpreted_triton.py."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, str(PROOFS)]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@needs_triton
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
@pytest.mark.parametrize("exact", [False, True], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_compiles_for_hopper(setting, exact):
    """Both kernels compile for an H100, fit its shared memory, and multiply tiles of 64 rows by its own instruction."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile  # noqa: A004 - its name

    from seqtoolkit_rmc.kernels import triton_backward, triton_forward, triton_plan

    batch, arrivals, options = SETTINGS[setting]
    core = RelationalMemory(5, **options)
    problem = triton_plan.Problem(
        core.settings,
        batch,
        core.mem_slots,
        arrivals,
        core.mem_size,
        len(core.mlp),
        gates=len(core.gates_from_memory.bias),
        restarts=True,
        kept=True,
        exact=exact,
        precision="tf32x3",
        processors=132,
    )
    tile, narrow = triton_plan.plan(problem), "*fp32" if exact else "*bf16"
    warps, stages = triton_plan.shape(tile)
    types = dict.fromkeys(("matrix", "arriving", "drive", "tape", "deltas"), narrow) | {"first": "*u8"}
    types |= {"steps": "i32", "batch": "i32", "S": "constexpr"}
    for kernel in (triton_forward.forward, triton_backward.backward):
        signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
        aligned = {(at,): [["tt.divisibility", 16]] for at, kind in enumerate(signature.values()) if kind[0] == "*"}
        source = ASTSource(kernel, signature, constexprs={"S": tile}, attrs=aligned)
        made = compile(source, GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})
        assert made.metadata.shared <= SHARED_MEMORY
        assert exact or tile.rows < 64 or "wgmma.mma_async" in made.asm["ptx"]


def declined(monkeypatch, *, inputs=None, dtype=None, **options):
    """What `missing` says of a small core, as though Triton's interpreter were on."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    core = RelationalMemory(3, **options).to(dtype)
    return triton.missing(core.parameters_of(), core.settings, torch.zeros(2, 2, 1, 3) if inputs is None else inputs)


def test_takes(monkeypatch):
    """float32 is taken, and autocast to bfloat16; float64 only under the interpreter."""
    assert declined(monkeypatch) is None
    assert declined(monkeypatch, dtype=torch.float64, inputs=torch.zeros(2, 2, 1, 3).double()) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert declined(monkeypatch) is None


def test_declines(monkeypatch):
    """What it cannot compute is said in a clause."""
    assert declined(monkeypatch, num_blocks=2) == "wants one block of attention, got num_blocks 2"
    assert declined(monkeypatch, inputs=torch.zeros(2, 2, 129, 3)) == "wants at most 128 input rows, got 129"
    assert declined(monkeypatch, dtype=torch.bfloat16) == "wants parameters in float32, got torch.bfloat16"
    assert declined(monkeypatch, dtype=torch.float16) == "wants parameters in float32, got torch.float16"
    wide = torch.zeros(2, 2, 1, 3).double()
    assert declined(monkeypatch, inputs=wide) == "wants inputs in torch.float32, got torch.float64"
    with torch.autocast("cpu", torch.float16):
        assert declined(monkeypatch) == "wants autocast to bfloat16, got torch.float16"
    with torch.autograd.forward_ad.dual_level():
        assert declined(monkeypatch) == "cannot be used under forward-mode differentiation"


def test_declines_without_a_gpu_or_triton(monkeypatch):
    """Without the interpreter tensors have to be on a CUDA device; without Triton nothing can be done."""
    core = RelationalMemory(3)
    given = core.parameters_of(), core.settings, torch.zeros(2, 2, 1, 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton.missing(*given) == "wants a CUDA device, got cpu"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert triton.missing(*given) == "wants the package triton, found none"


def test_too_many_slots(monkeypatch):
    """More slots than a tile has rows are an error of one line, as is whatever `missing` says."""
    core = RelationalMemory(3, mem_slots=129, head_size=1)
    given = (
        core.parameters_of(),
        core.settings,
        torch.zeros(2, 2, 1, 3),
        core.initial_state(2),
        core.initial_state(1),
        None,
    )
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(
        ValueError, match=r"^backend triton wants (a CUDA device, got cpu|the package triton, found none)$"
    ):
        triton.unroll(*given)
    monkeypatch.setattr(triton, "missing", lambda *_: None)
    with pytest.raises(ValueError, match=r"^backend triton wants at most 128 memory slots, got 129$"):
        triton.unroll(*given)


def test_imports_no_triton():
    """The module can be asked what is missing where Triton is not installed: it imports it when it computes."""
    code = "import sys, seqtoolkit_rmc.kernels.triton; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
