"""Schemes of entity tags: conversion to IOB2, check and repair.

| scheme | the first token of an entity | other tokens | the last one | an entity of one token |
|---|---|---|---|---|
| iob2 | `B-` | `I-` | `I-` | `B-` |
| iob1 | `I-`, `B-` directly after an entity of the same type | `I-` | `I-` | as the first token |
| bioes, iobes | `B-` | `I-` | `E-` | `S-` |

`O` is a token outside entities. iob2 is also known as BIO. Entities are those of the library seqeval in its strict
mode (`seqeval.scheme`), except that a `B-` begins an entity in iob1, too, where IOB1 does not need one.
"""

from collections.abc import Sequence

SCHEMES = ("iob2", "iob1", "bioes", "iobes")
OUTSIDE = "O"
PREFIXES = {"iob2": "BI", "iob1": "BI", "bioes": "BIES", "iobes": "BIES"}


def problem(tags: Sequence[str], scheme: str = "iob2") -> str:
    """The first problem of the tags, such as `tag 3 is I-PER after O`; "" if they are valid.

    Any sequence of `O`, `B-` and `I-` is valid in iob1.
    """
    return next((what for what in _problems(tags, scheme) if what), "")


def repaired(tags: Sequence[str], scheme: str = "iob2") -> tuple[list[str], int]:
    """The tags in IOB2 and the number of tags that had a problem: 0 for tags that are valid in their scheme.

    A tag that cannot continue an entity begins one. That is how the CoNLL shared tasks' evaluation (conlleval) and
    seqeval's default mode read invalid tags. In iob2 the number is that of the tags that changed. A tag that is not `O`
    or a prefix with a type is kept: `problem` still finds it.
    """
    prefixes, converted = PREFIXES[scheme], []
    is_open, kind = False, ""
    for tag in tags:
        prefix, kind_before = tag[:1], kind
        if not _is_well_formed(tag, prefixes):
            converted.append(tag)
            is_open, kind = False, ""
            continue
        kind = tag[2:]
        continues = is_open and kind == kind_before and prefix in ("I", "E")
        converted.append(tag if tag == OUTSIDE else f"{'I' if continues else 'B'}-{kind}")
        is_open = prefix in ("B", "I")
    return converted, sum(bool(what) for what in _problems(tags, scheme))


def _problems(tags: Sequence[str], scheme: str) -> list[str]:
    """For each tag, what is wrong with it, or ""; in bioes with one more for the end of the sentence."""
    prefixes, closes = PREFIXES[scheme], "E" in PREFIXES[scheme]
    found = []
    before, is_open = "", False
    for number, tag in enumerate(tags, 1):
        what = ""
        after = f"after {before}" if before else "at the start of the sentence"
        if not _is_well_formed(tag, prefixes):
            allowed = ", ".join([OUTSIDE, *(f"{letter}-TYPE" for letter in prefixes)])
            what = f"tag {number} is {tag!r}, not one of {allowed}"
        elif tag[0] in "IE" and scheme != "iob1" and not (is_open and tag[2:] == before[2:]):
            what = f"tag {number} is {tag} {after}"
        elif tag[0] not in "IE" and closes and is_open:
            what = f"tag {number} is {tag} {after}, which E-{before[2:]} does not end"
        found.append(what)
        before, is_open = tag, tag[:2] in ("B-", "I-")
    if closes and is_open:
        found.append(f"tag {len(tags)} is {before} at the end of the sentence, where E- or S- is expected")
    return found


def _is_well_formed(tag: str, prefixes: str) -> bool:
    return tag == OUTSIDE or (tag[:1] in tuple(prefixes) and tag[1:2] == "-" and len(tag) > 2)
