"""Files and folders that a configuration names: variables expanded, and what cannot work refused."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("workflow_scripts", "rules", "report", "envs")  # folders of the project whose files are its code
FILLED = ("encoders", "repositories", "corpora", "tokens")  # folders that the workflow makes in `resources`
TABLES = "tables"  # the one that it makes in `results`, beside a folder for each encoder
VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def expanded(place: str) -> str:
    """The path with `~`, `$NAME` and `${NAME}` replaced. Raises ValueError with the reason for what cannot be a path.

    Spaces, quotes and letters of any alphabet are welcome: every step gets its paths quoted.
    """
    for match in VARIABLE.finditer(place):
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set")
    path = VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], place)
    path = os.path.expanduser(path)  # noqa: PTH111  (pathlib raises where there is no such user)
    if path.startswith("~"):
        raise ValueError(f"there is no user {path.partition('/')[0][1:]}; start with ./ for a folder of that name")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise ValueError("a path must not have line breaks or other control characters")
    if set(path) & set("{}"):
        raise ValueError("a path must not have braces, which mark wildcards in Snakemake; variables are written $NAME")
    if "$" in path:  # steps that read the configuration again would expand it again
        raise ValueError("a path must not have a dollar sign, which marks an environment variable such as $HOME")
    if path.startswith("-"):
        raise ValueError("a path must not begin with a dash, which marks an option")
    if "://" in path:
        raise ValueError("it must be a path on this machine, not a URL")
    return path


def folder(place: str) -> str:
    """A folder to write to, in one spelling: to Snakemake `results/` and `./results` are other places than `results`.

    Raises ValueError as `expanded`, and for the working folder itself.
    """
    path = os.path.normpath(expanded(place))
    if path.startswith("-"):
        raise ValueError("a path must not begin with a dash, which marks an option")
    if _absolute(path) == Path.cwd():
        raise ValueError("this is the working folder itself, which holds files of your own; name a folder in it")
    return path


def refuse_overlaps(resources: str, results: str, encoders: Iterable[str]) -> None:
    """Refuse folders in which files of two kinds would mix. Raises ValueError that names the key.

    `results` and `resources` may be the same folder, or one may be in the other, as long as no folder that the workflow
    makes for one is the same as, or inside, a folder that it makes for the other.
    """
    of_resources = [_absolute(resources) / name for name in FILLED]
    of_results = [_absolute(results) / name for name in (*encoders, TABLES)]
    for key, places in (
        ("resources", [_absolute(resources), *of_resources]),
        ("results", [_absolute(results), *of_results]),
    ):
        for place in places:
            for code in CODE:
                if place.is_relative_to(ROOT / code):
                    raise ValueError(f"{key}: {place} is among the code of this workflow; name another folder")
    for one in of_resources:
        for other in of_results:
            if one.is_relative_to(other) or other.is_relative_to(one):
                raise ValueError(f"results: {other} would mix with {one} of the key resources; name another folder")


def _absolute(place: str) -> Path:
    return Path(os.path.abspath(place))  # noqa: PTH100  (pathlib's would keep `..`)
