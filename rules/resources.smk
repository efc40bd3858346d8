# Encoders and corpora. These are the only rules that use the network: run them on a machine with network access.


rule fetch_encoder:
    output:
        PATHS.encoder("{encoder}"),
    log:
        "logs/fetch_encoder/{encoder}.log",
    benchmark:
        "logs/benchmarks/fetch_encoder/{encoder}.tsv"
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_encoder(CONFIGURATION, wildcards.encoder)),
    shell:
        f"{SET}"
        "HF_HUB_DISABLE_XET=1 python -m workflow_scripts.fetch_encoder --settings {params.cfg:q} --manifest {output:q} --log {log:q}"


rule pin_repository:
    output:
        PATHS.repository("{repository}"),
    log:
        "logs/pin_repository/{repository}.log",
    priority: FETCHED_FIRST
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_repository(CONFIGURATION, wildcards.repository)),
    shell:
        f"{SET}" "python -m workflow_scripts.pin_repository --settings {params.cfg:q} --record {output:q} --log {log:q}"


rule fetch_corpus:
    input:
        pinned=pinned_repository,
    output:
        PATHS.corpus("{task}", "{language}", "{split}"),
    log:
        "logs/fetch_corpus/{task}/{language}/{split}.log",
    priority: FETCHED_FIRST
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_corpus(CONFIGURATION, **wildcards)),
        downloads=lambda wildcards: CONFIGURATION.resources,
    shell:
        f"{SET}"
        "HF_HUB_DISABLE_XET=1 python -m workflow_scripts.fetch_corpus --settings {params.cfg:q} --pinned {input.pinned:q}"
        " --downloads {params.downloads:q} --rows {output:q} --log {log:q}"
