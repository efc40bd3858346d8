"""Outputs that are not what the configuration asks for are made again, whatever Snakemake's own metadata say."""

import logging
from typing import Any

from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.consistency import Difference, differences
from workflow_scripts.experiment.jobs import all_jobs
from workflow_scripts.experiment.lineage import Lineage

logger = logging.getLogger("snakemake.logging")

SHOWN = 8  # differences that a run names; a dry run names all


def make_again_what_differs(workflow: Any, dag_class: Any, configuration: Configuration) -> None:
    """Have Snakemake rerun the job of every output that differs from what the configuration asks for.

    Snakemake has no public way to declare an output out of date: `--forcerun` would add it to the targets that were
    typed. So the files join those that Snakemake itself finds incomplete, just before it decides what has to run.

    Args:
        workflow: Snakemake's workflow.
        dag_class: `snakemake.dag.DAG`; this module imports nothing of Snakemake, as steps run without it.
        configuration: what is asked for.
    """
    check_incomplete = dag_class.check_incomplete

    async def check_incomplete_and_outdated(dag: Any) -> None:
        await check_incomplete(dag)
        if dag.workflow is not workflow:
            return
        differing = outdated(configuration, with_code="PARAMS" in {trigger.name for trigger in workflow.rerun_triggers})
        if differing:
            tell(differing, configuration.resources, shown=len(differing) if workflow.dryrun else SHOWN)
        dag.forcefiles.update(difference.output for difference in differing)

    dag_class.check_incomplete = check_incomplete_and_outdated


def outdated(configuration: Configuration, with_code: bool) -> list[Difference]:
    """What differs; `with_code` includes outputs of which only the code of their step has changed."""
    lineage = Lineage(configuration.resources, configuration.results)
    found = differences(lineage, all_jobs(configuration))
    return [difference for difference in found if with_code or not difference.only_code]


def tell(differing: list[Difference], resources: str, shown: int) -> None:
    """Say what is made again and why."""
    # Snakemake's handler prints the message as it is, without its arguments.
    logger.warning(f"{len(differing)} outputs are not what the configuration asks for; jobs that need them rerun:")
    for difference in differing[:shown]:
        logger.warning(f"  {difference}")
    if len(differing) > shown:
        logger.warning(f"  and {len(differing) - shown} more: a dry run lists all")
    if any(one.output.startswith(f"{resources}/") and not one.only_code for one in differing):
        logger.warning(
            f"  If another grid shares {resources}, the two overwrite each other's files: give each a folder of its own"
            " with the key resources."
        )
