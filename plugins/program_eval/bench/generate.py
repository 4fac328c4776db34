"""How many programs a second one core draws: texts with their values, and padded batches."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pkgutil import resolve_name
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch

from seqtoolkit.sdk import counter_bits
from seqtoolkit_program_eval import ProgramEval, evaluate

REPEATS, EXAMPLES = 7, 8_192
SETTINGS: dict[str, dict[str, Any]] = {
    "compact, length 5, nesting 2": {"curriculum": "baseline"},
    "compact, mix up to 5 and 2": {"curriculum": "mix"},
    "compact, mix, tokens: terminal": {"curriculum": "mix", "tokens": "terminal"},
    "statements, length 5, nesting 2": {"curriculum": "baseline", "grammar": "learning_to_execute"},
}


def part(kind: str, name: str) -> Any:
    """A part that an installed distribution brings, by its name."""
    for point in entry_points(group="seqtoolkit"):
        offered = getattr(point.load(), kind, dict)()
        if name in offered:
            return resolve_name(offered[name])
    raise LookupError(f"nothing installed brings {name}")


def check(source: ProgramEval, grammar: str) -> None:
    """Answers are those of the interpreter, or there is nothing to time."""
    texts, answers = source.programs(np.arange(1000))
    for text, answer in zip(texts, answers, strict=True):
        digits = max(map(len, re.findall(r"\d+", text)))
        modulus = 10 ** (digits + 1) if grammar == "program_eval" else None
        assert evaluate(text, grammar, modulus) == answer, text


def sample(source: ProgramEval, indexes: np.ndarray) -> tuple[list[str], list[str]]:
    """Texts and answers of any split."""
    bits = counter_bits(source.seed, source.split, indexes, 2 + source.sampler.words(source.nesting))
    lengths, nestings = source.curriculum.difficulty(indexes, bits[:, :2] if source.curriculum.random else None)
    return source.sampler(bits[:, 2:], lengths, nestings, source.nesting)


def rate(draw: Callable[[np.ndarray], Any], size: int) -> float:
    """Examples a second in blocks of `size`: the median of repeats, warm, in this process's own time."""
    rates = []
    for repeat in range(REPEATS + 1):
        begun = process_time()
        for start in range(0, EXAMPLES, size):
            draw(np.arange(repeat * EXAMPLES + start, repeat * EXAMPLES + start + size))
        rates.append(EXAMPLES / (process_time() - begun))
    return median(rates[1:])


def main() -> None:
    """Print a table: programs a second, medians, one thread."""
    torch.set_num_threads(1)
    print(f"{'programs a second':36}{'size':>6}{'sampled':>10}{'drawn':>10}{'batched':>10}")
    for name, setting in SETTINGS.items():
        source = ProgramEval(**setting)
        check(source, setting.get("grammar", "program_eval"))
        for size in (64, 128, 1024):
            source.block = size
            pad = part("batches", "pad")(input_spec=source.writes, size=size)
            sampled = rate(lambda indexes, source=source: sample(source, indexes), size)
            drawn = rate(source.programs, size)
            batched = rate(lambda indexes, pad=pad, source=source: pad(source.draw(indexes)), size)
            print(f"{name:36}{size:6}{sampled:10,.0f}{drawn:10,.0f}{batched:10,.0f}")
    print("sampled: text and value; drawn: of one split alone; batched: as padded int64 tensors")


if __name__ == "__main__":
    main()
