"""Checks the blocks `methods.NAME.peft` before the first rule runs."""

import importlib.util

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.peft_block import configuration_of
from workflow_scripts.experiment.configuration import Configuration


def check_peft_blocks(configuration: Configuration) -> None:
    """Raise UserError, one line for each problem, for blocks that PEFT's configuration classes refuse.

    Importing PEFT takes seconds, so it happens only for grids with such a block. Where the steps have an environment of
    their own and PEFT is not installed beside Snakemake, the first training checks its block.
    """
    blocks = {name: section.peft for name, section in configuration.methods.items() if section.peft}
    if not blocks or importlib.util.find_spec("peft") is None:
        return
    problems = []
    for name, block in blocks.items():
        try:
            configuration_of(block, f"methods.{name}.peft")
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
