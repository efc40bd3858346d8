"""Text from data, made safe to show: control and direction characters become visible escapes."""

import re
import unicodedata

# Control characters, which terminals interpret, except tab, line feed and a carriage return before a line feed; line
# and paragraph separators; lone surrogates, which UTF-8 cannot encode; embeddings, overrides and isolates, which
# reorder the text after them. Joiners, variation selectors and combining marks belong to words and emoji: they stay.
ACTIVE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
# The left-to-right, right-to-left and Arabic letter marks: useful only beside letters of right-to-left scripts.
MARKS = re.compile("[\u200e\u200f\u061c]")


def visible(text: str) -> str:
    r"""The text with each such character as an escape, for example `\u202e`. Idempotent."""
    text = ACTIVE.sub(_escape, text)
    unmarked = MARKS.sub("", text)
    if unmarked != text and not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in unmarked):
        return MARKS.sub(_escape, text)
    return text


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
