# The token cache: each corpus is tokenised once for each encoder, and every run reads it.


rule tokenise:
    input:
        encoder=PATHS.encoder("{encoder}"),
        rows=PATHS.corpus("{task}", "{language}", "{split}"),
    output:
        PATHS.tokens("{encoder}", "{task}", "{language}", "{split}"),
    log:
        "logs/tokenise/{encoder}/{task}/{language}/{split}.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_tokens(CONFIGURATION, wildcards.task, wildcards.split)),
    shell:
        f"{SET}"
        "HF_HUB_OFFLINE=1 python -m workflow_scripts.tokenise --settings {params.cfg:q} --encoder {input.encoder:q}"
        " --rows {input.rows:q} --tokens {output:q} --log {log:q}"


use rule tokenise as tokenise_for_words with:
    output:
        PATHS.tokens("{encoder}", "{task}", "{language}", "{split}", "words"),
    log:
        "logs/tokenise_for_words/{encoder}/{task}/{language}/{split}.log",
    params:
        cfg=lambda wildcards: settings.as_text(
            settings.of_tokens(CONFIGURATION, wildcards.task, wildcards.split, "words")
        ),
