"""Charts as view objects with the position of each mark, so that templates draw them without computing.

Positions along an axis are percentages of its length, so that a chart stretches with the page and its text does not.
Heights of a plot are pixels from the top.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

HEIGHT = 190  # pixels of the plot area
LINE = 15  # pixels between two labels at a plot's edge
FLAT = 1  # thousandth of a plot's height by which a curve may differ from its points
LETTERS = 17  # of a label that fit beside a plot


@dataclass(frozen=True)
class Tick:
    """A labelled value of an axis and its position."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of numbers, by their logarithms if `logarithmic`."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The position of a value between the ends, in percent; values outside are clipped."""
        low, high, at = (
            (map(math.log10, (self.low, self.high, value))) if self.logarithmic else (self.low, self.high, value)
        )
        return round(100 * min(1.0, max(0.0, (at - low) / (high - low))), 2)

    def places(self, values: np.ndarray) -> np.ndarray:
        """The positions of values as fractions of the axis; values outside are up to nine lengths beyond its ends."""
        low, high, at = (
            (np.log10(self.low), np.log10(self.high), np.log10(values))
            if self.logarithmic
            else (self.low, self.high, values)
        )
        return np.clip((at - low) / (high - low), -9.0, 10.0)


Scale = tuple[Axis, tuple[float, ...]]  # an axis and its ticks


def linear_axis(values: Iterable[float], most: int = 6) -> tuple[Axis, tuple[float, ...]]:
    """An axis between two round numbers that includes all values, and its ticks."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    raw = (high - low or abs(high) or 1.0) / (most - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step), tuple(round(place * step, 10) for place in range(first, last + 1))


def log_axis(values: Iterable[float]) -> tuple[Axis, tuple[float, ...]]:
    """A logarithmic axis that includes all positive values with a margin, and the powers of ten as ticks.

    If there are fewer than two of them, twice and five times a power are also ticks.
    """
    known = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    axis = Axis(min(known) / 1.6, max(known) * 1.6, logarithmic=True)
    powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if axis.low <= tick <= axis.high]
        if len(ticks) > 1:
            break
    every = math.ceil(len(ticks) / 5) or 1
    return axis, tuple(ticks[::every])


@dataclass(frozen=True)
class Mark:
    """A point of a plot; `x` in percent from the left, `y` in pixels from the top; `kind` are CSS classes."""

    x: float
    y: float
    title: str
    kind: str


@dataclass(frozen=True)
class Segment:
    """A straight line of a plot, in the units of `Mark`."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Curve:
    """A line through very many points: `x,y` in thousandths of the plot's width and height, from the top left."""

    points: str
    title: str
    kind: str


@dataclass(frozen=True)
class Label:
    """A text at the right edge of a plot."""

    y: float
    text: str


@dataclass(frozen=True)
class Plot:
    """One small chart of points over two axes.

    Attributes:
        curves: lines of very many points, whose values the page's script computes from their places.
        axes: the horizontal and the vertical one; needed only for curves.
    """

    title: str
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    segments: tuple[Segment, ...]
    labels: tuple[Label, ...]
    description: str
    height: int = HEIGHT
    curves: tuple[Curve, ...] = ()
    axes: tuple[Axis, Axis] | None = None


def height_of(axis: Axis, value: float, height: int = HEIGHT) -> float:
    """The position of a value on a vertical axis, in pixels from the top."""
    return round(height * (1 - axis.place(value) / 100), 1)


def point(across: tuple[Axis, float], up: tuple[Axis, float], title: str, kind: str, height: int = HEIGHT) -> Mark:
    """The mark of a value on each axis."""
    return Mark(across[0].place(across[1]), height_of(*up, height), title, kind)


def curve_of(across: tuple[Axis, np.ndarray], up: tuple[Axis, np.ndarray], title: str, kind: str) -> Curve:
    """The curve through the points of two arrays of values, without visually redundant points."""
    x, y = across[0].places(across[1]), 1 - up[0].places(up[1])
    places = list(zip((1000 * x).round().astype(int).tolist(), (1000 * y).round().astype(int).tolist(), strict=True))
    return Curve(" ".join(f"{x},{y}" for x, y in _corners(places)), title, kind)


def _corners(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The points of a line needed so that all others deviate by at most `FLAT` (Douglas and Peucker 1973)."""
    if len(places) < 3:
        return list(places)
    (left, first), (right, last) = places[0], places[-1]
    slope = (last - first) / ((right - left) or 1)
    off = [abs(y - first - slope * (x - left)) for x, y in places]
    far = max(range(1, len(places) - 1), key=off.__getitem__)
    if off[far] <= FLAT:
        return [places[0], places[-1]]
    return _corners(places[: far + 1])[:-1] + _corners(places[far:])


def ticks_across(scale: Scale, text: Callable[[float], str]) -> tuple[Tick, ...]:
    """The ticks of a horizontal axis."""
    return tuple(Tick(scale[0].place(value), text(value)) for value in scale[1])


def ticks_up(scale: Scale, text: Callable[[float], str] = "{:g}".format, height: int = HEIGHT) -> tuple[Tick, ...]:
    """The ticks of a vertical axis."""
    return tuple(Tick(height_of(scale[0], value, height), text(value)) for value in scale[1])


def joined(marks: Sequence[Mark], kind: str) -> list[Segment]:
    """The lines from each mark to the next."""
    return [Segment(a.x, a.y, b.x, b.y, kind) for a, b in pairwise(marks)]


def without_overlap(labels: Sequence[Label], height: int = HEIGHT) -> tuple[Label, ...]:
    """The labels in order from the top, cut and moved so that they do not overlap.

    None if they are more than fit beside the plot: the titles of its marks say what they are.
    """
    if len(labels) > height // LINE:
        return ()
    labels = [Label(label.y, _cut(label.text)) for label in labels]
    placed: list[Label] = []
    for label in sorted(labels, key=lambda label: label.y):
        above = placed[-1].y + LINE if placed else -math.inf
        placed.append(Label(max(label.y, above), label.text))
    below = math.inf
    for place in reversed(range(len(placed))):
        placed[place] = Label(round(min(placed[place].y, below, height), 1), placed[place].text)
        below = placed[place].y - LINE
    return tuple(placed)


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1].rstrip(" ,") + "…"


def clipped(a: float, b: float, c: float, size: float) -> tuple[float, float, float, float] | None:
    """The part of the line `a x + b y + c = 0` in the square from (0, 0) to (size, size): x1, y1, x2, y2, or None."""
    crossings = set()
    for edge in (0.0, size):
        if b:
            crossings.add((edge, -(a * edge + c) / b))
        if a:
            crossings.add((-(b * edge + c) / a, edge))
    inside = sorted(
        (round(x, 2), round(y, 2)) for x, y in crossings if -1e-6 <= x <= size + 1e-6 and -1e-6 <= y <= size + 1e-6
    )
    return None if len(inside) < 2 or inside[0] == inside[-1] else (*inside[0], *inside[-1])
