# Functions that several rules use.

SEARCH_SEED = CONFIGURATION.search.seed

# Priorities (the others have 0): wrong rows in any language are found before a training takes hours.
FETCHED_FIRST, CHECKED_FIRST = 1, 2


def not_moved(path):
    """A user's path, which the `prefix` of a module must not move."""
    return os.path.abspath(path) if IS_MODULE else path


def training_settings(wildcards, seed):
    """The settings of a run, without the learning rate and other searched values: those are in selected.json."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm)
    return settings.as_text(settings.of_training(CONFIGURATION, arm, int(seed)))


def search_settings(wildcards):
    """The settings of a job of the search, with its candidates."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm)
    return settings.as_text(settings.of_search(CONFIGURATION, arm, GRID.search_group(arm, wildcards.group)))


def searches(wildcards):
    """The records of an arm's search; none when there is only one candidate."""
    return GRID.searches(parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm), PATHS)


def winner(wildcards):
    """The record of the candidate that won the search, once it is selected.

    `select` is a checkpoint: after it Snakemake re-evaluates the jobs that depend on it, and if the winner is the
    same as before they need not run. If `select` were a plain rule, every added candidate would rerun all seeds.
    Every job after `select` has this input, because Snakemake re-evaluates only those.
    """
    return winner_of(wildcards.encoder, wildcards.task, base_source(wildcards.source), wildcards.arm)


def winner_of(encoder, task, source, arm):
    return checkpoints.select.get(encoder=encoder, task=task, source=source, arm=arm).output[0]


def winning_search(wildcards):
    """The record of the winner's search if it used this seed: `train` then links it and trains nothing."""
    if int(wildcards.seed) != SEARCH_SEED or shots_of(wildcards.source):
        return []
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm)
    try:
        values = read_json(Path(winner(wildcards)))
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return [
        file
        for passes, file in zip(GRID.search_groups(arm), searches(wildcards))
        if any(values in one for one in passes)
    ]


def pinned_repository(wildcards):
    """The record of the repository that a corpus comes from; none if its source is not the hub."""
    repository = GRID.repository(wildcards.task, wildcards.language, wildcards.split)
    return [PATHS.repository(repository)] if repository else []


def winner_of_model(wildcards):
    """The `winner` of the model that is analysed; none for the untuned encoder."""
    if wildcards.model == UNTUNED:
        return []
    task, source, arm, _ = parse_model(wildcards.model)
    return winner_of(wildcards.encoder, task, source, arm)


def run_file(file):
    """A file of the run that is analysed; none for the untuned encoder."""

    def found(wildcards):
        if wildcards.model == UNTUNED:
            return []
        return PATHS.run(wildcards.encoder, *parse_model(wildcards.model), file)

    return found


def vectors_of(encoder, model):
    """The records of a model's vectors in all languages."""
    groups = GRID.language_groups(GRID.analysed_task()) if GRID.analysed_languages() else []
    return [PATHS.vectors(encoder, model, languages_name(group)) for group in groups]


def answers_of(wildcards):
    """How the models of an arm answer."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm)
    return GRID.answers_of(arm.task, arm.method)


def tokens_of(wildcards, language, split):
    """The tokens that the models of an arm read."""
    return PATHS.tokens(wildcards.encoder, wildcards.task, language, split, answers_of(wildcards))


def tokens_in_source(split):
    """The tokens of the training languages."""
    return lambda wildcards: [tokens_of(wildcards, language, split) for language in source_languages(wildcards.source)]


def shots_tokens(wildcards):
    """The training tokens of the target language whose rows are added; none for zero-shot transfer."""
    shots = shots_of(wildcards.source)
    return [tokens_of(wildcards, shots[1], "train")] if shots else []


def outside_arm(wildcards):
    """The arm of predictions that were made elsewhere."""
    return parse_arm(OUTSIDE, wildcards.task, wildcards.source, wildcards.arm)


def oracle_languages(wildcards):
    """The other languages on whose validation sets every evaluation is scored; usually none."""
    return CONFIGURATION.oracle_languages(wildcards.task, wildcards.source)


TRAINING_FILES = dict(
    encoder=PATHS.encoder("{encoder}"),
    train=tokens_in_source("train"),
    validation=tokens_in_source("validation"),
    rows=lambda wildcards: [
        PATHS.corpus(wildcards.task, language, "validation") for language in source_languages(wildcards.source)
    ],
    oracle=lambda wildcards: [tokens_of(wildcards, language, "validation") for language in oracle_languages(wildcards)],
    oracle_rows=lambda wildcards: [
        PATHS.corpus(wildcards.task, language, "validation") for language in oracle_languages(wildcards)
    ],
)

TRAINING_OPTIONS = (
    " --settings {params.cfg:q} --encoder {input.encoder:q} --train {input.train:q} --validation {input.validation:q}"
    " --validation-rows {input.rows:q} --oracle {input.oracle:q} --oracle-rows {input.oracle_rows:q} --log {log:q}"
)
