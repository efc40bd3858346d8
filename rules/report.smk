# The report: a long table of scores, a table of runs, differences, examples, and the page with the paper's tables.


TEMPLATES = Path(HERE, "report")
TABLES = f"{RESULTS}/tables"
OTHER_GRIDS = [not_moved(f"{folder}/{name}") for folder in CONFIGURATION.report.others for name in OF_OTHER_GRIDS]


rule collect:
    input:
        scores=[file for _, _, file in GRID.seed_runs(PATHS, "scores.csv")],
        seed_runs=[file for _, _, file in GRID.seed_runs(PATHS, "run.json")],
        calibrations=[file for _, _, file in GRID.seed_runs(PATHS, "calibration.csv")],
        logs=[file for _, _, file in GRID.seed_runs(PATHS, "log.jsonl")],
        shots=[file for name in ("scores.csv", "run.json") for _, _, file in GRID.shot_runs(PATHS, name)],
        outside=[file for _, _, file in GRID.outside_runs(PATHS, "scores.csv")],
        imported=[record for _, _, record in GRID.imported(PATHS)],
        searches=[record for arm in GRID.arms() for record in GRID.searches(arm, PATHS)],
        selected=[PATHS.selected(*arm.place) for arm in GRID.arms()],
        encoders=[PATHS.encoder(encoder) for encoder in CONFIGURATION.encoders],
        corpora=[PATHS.corpus(*part) for part in GRID.corpora()],
        tokens=[PATHS.tokens(*part) for part in GRID.tokens()],
        ceilings=[file for _, _, file in GRID.bounded(PATHS)],
        parallel=[PATHS.parallel(task) for task in GRID.parallel_tasks()],
        others=OTHER_GRIDS,
    output:
        scores=f"{RESULTS}/scores.csv",
        runs=f"{RESULTS}/runs.csv",
        shots=f"{RESULTS}/shots.csv",
        calibration=f"{RESULTS}/calibration.csv",
        curves=f"{RESULTS}/curves.parquet",
        results=f"{RESULTS}/results.parquet",
        oracle=f"{RESULTS}/oracle.csv",
        provenance=f"{RESULTS}/provenance.json",
    log:
        "logs/collect.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_collection(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.collect --settings {params.cfg:q} --others {input.others:q}"
        " --scores {output.scores:q} --runs {output.runs:q} --shots {output.shots:q}"
        " --calibration {output.calibration:q} --curves {output.curves:q} --results {output.results:q}"
        " --oracle {output.oracle:q} --provenance {output.provenance:q} --log {log:q}"


rule compare:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        units=[file for runs in (GRID.seed_runs, GRID.outside_runs) for _, _, file in runs(PATHS, "units.parquet")],
    output:
        differences=f"{RESULTS}/differences.csv",
        sources=f"{RESULTS}/source_differences.csv",
        encoders=f"{RESULTS}/encoder_differences.csv",
        ranks=f"{RESULTS}/ranks.csv",
    log:
        "logs/compare.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_comparison(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.compare --settings {params.cfg:q} --scores {input.scores:q} --runs {input.runs:q}"
        " --differences {output.differences:q} --sources {output.sources:q} --encoders {output.encoders:q}"
        " --ranks {output.ranks:q} --log {log:q}"


rule exemplify:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        predictions=[
            PATHS.predictions(*arm.place, CONFIGURATION.seeds[0], languages_name(languages))
            for arm in GRID.arms()
            for languages in GRID.language_groups(arm.task)
        ],
        imported=[record for _, _, record in GRID.imported(PATHS)],
        rows=[PATHS.corpus(*part) for part in GRID.corpora() if part[2] == "test"],
    output:
        f"{RESULTS}/examples.json",
    log:
        "logs/exemplify.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_examples(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.exemplify --settings {params.cfg:q} --scores {input.scores:q} --runs {input.runs:q}"
        " --examples {output:q} --log {log:q}"


rule explain:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        encoders=[PATHS.encoder(encoder) for encoder in CONFIGURATION.encoders],
        tokens=[PATHS.tokens(*part) for part in GRID.tokens() if part[3:] == ("test", "head")],
        rows=[PATHS.corpus(*part) for part in GRID.corpora() if part[2] == "test"],
    output:
        distances=f"{RESULTS}/distances.csv",
        explained=f"{RESULTS}/explained.csv",
    log:
        "logs/explain.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_explanation(CONFIGURATION)),
    shell:
        f"{SET}"
        "python -m workflow_scripts.explain --settings {params.cfg:q} --scores {input.scores:q} --runs {input.runs:q}"
        " --distances {output.distances:q} --explained {output.explained:q} --log {log:q}"


rule render:
    input:
        scores=rules.collect.output.scores,
        runs=rules.collect.output.runs,
        shots=rules.collect.output.shots,
        calibration=rules.collect.output.calibration,
        curves=rules.collect.output.curves,
        oracle=rules.collect.output.oracle,
        provenance=rules.collect.output.provenance,
        differences=rules.compare.output.differences,
        source_differences=rules.compare.output.sources,
        encoder_differences=rules.compare.output.encoders,
        ranks=rules.compare.output.ranks,
        examples=rules.exemplify.output,
        distances=rules.explain.output.distances,
        explained=rules.explain.output.explained,
        alignment=rules.gather.output.alignment,
        projections=rules.gather.output.projections,
        boundaries=rules.gather.output.boundaries,
        samples=rules.gather.output.samples,
        published=f"{HERE}/report/published.csv",
        template=f"{HERE}/report/template.html.j2",
        parts=[str(file) for suffix in ("j2", "css", "js", "csv") for file in sorted(TEMPLATES.rglob(f"*.{suffix}"))],
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
        summary=f"{RESULTS}/summary.txt",
        # One by one: Snakemake would delete a whole folder before the job, with the user's files in it.
        csv=report(
            [f"{TABLES}/{name}.csv" for name in table_names(CONFIGURATION)],
            caption="../report/tables.rst",
            category="Tables",
        ),
        tex=[f"{TABLES}/{name}.tex" for name in table_names(CONFIGURATION)],
    log:
        "logs/render.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        cfg=lambda wildcards: settings.as_text(settings.of_page(CONFIGURATION)),
        tables=lambda wildcards, output: os.path.dirname(output.csv[0]),
        templates=lambda wildcards, input: os.path.dirname(input.template),
    shell:
        f"{SET}"
        "python -m workflow_scripts.render --settings {params.cfg:q} --scores {input.scores:q} --runs {input.runs:q}"
        " --shots {input.shots:q} --calibration {input.calibration:q} --curves {input.curves:q}"
        " --oracle {input.oracle:q}"
        " --provenance {input.provenance:q} --differences {input.differences:q}"
        " --source-differences {input.source_differences:q}"
        " --encoder-differences {input.encoder_differences:q} --ranks {input.ranks:q} --alignment {input.alignment:q}"
        " --projections {input.projections:q} --boundaries {input.boundaries:q} --samples {input.samples:q}"
        " --examples {input.examples:q} --distances {input.distances:q} --explained {input.explained:q}"
        " --published {input.published:q} --templates {params.templates:q}"
        " --output {output.page:q} --summary {output.summary:q} --tables {params.tables:q} --log {log:q}"
