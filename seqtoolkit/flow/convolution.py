"""Convolution: what turns pictures into the vectors that a core reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqtoolkit.flow.encoder import Encoder
from seqtoolkit.flow.spec import Spec, SpecError, at_least, known, unify


class Convolution(Encoder):
    """Convolutions with ReLU after each, over the picture of each step; numbers of a byte are divided by 255.

    Args:
        channels: The kernels of each layer.
        kernel_size: The height and width of the kernels; of each layer, or of all.
        stride: The squares from one place of a kernel to the next; of each layer, or of all.
        padding: `valid` keeps the kernels within the picture, `same` adds zeros around it, so that a stride of 1 keeps
            its size.
        coordinates: Whether two maps, of x and of y from -1 to 1, are added to what the last layer makes (Santoro et al.
            2018, A.3).
        layout: `flat` makes a vector of all, `rows` a matrix with a row for each place of the last layer, for cores that
            attend over places, `map` a picture with its channels first, for convolutional cores.
        size: The size of a linear layer with ReLU after a flat layout; 0 for none.
    """

    def __init__(
        self,
        input_spec: Spec,
        channels: list[int] = [16, 32],  # noqa: B006  never changed; a pipeline shows it as the default
        kernel_size: int | list[int] = 3,
        stride: int | list[int] = 1,
        padding: Literal["valid", "same"] = "valid",
        coordinates: bool = True,  # noqa: FBT001, FBT002  a pipeline names it
        layout: Literal["flat", "rows", "map"] = "flat",
        size: int = 0,
    ) -> None:
        super().__init__()
        self.reads = f"{'f32' if input_spec.dtype == 'f32' else 'u8'}[T B Y X C]"
        height, width, depth = _picture(self.reads, input_spec)
        if not channels:
            raise ValueError("channels: wanted at least one layer, got none")
        at_least("size", size, 0)
        if size and layout != "flat":
            raise ValueError(
                f"size: wanted 0 with the layout {layout}, got {size}; only a flat layout has a linear layer"
            )
        kernels, strides = _each("kernel_size", kernel_size, channels), _each("stride", stride, channels)
        layers: list[_Layer] = []
        for count, kernel, step in zip(channels, kernels, strides, strict=True):
            at_least("channels", count, 1)
            layers.append(_Layer(depth, count, (height, width), kernel, step, same=padding == "same"))
            depth, (height, width) = count, layers[-1].size
        self.layers = nn.Sequential(*layers)
        self.layout = layout
        self.register_buffer("maps", _coordinates(height, width) if coordinates else None, persistent=False)
        depth += 2 * coordinates
        self.map = nn.Linear(depth * height * width, size) if size else None
        shapes = {
            "flat": f"{size or depth * height * width}",
            "rows": f"{height * width} {depth}",
            "map": f"{depth} {height} {width}",
        }
        self.writes = f"f32[T B {shapes[layout]}]"

    maps: Tensor | None

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures [T B Y X C] to vectors [T B D], rows [T B n D] or maps [T B C Y X]."""
        steps = inputs.shape[:2]
        pictures = inputs.flatten(0, 1).permute(0, 3, 1, 2)
        pictures = pictures.to(next(self.parameters()).dtype, memory_format=torch.contiguous_format)
        features = self.layers(pictures if inputs.is_floating_point() else pictures / 255)
        if self.maps is not None:
            maps = self.maps.to(features.dtype).expand(features.shape[0], -1, -1, -1)
            features = torch.cat([features, maps], 1)
        if self.layout == "rows":
            features = features.flatten(2).transpose(1, 2)
        elif self.layout == "flat":
            features = features.flatten(1)
            features = features if self.map is None else F.relu(self.map(features))
        return features.unflatten(0, steps)


class _Layer(nn.Conv2d):
    """A convolution with ReLU over pictures of one size; with `same`, a place of the kernel for every stride."""

    def __init__(self, depth: int, count: int, sides: tuple[int, int], kernel: int, stride: int, *, same: bool) -> None:
        super().__init__(depth, count, kernel, stride)
        missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) if same else 0 for side in sides]
        if kernel > min(side + more for side, more in zip(sides, missing, strict=True)):
            what = f"a layer that reads {sides[0]} by {sides[1]}"
            raise ValueError(f"kernel_size: wanted kernels no greater than the picture, got {kernel} for {what}")
        self.size = tuple((side + more - kernel) // stride + 1 for side, more in zip(sides, missing, strict=True))
        high, wide = missing
        self.zeros = (wide // 2, wide - wide // 2, high // 2, high - high // 2)

    def forward(self, pictures: Tensor) -> Tensor:
        return F.relu(super().forward(F.pad(pictures, self.zeros) if any(self.zeros) else pictures))


def _picture(reads: str, given: Spec) -> list[int]:
    """Height, width and channels of what is given."""
    try:
        found = unify(reads, given)
    except SpecError as error:
        raise SpecError(f"{error}; it wants pictures of height, width and channels") from None
    return [
        known(found[axis], what) for axis, what in zip("YXC", ("the height", "the width", "the channels"), strict=True)
    ]


def _each(name: str, given: int | Sequence[int], channels: Sequence[int]) -> list[int]:
    """A number for each layer."""
    numbers = [given] * len(channels) if isinstance(given, int) else list(given)
    if len(numbers) != len(channels):
        raise ValueError(f"{name}: wanted one number, or {len(channels)}, as many as channels, got {len(numbers)}")
    for number in numbers:
        at_least(name, number, 1)
    return numbers


def _coordinates(height: int, width: int) -> Tensor:
    """Maps of x and y from -1 to 1, [2 Y X]; 0 where a side is 1."""
    x, y = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in (width, height))
    maps = np.stack(np.broadcast_arrays(x, y[:, None]))
    return torch.tensor(
        maps, dtype=torch.float32
    )  # by numpy: on the meta device torch loads for a second to join tensors
