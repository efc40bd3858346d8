"""Reruns the jobs of outputs that do not match the configuration or the user's files, but no finished training.

This does not depend on Snakemake's own metadata, which can be lost.
"""

import logging
import os
from typing import Any

from workflow_scripts.core.lineage import Lineage
from workflow_scripts.core.names import LATENCY
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.consistency import Difference, differences
from workflow_scripts.experiment.jobs import all_jobs

logger = logging.getLogger("snakemake.logging")  # Snakemake shows no other logger's messages

TRAININGS = ("search", "train", "train_and_drop")  # rules
SHOWN = 8  # differences that a run lists; a dry run lists all


def rerun_outdated(workflow: Any, dag_class: Any, configuration: Configuration) -> None:
    """Make Snakemake rerun the job of every output that does not match the configuration or the user's files.

    Snakemake has no public way to declare an output out of date: `--forcerun` would add it to the user's targets. So
    these files are added to those that Snakemake itself finds incomplete, just before it decides which jobs to run.

    Args:
        workflow: Snakemake's workflow.
        dag_class: `snakemake.dag.DAG`. This package must not import Snakemake, since steps run without it.
        configuration: the configuration of the grid.
    """
    check_incomplete = dag_class.check_incomplete

    async def check_incomplete_and_outdated(dag: Any) -> None:
        forced = set(dag.forcefiles)
        await check_incomplete(dag)
        if dag.workflow is not workflow:
            return
        if workflow.execution_settings:  # Not known earlier: Snakemake reads the Snakefile first.
            os.environ[LATENCY] = str(workflow.execution_settings.latency_wait)
        lineage = Lineage(configuration.resources, configuration.results)
        with_code = "PARAMS" in {trigger.name for trigger in workflow.rerun_triggers}
        differing = outdated(lineage, configuration, with_code)
        await accept_finished(dag, forced | {difference.output for difference in differing})
        if not workflow.dryrun:
            lineage.note_times()
        if differing:
            log_outdated(differing, configuration.resources, shown=len(differing) if workflow.dryrun else SHOWN)
        dag.forcefiles.update(difference.output for difference in differing)

    dag_class.check_incomplete = check_incomplete_and_outdated


async def accept_finished(dag: Any, rerun: set[str]) -> None:
    """Keep trainings that finished after their Snakemake was killed.

    Snakemake marks the outputs of a running job as incomplete. The step continues without Snakemake, and nothing
    removes the mark, so the next command would train again. But the step writes its records last: an output with a
    record that matches the configuration is complete.

    Args:
        dag: Snakemake's graph.
        rerun: the outputs whose jobs are to run in any case.
    """
    for job in dag.jobs:
        if job.rule.name not in TRAININGS or not rerun.isdisjoint(job.output):
            continue
        marked = await dag.workflow.persistence.incomplete(job)
        if marked and all([await output.exists() for output in job.output]):
            dag.forcefiles.difference_update(marked)
            # Removes the mark, and metadata of an earlier run. Also in a dry run, which would otherwise plan the job.
            dag.workflow.persistence.cleanup(job)


def outdated(lineage: Lineage, configuration: Configuration, with_code: bool) -> list[Difference]:
    """All differences; `with_code` includes outputs for which only the code of the step has changed."""
    found = differences(lineage, all_jobs(configuration))
    return [difference for difference in found if with_code or not difference.only_code]


def log_outdated(differing: list[Difference], resources: str, shown: int) -> None:
    """Log the outdated outputs and the reasons."""
    # Snakemake's log handler ignores a message's arguments.
    or_data = " or the data" if any(one.only_sources for one in differing) else ""
    logger.warning(
        f"{len(differing)} outputs do not match the configuration{or_data}, so the jobs that need them run again:"
    )
    for difference in differing[:shown]:
        logger.warning(f"  {difference}")
    if len(differing) > shown:
        logger.warning(f"  and {len(differing) - shown} more: a dry run lists all")
    by_settings = [one.output for one in differing if not one.only_code and not one.only_sources]
    if any(output.startswith(f"{resources}/") for output in by_settings):
        logger.warning(
            f"  If another grid shares {resources}, the two overwrite each other's files: give each its own folder with"
            " the key resources."
        )
