# What several rules share.

SEARCH_SEED = CONFIGURATION.search.seed


def training_settings(wildcards, seed):
    """The settings of a run; its learning rate comes by path or from selected.json."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.arm)
    return settings.as_text(settings.of_training(CONFIGURATION, arm, int(seed)))


def candidates(wildcards, file):
    """The given file of every run of an arm's search; none when there is a single candidate."""
    arm = parse_arm(wildcards.encoder, wildcards.task, wildcards.arm)
    if not GRID.is_searched(arm):
        return []
    return [
        PATHS.search(arm.encoder, arm.task, arm.name, learning_rate_name(rate), file)
        for rate in GRID.learning_rates(arm)
    ]


def finished_candidates(wildcards):
    """The weights of the search's runs where one of them is the seed run: it is linked and not trained again."""
    return candidates(wildcards, "weights.safetensors") if int(wildcards.seed) == SEARCH_SEED else []


ENGLISH = dict(
    encoder=PATHS.encoder("{encoder}"),
    train=PATHS.tokens("{encoder}", "{task}", "en", "train"),
    validation=PATHS.tokens("{encoder}", "{task}", "en", "validation"),
    rows=PATHS.corpus("{task}", "en", "validation"),
)

TRAIN = (
    "HF_HUB_OFFLINE=1 python -m workflow_scripts.train --settings {params.cfg:q} --encoder {input.encoder:q}"
    " --train {input.train:q} --validation {input.validation:q} --validation-rows {input.rows:q}"
    " --run $(dirname {output.weights:q}) --log {log:q}"
)
