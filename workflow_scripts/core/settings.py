"""What a step needs besides its input files: a frozen object, made from the JSON text of `--settings`.

Each step has its own class. The class is in the package that reads it, or in the step's module if no other module
reads it. `experiment/settings.py` composes the texts.
"""

import json
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workflow_scripts.core.errors import UserError

Value = TypeVar("Value")


class Settings(BaseModel):
    """Named values: frozen, without unknown keys, and each of the declared type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def read(cls, values: Any, where: str) -> Self:
        """The object of some JSON values. Raises UserError for unknown, missing and wrong ones; it names `where`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(f"{where}: {'; '.join(map(cls._described, error.errors()))}") from None

    @classmethod
    def _described(cls, problem: Mapping[str, Any]) -> str:
        key = ".".join(map(str, problem["loc"]))
        match problem["type"]:
            case "missing":
                return f"{key} is missing"
            case "extra_forbidden":
                known = f"; allowed: {', '.join(cls.model_fields)}" if len(problem["loc"]) == 1 else ""
                return f"{key} is an unknown key{known}"
            case _:
                message = problem["msg"][0].lower() + problem["msg"][1:]
                return f"{key}: found {problem['input']!r}; {message}" if key else message

    def changed(self, **changes: Any) -> Self:
        """A copy with other values. Raises ValidationError for unknown keys and wrong values."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)

    def as_json(self) -> dict[str, Any]:
        """The JSON values that the object was made from."""
        return self.model_dump(mode="json", exclude_unset=True)

    def as_text(self) -> str:
        """The JSON text of `as_json`."""
        return json.dumps(self.as_json())


class StepSettings(Settings):
    """The settings of a step; this class itself if the step has none."""

    code: str = ""
    """The fingerprint of the step's code. Steps do not read it: it makes Snakemake rerun a step whose code changed."""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """The object of a JSON text. Raises UserError for any other text."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"--settings: {text!r} is not JSON: {error}") from None
        return cls.read(values, "--settings")


class WholeGridSettings(StepSettings):
    """The settings of steps that read the whole grid: `collect`, `compare`, `exemplify`."""

    configuration: dict[str, Any]
    """The keys that the user set, for `experiment.configuration.load`."""


def given(value: Value | None, key: str) -> Value:
    """The value of an optional key that is required here. Raises UserError if it is None."""
    if value is None:
        raise UserError(f"--settings: {key} is missing")
    return value
