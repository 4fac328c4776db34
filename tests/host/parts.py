"""Parts without torch, to try the host on: the text of a distribution that the tests install."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from seqtoolkit.flow.kind import Kind
from seqtoolkit.host.hooks import KINDS, hookimpl

Split = Literal["train", "valid", "test"]
Optimizer = Annotated[Callable[..., Any], Kind("optimizer")]


class Part:
    """What is made: it remembers what it was made with."""

    def __init__(self, **params: Any) -> None:
        self.params = params


class Numbers:
    """Numbers to learn.

    Args:
        length: How many
            there are.
        seed: Where they begin.
    """

    def __init__(
        self,
        length: int,
        scale: float = 1.0,
        curriculum: Literal["mix", "baseline"] = "mix",
        file: Path | None = None,
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        self.params = {"length": length, "scale": scale, "curriculum": curriculum, "file": file}
        self.seed, self.split = seed, split


def letters(alphabet: str = "abc", split: Split = "train") -> Part:
    """Letters to learn."""
    return Part(alphabet=alphabet, split=split)


def mix(
    sources: list[Annotated[Callable[..., Any], Kind("source")]], weights: Sequence[float] | None = None
) -> list[Any]:
    """Several sources in one."""
    return [make() for make in sources] + [weights]


def pad(input_spec: Any, size: int = 64, multiple: int = 1) -> Part:
    """A batch."""
    return Part(input_spec=input_spec, size=size, multiple=multiple)


def embed(input_spec: Any, size: int = 64) -> Part:
    """An encoder."""
    return Part(input_spec=input_spec, size=size)


class Memory:
    """A core.

    Somebody et al. 2018.

    Args:
        slots (int): How many slots.
    """

    def __init__(
        self,
        input_size: int,
        slots: int = 4,
        gate: Literal["unit", "memory", None] = "unit",  # noqa: PYI061  some write it so
        bias: bool = True,
        size: int = None,  # type: ignore[assignment]  # noqa: RUF013  many signatures say it
        shape: tuple[int, int] = (2, 3),
        names: dict[str, float] | None = None,
        note: str = "",
        rate: float | Literal["auto"] = "auto",
        hook: Callable[[], None] | None = None,
    ) -> None:
        self.params = {name: value for name, value in locals().items() if name != "self"}


def plain(input_size: int, hidden_size: int = 8) -> Part:
    """A smaller core."""
    return Part(input_size=input_size, hidden_size=hidden_size)


def mlp(input_size: int, target_spec: Any, sizes: tuple[int, ...] = (8,)) -> Part:
    """A head."""
    return Part(input_size=input_size, target_spec=target_spec, sizes=sizes)


def smooth(smoothing: float = 0.0) -> Part:
    """A loss, or a metric."""
    return Part(smoothing=smoothing)


def adam(parameters: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> Part:
    """An optimizer."""
    return Part(parameters=parameters, lr=lr, betas=betas)


def sgd(parameters: Any, lr: float = 0.1) -> Part:
    """A plainer optimizer."""
    return Part(parameters=parameters, lr=lr)


def crop(length: int = 3) -> Part:
    """A transform."""
    return Part(length=length)


def greedy(*items: Any, **options: Any) -> Part:
    """What no pipeline can call."""
    return Part(items=items, options=options)


class Supervised:
    """A learner."""

    def __init__(
        self, graph: Any, optimizer: Optimizer = adam, spare: Optimizer | None = None, clip: float | None = None
    ) -> None:
        self.graph, self.clip = graph, clip
        self.optimizer, self.spare = optimizer(parameters=[1]), spare


def console(experiment: str = "default", tags: Mapping[str, str] = {}) -> Part:
    """A tracker."""
    return Part(experiment=experiment, tags=tags)


PARTS = {
    "source": {"numbers": "Numbers", "letters": "letters", "mix": "mix"},
    "transform": {"crop": "crop"},
    "batch": {"pad": "pad"},
    "encoder": {"embed": "embed"},
    "core": {"memory": "Memory", "plain": "plain", "greedy": "greedy", "gone": "Gone"},
    "head": {"mlp": "mlp"},
    "loss": {"cross_entropy": "smooth"},
    "metric": {"accuracy": "smooth", "errors": "smooth"},
    "optimizer": {"adam": "adam", "sgd": "sgd"},
    "learner": {"supervised": "Supervised"},
    "tracker": {"mlflow": "console", "console": "console"},
}


def _hook(kind: str) -> Any:
    return lambda: {name: f"{__name__}:{place}" for name, place in PARTS[kind].items()}


for _kind in PARTS:
    globals()[KINDS[_kind]] = hookimpl(_hook(_kind))
