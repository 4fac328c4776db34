"""Question: what a person asks of vectors, read from JSON."""

from __future__ import annotations

import json
from typing import Any

FIELDS = ("vectors", "n", "from")


class QuestionError(ValueError):
    """A text is no question of this task; the message names the field that is wrong."""


def read(text: str, vectors: int, dimensions: int) -> tuple[list[list[float]], int, int]:
    """The vectors of a question, n, and the label of the reference, both from 1.

    Args:
        text: JSON, `{"vectors": [[0.5, -0.2], ...], "n": 2, "from": 1}`.
        vectors: How many vectors a question has.
        dimensions: How many numbers a vector has at most.

    Raises:
        QuestionError: the text is no such question.
    """
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        where = (
            f"line {error.lineno}, column {error.colno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else error
        )
        raise QuestionError(f"the question is not JSON: {where}") from None
    if not isinstance(given, dict) or set(given) != set(FIELDS):
        got = ", ".join(map(str, given)) if isinstance(given, dict) else type(given).__name__
        raise QuestionError(f"wanted a JSON object with {', '.join(FIELDS)}, got {got or 'none of them'}")
    rows = given["vectors"]
    if not isinstance(rows, list) or len(rows) != vectors:
        got = f"{len(rows)} of them" if isinstance(rows, list) else repr(rows)[:40]
        raise QuestionError(f"vectors: wanted a list of {vectors}, got {got}")
    for place, row in enumerate(rows, 1):
        if not isinstance(row, list) or not 1 <= len(row) <= dimensions or not all(map(_number, row)):
            raise QuestionError(
                f"vectors, the {place}. one: wanted 1 to {dimensions} numbers from -1 to below 1, got {json.dumps(row)[:60]}"
            )
    for name in FIELDS[1:]:
        if type(given[name]) is not int or not 1 <= given[name] <= vectors:
            raise QuestionError(
                f"{name}: wanted a whole number from 1 to {vectors}, got {json.dumps(given[name])[:40]}"
            )
    return rows, given["n"], given["from"]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1 <= value < 1
