# What several rules share.

SEARCH_SEED = CONFIGURATION.search.seed


def training_settings(wildcards, seed, step="train"):
    """The settings of a run; its learning rate comes by path or from selected.json."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.arm)
    return settings.as_text(settings.of_training(CONFIGURATION, arm, int(seed), step))


def searches(wildcards):
    """The records of an arm's search; none when there is a single candidate."""
    return GRID.searches(parse_arm(wildcards.encoder, wildcards.task, wildcards.arm), PATHS)


def winner(wildcards):
    """The record of the learning rate that won the search, once it is chosen.

    `select` is a checkpoint: after it Snakemake asks anew what is to be done, and where the winner stayed that is
    nothing. As a plain rule it would drag every seed run with it whenever the search grows. All that comes after it
    names it as an input, since Snakemake asks anew for the jobs that do and for no others.
    """
    return winner_of(wildcards.encoder, wildcards.task, wildcards.arm)


def winner_of(encoder, task, arm):
    return checkpoints.select.get(encoder=encoder, task=task, arm=arm).output[0]


def winning_search(wildcards):
    """The record of the winner's search where that run had this seed: it is linked and not trained again."""
    if int(wildcards.seed) != SEARCH_SEED:
        return []
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.arm)
    try:
        learning_rate = read_json(Path(winner(wildcards)))["learning_rate"]
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return [file for group, file in zip(GRID.search_groups(arm), searches(wildcards)) if learning_rate in group]


def pinned_repository(wildcards):
    """The record of the repository that a corpus comes from; none where its source is not the hub."""
    repository = GRID.repository(wildcards.task, wildcards.split)
    return [PATHS.repository(repository)] if repository else []


def winner_of_model(wildcards):
    """The `winner` of the model that is analysed; none of the untuned encoder."""
    if wildcards.model == UNTUNED:
        return []
    task, arm, _ = parse_model(wildcards.model)
    return winner_of(wildcards.encoder, task, arm)


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
