"""Templates and fillers of one split in one language, and how a template is filled.

A template names its slots in angle brackets:

* `<A>` the filler of slot A, in its first form
* `<X.dat>` the filler of X in the form `dat`, one of the columns that the language file declares
* `<J@A>` the filler of J in the form that agrees with A's gender, for a kind whose columns are `f` and `m`
* `<e@A>` the ending `e` of the language file's `agreement`, in A's gender
* `<A:de>`, `<A:은/는>` the filler with the word before it, or the particle after it, that depends on its sound

A plain template is text with slots. A tagged template is words and slots between spaces, each word as `word/UPOS`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml

from workflow_scripts.corpora.mini.sounds import elide, with_particle

Token = tuple[str, str]
Fillers = Mapping[str, tuple[str, str]]  # slot -> (kind, key)

SLOT = re.compile(r"<(?P<slot>\w+)(?:\.(?P<form>\w+))?(?:@(?P<agrees>\w+))?(?::(?P<sound>[^>]+))?>")
UNSPACED_LANGUAGES = ("ja", "zh")
_CLOSING = (*".,?!;:", "'s", "n't")
_OPENING = ("¿", "¡", "l'", "d'", "qu'", "m'", "n'")


@dataclass(frozen=True)
class Filled:
    """A filled plain template and where each slot's filler stands in it, in code points, particles left out."""

    text: str
    spans: dict[str, tuple[int, int]]


class Wording:
    """The plan of a split and the words of one language for it."""

    def __init__(self, split: str, language: str, plan: dict[str, Any], words: dict[str, Any]):
        self.split = split
        self.language = language
        self.plan = plan
        self.words = words

    def draw(self, slots: Mapping[str, str], random: Random, taken: set[str] | None = None) -> Fillers:
        """Choose a filler for each slot (slot -> kind), all different and none of `taken`, to which they are added."""
        taken = set() if taken is None else taken
        chosen = {}
        for slot, kind in slots.items():
            free = [str(key) for key in self.plan["fillers"][kind] if f"{kind} {key}" not in taken]
            key = random.choice(free)
            taken.add(f"{kind} {key}")
            chosen[slot] = (kind, key)
        return chosen

    def template(self, *path: str | int) -> str:
        """The template at these keys and indices of the language file, such as `"xnli", "home", "premises", 0`."""
        found: Any = self.words
        for step in path:
            found = found[step]
        return found

    def fill(self, template: str, fillers: Fillers) -> Filled:
        """Fill a plain template; the sentence begins with a capital where the script has them."""
        pieces: list[str] = []
        spans: dict[str, tuple[int, int]] = {}
        length = end = 0
        for match in SLOT.finditer(template):
            tokens = self._slot_tokens(match, fillers)
            for piece in (template[end : match.start()], join_tokens([text for text, _ in tokens], self.language)):
                pieces.append(piece)
                length += len(piece)
            bare = self._bare_text(match, fillers)
            if bare:
                start = length - len(pieces[-1]) + pieces[-1].index(bare)
                spans[match["slot"]] = (start, start + len(bare))
            end = match.end()
        text = "".join(pieces) + template[end:]
        return Filled(text[:1].upper() + text[1:], spans)

    def fill_tagged(self, template: str, fillers: Fillers) -> list[Token]:
        """Fill a tagged template: its (word, UPOS) tokens."""
        tokens: list[Token] = []
        for item in template.split():
            match = SLOT.fullmatch(item)
            if match:
                tokens.extend(self._slot_tokens(match, fillers))
            else:
                word = SLOT.sub(lambda slot: self._slot_tokens(slot, fillers)[0][0], item)
                tokens.append(_split_tag(word))
        first, tag = tokens[0]
        return [(first[:1].upper() + first[1:], tag), *tokens[1:]]

    def _slot_tokens(self, match: re.Match[str], fillers: Fillers) -> list[Token]:
        if match["slot"] in self.words.get("agreement", {}):
            ending = self.words["agreement"][match["slot"]][self._gender(fillers[match["agrees"]])]
            return [(ending, "")]
        tokens = self._filler_tokens(match, fillers)
        if match["sound"] and "/" in match["sound"]:
            last, tag = tokens[-1]
            return [*tokens[:-1], (with_particle(last, match["sound"]), tag)]
        if match["sound"]:
            return [elide(match["sound"], tokens[0][0]), *tokens]
        return tokens

    def _filler_tokens(self, match: re.Match[str], fillers: Fillers) -> list[Token]:
        kind, key = fillers[match["slot"]]
        forms = self._forms(kind, key)
        name = match["form"] or (self._gender(fillers[match["agrees"]]) if match["agrees"] else None)
        form = forms[name] if name in forms else next(iter(forms.values()))
        tag = self.words["tags"].get(kind, "X")
        return [_split_tag(word) if "/" in word else (word, tag) for word in form.split()]

    def _bare_text(self, match: re.Match[str], fillers: Fillers) -> str:
        if match["slot"] not in fillers:
            return ""
        return join_tokens([text for text, _ in self._filler_tokens(match, fillers)], self.language)

    def _forms(self, kind: str, key: str) -> dict[str, str]:
        words = self.words["fillers"].get(kind)
        if words is None:
            return {"": key}
        entry = words.get(key, key)
        if not isinstance(entry, list):
            return {"": str(entry)}
        return dict(zip(words["columns"], map(str, entry), strict=True))

    def _gender(self, filler: tuple[str, str]) -> str:
        kind, key = filler
        forms = self._forms(kind, key)
        if "gender" in forms:
            return forms["gender"]
        return self.plan["genders"].get(key, "")


def join_tokens(tokens: list[str], language: str) -> str:
    """Join tokens as the language writes them: without spaces, or with spaces but none around what clings."""
    if language in UNSPACED_LANGUAGES:
        return "".join(tokens)
    text = ""
    for token in tokens:
        clings = not text or token in _CLOSING or text.split(" ")[-1].lower() in _OPENING
        text += token if clings else f" {token}"
    return text


def _split_tag(item: str) -> Token:
    word, _, tag = item.rpartition("/")
    return word, tag


@cache
def load_wording(split: str, language: str) -> Wording:
    """Read the plan of a split and the words of a language for it."""
    folder = files(__package__) / "data" / split
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    plan, words = (
        yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), loader) for name in ("plan", language)
    )
    return Wording(split, language, plan, words)
