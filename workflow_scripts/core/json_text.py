"""Untrusted JSON: for any text, the result is a value of limited depth or a ValueError."""

import json
from typing import Any

DEPTH = 100  # nested lists and objects; Python's own functions on values fail at some hundreds
LONGEST = 16 * 2**20  # characters of one value: decoded, they take up to 24 times as much memory

_decoder = json.JSONDecoder()


def decode(text: str) -> Any:
    """The value of a JSON text. Raises JSONDecodeError, and ValueError as `decode_at`."""
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end = decode_at(text, start)
    end += len(text[end:]) - len(text[end:].lstrip(" \t\r\n"))
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at a position in a text, and the position after it.

    Raises JSONDecodeError, and ValueError for a value that is too deeply nested or a number of too many digits.
    """
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("too deeply nested") from None
    except ValueError:  # its own message names a setting of Python
        raise ValueError("a number of too many digits") from None
    if text.count("[", start, end) + text.count("{", start, end) > DEPTH and _is_deep(value):
        raise ValueError("too deeply nested")
    return value, end


def reason(error: ValueError) -> str:
    """Why a text is not JSON, without the position."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True
