"""The template that turns a row into text: `{text}\\nTopic: {answer}`."""

import string

ANSWER = "{answer}"


def fields(template: str) -> list[str]:
    """The names of a template's fields."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def problem(template: str, allowed: tuple[str, ...]) -> str:
    """What is wrong with a template; empty if it names the answer once and otherwise only allowed fields."""
    try:
        parts = [(name, form, conversion) for _, name, form, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        return f"found {template!r}; {error} (a brace in the text is written twice)"
    names = [name for name, _, _ in parts if name is not None]
    known = (*allowed, ANSWER.strip("{}"))
    for name, form, conversion in parts:
        if name is not None and (name not in known or form or conversion):
            return f"found {template!r}; the fields are {', '.join('{' + name + '}' for name in known)}"
    if names.count(ANSWER.strip("{}")) != 1:
        return f"found {template!r}; it must have {ANSWER} once"
    if len(names) == 1:
        texts = " or ".join("{" + name + "}" for name in allowed)
        return f"found {template!r}; it must have {texts}"
    return ""
