"""Snakemake in tests: a checkout, a working folder and a configuration, and the jobs that would run."""

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from fork_server import SERVERS

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def snakemake(
    *words: str, folder: Path, checkout: Path = ROOT, program: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with the working folder `folder` on the Snakefile of `checkout`.

    A fork server starts it unless another `program` is named. Both of its streams are in `stdout`: a dry run writes to
    one what a run writes to the other. `--printshellcmds`: a run shows Snakemake's own output, which lists jobs with
    their wildcards (test_console.py has what users see).
    """
    place = ["--snakefile", str(checkout / "Snakefile"), "--directory", str(folder)]
    command = [program or SERVERS.command("snakemake"), *place, "--printshellcmds", *words]
    # From elsewhere, so that nothing is found only because of where the tests were started.
    return subprocess.run(command, cwd=checkout.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def plan(*words: str, folder: Path, checkout: Path = ROOT) -> list[str]:
    """The jobs that Snakemake would run, as `jobs` writes them, sorted."""
    outcome = snakemake("--dry-run", *words, folder=folder, checkout=checkout)
    assert outcome.returncode == 0, outcome.stdout
    return jobs_of(outcome.stdout)


def jobs_of(output: str) -> list[str]:
    """The jobs that Snakemake's output lists, sorted, as `jobs` writes them."""
    found = []
    for rule, body in blocks(output):
        wildcards = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
        values = [wildcard.partition("=")[2] for wildcard in wildcards[1].split(", ")] if wildcards else []
        found.append(f"{rule} {'/'.join(values)}".strip())
    return sorted(found)


def blocks(output: str) -> list[tuple[str, str]]:
    """Each job that Snakemake's output lists: its rule and the indented lines below."""
    return re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)*)", output, re.MULTILINE)


def errors_of(output: str) -> list[str]:
    """The errors that steps wrote, each from `error: ` to the end of its line.

    Snakemake writes a message and its line break in two calls, so a step's line may begin between the two.
    """
    return re.findall(r"\berror: .*$", output, re.MULTILINE)


def jobs(*patterns: str) -> list[str]:
    """Jobs, sorted, written `RULE WILDCARD/WILDCARD/...`; braces expand to alternatives, as in a shell."""
    found = []
    for pattern in patterns:
        if braces := re.search(r"{(.*?)}", pattern):
            start, end = braces.span()
            found += jobs(*(pattern[:start] + choice + pattern[end:] for choice in braces[1].split(",")))
        else:
            found.append(pattern)
    return sorted(found)


def edited(configuration: dict[str, Any], edits: dict[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with some keys, such as `tasks.xnli.languages`, set to other values."""
    result = copy.deepcopy(configuration)
    for key, value in edits.items():
        *path, last = key.split(".")
        section = result
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return result


def copy_checkout(target: Path) -> Path:
    """A copy of the parts of this project that Snakemake needs."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("Snakefile", "config.yaml"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    for name in ("rules", "workflow_scripts", "report", "envs", "profiles", "tasks"):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    return target


@contextmanager
def replaced(file: Path, old: str, new: str) -> Iterator[None]:
    """The file with one text replaced by another; afterwards it is restored, including its time."""
    before, state = file.read_bytes(), file.stat()
    assert before.count(old.encode()) == 1, f"{file} has {old!r} {before.count(old.encode())} times"
    file.write_bytes(before.replace(old.encode(), new.encode()))
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


@dataclass(frozen=True)
class Workplace:
    """A configuration that is run with a checkout's code in a working folder.

    Attributes:
        checkout: a copy of the project, to edit.
        folder: the working folder.
        configuration: what the folder was last run with.
    """

    checkout: Path
    folder: Path
    configuration: dict[str, Any]

    def words(self, edits: dict[str, Any]) -> list[str]:
        """The configuration after these edits, as command-line options."""
        file = self.folder.parent / f"{self.folder.name}.yaml"
        file.write_text(yaml.safe_dump(edited(self.configuration, edits), sort_keys=False), encoding="utf-8")
        return ["--configfile", str(file)]

    def planned(self, edits: dict[str, Any] | None = None, *words: str) -> list[str]:
        """The jobs that would run after these edits of the configuration."""
        return plan(*words, *self.words(edits or {}), folder=self.folder, checkout=self.checkout)

    def run(self, edits: dict[str, Any] | None = None, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake after these edits of the configuration."""
        return snakemake("--cores", "2", *words, *self.words(edits or {}), folder=self.folder, checkout=self.checkout)

    def copied(self, folder: Path) -> "Workplace":
        """The same with a copy of the working folder that keeps file times, like `cp -a`."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every result and resource: its time (ns) and content."""
        return {
            str(file.relative_to(self.folder)): (file.stat().st_mtime_ns, file.read_bytes())
            for place in ("resources", "results")
            for file in sorted((self.folder / place).rglob("*"))
            if file.is_file()
        }

    def touch_everything(self) -> None:
        """Set the time of every file of the checkout and of the working folder to now."""
        for place in (self.checkout, self.folder):
            for file in place.rglob("*"):
                os.utime(file)
