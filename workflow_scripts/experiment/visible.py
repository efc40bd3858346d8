"""Text from data as a reader may see it: characters that act on what is around them become visible escapes."""

import re
import unicodedata

# Control characters, which terminals obey, except tab, line feed and a carriage return before a line feed; separators,
# which break lines; halves of surrogate pairs, which no file can hold; embeddings, overrides and isolates, which
# reorder what follows. Joiners, variation selectors and combining marks are parts of words and emoji: they stay.
ACTIVE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
# The left-to-right, right-to-left and Arabic letter marks: of use only beside letters that run from right to left.
MARKS = re.compile("[\u200e\u200f\u061c]")


def visible(text: str) -> str:
    r"""The text with such characters as `\u202e`; idempotent."""
    text = ACTIVE.sub(_escape, text)
    unmarked = MARKS.sub("", text)
    if unmarked != text and not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in unmarked):
        return MARKS.sub(_escape, text)
    return text


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
