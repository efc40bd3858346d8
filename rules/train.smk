# Training. First the search: one run for each candidate, with the search's seed. Then the winner on the validation set
# is selected. Then there is one run for each seed; the search's own run of the winner is reused.
# `exec` makes SIGTERM reach Python and not a shell.


rule search:
    input:
        **TRAINING_FILES,
    output:
        PATHS.search("{encoder}", "{task}", "{source}", "{arm}", "{group}"),
    log:
        "logs/search/{encoder}/{task}/{source}/{arm}/{group}.log",
    benchmark:
        "logs/benchmarks/search/{encoder}/{task}/{source}/{arm}/{group}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        cfg=search_settings,
    shell:
        f"{SET}" "HF_HUB_OFFLINE=1 exec python -m workflow_scripts.search --record {output:q}" f"{TRAINING_OPTIONS}"


checkpoint select:
    input:
        searches,
    output:
        PATHS.selected("{encoder}", "{task}", "{source}", "{arm}"),
    log:
        "logs/select/{encoder}/{task}/{source}/{arm}.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_selection(
                CONFIGURATION, parse_arm(wildcards.encoder, wildcards.task, wildcards.source, wildcards.arm)
            )
        ),
    shell:
        f"{SET}"
        "python -m workflow_scripts.select --settings {params.cfg:q} --searches {input:q} --selected {output:q} --log {log:q}"


rule train:
    input:
        **TRAINING_FILES,
        shots=shots_tokens,
        selected=winner,
        searches=winning_search,
    output:
        weights=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "weights.safetensors"),
        record=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "run.json"),
        steps=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "log.jsonl"),
    log:
        "logs/train/{encoder}/{task}/{source}/{arm}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/train/{encoder}/{task}/{source}/{arm}/seed-{seed}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        cfg=lambda wildcards: training_settings(wildcards, wildcards.seed),
    shell:
        f"{SET}"
        "HF_HUB_OFFLINE=1 exec python -m workflow_scripts.train --selected {input.selected:q} --searches {input.searches:q}"
        " --shots {input.shots:q} --run {output.record:q}"
        f"{TRAINING_OPTIONS}"


# If weights are not kept, Snakemake deletes them as soon as no planned job needs them.
if GRID.dropped_methods():

    use rule train as train_and_drop with:
        output:
            weights=temp(PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "weights.safetensors")),
            record=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "run.json"),
            steps=PATHS.run("{encoder}", "{task}", "{source}", "{arm}", "{seed}", "log.jsonl"),
        wildcard_constraints:
            arm=f"({'|'.join(GRID.dropped_methods())})(-\\d+)?",

    ruleorder: train_and_drop > train
