"""A killed Snakemake leaves nothing that has to be removed by hand."""

import shutil
import signal
import subprocess
import time

from snakemake_runs import ROOT, SNAKEMAKE


def test_the_profile_for_slurm_is_refused_where_there_is_no_slurm(tmp_path, tiny_encoder):
    """Snakemake itself waits forever for the jobs that it could not submit."""
    configuration = tmp_path / "grid.yaml"
    configuration.write_text(
        f"encoders: {{tiny: {{source: folder, path: {tiny_encoder}}}}}\nmethods: {{fine_tuning: {{}}}}\n"
        "corpora: {source: mini}\ntasks: {pawsx: {languages: [en, de]}}\n"
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("which", "bash", "sh"):
        (programs / name).symlink_to(shutil.which(name))
    words = [SNAKEMAKE, "--profile", "slurm", "--directory", str(tmp_path), "--configfile", str(configuration)]
    outcome = subprocess.run(words, cwd=ROOT, env={"PATH": str(programs)}, capture_output=True, text=True, timeout=100)
    assert outcome.returncode == 1
    assert "sbatch was not found: use --profile slurm on a login node of a SLURM cluster" in outcome.stderr
    assert not (tmp_path / "resources").exists()


def test_a_second_snakemake_is_refused_though_it_writes_other_files(tmp_path, tiny_encoder):
    """Snakemake's own lock lets it pass: the two grids share no file."""
    words = {}
    for task in ("pawsx", "xnli"):
        configuration = tmp_path / f"{task}.yaml"
        configuration.write_text(
            f"encoders: {{{task}: {{source: folder, path: {tiny_encoder}}}}}\nmethods: {{fine_tuning: {{}}}}\n"
            f"resources: {task}\nresults: {task}\ncorpora: {{source: mini}}\n"
            f"tasks: {{{task}: {{languages: [en, de]}}}}\n"
        )
        words[task] = [SNAKEMAKE, "--cores", "1", "--directory", str(tmp_path / "work"), "--until", "fetch_corpus"]
        words[task] += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(configuration)]
    first = subprocess.Popen(words["pawsx"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not list(tmp_path.glob("work/pawsx/corpora/pawsx/*/*.parquet")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)
    second = subprocess.run(words["xnli"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    planned = subprocess.run([*words["xnli"], "--dry-run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first.send_signal(signal.SIGCONT)
    output = first.communicate()[0].decode()
    assert first.returncode == 0, output
    assert second.returncode == 1
    assert f"another Snakemake is running in {tmp_path / 'work'}: wait until it ends" in second.stdout
    assert planned.returncode == 0, planned.stdout
    assert not list(tmp_path.glob("work/xnli/*"))


def test_after_kill_9_the_same_command_goes_on_with_no_word_about_a_lock(tmp_path, tiny_encoder):
    """With the profile for workstations, on real jobs."""
    configuration = tmp_path / "grid.yaml"
    configuration.write_text(
        f"encoders: {{tiny: {{source: folder, path: {tiny_encoder}}}}}\nmethods: {{fine_tuning: {{}}}}\n"
        "corpora: {source: mini}\ntasks: {pawsx: {languages: [en, de]}}\n"
    )
    words = [SNAKEMAKE, "--profile", "workstation", "--directory", str(tmp_path / "work"), "--until", "fetch_corpus"]
    words += ["--configfile", str(configuration)]
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not list(tmp_path.glob("work/.snakemake/locks/*.lock")):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.communicate()
    again = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert again.returncode == 0, again.stdout
    assert len(list(tmp_path.glob("work/resources/corpora/pawsx/*/*.parquet"))) == 4
