"""The tables in a configuration's report: the rule declares them and the step writes them by these names."""

from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.experiment.sections import HubEncoder

# The paper's checkpoint (section 3.2) on the Hugging Face Hub, by its current and its former name.
REPOSITORIES = ("FacebookAI/xlm-roberta-large", "xlm-roberta-large")

AVERAGES, GAPS = "table_1_averages", "table_2_transfer_gaps"
BEFORE_AFTER, TRANSLATIONS = "table_3_before_and_after", "table_4_translations"
LENGTHS, SEARCH, COST, AUDIT = "prompt_lengths", "learning_rate_search", "cost", "published_audit"
BESIDE, CEILINGS = "beside_the_paper", "ceilings"
SHOTS = "shots"
RANKING, EXPLAINED = "ranking", "explained"
ORACLE = "oracle"
CALIBRATION = "calibration"
ENCODERS = "encoder_by_encoder"
SOURCE_BY_TARGET, BEST_SOURCE = "source_by_target", "best_source"


def table_names(configuration: Configuration) -> list[str]:
    """The names of the files, without `.csv` and `.tex`."""
    names = [
        RANKING,
        AVERAGES,
        GAPS,
        *(task_table(name, section.definition.paper_table) for name, section in configuration.tasks.items()),
        LENGTHS,
        SEARCH,
        COST,
        AUDIT,
        EXPLAINED,
        CALIBRATION,
    ]
    if Grid(configuration).analysed_languages():
        names += [BEFORE_AFTER, TRANSLATIONS]
    if any(section.definition.facts.BOUNDED for section in configuration.tasks.values()):
        names.append(CEILINGS)
    if any(len(configuration.training_sources(task)) > 1 for task in configuration.tasks):
        names += [SOURCE_BY_TARGET, BEST_SOURCE]
    if len(configuration.encoders) > 1:
        names.append(ENCODERS)
    if any(any(configuration.shots_of_task(task)) for task in configuration.tasks):
        names.append(SHOTS)
    tasks = configuration.tasks
    if any(configuration.oracle_languages(task, one) for task in tasks for one in configuration.training_sources(task)):
        names.append(ORACLE)
    encoders = configuration.encoders.values()
    papers = any(isinstance(encoder, HubEncoder) and encoder.repository in REPOSITORIES for encoder in encoders)
    if papers and configuration.corpora.source != "mini":
        names.append(BESIDE)  # empty if the corpora are not the paper's
    return names


def task_table(task: str, number: int | None) -> str:
    """The name of the table of a task's scores by language, with the paper's number if it has one: `table_5_xnli`."""
    return f"table_{number}_{task}" if number else f"table_{task}"
