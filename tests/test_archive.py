"""`make archive`: a finished grid as one file that explains and checks itself."""

import getpass
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT, Workplace

from workflow_scripts.console import archive
from workflow_scripts.console.anonymous import Anonymous
from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import load

SECRET = "made-up-secret-0123456789"


def make(grid: Workplace, target: Path, *words: str) -> None:
    """Archive a grid in this process."""
    configfile = target.parent / "given.yaml"
    configfile.write_text(f"# {grid.folder}\n{yaml.safe_dump(grid.configuration)}")
    command = ["--configfile", str(configfile), "--directory", str(grid.folder), "--to", str(target), *words]
    before = Path.cwd()
    try:
        archive.main(archive.parser().parse_args(command))
    finally:
        os.chdir(before)


def unpack(file: Path) -> Path:
    """The folder in an archive."""
    with tarfile.open(file) as tar:
        tar.extractall(file.parent, filter="data")
    return file.with_name(file.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def archived(finished_grid: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, and its unpacked folder beside it. Read only."""
    file = tmp_path_factory.mktemp("archive") / "grid.tar.gz"
    os.environ["MADE_UP_TOKEN"] = SECRET
    log = finished_grid.folder / "logs/collect.log"
    before = log.read_bytes()
    try:
        log.write_bytes(before + f"token {SECRET} in {finished_grid.folder}/x of hf_{'a' * 34}\n".encode())
        make(finished_grid, file)
    finally:
        del os.environ["MADE_UP_TOKEN"]
        log.write_bytes(before)
    unpack(file)
    return file


def folder_of(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".tar.gz"))


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run verify.sh, from elsewhere and with nothing but the system's programs."""
    command = ["sh", str(folder / "verify.sh")]
    return subprocess.run(command, cwd="/", env={"PATH": os.defpath}, capture_output=True, text=True)


def test_it_holds_what_a_reader_needs_and_neither_texts_nor_weights(finished_grid: Workplace, archived: Path):
    folder = folder_of(archived)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        *("README.md", ".zenodo.json", "CITATION.cff", "SHA256SUMS", "verify.sh", "config/resolved.yaml"),
        *("config/given-1-given.yaml", "results/report.html", "results/tables/table_1_averages.csv"),
        *("results/provenance.json", "logs/collect.log", "code/Snakefile", "code/envs/constraints.txt"),
        "resources/encoders/tiny/encoder.json",
    } <= names
    run = "results/tiny/pawsx/en/prompt_tuning-2/seed-13"
    assert {f"{run}/{name}" for name in ("run.json", "log.jsonl", "scores.csv", ".run.json.made.json")} <= names
    assert {f"{run}/predictions/{code}/{code}.parquet" for code in ("en", "de")} <= names
    in_search = {name for name in names if "/search/" in name}
    assert len([name for name in in_search if name.endswith("/run.json")]) == 2
    assert not [name for name in names if Path(name).name in ("weights.safetensors", "model.safetensors")]
    assert not [name for name in names if name.startswith("resources/corpora") and not name.endswith(".made.json")]
    assert (folder / "results/scores.csv").read_bytes() == (finished_grid.folder / "results/scores.csv").read_bytes()


def test_weights_and_texts_are_in_it_on_request(finished_grid: Workplace, tmp_path: Path):
    make(finished_grid, tmp_path / "all.tar.gz", "--weights", "--rows")
    with tarfile.open(tmp_path / "all.tar.gz") as tar:
        names = set(tar.getnames())
    assert "all/results/tiny/pawsx/en/prompt_tuning-2/seed-42/weights.safetensors" in names
    assert "all/resources/corpora/pawsx/de/test.parquet" in names
    assert any(name.startswith("all/resources/tokens/tiny/pawsx/de/test/") for name in names)


def test_it_verifies_itself_and_notices_changed_missing_and_added_files(archived: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(archived), folder)
    listed = len((folder / "SHA256SUMS").read_text().splitlines())
    good = verify(folder)
    assert (good.returncode, good.stdout) == (0, f"{listed} files are unchanged\n")
    scores = folder / "results/scores.csv"
    before = scores.read_bytes()
    scores.write_bytes(before.replace(b"0", b"1", 1))
    changed = verify(folder)
    assert changed.returncode == 1 and "results/scores.csv" in changed.stdout
    scores.unlink()
    assert verify(folder).returncode == 1
    scores.write_bytes(before)
    (folder / "results/more.csv").write_text("x")
    added = verify(folder)
    assert added.returncode == 1 and "results/more.csv" in added.stderr


def test_the_checksums_are_those_of_another_implementation(archived: Path):
    folder = folder_of(archived)
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_it_discloses_no_path_no_token_and_no_machine(finished_grid: Workplace, archived: Path):
    folder = folder_of(archived)
    encoder = finished_grid.configuration["encoders"]["tiny"]["path"]
    secrets = [str(finished_grid.folder), encoder, str(Path(encoder).parent), sys.prefix, SECRET, "hf_" + "a" * 34]
    secrets += [str(finished_grid.folder.parent), socket.gethostname() + "."]
    if getpass.getuser() != "root":
        secrets.append(f"/{getpass.getuser()}/")
    for file in folder.rglob("*"):
        if file.is_file() and "code" not in file.relative_to(folder).parts[:1]:
            content = file.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], file
    assert "elsewhere/" in (folder / "results/provenance.json").read_text()
    assert "REMOVED-TOKEN in x of REMOVED-TOKEN" in (folder / "logs/collect.log").read_text()
    with tarfile.open(archived) as tar:
        assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in tar} == {
            (0, 0, "", "", archive.TIME)
        }


