"""Replay: an episode as a person would have seen it, as an animated picture or as a strip of frames."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (".gif", ".png")
DELAY, HOLD = 100, 2000
"""For how many milliseconds a frame is shown, and the last one."""
ANIMATED, STRIP = 500, 16
"""How many frames a .gif and a .png have at most."""
SIDE = 200
"""How many pixels the larger side of a frame has at least: small pictures are enlarged by a whole number."""
COLUMNS = 8
_GAP, _LINE, _FONT = 6, 14, 11
_PAPER, _INK = (228, 228, 228), (40, 40, 40)


@dataclass(frozen=True)
class Replay:
    """The frames of one episode, and what was earned between them."""

    name: str
    """what it is of, in a few words"""
    frames: np.ndarray
    """[T H W 3] uint8, red, green, blue; the last one is what the last action has led to, if it could be seen"""
    rewards: np.ndarray
    """[T-1]: of the action between a frame and the next"""

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if len(shape) != 4 or shape[-1] != 3 or 0 in shape or self.frames.dtype != np.uint8:
            raise ValueError(f"{self.name}: frames: wanted [T H W 3] uint8, got {list(shape)} {self.frames.dtype}")
        if self.rewards.shape != (shape[0] - 1,):
            wanted, given = shape[0] - 1, list(self.rewards.shape)
            raise ValueError(f"{self.name}: rewards: wanted one between two frames, [{wanted}], got {given}")


def check_ending(path: Path) -> None:
    """Raises ValueError for a file of another kind than can be written."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"wanted a file ending in {' or '.join(ENDINGS)}, got {path}")


def ready() -> None:
    """Raises ValueError where replays cannot be written."""
    if importlib.util.find_spec("PIL") is None:
        raise ValueError("a replay wants Pillow, which is not installed: pip install pillow")


def write(replay: Replay, path: Path) -> None:
    """Write a replay: all of it, as an animated .gif, or some of its frames, as a .png.

    A .gif has every frame, or ANIMATED of them, evenly chosen, for DELAY milliseconds each, and the last for HOLD. A .png
    has STRIP frames at most, evenly chosen, from the first to the last, each above its step and the return until then.
    Colors are exact, of a .gif where a frame has at most 256 of them.

    Raises:
        ValueError: another ending, or no Pillow.
        OSError: the file cannot be written.
    """
    check_ending(path)
    ready()
    frames = replay.frames
    if path.suffix == ".gif":
        _animate(_enlarged(frames[_chosen(len(frames), ANIMATED)]), path)
    else:
        steps = _chosen(len(frames), STRIP)
        returns = np.concatenate([[0.0], np.cumsum(replay.rewards, dtype=np.float64)])
        captions = [f"{step}: {returns[step]:.4g}" for step in steps]
        _strip(_enlarged(frames[steps]), captions, path)


def _chosen(count: int, most: int) -> np.ndarray:
    """Which frames are shown, in order, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _enlarged(frames: np.ndarray) -> np.ndarray:
    """Each pixel as a square of pixels, so many that the larger side has SIDE of them, or nearly."""
    scale = max(1, round(SIDE / max(frames.shape[1:3])))
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def _animate(frames: np.ndarray, path: Path) -> None:
    pictures = [_indexed(frame) for frame in frames]
    delays = [DELAY] * (len(pictures) - 1) + [HOLD]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, loop=0, optimize=False)


def _indexed(frame: np.ndarray) -> Any:
    """A frame by a palette of its own colors; by the nearest of 256 where it has more."""
    from PIL import Image

    picture = Image.fromarray(frame)
    known = picture.getcolors(256)
    if known is None:
        return picture.quantize(256, dither=Image.Dither.NONE)
    code = np.array([1 << 16, 1 << 8, 1], np.int32)
    colors = np.sort(np.array([color for _, color in known], np.int32) @ code)
    picture = Image.fromarray(np.searchsorted(colors, frame.astype(np.int32) @ code).astype(np.uint8), "P")
    picture.putpalette(np.stack([colors >> 16, colors >> 8 & 255, colors & 255], -1).astype(np.uint8).tobytes())
    return picture


def _strip(frames: np.ndarray, captions: list[str], path: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    count, height, width = frames.shape[:3]
    columns = min(COLUMNS, count)
    across, down = width + _GAP, height + _LINE + _GAP
    sheet = Image.new("RGB", (columns * across + _GAP, -(-count // columns) * down + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for number, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        left, top = _GAP + number % columns * across, _GAP + number // columns * down
        sheet.paste(Image.fromarray(frame), (left, top))
        pen.text((left, top + height), caption, fill=_INK, font=font)
    sheet.save(path)
