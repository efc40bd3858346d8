# Encoders and corpora. The only rules that may use the network: run them where there is one.


localrules:
    fetch_encoder,
    fetch_corpus,


rule fetch_encoder:
    output:
        PATHS.encoder("{encoder}"),
    log:
        "logs/fetch_encoder/{encoder}.log",
    benchmark:
        "logs/benchmarks/fetch_encoder/{encoder}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_encoder(CONFIGURATION, wildcards.encoder)),
    shell:
        "python -m workflow_scripts.fetch_encoder --settings {params.cfg:q} --manifest {output:q} --log {log:q}"


rule fetch_corpus:
    output:
        PATHS.corpus("{task}", "{language}", "{split}"),
    log:
        "logs/fetch_corpus/{task}/{language}/{split}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_corpus(CONFIGURATION, **wildcards)),
    shell:
        "python -m workflow_scripts.fetch_corpus --settings {params.cfg:q} --rows {output:q} --log {log:q}"
