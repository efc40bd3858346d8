"""Texts that UTF-8 cannot hold."""

import re
from typing import Any

HALVES = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs, which together encode one character
REPLACEMENT = "\ufffd"


def without_halves(value: Any) -> Any:
    """A value of JSON with U+FFFD in place of each half of a surrogate pair in its texts.

    JSON can hold half a pair (`\\ud83d` of an emoji that was cut in two), UTF-8 cannot. Positions stay correct, since
    both are one code point.
    """
    if isinstance(value, str):
        return HALVES.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(key): without_halves(item) for key, item in value.items()}
    return value
