# Analysis: vectors of parallel texts in every model that was tuned on sentence pairs.


ANALYSED_TASK = GRID.analysed_task()
ANALYSED = list(GRID.analysed_models())
PROJECTED = list(GRID.analysed_models(seeds=1))


rule represent:
    input:
        encoder=PATHS.encoder("{encoder}"),
        selected=winner_of_model,
        weights=run_file("weights.safetensors"),
        record=run_file("run.json"),
        tokens=lambda wildcards: [
            PATHS.tokens(wildcards.encoder, ANALYSED_TASK, language, "test")
            for language in GRID.group(ANALYSED_TASK, wildcards.languages)
        ],
        rows=lambda wildcards: [
            PATHS.corpus(ANALYSED_TASK, language, "test")
            for language in GRID.group(ANALYSED_TASK, wildcards.languages)
        ],
        reference=lambda wildcards: PATHS.corpus(ANALYSED_TASK, GRID.analysed_languages()[0], "test"),
    output:
        PATHS.vectors("{encoder}", "{model}", "{languages}"),
    log:
        "logs/represent/{encoder}/{model}/{languages}.log",
    benchmark:
        "logs/benchmarks/represent/{encoder}/{model}/{languages}.tsv"
    conda:
        "../envs/gpu.yaml"
    threads: CONFIGURATION.threads
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_representation(CONFIGURATION, wildcards.model, GRID.group(ANALYSED_TASK, wildcards.languages))
        ),
    shell:
        f"{SET}"
        "HF_HUB_OFFLINE=1 python -m workflow_scripts.represent --settings {params.cfg:q} --encoder {input.encoder:q}"
        " --run {input.record:q} --tokens {input.tokens:q} --rows {input.rows:q} --reference {input.reference:q}"
        " --record {output:q} --log {log:q}"


rule align:
    input:
        selected=winner_of_model,
        vectors=lambda wildcards: vectors_of(wildcards.encoder, wildcards.model),
        untuned=lambda wildcards: vectors_of(wildcards.encoder, UNTUNED),
    output:
        PATHS.analysis("{encoder}", "{model}", "alignment.csv"),
    log:
        "logs/align/{encoder}/{model}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_alignment(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.align --settings {params.cfg:q} --vectors {input.vectors:q}"
        " --untuned {input.untuned:q} --alignment {output:q} --log {log:q}"


rule project:
    input:
        selected=winner_of_model,
        vectors=lambda wildcards: vectors_of(wildcards.encoder, wildcards.model),
    output:
        points=PATHS.analysis("{encoder}", "{model}", "points.csv"),
        boundaries=PATHS.analysis("{encoder}", "{model}", "boundaries.csv"),
    log:
        "logs/project/{encoder}/{model}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_projection(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.project --settings {params.cfg:q} --vectors {input.vectors:q} --points {output.points:q}"
        " --boundaries {output.boundaries:q} --log {log:q}"


rule gather:
    input:
        alignments=[PATHS.analysis(model.encoder, model.name, "alignment.csv") for model in ANALYSED],
        points=[PATHS.analysis(model.encoder, model.name, "points.csv") for model in PROJECTED],
        lines=[PATHS.analysis(model.encoder, model.name, "boundaries.csv") for model in PROJECTED],
        vectors=vectors_of(next(iter(CONFIGURATION.encoders)), UNTUNED),
    output:
        alignment=f"{RESULTS}/alignment.csv",
        projections=f"{RESULTS}/projections.csv",
        boundaries=f"{RESULTS}/boundaries.csv",
        samples=f"{RESULTS}/samples.json",
    log:
        "logs/gather.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_gathering(CONFIGURATION)),
        results=lambda wildcards: CONFIGURATION.results,
    shell:
        f"{SET}"
        "python -m workflow_scripts.gather --settings {params.cfg:q} --results {params.results:q} --vectors {input.vectors:q}"
        " --alignment {output.alignment:q} --projections {output.projections:q} --boundaries {output.boundaries:q}"
        " --samples {output.samples:q} --log {log:q}"
