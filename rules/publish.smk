# The export: for each task the model that transferred best, in a folder that standard libraries load.
#
# `rule all` does not include it: `snakemake export` does.


rule export:
    input:
        [PATHS.winner(task) for task in CONFIGURATION.tasks],
    localrule: True


rule export_winner:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        provenance=rules.collect.output.provenance,
        differences=rules.compare.output.differences,
        encoders=[PATHS.encoder(encoder) for encoder in CONFIGURATION.encoders],
    output:
        PATHS.winner("{task}"),
    log:
        "logs/export_winner/{task}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_winner(CONFIGURATION, wildcards.task)),
    shell:
        f"{SET}"
        "HF_HUB_OFFLINE=1 python -m workflow_scripts.export_winner --settings {params.cfg:q} --scores {input.scores:q}"
        " --runs {input.runs:q} --encoders {input.encoders:q} --record {output:q} --log {log:q}"
