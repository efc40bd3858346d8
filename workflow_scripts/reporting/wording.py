"""How the report writes numbers, and its names for languages and methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from workflow_scripts.core.languages import Language, language
from workflow_scripts.core.names import OUTSIDE, UNTUNED, source_languages
from workflow_scripts.experiment.catalogue import METHODS

NOTHING = "–"
MOST_NAMED, NAMED = 12, 8  # languages that a sentence lists; of more, the first


@dataclass(frozen=True)
class Names:
    """The names of languages, methods, encoders and training sources in this report."""

    several_encoders: bool = False
    sources: tuple[str, ...] = ()

    @property
    def several_sources(self) -> bool:
        """Whether models were tuned on different sources."""
        return len(self.sources) > 1

    @property
    def one_source(self) -> bool:
        """Whether all models were tuned on the same source."""
        return len(self.sources) == 1

    @property
    def reference(self) -> str:
        """What models were tuned on, within a sentence: `English`, or `the source language` if there are several."""
        return self.source(self.sources[0]) if self.one_source else "the source language"

    def reference_set(self, what: str) -> str:
        """A set in the reference language: `English test set`, `test set in the source language`."""
        return f"{self.reference} {what}" if self.one_source else f"{what} in {self.reference}"

    @property
    def validation(self) -> str:
        """The set that choices are made on: `English validation`."""
        return f"{self.reference if self.one_source else 'source-language'} validation"

    def language(self, code: str) -> str:
        """The English name of a language, or its code if the name is unknown."""
        return language(code).name or code

    def facts(self, code: str) -> Language:
        """Names, direction, script and family of a language; unknown ones are empty."""
        return language(code)

    def languages(self, codes: Sequence[str]) -> str:
        """The names of languages as a text; only the first and a number if there are very many."""
        if len(codes) <= MOST_NAMED:
            return listed([self.language(code) for code in codes])
        rest = len(codes) - NAMED
        return ", ".join(self.language(code) for code in codes[:NAMED]) + f" and {rest} more languages"

    def source(self, source: str) -> str:
        """A training source in words: `English`, `English and German`."""
        return listed([self.language(code) for code in source_languages(source)])

    def arm(self, method: str, prompt_length: int, encoder: str = "", source: str = "") -> str:
        """The title of an arm: `Prompt tuning, length 16`, with its encoder and source if there are several."""
        parts = [method_title(method)]
        if prompt_length:
            parts.append(f"length {prompt_length}")
        return ", ".join([*parts, *self._where(encoder, source)])

    def where(self, encoder: str = "", source: str = "", before: str = ", ") -> str:
        """The encoder and the source if there are several, each after `before`."""
        return "".join(f"{before}{part}" for part in self._where(encoder, source))

    def _where(self, encoder: str, source: str) -> list[str]:
        found = [encoder] if encoder and encoder != OUTSIDE and self.several_encoders else []
        named = bool(source_languages(source)) if source else False
        return found + ([f"from {self.source(source)}"] if named and self.several_sources else [])


_TITLES: dict[str, str] = {}  # of methods that are not in the catalogue, from the configuration


def name_methods(titles: Mapping[str, str]) -> None:
    """Set the titles that the configuration gives to methods which are not in the catalogue."""
    _TITLES.clear()
    _TITLES.update(titles)


def method_title(method: str) -> str:
    """The title of a method; a method that is not in the catalogue and has no title keeps its name."""
    if method == UNTUNED:
        return "Untuned encoder"
    return METHODS[method].title if method in METHODS else _TITLES.get(method, method.replace("_", " "))


def method_words(method: str) -> str:
    """`method_title` within a sentence: lower case, except for proper names such as LoRA."""
    title = method_title(method)
    known = method == UNTUNED or method in METHODS
    return title.lower() if known and title[1:].islower() else title


def score_text(value: float | None) -> str:
    """A percentage with one digit, as the paper prints it; a dash if there is none."""
    return NOTHING if value is None or pd.isna(value) else f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def signed_text(value: float) -> str:
    """A difference with its sign; 0.0 has none."""
    return f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"


def interval_text(low: float, high: float) -> str:
    """An interval in words: `−2.1 to 4.4`."""
    return f"{score_text(low)} to {score_text(high)}"


def p_text(p: float) -> str:
    """A p-value with two or three digits: `p 0.31`, `p 0.004`, `p < 0.001`."""
    if pd.isna(p):
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.0995 else f"p {p:.2f}"


def spread_text(std: float | None) -> str:
    """A standard deviation; empty with one seed."""
    return "" if std is None or pd.isna(std) else f"± {std:.1f}"


def rate_text(rate: float | None) -> str:
    """A learning rate as in a configuration: 5e-5."""
    if not rate or pd.isna(rate):  # 0 where nothing is trained
        return NOTHING
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def count_text(count: float) -> str:
    """A whole number with thousands separators."""
    return NOTHING if pd.isna(count) else f"{count:,.0f}"


def bytes_text(size: float) -> str:
    """A size on disk in decimal units."""
    if pd.isna(size):
        return NOTHING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def duration_text(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if pd.isna(seconds):
        return NOTHING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def readable_date(date: str) -> str:
    """`2026-11-22T16:07:00+00:00` as `22 November 2026, 16:07`; anything else unchanged."""
    try:
        moment = datetime.fromisoformat(date)
    except (TypeError, ValueError):
        return str(date)
    return f"{moment.day} {moment:%B %Y}, {moment:%H:%M}"


def plural(count: int, thing: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
