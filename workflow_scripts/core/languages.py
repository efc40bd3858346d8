"""Facts about languages: name, native name, writing direction, script and family of a BCP 47 code.

No fact is written here. Names come from langcodes and language_data (CLDR and the IANA registry), likely scripts and
writing directions from Babel (CLDR), families from urielplus (Glottolog). The tables of urielplus are read as files,
because importing that package loads pandas.

The packages are imported by the first call, so importing this module is cheap.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

Direction = Literal["ltr", "rtl"]

QUALIFIER = re.compile(r" \((individual language|macrolanguage)\)")  # ISO 639-3 distinguishes namesakes by it.
COLLECTION = re.compile(r" languages$")  # Codes of several languages, such as `nah`, have names such as this one.
VARIANT = re.compile(r"(.+) \((.+) variant\)")  # The registry describes Hans as `Han (Simplified variant)`.


class Parts(NamedTuple):
    """The parts of a code: ISO 639, ISO 15924 and ISO 3166 (or UN M.49); None for a part that it lacks."""

    language: str
    script: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Language:
    """The facts about one language.

    Attributes:
        code: the code as given, such as `zho_Hans`.
        name: the English name. Script and region follow in brackets unless they are the usual ones of the language:
            `Chinese`, but `Chinese (Traditional)`. The code itself if no registry has it.
        native: the name in the language itself, or the English name where CLDR has none.
        direction: the writing direction.
        script: ISO 15924, such as `Latn`: the code's own, or else the most likely one. Empty if unknown.
        family: Glottolog's top-level family, such as `Indo-European`. A language without relatives is its own family,
            such as `Basque`. Empty if unknown.
    """

    code: str
    name: str
    native: str
    direction: Direction = "ltr"
    script: str = ""
    family: str = ""

    @property
    def script_name(self) -> str:
        """The English name of the script, such as `Cyrillic` or `Han (Simplified)`; empty if the script is unknown."""
        base, variant = _script_names(self.script)
        return f"{base} ({variant})" if variant else base

    @property
    def base_script(self) -> str:
        """The name of the script without its variant, such as `Han`; empty if the script is unknown."""
        return _script_names(self.script)[0]


@cache
def language(code: str) -> Language:
    """The facts about the language of a BCP 47 code, whose parts `-` or `_` separates, in upper or lower case.

    An unknown code (see `is_known`) is its own name and has no other facts.
    """
    from langcodes import Language as Tag

    parts = _parsed(code)
    if parts is None:
        return Language(code, name=code, native=code)
    name, given_script, given_region = parts
    script, _ = _likely(parts)
    # The name shows the parts that the rest of the code does not imply.
    unusual_script = given_script if given_script != _likely(Parts(name, None, given_region))[0] else None
    unusual_region = given_region if given_region != _likely(Parts(name, given_script))[1] else None
    in_english = Tag.make(name, script=unusual_script, territory=unusual_region)
    in_itself = Tag.make(name, script=script if script != _likely(Parts(name))[0] else None)
    return Language(
        code,
        name=QUALIFIER.sub("", in_english.display_name()),
        native=QUALIFIER.sub("", in_itself.autonym()),
        direction=_direction(script),
        script=script,
        family=_family(name),
    )


def same_language(code: str, known: Sequence[str]) -> str | None:
    """Which of the known codes is of the same language and script: `eng_Latn` for `en`. None if none is."""
    if code in known:
        return code
    wanted = _canonical(code)
    return next((other for other in known if wanted is not None and _canonical(other) == wanted), None)


def common_codes(groups: Iterable[Iterable[str]]) -> dict[str, str]:
    """One code for each language that groups of codes name differently: `{"eng_Latn": "en"}` if one has `en`.

    It is the shortest code. Codes of one group always stay distinct: a language that a group has twice, such as `pt-BR`
    and `pt-PT`, is not renamed. Unchanged codes are left out.
    """
    found: dict[tuple[str, str], set[str]] = {}
    twice: set[tuple[str, str]] = set()
    for group in groups:
        own: dict[tuple[str, str], set[str]] = {}
        for code in group:
            if language := _canonical(code):
                own.setdefault(language, set()).add(code)
        for language, codes in own.items():
            found[language] = found.get(language, set()) | codes
            if len(codes) > 1:
                twice.add(language)
    renamed: dict[str, str] = {}
    for language, codes in found.items():
        shortest = min(codes, key=lambda code: (len(code), code))
        if language not in twice:
            renamed |= dict.fromkeys(codes - {shortest}, shortest)
    return renamed


@cache
def _canonical(code: str) -> tuple[str, str] | None:
    """The language by its shortest code, and the script; None for an unknown code."""
    parts = _parsed(code)
    return None if parts is None else (parts.language, _likely(parts)[0])


def is_known(code: str) -> bool:
    """Whether every part of the code is registered and the language has a name."""
    return _parsed(code) is not None


def subtag(code: str) -> str:
    """The language alone by its shortest code, without script and region: `zh` for `zho_Hans`; else the code itself."""
    parts = _parsed(code)
    return code if parts is None else parts.language


@cache
def _parsed(code: str) -> Parts | None:
    """The parts of the code, the language by its shortest code (`zh` for `zho`); None if it is not known."""
    from langcodes import Language as Tag
    from langcodes import LanguageTagError

    try:
        tag = Tag.get(code, normalize=False)
    except LanguageTagError:
        return None
    # `normalize=True` would also replace languages, such as `tl` (Tagalog) by `fil` (Filipino).
    name = _shortest(tag.language or "")
    if not _has_name(name) or not Tag.make(script=tag.script, territory=tag.territory).is_valid():
        return None
    return Parts(name, tag.script, tag.territory)


def _shortest(language: str) -> str:
    """The ISO 639-1 code of an ISO 639-2 or -3 code; the code itself if there is none."""
    from langcodes.data_dicts import LANGUAGE_ALPHA3, LANGUAGE_ALPHA3_BIBLIOGRAPHIC, LANGUAGE_REPLACEMENTS

    for table in (LANGUAGE_ALPHA3, LANGUAGE_ALPHA3_BIBLIOGRAPHIC):
        if found := [short for short, long in table.items() if long == language and short.isalpha()]:
            return min(found, key=lambda short: (len(short), short in LANGUAGE_REPLACEMENTS))  # `he`, not `iw`
    return language


def _has_name(language: str) -> bool:
    """Whether the language has an English name: private codes such as `qaa` are valid, and have none."""
    from language_data.names import code_to_names

    return "en" in code_to_names(language)


def _likely(parts: Parts) -> tuple[str, str]:
    """The script and the region of a language; those that are None are filled in from CLDR, or else empty.

    CLDR lacks many members of a macrolanguage, such as `arb` (Standard Arabic); these take the macrolanguage's.
    """
    from babel.core import get_global
    from langcodes.data_dicts import MACROLANGUAGES

    language, script, region = parts
    table = get_global("likely_subtags")
    for name in (language, MACROLANGUAGES.get(language, language)):
        for known in ((name, script, region), (name, region), (name, script), (name,)):
            if found := table.get("_".join(part or "" for part in known)):
                _, likely_script, likely_region = found.split("_")
                return script or likely_script, region or likely_region
    return script or "", region or ""


@cache
def _direction(script: str) -> Direction:
    """The direction of the first locale in that script. Left to right if CLDR has none."""
    from babel import Locale, localedata

    for name in sorted(localedata.locale_identifiers()):
        locale = Locale.parse(name)
        if _likely(Parts(locale.language, locale.script, locale.territory))[0] == script:
            return "rtl" if locale.character_order == "right-to-left" else "ltr"
    return "ltr"


@cache
def _script_names(script: str) -> tuple[str, str]:
    """The English name of a script, and of its variant if it is one: `Han` and `Simplified`; empty if unknown.

    CLDR has names such as `Simplified` for variants, which the IANA registry calls `Han (Simplified variant)`.
    """
    from langcodes import Language as Tag

    return _script_variants().get(script) or (Tag.make(script=script).script_name() if script else "", "")


@cache
def _script_variants() -> dict[str, tuple[str, str]]:
    """The scripts that the IANA registry calls variants of another, by code: that script's name and the variant's."""
    from language_data.registry_parser import parse_registry

    described = ((item["Subtag"], item["Description"][0]) for item in parse_registry() if item["Type"] == "script")
    found = ((code, VARIANT.fullmatch(description)) for code, description in described)
    return {code: (match[1], match[2]) for code, match in found if match}


def _family(language: str) -> str:
    """The family of the language. If the code covers several languages, the family of most of them."""
    from langcodes import Language as Tag
    from langcodes.data_dicts import MACROLANGUAGES

    by_code, by_name = _families()
    tag = Tag.make(language)
    if family := by_code.get(tag.to_alpha3()):
        return family
    members = [by_code[code] for code, whole in MACROLANGUAGES.items() if whole == language and code in by_code]
    if not members:
        name = re.escape(COLLECTION.sub("", tag.language_name()))
        members = [family for text, family in by_name if re.search(rf"\b{name}\b", text)]
    return Counter(members).most_common(1)[0][0] if members else ""


@cache
def _families() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Glottolog's families by ISO 639-3 code, and by the names of a language and of all its groups in one text."""
    families, by_name = {}, []
    for row in _rows("lang_fam_geo.csv"):
        families[row["language_id"]] = row["lineage"].partition(",")[0] or row["language_name"]
        by_name.append((f"{row['language_name']}, {row['lineage']}", families[row["language_id"]]))
    codes = {row["iso_code"]: row["glottocode"] for row in _rows("uriel_glottocode_map.csv")}
    return {code: families[place] for code, place in codes.items() if place in families}, by_name


def _rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a table of urielplus."""
    from importlib.metadata import distribution

    table = Path(str(distribution("urielplus").locate_file(f"urielplus/database/urielplus_csvs/{name}")))
    with table.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)