def test_the_same_content_gives_the_same_bytes(finished_grid: Workplace, archived: Path, tmp_path: Path):
    copy = finished_grid.copied(tmp_path / "another folder" / "of mine")
    for file in copy.folder.rglob("*"):
        os.utime(file)
    one, other = tmp_path / "x" / "grid.tar.gz", tmp_path / "y" / "grid.tar.gz"
    for grid, target in ((finished_grid, one), (copy, other)):
        target.parent.mkdir()
        make(grid, target)
    assert one.read_bytes() == other.read_bytes()


def test_the_code_in_it_finds_the_results_as_the_configuration_asks(archived: Path, tmp_path: Path):
    """The lineage records name the checksums of the files as they are in the archive, and its paths."""
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(archived), folder)
    command = [sys.executable, "-m", "workflow_scripts.verify", "--configfile", "../config/resolved.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "code")}
    words = [*command, "--directory", "..", "--quick"]  # without the texts, tables cannot be recomputed
    outcome = subprocess.run(words, cwd=folder / "code", env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert ", 0 of them differ from the configuration" in outcome.stdout
    report = folder / "results/report.html"
    report.write_text(report.read_text() + " ")
    outcome = subprocess.run(words, cwd=folder / "code", env=environment, capture_output=True, text=True)
    assert outcome.returncode == 1 and "results/report.html" in outcome.stdout


def test_the_resolved_configuration_is_the_grids(finished_grid: Workplace, archived: Path):
    resolved = yaml.safe_load((folder_of(archived) / "config/resolved.yaml").read_text())
    encoder = resolved["encoders"]["tiny"]["path"]
    assert encoder == "elsewhere/" + Path(finished_grid.configuration["encoders"]["tiny"]["path"]).name
    resolved["encoders"]["tiny"]["path"] = finished_grid.configuration["encoders"]["tiny"]["path"]
    assert load(resolved).model_dump() == load(finished_grid.configuration).model_dump()


def test_zenodos_metadata_are_complete(finished_grid: Workplace, tmp_path: Path, capsys):
    words = ["--creator", "Doe, Jane", "--creator", "Roe, R.", "--licence", "cc-by-4.0", "--title", "My grid"]
    make(finished_grid, tmp_path / "grid.tar.gz", *words)
    assert "add --creator" not in capsys.readouterr().out
    metadata = json.loads((unpack(tmp_path / "grid.tar.gz") / ".zenodo.json").read_text())
    assert metadata["creators"] == [{"name": "Doe, Jane"}, {"name": "Roe, R."}]
    assert (metadata["title"], metadata["license"], metadata["upload_type"]) == ("My grid", "cc-by-4.0", "dataset")
    assert {"description", "keywords"} <= metadata.keys()


def test_an_unfinished_or_outdated_grid_is_refused_in_one_line(finished_grid: Workplace, tmp_path: Path):
    grid = finished_grid.copied(tmp_path / "grid")
    target = tmp_path / "x.tar.gz"
    scores = grid.folder / "results/tiny/udpos/en/prompt_tuning-2/seed-13/scores.csv"
    content = scores.read_bytes()
    scores.write_bytes(content + b"\n")
    with pytest.raises(UserError, match=r"^\d+ outputs do not match .*udpos.*scores.csv.*--unfinished$"):
        make(grid, target)
    scores.unlink()
    with pytest.raises(
        UserError, match=r"^1 of \d+ outputs are missing, the first is results/tiny/udpos.*--unfinished$"
    ):
        make(grid, target)
    assert not target.exists()
    make(grid, target, "--unfinished")
    assert verify(unpack(target)).returncode == 0


def test_a_file_that_cannot_be_changed_and_names_a_path_ends_the_archive(tmp_path: Path):
    anonymous = Anonymous(tmp_path, ROOT, {}, {})
    binary = b"\xff\x00" * 10 + str(tmp_path).encode()
    with pytest.raises(UserError, match=r"^weights contains a path"):
        list(anonymous.check("weights", [binary[:25], binary[25:]]))  # across the border of two chunks
    assert b"".join(anonymous.check("x", [b"ab", b"cd"])) == b"abcd"


def test_paths_are_replaced_as_wholes(tmp_path: Path):
    anonymous = Anonymous(Path("/data/me/work"), Path("/data/me/code"), {"path": "/data/me/work-2/encoder"}, {})
    text = b"/data/me/work/results/x /data/me/work-2/encoder/f.json '/data/me/work' /data/me/workshop"
    assert anonymous.text(text) == b"results/x elsewhere/encoder/f.json '.' /data/me/workshop"
