"""Settings for tests that call a part of a kind directly."""

from typing import Any

from workflow_scripts.kinds.settings import ScoringSettings, TokeniseSettings


def tokenising(**changes: Any) -> TokeniseSettings:
    """The settings of `tokenise` with these keys."""
    others = {"task": "mine", "kind": "mine", "labels": [], "split": "train"}
    return TokeniseSettings(**others | changes)


def scoring(language: str = "en", **changes: Any) -> ScoringSettings:
    """What the metrics of a task depend on."""
    return ScoringSettings(language=language, **changes)
