# Tuned on one language, which way of tuning a multilingual language model transfers best to other languages?
#
#   encoder ──┐
#             ├─> tokens ─> search ─> selected ─> runs ─┬─> predictions ─> scores ─> differences, tables ──┐
#   corpora ──┘                                         └─> vectors ─> alignment, boundaries, figure ──────┴─> report
#
# There is one rule file for each stage. A rule runs the step of the same name in workflow_scripts/. Besides its input
# files a job depends on one JSON string of settings (`params: cfg`), so an edit to the configuration reruns only the
# jobs whose settings it changes.
import os
import sys
from functools import partial
from pathlib import Path

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import DeploymentMethod

# Not `workflow.basedir`, which is another workflow's folder if it uses this one as a module.
HERE = str(workflow.current_basedir)
if not os.path.isdir(HERE):
    raise WorkflowError(
        "crossprompt must be a folder on this machine, since its steps import its modules: clone it, and give"
        " `snakefile:` the path of its Snakefile"
    )
sys.path.insert(0, HERE)
DEPLOYMENT = set(workflow.deployment_settings.deployment_method)
OWN_ENVIRONMENTS = bool(DEPLOYMENT & {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER})

# Before any other import of this project: a file that shadows a package would make those imports fail with a traceback.
from workflow_scripts.experiment.environment import (
    check_project_folder,
    check_versions,
    check_writable,
    prepare,
    step_variables,
)
from workflow_scripts.core.errors import UserError

try:
    check_project_folder(Path(HERE))
    check_versions(Path(HERE), OWN_ENVIRONMENTS)  # up to here, any Snakemake 9 can read this file
except UserError as error:
    raise WorkflowError(str(error)) from None

IS_MODULE = not workflow.modifier.is_main_snakefile()

from workflow_scripts.console.handler import REPORT, take_over

CONSOLE = None if IS_MODULE else take_over(workflow)

from workflow_scripts.experiment import settings
from workflow_scripts.experiment.as_module import check_module, exports, with_prefix
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.container import check_image, image, show_host
from workflow_scripts.experiment.grid import Grid, Paths, parse_arm
from workflow_scripts.experiment.peft_blocks import check_peft_blocks
from workflow_scripts.experiment.outdated import rerun_outdated
from workflow_scripts.core.names import (
    OF_OTHER_GRIDS,
    OUTSIDE,
    UNTUNED,
    base_source,
    languages_name,
    parse_model,
    shots_of,
    source_languages,
)
from workflow_scripts.experiment.resource_names import keep_names
from workflow_scripts.experiment.snakemake_timers import share_one_timer
from workflow_scripts.core.files import read_json
from workflow_scripts.experiment.table_names import table_names
from workflow_scripts.experiment.unkept_weights import delete_unkept_weights
from workflow_scripts.experiment.working_folder import (
    lock_working_folder,
    cancel_jobs,
    remove_stale_locks,
    require_slurm,
)

# --configfile replaces config.yaml, the quick start.
if not workflow.overwrite_configfiles and not IS_MODULE:

    configfile: f"{HERE}/config.yaml"


try:
    if IS_MODULE:
        check_module(has_configuration=workflow.modifier.skip_configfile)
    CONFIGURATION = load(config)
    # In rules, without a module's prefix: Snakemake prepends it.
    PATHS, RESULTS = Paths.of(CONFIGURATION), CONFIGURATION.results
    CONFIGURATION = with_prefix(CONFIGURATION, workflow.modifier.path_modifier)
    check_writable(Path(CONFIGURATION.resources), Path(CONFIGURATION.results))
    if workflow.is_main_process:
        check_peft_blocks(CONFIGURATION)
except UserError as error:
    raise WorkflowError(str(error)) from None

if CONSOLE:
    CONSOLE.configuration = CONFIGURATION
GRID = Grid(CONFIGURATION)

VARIABLES = step_variables(
    Path(HERE),
    CONFIGURATION.resources,
    CONFIGURATION.results,
    GRID.dropped_methods(),
    OWN_ENVIRONMENTS,
    GRID.micro_batches(),
    CONFIGURATION.scratch,
)
SET = ""  # the start of every command
if IS_MODULE:
    SET = exports(workflow.modifier.namespace, VARIABLES, OWN_ENVIRONMENTS)
else:
    prepare(VARIABLES)
if DeploymentMethod.APPTAINER in DEPLOYMENT:
    try:
        check_image(image(Path(HERE)))
        show_host(Path(HERE), CONFIGURATION, config)
    except UserError as error:
        raise WorkflowError(str(error)) from None
keep_names(workflow.resource_settings.default_resources, workflow.resource_settings.overwrite_resources)
if workflow.is_main_process:
    if not IS_MODULE:
        remove_stale_locks(Path(".snakemake"))
    rerun_outdated(workflow, DAG, CONFIGURATION)


# Snakemake ignores these two in a module.
onstart:
    share_one_timer(workflow.scheduler)
    try:
        lock_working_folder(Path(".snakemake"))
        if workflow.executor_plugin.name == "slurm":
            require_slurm()
        cancel_jobs(Path.cwd())
        if workflow.executor_plugin.name == "slurm":
            from workflow_scripts.console.slurm import take_over as wait_for_slurm

            executor = wait_for_slurm(workflow.scheduler._executor)
            if CONSOLE:
                CONSOLE.reasons = executor.reasons
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if CONSOLE:
        CONSOLE.begin()


onsuccess:
    if workflow.is_main_process:
        delete_unkept_weights(CONFIGURATION)
    report = Path(CONFIGURATION.results, REPORT)
    if workflow.is_main_process and not CONSOLE and report.is_file():
        print(f"The report: {report.absolute()}", file=sys.stderr)


# Only then: Snakemake rejects some image names even if it does not use the image.
if DeploymentMethod.APPTAINER in DEPLOYMENT:

    container: image(Path(HERE))


wildcard_constraints:
    encoder="|".join(map(str, CONFIGURATION.encoders)),
    task="|".join(CONFIGURATION.tasks),
    arm=r"[a-z0-9_]+(-\d+)?",
    repository="|".join(CONFIGURATION.revisions()) or "none",
    language="[A-Za-z0-9_-]+",
    languages=r"[A-Za-z0-9_+-]+",
    source=r"[A-Za-z0-9_+-]+",
    model=r"untuned|[A-Za-z0-9_]+/[A-Za-z0-9_+-]+/[a-z0-9_]+(-\d+)?/seed-\d+",
    split="train|validation|test",
    seed=r"\d+",
    group=r"[0-9a-f.e+-]+",


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/tokenise.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/analyse.smk"
include: "rules/report.smk"
include: "rules/publish.smk"


# The default target: the first rule of this file itself.
rule all:
    input:
        rules.render.output,
