# What several rules share.

SEARCH_SEED = CONFIGURATION.search.seed


def training_settings(wildcards, seed, step="train"):
    """The settings of a run; its learning rate comes by path or from selected.json."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.arm)
    return settings.as_text(settings.of_training(CONFIGURATION, arm, int(seed), step))


def searches(wildcards):
    """The records of an arm's search; none when there is a single candidate."""
    return GRID.searches(parse_arm(wildcards.encoder, wildcards.task, wildcards.arm), PATHS)


def finished_searches(wildcards):
    """The records of the search where one of its runs is the seed run: it is linked and not trained again."""
    return searches(wildcards) if int(wildcards.seed) == SEARCH_SEED else []


def pinned_repository(wildcards):
    """The record of the repository that a corpus comes from; none where its source is not the hub."""
    repository = GRID.repository(wildcards.task, wildcards.split)
    return [PATHS.repository(repository)] if repository else []


def run_file(file):
    """A file of the run that is analysed; none of the untuned encoder."""

    def found(wildcards):
        if wildcards.model == UNTUNED:
            return []
        return PATHS.run(wildcards.encoder, *parse_model(wildcards.model), file)

    return found


def vectors_of(encoder, model):
    """The records of a model's vectors in all languages."""
    groups = GRID.language_groups(ANALYSED_TASK) if GRID.analysed_languages() else []
    return [PATHS.vectors(encoder, model, languages_name(group)) for group in groups]


ENGLISH = dict(
    encoder=PATHS.encoder("{encoder}"),
    train=PATHS.tokens("{encoder}", "{task}", "en", "train"),
    validation=PATHS.tokens("{encoder}", "{task}", "en", "validation"),
    rows=PATHS.corpus("{task}", "en", "validation"),
)

ON_ENGLISH = (
    " --settings {params.cfg:q} --encoder {input.encoder:q} --train {input.train:q} --validation {input.validation:q}"
    " --validation-rows {input.rows:q} --log {log:q}"
)
