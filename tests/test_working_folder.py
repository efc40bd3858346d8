"""One Snakemake at a time in a working folder; one that was killed leaves nothing that a person has to take away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake_runs import ROOT, SNAKEMAKE

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.working_folder import HELD, LOCK, jobs_of, take_over

HOLDER = """
import sys, time
from pathlib import Path
from workflow_scripts.experiment.working_folder import take_over
take_over(Path(sys.argv[1]))
print("holds", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def released():
    yield
    while HELD:
        HELD.pop().close()


def test_a_second_snakemake_is_refused_until_the_first_is_gone_however_it_went(tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout.readline() == b"holds\n"
            with pytest.raises(
                UserError, match=r"another Snakemake works in .*: wait for it, or name another --directory"
            ):
                take_over(tmp_path)
        finally:
            first.send_signal(signal.SIGKILL)
    take_over(tmp_path)


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """A `squeue` that lists two jobs of Snakemake in a working folder, one elsewhere, and one of another kind."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    lines = [
        f"7|rule_train_x|{folder}",
        f"8|rule_tokens_tokenise|{folder}",
        "9|rule_train_x|/else",
        f"10|mine|{folder}",
    ]
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return folder


def test_only_this_folders_jobs_of_snakemake_are_taken_for_left_over(queue, tmp_path):
    assert jobs_of(queue) == ["7", "8"]
    assert jobs_of(tmp_path) == []


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
    while not (tmp_path / "work" / LOCK).exists():
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.communicate()
    again = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert again.returncode == 0, again.stdout
    assert len(list(tmp_path.glob("work/resources/corpora/pawsx/*/*.parquet"))) == 4
