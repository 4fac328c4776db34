"""Palette: the numbers by which a board's squares are known, and their colors."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np

MOST_COLORS = 20
BORDER, BACKGROUND, PLAYER, GEM = 0, 1, 2, 3
KEY = 4
"""The key of color c, or the content of a box, is KEY + c."""
LOCK = KEY + MOST_COLORS
"""The lock on the way to the gem that the key of color c opens is LOCK + c."""
DISTRACTOR = LOCK + MOST_COLORS
"""The lock of color c that ends the episode, which looks the same, is DISTRACTOR + c."""


def _rgb() -> np.ndarray:
    """Twenty hues, as the released code has them (in thousandths, for a terminal), in 0 to 255."""
    rgb = np.zeros((DISTRACTOR + MOST_COLORS, 3), np.uint8)
    rgb[BACKGROUND], rgb[PLAYER], rgb[GEM] = 204, 128, 255
    hues = [
        [round(255 / 0.999 * part) for part in hsv_to_rgb(hue / MOST_COLORS, 0.5, 0.7)] for hue in range(MOST_COLORS)
    ]
    for first in (KEY, LOCK, DISTRACTOR):
        rgb[first : first + MOST_COLORS] = hues
    return rgb


RGB = _rgb()
"""[codes 3] uint8: red, green, blue of each square by its number."""
HELD = np.concatenate([np.zeros((1, 3), np.uint8), RGB[KEY:LOCK]])
"""[1 + colors 3] uint8: of what is held: nothing (black), or the key of a color, counted from 1."""
