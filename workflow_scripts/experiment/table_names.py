"""The tables in a configuration's report: the rule declares them and the step writes them by these names."""

from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.experiment.sections import HubEncoder
from workflow_scripts.experiment.tasks import TaskDefinition

# The paper's checkpoint (section 3.2) on the Hugging Face Hub, by its current and its former name.
REPOSITORIES = ("FacebookAI/xlm-roberta-large", "xlm-roberta-large")

AVERAGES, GAPS = "table_1_averages", "table_2_transfer_gaps"
BEFORE_AFTER, TRANSLATIONS = "table_3_before_and_after", "table_4_translations"
LENGTHS, SEARCH, COST, AUDIT = "prompt_lengths", "learning_rate_search", "cost", "published_audit"
BESIDE, CEILINGS = "beside_the_paper", "ceilings"


def table_names(configuration: Configuration) -> list[str]:
    """The names of the files, without `.csv` and `.tex`."""
    names = [
        AVERAGES,
        GAPS,
        *(task_table(name, section.definition) for name, section in configuration.tasks.items()),
        LENGTHS,
        SEARCH,
        COST,
        AUDIT,
    ]
    if Grid(configuration).analysed_languages():
        names += [BEFORE_AFTER, TRANSLATIONS]
    if any(section.definition.facts.BOUNDED for section in configuration.tasks.values()):
        names.append(CEILINGS)
    encoders = configuration.encoders.values()
    papers = any(isinstance(encoder, HubEncoder) and encoder.repository in REPOSITORIES for encoder in encoders)
    if papers and configuration.corpora.source != "mini":
        names.append(BESIDE)  # empty if the corpora are not the paper's
    return names


def task_table(task: str, definition: TaskDefinition) -> str:
    """The name of the table of a task's scores by language, with the paper's number if it has one: `table_5_xnli`."""
    number = definition.paper_table
    return f"table_{number}_{task}" if number else f"table_{task}"
