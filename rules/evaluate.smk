# Evaluation: every tuned model predicts in every language without further training.


# Before the first training, because of its priority and that of fetch_corpus. No training has it as an input, since an
# added language would retrain every model.
rule check_parallel:
    input:
        lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test") for language in GRID.languages(wildcards.task)
        ],
    output:
        PATHS.parallel("{task}"),
    log:
        "logs/check_parallel/{task}.log",
    priority: CHECKED_FIRST
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_parallel(CONFIGURATION, wildcards.task)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.check_parallel --settings {params.cfg:q} --rows {input:q} --checked {output:q}"
        " --log {log:q}"


rule predict:
    input:
        encoder=PATHS.encoder("{encoder}"),
        selected=winner,
        weights=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "weights.safetensors"),
        record=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "run.json"),
        tokens=lambda wildcards: [
            tokens_of(wildcards, language, "test") for language in GRID.group(wildcards.task, wildcards.languages)
        ],
        rows=lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test")
            for language in GRID.group(wildcards.task, wildcards.languages)
        ],
    output:
        PATHS.predictions("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "{languages}"),
    log:
        "logs/predict/{encoder}/{task}/{source}/{arm}/seed-{seed}/{languages}.log",
    benchmark:
        "logs/benchmarks/predict/{encoder}/{task}/{source}/{arm}/seed-{seed}/{languages}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_prediction(
                CONFIGURATION,
                wildcards.task,
                GRID.group(wildcards.task, wildcards.languages),
                answers_of(wildcards),
            )
        ),
    shell:
        f"{SET}"
        "HF_HUB_OFFLINE=1 python -m workflow_scripts.predict --settings {params.cfg:q} --encoder {input.encoder:q}"
        " --run {input.record:q} --tokens {input.tokens:q} --rows {input.rows:q}"
        " --record {output:q} --log {log:q}"


rule score:
    input:
        selected=winner,
        predictions=lambda wildcards: [
            PATHS.predictions(
                wildcards.encoder,
                wildcards.task,
                wildcards.source,
                wildcards.arm,
                wildcards.seed,
                languages_name(languages),
            )
            for languages in GRID.tested_groups(wildcards.task, wildcards.source)
        ],
        rows=lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test")
            for language in GRID.tested(wildcards.task, wildcards.source)
        ],
    output:
        scores=PATHS.scores("{encoder}", "{task}", "{source}", "{arm}", "{seed}"),
        units=PATHS.units("{encoder}", "{task}", "{source}", "{arm}", "{seed}"),
        calibration=PATHS.calibration("{encoder}", "{task}", "{source}", "{arm}", "{seed}"),
    log:
        "logs/score/{encoder}/{task}/{source}/{arm}/seed-{seed}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_scores(CONFIGURATION, wildcards.task, wildcards.source)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.score --settings {params.cfg:q} --predictions {input.predictions:q}"
        " --rows {input.rows:q} --scores {output.scores:q} --units {output.units:q}"
        " --calibration {output.calibration:q} --log {log:q}"


# Predictions that were made elsewhere, which the configuration names in `arms`.
rule import_predictions:
    input:
        rows=lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test") for language in GRID.tested_by(outside_arm(wildcards))
        ],
    output:
        PATHS.predictions(OUTSIDE, "{task}", "{source}", "{arm}", "{seed}", "{languages}"),
    log:
        "logs/import_predictions/{task}/{source}/{arm}/seed-{seed}/{languages}.log",
    priority: CHECKED_FIRST
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_import(CONFIGURATION, outside_arm(wildcards), int(wildcards.seed))
        ),
    shell:
        f"{SET}"
        "python -m workflow_scripts.import_predictions --settings {params.cfg:q} --rows {input.rows:q}"
        " --record {output:q} --log {log:q}"


use rule score as score_outside with:
    input:
        predictions=lambda wildcards: PATHS.predictions(
            *outside_arm(wildcards).place, wildcards.seed, languages_name(GRID.tested_by(outside_arm(wildcards)))
        ),
        rows=lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test") for language in GRID.tested_by(outside_arm(wildcards))
        ],
    output:
        scores=PATHS.scores(OUTSIDE, "{task}", "{source}", "{arm}", "{seed}"),
        units=PATHS.units(OUTSIDE, "{task}", "{source}", "{arm}", "{seed}"),
        calibration=PATHS.calibration(OUTSIDE, "{task}", "{source}", "{arm}", "{seed}"),
    log:
        "logs/score_outside/{task}/{source}/{arm}/seed-{seed}.log",
    localrule: True
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_outside_scores(CONFIGURATION, outside_arm(wildcards))),


rule bound:
    input:
        tokens=lambda wildcards: [
            PATHS.tokens(wildcards.encoder, wildcards.task, language, "test")
            for language in GRID.languages(wildcards.task)
        ],
        rows=lambda wildcards: [
            PATHS.corpus(wildcards.task, language, "test") for language in GRID.languages(wildcards.task)
        ],
    output:
        PATHS.ceilings("{encoder}", "{task}"),
    log:
        "logs/bound/{encoder}/{task}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_bounds(CONFIGURATION, wildcards.task)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.bound --settings {params.cfg:q} --tokens {input.tokens:q} --rows {input.rows:q}"
        " --ceilings {output:q} --log {log:q}"
