"""This workflow as a module of another one: `module crossprompt: ...`, `use rule * from crossprompt as crossprompt_*`.

Snakemake prepends the module's `prefix` to the relative paths of rules: inputs, outputs, logs and benchmarks. Settings
and everything that reads files outside rules need the same paths. The other workflow's own jobs must not run with
the environment variables of this project's steps.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import Configuration

PROGRAMS = "PROGRAMS"  # the folder of `python` with a colon, or empty where a job's environment has its own


def check_module(has_configuration: bool) -> None:
    """Raise UserError if the other workflow's `module` has no key `config`."""
    if not has_configuration:
        raise UserError('module: it needs its own configuration; add a line such as `config: config["crossprompt"]`')


def with_prefix(configuration: Configuration, path_modifier: Any) -> Configuration:
    """The configuration with the folders that Snakemake uses, which `prefix` or `replace_prefix` moves.

    Args:
        configuration: as the other workflow declares it.
        path_modifier: Snakemake's `PathModifier` of the module.
    """
    given = {key: getattr(configuration, key) for key in ("resources", "results")}
    moved = {key: str(path_modifier.replace_prefix(folder)) for key, folder in given.items()}
    # Without a prefix it stays the same: settings distinguish a key that is set from one with its default.
    return configuration.model_copy(update={key: folder for key, folder in moved.items() if folder != given[key]})


def exports(namespace: str, variables: Mapping[str, str], own_environments: bool) -> str:
    """The start of each command, which sets the variables of the steps: the environment is the other workflow's.

    It contains no values, because Snakemake reruns a job whose command has changed. The values, such as the project's
    folder, are in variables named after the module, which this sets.

    Args:
        namespace: the module's name, an identifier.
        variables: of `step_variables`.
        own_environments: whether jobs find `python` in their own environment.
    """
    names = sorted({*variables, "PYTHONNOUSERSITE"})
    values = {name: variables.get(name, "") for name in names}
    values[PROGRAMS] = "" if own_environments else f"{Path(sys.executable).parent}:"
    os.environ.update({f"{namespace}_{name}": value for name, value in values.items()})
    assignments = " ".join(f'{name}="${namespace}_{name}"' for name in names)
    return f'export {assignments} PATH="${namespace}_{PROGRAMS}$PATH"; '
