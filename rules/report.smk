# The report: one long score table, one table of runs, and the page with the paper's tables.


localrules:
    collect,
    render,


TEMPLATES = Path(HERE, "report")


rule collect:
    input:
        scores=[file for _, _, file in GRID.seed_runs(PATHS, "scores.csv")],
        seed_runs=[file for _, _, file in GRID.seed_runs(PATHS, "run.json")],
        searches=[record for arm in GRID.arms() for record in GRID.searches(arm, PATHS)],
        selected=[PATHS.selected(arm.encoder, arm.task, arm.name) for arm in GRID.arms()],
        encoders=[PATHS.encoder(encoder) for encoder in CONFIGURATION.encoders],
        corpora=[PATHS.corpus(*part) for part in GRID.corpora()],
    output:
        scores=f"{CONFIGURATION.results}/scores.csv",
        runs=f"{CONFIGURATION.results}/runs.csv",
        provenance=f"{CONFIGURATION.results}/provenance.json",
    log:
        "logs/collect.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=settings.as_text(settings.of_collection(CONFIGURATION)),
    shell:
        "python -m workflow_scripts.collect --settings {params.cfg:q} --scores {output.scores:q} --runs {output.runs:q}"
        " --provenance {output.provenance:q} --log {log:q}"


rule render:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        provenance=rules.collect.output.provenance,
        template=f"{HERE}/report/template.html.j2",
        parts=[str(file) for suffix in ("j2", "css", "js", "csv") for file in sorted(TEMPLATES.rglob(f"*.{suffix}"))],
    output:
        page=report(
            f"{CONFIGURATION.results}/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
        tables=report(
            directory(f"{CONFIGURATION.results}/tables"),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        "logs/render.log",
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=settings.as_text(settings.of_page()),
        templates=lambda wildcards, input: os.path.dirname(input.template),
    shell:
        "python -m workflow_scripts.render --settings {params.cfg:q} --scores {input.scores:q} --runs {input.runs:q}"
        " --provenance {input.provenance:q} --templates {params.templates:q} --output {output.page:q}"
        " --tables {output.tables:q} --log {log:q}"
