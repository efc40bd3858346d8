"""A check of a GGUF file's header whose time and memory are bounded by the file's size.

The package `gguf` trusts the counts in a header: if one announces 2^60 values, it creates them. Format:
github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, in either byte order.
"""

import mmap
import struct
from pathlib import Path

# Bytes of each type of value; 8 is a string, 9 an array.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
DEPTH = 4  # arrays of arrays
DIMENSIONS = 4  # of a tensor
MOST_VALUES = 2**23  # in all arrays together: the package makes an object of about 100 bytes for each
KEY, TENSOR = 12, 24  # bytes that an entry has at least


def check_header(file: Path) -> None:
    """Raise ValueError if a count or length of the header goes beyond the end of the file, or beyond a limit."""
    if file.stat().st_size < 24:
        raise ValueError("it has fewer bytes than a header")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Header(data).check()


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.values = data, 4, 0
        self.order = "<"
        if not self.number("I") & 0xFFFF:
            self.order = ">"
            self.at = 4
            self.number("I")

    def check(self) -> None:
        tensors, keys = self.number("Q"), self.number("Q")
        self.fits(tensors, TENSOR, "tensors")
        self.fits(keys, KEY, "keys")
        for _ in range(keys):
            self.text()
            self.value(self.number("I"), 0)
        self.fits(tensors, TENSOR, "tensors")
        for _ in range(tensors):
            self.text()
            dimensions = self.number("I")
            if dimensions > DIMENSIONS:
                raise ValueError(f"a tensor of {dimensions} dimensions")
            elements = 1
            for _ in range(dimensions):
                elements *= self.number("Q")
            # No type takes less than one bit for a number.
            if elements > 8 * len(self.data):
                raise ValueError(f"a tensor of {elements} numbers")
            self.skip(12, "tensor")

    def number(self, form: str) -> int:
        start = self.at
        self.skip(struct.calcsize(form), "number")
        found: int = struct.unpack_from(self.order + form, self.data, start)[0]
        return found

    def text(self) -> None:
        self.skip(self.number("Q"), "text")

    def value(self, kind: int, depth: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            if depth == DEPTH:
                raise ValueError(f"arrays nested more than {DEPTH} deep")
            inner, count = self.number("I"), self.number("Q")
            self.fits(count, SIZES.get(inner, 8), "values")
            self.values += count
            if self.values > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES:,} values in its header")
            if inner in SIZES:
                self.skip(count * SIZES[inner], "array")
            else:
                for _ in range(count):
                    self.value(inner, depth + 1)
        elif kind in SIZES:
            self.skip(SIZES[kind], "value")
        else:
            raise ValueError(f"a value of the unknown type {kind}")

    def fits(self, count: int, size: int, what: str) -> None:
        """Raise ValueError if the rest of the file is too small for this many items."""
        if count * size > len(self.data) - self.at:
            raise ValueError(f"its header announces {count} {what}, more than the file has room for")

    def skip(self, size: int, what: str) -> None:
        if size > len(self.data) - self.at:
            raise ValueError(f"a {what} of its header goes beyond the end of the file")
        self.at += size
