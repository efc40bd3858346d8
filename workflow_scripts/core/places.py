"""Files and folders in a configuration: variables are expanded, and paths that cannot work are refused."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts.core.names import OUTSIDE

ROOT = Path(__file__).resolve().parents[2]
CODE = ("workflow_scripts", "rules", "report", "envs", "tasks")  # the project's folders with code and task files
RESOURCE_FOLDERS = ("encoders", "repositories", "corpora", "tokens")  # what the workflow creates in `resources`
# What it creates in `results`, beside a folder for each encoder.
TABLES, PARALLEL, EXPORTED = "tables", "parallel", "exported"
RESULT_FOLDERS = {
    TABLES: "tables",
    PARALLEL: "checks of parallel test sets",
    OUTSIDE: "predictions that were made elsewhere",
    "every_eval_ever": "exported records",
    EXPORTED: "exported models",
}
VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def expanded(place: str) -> str:
    """The path with `~`, `$NAME` and `${NAME}` expanded. Raises ValueError for a path that cannot work.

    Spaces, quotes and letters of any alphabet are allowed: the rules quote all paths.
    """
    for match in VARIABLE.finditer(place):
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set")
    path = VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], place)
    path = os.path.expanduser(path)  # noqa: PTH111  (pathlib raises where there is no such user)
    if path.startswith("~"):
        raise ValueError(f"there is no user {path.partition('/')[0][1:]}; for a folder of that name, start with ./")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise ValueError("a path must not contain line breaks or other control characters")
    if set(path) & set("{}"):
        raise ValueError("a path must not contain braces, which are Snakemake's wildcards; write variables as $NAME")
    if "$" in path:  # steps that load the configuration would expand it a second time
        raise ValueError("a path must not contain a dollar sign, except for environment variables such as $HOME")
    if path.startswith("-"):
        raise ValueError("a path must not start with a dash, which would make it an option")
    if "://" in path:
        raise ValueError("it must be a path on this machine, not a URL")
    return path


def folder(place: str) -> str:
    """A folder to write to, normalised: Snakemake takes `results/`, `./results` and `results` as different paths.

    Raises ValueError like `expanded`, and for the working folder itself.
    """
    path = os.path.normpath(expanded(place))
    if path.startswith("-"):
        raise ValueError("a path must not start with a dash, which would make it an option")
    if _absolute(path) == Path.cwd():
        raise ValueError("this is the working folder itself, which holds your own files; choose a folder inside it")
    return path


def on_nodes(place: str) -> str:
    """A folder of each compute node, as it is written: its variables and `~` are expanded on the node.

    Raises ValueError for a path that cannot work on any node.
    """
    if not place.startswith(("/", "~", "$")):
        raise ValueError("it must be an absolute path, or start with an environment variable such as $TMPDIR")
    if any(unicodedata.category(character) == "Cc" for character in place):
        raise ValueError("a path must not contain line breaks or other control characters")
    return place


def refuse_overlaps(resources: str, results: str, encoders: Iterable[str]) -> None:
    """Check that results, resources and code do not share folders. Raises ValueError that names the key.

    `results` and `resources` may be the same folder, or one may be inside the other, as long as no folder that the
    workflow creates for one is equal to, or inside, a folder that it creates for the other.
    """
    of_resources = [_absolute(resources) / name for name in RESOURCE_FOLDERS]
    of_results = [_absolute(results) / name for name in (*encoders, *RESULT_FOLDERS)]
    for key, places in (
        ("resources", [_absolute(resources), *of_resources]),
        ("results", [_absolute(results), *of_results]),
    ):
        for place in places:
            for code in CODE:
                if place.is_relative_to(ROOT / code):
                    raise ValueError(f"{key}: {place} is among the code of this workflow; choose another folder")
    for one in of_resources:
        for other in of_results:
            if one.is_relative_to(other) or other.is_relative_to(one):
                raise ValueError(f"results: {other} overlaps with {one} of the key resources; choose another folder")


def _absolute(place: str) -> Path:
    return Path(os.path.abspath(place))  # noqa: PTH100  (pathlib's would keep `..`)
