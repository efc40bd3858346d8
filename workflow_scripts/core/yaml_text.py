"""YAML files, which may be untrusted: for any file, the result is plain values of limited size.

Aliases (`*name`) can make a few lines expand to billions of values, and nested brackets can crash Python. So the file
is first read as a stream of events, which builds nothing, and its values are counted.
"""

from pathlib import Path
from typing import Any

import yaml

from workflow_scripts.core.errors import UserError

DEPTH = 50  # nested lists and sections
LARGEST = 2**22  # characters of all values, with aliases in full
OF_VALUE = 20  # characters that each value counts at least

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both make plain values only


def read_yaml(file: Path) -> Any:
    """The values of a YAML file. Raises UserError that names the file, and the line where there is one."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 at byte {error.start}") from None
    except ValueError as error:  # a path with a null byte
        raise UserError(f"{file} cannot be read: {error}") from None
    if len(text) > LARGEST:
        raise UserError(f"{file} has more than {LARGEST // 2**20} million characters: is this the right file?")
    try:
        _check_size(text, str(file))
        return yaml.load(text, LOADER)
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: not valid YAML: {error.problem}") from None
    except Exception as error:  # a date, number or tag whose value PyYAML's constructors cannot make
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: not valid YAML: {text or type(error).__name__}") from None


def _check_size(text: str, where: str) -> None:
    """Raise UserError for a file that is nested too deeply, contains itself, or is too large with aliases in full."""
    sizes: dict[str, int] = {}  # by anchor
    inside: list[tuple[str | None, int]] = []  # the anchor of each open list or section, and the size before it
    size = 0
    for event in yaml.parse(text, LOADER):
        line = f"{where}, line {event.start_mark.line + 1}" if event.start_mark else where
        match event:
            case yaml.AliasEvent():
                if any(anchor == event.anchor for anchor, _ in inside):
                    raise UserError(f"{line}: *{event.anchor} is inside &{event.anchor}: write the values out")
                size += sizes.get(event.anchor or "", 0) + OF_VALUE
            case yaml.CollectionStartEvent():
                inside.append((event.anchor, size))
                size += OF_VALUE
                if len(inside) > DEPTH:
                    raise UserError(f"{line}: nested more than {DEPTH} deep: is this the right file?")
            case yaml.CollectionEndEvent():
                anchor, before = inside.pop()
                if anchor is not None:
                    sizes[anchor] = size - before
            case yaml.ScalarEvent():
                size += OF_VALUE + len(event.value)
                if event.anchor is not None:
                    sizes[event.anchor] = OF_VALUE + len(event.value)
        if size > LARGEST:
            raise UserError(f"{line}: the values, with aliases in full, are too many: write fewer")
