"""Likelihood: how likely targets are under a softmax over a large vocabulary, in little memory, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit.flow.batch import IGNORED

MEBI = 1 << 20
TILE = 2 << 20
"""Bytes of logits that each thread of a CPU exponentiates at a time: about what stays in a second-level cache."""
CACHED = 16 << 20
"""Bytes of logits that a CPU works through before it comes back to them: what stays in its last-level cache."""
FEWEST, NARROWEST = 256, 256
"""The least rows and columns for the sake of a cache, below which products are slow."""


def log_likelihood(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    chunk: int = 128,
    rows: Tensor | None = None,
) -> Tensor:
    """The log of softmax(hidden table' + bias) at each target, 0 where that is IGNORED; of the shape of `targets`.

    At most `chunk` MiB of logits exist at a time. Where a gradient is wanted, that of a plain sum is computed on the
    way, product by product, and scaled in the backward pass (the idea of Liger's fused linear cross entropy, Hsu et
    al. 2024); any other gradient that comes from above is right as well, at the price of the products done again.

    Args:
        hidden: What the softmax reads, [... E], for each target; or for those of `rows`, [n E].
        table: A vector for each class, [V E].
        bias: A number for each class, [V].
        targets: Class ids, or IGNORED.
        chunk: MiB of logits.
        rows: For which of the flat targets, [n], it is wanted; 0 at the others.
    """
    if not torch.is_grad_enabled():
        hidden, table, bias = hidden.detach(), table.detach(), None if bias is None else bias.detach()
    kind = hidden.device.type
    factor = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    factor = hidden.dtype if hidden.dtype == torch.float64 else factor
    plan = Plan(chunk, factor, torch.promote_types(hidden.dtype, torch.float32))
    return _LogLikelihood.apply(hidden, table, bias, targets, rows, plan)


def require_ids(targets: Tensor, classes: int) -> None:
    """Raise ValueError where a target is no class and not IGNORED; on a GPU, which would be waited for, nobody looks."""
    if targets.device.type == "cpu":
        wrong = targets[(targets != IGNORED) & ((targets < 0) | (targets >= classes))]
        if len(wrong):
            raise ValueError(f"targets: wanted ids from 0 to {classes - 1}, got {int(wrong[0])}")


@dataclass(frozen=True)
class Plan:
    """How the work is cut, and in what dtypes it is done."""

    chunk: int
    factor: torch.dtype
    """Of what products multiply."""
    exact: torch.dtype
    """Of the softmax, and of all sums."""

    def tile(self, rows: int, classes: int, device: torch.device) -> tuple[int, int]:
        """How many rows are in memory at a time, and how many classes are in a tile; in parts of like size."""
        size, cached = self.exact.itemsize, device.type == "cpu"
        most = max(1, self.chunk * MEBI // (classes * size))
        height = _even(rows, min(most, max(FEWEST, CACHED // (classes * size))) if cached else most)
        return height, _even(
            classes, max(NARROWEST, TILE * torch.get_num_threads() // (height * size)) if cached else classes
        )


def _even(whole: int, most: int) -> int:
    """The size of the fewest equal parts of at most so many."""
    return -(-whole // max(1, -(-whole // most))) or 1


class Gradients(NamedTuple):
    """Of a weighted sum of log-likelihoods; None for what wants none."""

    hidden: Tensor | None
    table: Tensor | None
    bias: Tensor | None


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, rows: Tensor | None, plan: Plan
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        asked = targets.flatten() if rows is None else targets.flatten()[rows]
        ctx.plan, ctx.wanted = plan, wanted
        ctx.save_for_backward(hidden, table, bias, asked, rows)
        values, ctx.made = _walk(hidden.reshape(-1, table.shape[1]), table, bias, asked, None, wanted, plan)
        if rows is not None:
            values = values.new_zeros(targets.numel()).index_copy_(0, rows, values)
        return values.view(targets.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, table, bias, asked, rows = ctx.saved_tensors
        made, ctx.made = ctx.made, None  # given away: a second backward pass over one graph makes its own
        if made is not None and _uniform(above):
            scale = above.as_strided((), ())
            made = Gradients(*(None if each is None else each.mul_(scale) for each in made))
        else:
            del made  # before as much is made again
            weights = above.flatten() if rows is None else above.flatten()[rows]
            _, made = _walk(hidden.reshape(-1, table.shape[1]), table, bias, asked, weights, ctx.wanted, ctx.plan)
        grads = [
            None if grad is None else grad.view(of.shape).to(of.dtype)
            for grad, of in zip(made, (hidden, table, bias), strict=True)
        ]
        return (*grads, None, None, None)


def _uniform(above: Tensor) -> bool:
    """Whether a gradient is one number expanded, as a plain sum sends it: seen without looking at a number."""
    return above.numel() > 0 and all(
        step == 0 or size == 1 for step, size in zip(above.stride(), above.shape, strict=True)
    )


def _walk(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor | None,
    wanted: tuple[bool, ...],
    plan: Plan,
) -> tuple[Tensor, Gradients]:
    """Log-likelihoods [n], and what is wanted of the gradients of their sum, weighted where there are `weights` [n]."""
    device, learning = hidden.device, any(wanted)
    values = torch.empty(len(hidden), dtype=plan.exact, device=device)
    made = Gradients(
        *(
            torch.zeros(of.shape, dtype=plan.exact, device=device) if want and of is not None else None
            for want, of in zip(wanted, (hidden, table, bias), strict=True)
        )
    )
    table = table.to(plan.factor)
    bias = None if bias is None else bias.to(plan.factor)
    height, width = plan.tile(len(hidden), len(table), device)
    spans = [slice(start, min(start + width, len(table))) for start in range(0, len(table), width)]
    logits = torch.empty(height * width, dtype=plan.factor, device=device)
    chances = torch.empty(height * (len(table) if learning else width), dtype=plan.exact, device=device)
    for start in range(0, len(hidden), height):
        part = slice(start, start + height)
        rows, asked = hidden[part].to(plan.factor), targets[part]
        tiles = [_tile(chances, len(rows), span, learning) for span in spans]
        picked, norms = _softmaxes(rows, table, bias, asked, spans, tiles, logits)
        norm, learned = norms.logsumexp(0), asked != IGNORED
        values[part] = (picked - norm).where(learned, 0)
        if learning:
            weight = learned.to(plan.exact) if weights is None else weights[part].to(plan.exact).where(learned, 0)
            scales = -weight * (norms - norm).exp_()
            into = made._replace(hidden=None if made.hidden is None else made.hidden[part])
            for span, tile, scale in reversed(list(zip(spans, tiles, scales, strict=True))):
                tile.mul_(scale[:, None])
                inside, index = _inside(asked, span)
                tile.scatter_add_(1, index, weight.where(inside, 0)[:, None])
                _gather(into, tile, rows, table, span)
    return values, made


def _tile(chances: Tensor, rows: int, span: slice, learning: bool) -> Tensor:  # noqa: FBT001  private
    """Where the chances of some classes are kept, [n w], in one piece; all at one place, where nobody comes back."""
    begin = rows * span.start if learning else 0
    return chances[begin : begin + rows * (span.stop - span.start)].view(rows, -1)


def _inside(targets: Tensor, span: slice) -> tuple[Tensor, Tensor]:
    """Whether each target is one of the classes of a span, and at which column [n 1]; any column where it is not."""
    inside = (targets >= span.start) & (targets < span.stop)
    return inside, (targets - span.start).clamp_(0, span.stop - span.start - 1)[:, None]


def _softmaxes(
    rows: Tensor,
    table: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    spans: Sequence[slice],
    tiles: Sequence[Tensor],
    logits: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fill each tile with the softmax over its own classes; the targets' logits [n], each tile's log of its sum [tiles n].

    Both are less the greatest logit of all, so that nothing is lost of large ones. The log of a tile's sum is read off
    its greatest chance, exp(greatest logit - log of the sum): torch's softmax makes one pass.
    """
    picked, peaks, logs = tiles[0].new_zeros(len(rows)), [], []
    for span, tile in zip(spans, tiles, strict=True):
        made = logits[: tile.numel()].view_as(tile)
        if bias is None:
            torch.mm(rows, table[span].T, out=made)
        else:
            torch.addmm(bias[span], rows, table[span].T, out=made)
        inside, index = _inside(targets, span)
        picked = made.gather(1, index)[:, 0].to(picked.dtype).where(inside, picked)
        torch.softmax(made, -1, tile.dtype, out=tile)
        peaks.append(made.amax(-1).to(tile.dtype))
        logs.append(tile.amax(-1).log_())
    highest = torch.stack(peaks).amax(0)
    return picked - highest, torch.stack(peaks) - highest - torch.stack(logs)


def _gather(into: Gradients, tile: Tensor, rows: Tensor, table: Tensor, span: slice) -> None:
    """Add the gradients that come from a tile, the gradient of its logits [n w]."""
    factors = tile.to(rows.dtype)
    for total, one, other in (
        (into.hidden, factors, table[span]),
        (None if into.table is None else into.table[span], factors.T, rows),
    ):
        if total is None:
            continue
        if total.dtype == rows.dtype:
            total.addmm_(one, other)
        else:
            total.add_(one @ other)
    if into.bias is not None:
        into.bias[span] += tile.sum(0)
