# Training: every candidate learning rate with the search's seed, the winner on the English validation set, then one
# run a seed. The winner's run is kept as the run of the search's seed.

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
        f"{PATHS.search(arm.encoder, arm.task, arm.name, learning_rate_name(rate))}/{file}"
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


rule search:
    input:
        **ENGLISH,
    output:
        weights=PATHS.search("{encoder}", "{task}", "{arm}", "{learning_rate}") + "/weights.safetensors",
        record=PATHS.search("{encoder}", "{task}", "{arm}", "{learning_rate}") + "/run.json",
        steps=PATHS.search("{encoder}", "{task}", "{arm}", "{learning_rate}") + "/log.jsonl",
    log:
        "logs/search/{encoder}/{task}/{arm}/lr-{learning_rate}.log",
    benchmark:
        "logs/benchmarks/search/{encoder}/{task}/{arm}/lr-{learning_rate}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        cfg=lambda wildcards: training_settings(wildcards, SEARCH_SEED),
    shell:
        TRAIN + " --learning-rate {wildcards.learning_rate}"


rule select:
    input:
        lambda wildcards: candidates(wildcards, "run.json"),
    output:
        PATHS.selected("{encoder}", "{task}", "{arm}"),
    log:
        "logs/select/{encoder}/{task}/{arm}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_selection(CONFIGURATION, parse_arm(wildcards.encoder, wildcards.task, wildcards.arm))
        ),
    shell:
        "python -m workflow_scripts.select --settings {params.cfg:q} --runs {input:q} --selected {output:q} --log {log:q}"


rule train:
    input:
        **ENGLISH,
        selected=PATHS.selected("{encoder}", "{task}", "{arm}"),
        candidates=finished_candidates,
    output:
        weights=PATHS.run("{encoder}", "{task}", "{arm}", "{seed}") + "/weights.safetensors",
        record=PATHS.run("{encoder}", "{task}", "{arm}", "{seed}") + "/run.json",
        steps=PATHS.run("{encoder}", "{task}", "{arm}", "{seed}") + "/log.jsonl",
    log:
        "logs/train/{encoder}/{task}/{arm}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/train/{encoder}/{task}/{arm}/seed-{seed}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        cfg=lambda wildcards: training_settings(wildcards, wildcards.seed),
    shell:
        TRAIN + " --selected {input.selected:q} --candidates {input.candidates:q}"
