"""The base of all sections of YAML files, and the types of their keys.

The string below a key is its description. `experiment/reference.py` turns sections into `config.schema.json` and
`docs/configuration.md`: run `make reference` after an edit. Descriptions are docstrings, which `fingerprint` ignores,
so rewording one reruns nothing.
"""

import ast
import contextlib
import itertools
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from workflow_scripts.core import places


def _number(value: Any) -> Any:
    """The number that a string spells, or None for `null`; any other value unchanged.

    YAML 1.1 reads `1e-4` (no dot) as a string, and Snakemake's --config everything inside a list or section. Only
    numeric fields use this: a revision such as `12e4567` stays a string.
    """
    if not isinstance(value, str):
        return value
    if value == "null":
        return None
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(value)
    return value


def _boolean(value: Any) -> Any:
    """The boolean that a string spells: Snakemake's --config reads `false` as a string."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def distinct(values: list[Any] | None) -> list[Any] | None:
    """The list itself, or None. Raises ValueError if a value occurs twice."""
    seen: set[Any] = set()
    for number, value in enumerate(values or []):
        try:
            twice = value in seen
            seen.add(value)
        except TypeError:  # a list or section
            twice = value in (values or [])[:number]
        if twice:
            raise ValueError(f"{value!r} is listed twice: delete one")
    return values


def about(*examples: Any, unit: str | None = None) -> Any:
    """Examples of a key's value, and its unit, for the reference and the JSON Schema."""
    # An argument that is None would remove what another Field of the same type sets.
    return Field(examples=list(examples), json_schema_extra={"unit": unit}) if unit else Field(examples=list(examples))


Distinct = (Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(distinct))  # of lists
# The bounds come before the validator: after it, pydantic leaves them out of the JSON Schema.
NUMERIC = BeforeValidator(_number)
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Count = Annotated[int, Field(ge=1), NUMERIC]
OptionalCount = Annotated[Annotated[int, Field(ge=1)] | None, NUMERIC]
Seed = Annotated[int, Field(ge=0, lt=2**32), NUMERIC]  # NumPy accepts no larger ones
PositiveNumber = Annotated[float, Field(gt=0), NUMERIC]
NonNegativeNumber = Annotated[float, Field(ge=0), NUMERIC]
Fraction = Annotated[float, Field(ge=0, lt=1), NUMERIC]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, Field(json_schema_extra={"format": "path"})]
InputPath = Annotated[PathText, AfterValidator(places.expanded)]
NodeFolder = Annotated[PathText, AfterValidator(places.on_nodes)]
OutputFolder = Annotated[PathText, AfterValidator(places.folder)]
EncoderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A section that accepts no other keys than its own."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True, validate_by_name=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the string below each key its description, before pydantic builds the section.

        pydantic's own `use_attribute_docstrings` does the same, but took 52 ms of every start instead of 4.
        """
        for key, description in _attribute_docstrings(cls.__module__).get(cls.__name__, {}).items():
            cls.model_fields[key].description = description


@cache
def _attribute_docstrings(module: str) -> dict[str, dict[str, str]]:
    """The string below each attribute of each class of a module."""
    file = sys.modules[module].__file__
    assert file is not None
    found: dict[str, dict[str, str]] = {}
    for statement in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ClassDef):
            for attribute, string in itertools.pairwise(statement.body):
                match attribute, string:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        found.setdefault(statement.name, {})[name] = " ".join(text.split())
    return found
