"""A normalisation map in the format that the `tokenizers` library applies natively, preserving character offsets.

`tokenizers.normalizers.Precompiled` reads SentencePiece's `precompiled_charsmap`: the byte length of a trie (uint32),
the trie, and the replacements as null-terminated UTF-8 strings. The trie maps the UTF-8 bytes of a source character to
the offset of its replacement. It is a double array of uint32 units as in Darts-clone
(https://github.com/s-yata/darts-clone, `DoubleArrayUnit`):

    node    bits 0-7: the byte on the edge to this node; bit 8: a key ends here; bits 10-30: offset
    value   bit 31: set; bits 0-30: the value

The children of a node at position p are at `(p ^ offset) ^ byte`, its value is at `p ^ offset`. All integers are
little-endian.

The library first looks up whole graphemes of fewer than 6 bytes and takes the shortest key that is a prefix, so a
combining mark after a replaced letter of 1 to 3 bytes is dropped (`ª` with an accent becomes `a`). The same happens
with XLM-R's published tokenizer.
"""

from collections.abc import Mapping

import numpy as np

_BLOCK = 256  # positions for one node's children: base ^ byte stays within the base's block
_KEY_ENDS = 1 << 8
_IS_VALUE = 1 << 31
_OFFSET_SHIFT = 10
_OFFSETS = 1 << 21


def build_charsmap(replacements: Mapping[str, str]) -> bytes:
    """Return the `precompiled_charsmap` that replaces each key, a single character, by its value.

    Raises ValueError if a key is not a single character, or for a null character, which the format cannot represent.
    """
    for source, replacement in replacements.items():
        if len(source) != 1 or "\0" in source + replacement:
            raise ValueError(f"{source!r} -> {replacement!r} does not fit a character map")
    pool = bytearray()
    starts: dict[str, int] = {}
    values: dict[bytes, int] = {}
    for source, replacement in sorted(replacements.items()):
        if replacement not in starts:
            starts[replacement] = len(pool)
            pool += replacement.encode() + b"\0"
        values[source.encode()] = starts[replacement]
    trie = _double_array(values).tobytes()
    return np.uint32(len(trie)).astype("<u4").tobytes() + trie + bytes(pool)


def _double_array(values: Mapping[bytes, int]) -> np.ndarray:
    """Return the trie of the keys as uint32 units.

    No key may be a prefix of another, which holds for single UTF-8 characters. Every inner node has its own block,
    which wastes a few hundred kB but avoids searching for free positions. Values share blocks that hold nothing else: a
    byte after a key then leads to a value or an empty unit, and neither carries that byte's label.
    """
    inner = sorted({key[:length] for key in values for length in range(len(key))})
    bases = {prefix: number * _BLOCK for number, prefix in enumerate(inner, 1)}  # block 0 holds the root alone
    first_value = (len(inner) + 1) * _BLOCK
    bases |= {key: first_value + number for number, key in enumerate(sorted(values))}
    size = first_value + -(-len(values) // _BLOCK) * _BLOCK
    if size > _OFFSETS:
        raise ValueError(f"{len(values)} characters are too many for one map")

    units = np.zeros(size, dtype="<u4")
    for prefix, base in bases.items():
        position = bases[prefix[:-1]] ^ prefix[-1] if prefix else 0
        units[position] = (position ^ base) << _OFFSET_SHIFT | (prefix[-1] if prefix else 0)
        if prefix in values:
            units[position] |= _KEY_ENDS
            units[base] = _IS_VALUE | values[prefix]
    return units
