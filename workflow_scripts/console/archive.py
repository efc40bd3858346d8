"""Put a finished grid into one archive, for Zenodo or another repository.

    results/, logs/, configuration, code  ──> crossprompt-RESULTS.tar.gz

It holds tables, report, predictions, run records and logs; the configuration as given and as resolved; the code; a
README, metadata for Zenodo, a citation, and the SHA-256 of every file. `sh verify.sh` in the unpacked folder checks
them without any code of this project. Tuned weights and the texts of the corpora are left out unless requested: check
first whether their licences permit it.

The archive does not contain absolute paths of this machine, the home folder or access tokens. The same content gives
the same bytes. An unfinished or outdated grid is refused.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from workflow_scripts.console.anonymous import CHUNK, Anonymous
from workflow_scripts.console.plan import counted
from workflow_scripts.core.errors import ERROR_PREFIX, UserError
from workflow_scripts.core.files import read_json, sha256, written
from workflow_scripts.core.lineage import Lineage, record_of
from workflow_scripts.core.names import candidate_folder, predictions_file, vectors_file
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.consistency import Job, differences, summary
from workflow_scripts.experiment.grid import listed
from workflow_scripts.experiment.jobs import all_jobs
from workflow_scripts.experiment.table_names import table_names
from workflow_scripts.tuning.settings import SearchSettings
from workflow_scripts.verify import values

ROOT = Path(__file__).resolve().parents[2]
ROWS = {"fetch_corpus", "tokenise"}  # the jobs whose outputs hold texts of the corpora
TIME = 315532800  # of every file in the archive: the first of January 1980
# The code if there is no git, such as in a downloaded release; the user's own folders may be beside it.
CODE = (
    *(
        "Snakefile",
        "Makefile",
        "*.md",
        "*.toml",
        "*.cff",
        "*.yml",
        "*.yaml",
        "*.schema.json",
        "LICENSE",
        ".gitattributes",
        ".ci",
    ),
    *("benchmarks", "configs", "docs", "envs", "profiles", "report", "rules", "slurm", "tasks", "tests"),
    *("workflow_scripts", "workstation"),
)

VERIFY = """#!/bin/sh
# Checks that every file in this folder is unchanged, and that no file was added: sh verify.sh
cd "$(dirname "$0")" || exit 2
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum="shasum -a 256"; fi
LC_ALL=C; export LC_ALL
listed=$(mktemp) && found=$(mktemp) || exit 2
trap 'rm -f "$listed" "$found"' EXIT
sed 's/^[0-9a-f]*  //' SHA256SUMS | sort >"$listed"
find . -type f ! -path ./SHA256SUMS | sed 's,^\\./,,' | sort >"$found"
if ! $sum -c SHA256SUMS >/dev/null 2>&1; then
    $sum -c SHA256SUMS 2>/dev/null | grep -v ': OK$'
    echo "error: some files differ from what was archived" >&2
    exit 1
fi
if ! cmp -s "$listed" "$found"; then
    echo "error: these files were added: $(comm -13 "$listed" "$found" | tr '\\n' ' ')" >&2
    exit 1
fi
echo "$(wc -l <"$listed" | tr -d ' ') files are unchanged"
"""

README = """# {title}

Results of [crossprompt](code/README.md) {version}, a workflow that compares ways of tuning multilingual language
models.

| File | What it holds |
|---|---|
| `{results}/report.html` | the report: open it in a browser |
| `{results}/` | tables, statistics, and for each tuned model its record, training log, predictions and scores |
| `config/resolved.yaml` | the configuration: all files and `--config` in one |
| `config/given-*` | the configuration files as they were given |
| `{results}/provenance.json` | all settings with their defaults, versions, machine, commit, origins and checksums |
| `{resources}/` | records of encoders and corpora{rows} |
| `logs/` | the log of each job |
| `code/` | the workflow that made the results |
| `SHA256SUMS`, `verify.sh` | checksums of all files |

Check the files with `sh verify.sh`. It needs a shell and `sha256sum` or `shasum`.

With Python 3.11, compare the results with the configuration as well{recomputed}:

    cd code && make verify ARGS="--configfile ../config/resolved.yaml --directory ..{quick}"

Paths of the machine were replaced: `elsewhere/NAME` was an absolute path. {weights}

## Data

The texts have licences of their own, which also hold for what is derived from them:

{licences}
"""


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--configfile", type=Path, nargs="+", required=True, metavar="FILE", help="of the grid")
    result.add_argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="keys that replace those in files")
    result.add_argument("--directory", type=Path, metavar="FOLDER", help="the working folder; default: the current one")
    result.add_argument("--to", type=Path, metavar="FILE", help="*.tar.gz; default: crossprompt-RESULTS.tar.gz")
    result.add_argument("--weights", action="store_true", help="with the tuned weights")
    result.add_argument("--rows", action="store_true", help="with the texts of the corpora and their tokens")
    result.add_argument("--unfinished", action="store_true", help="even if outputs are missing or outdated")
    result.add_argument("--title", help="of the archive")
    result.add_argument("--creator", action="append", default=[], metavar="NAME", help="of the results; repeat it")
    result.add_argument("--licence", metavar="ID", help="of your results, such as cc-by-4.0")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Write the archive. Raises UserError if the grid is unfinished, or if a file would disclose a path."""
    given = {file.name: file.read_bytes() for file in arguments.configfile if file.is_file()}
    raw = values(arguments.configfile, arguments.config)
    configuration = load(raw)
    target = (arguments.to or Path(f"crossprompt-{Path(configuration.results).name}.tar.gz")).absolute()
    if not target.name.endswith(".tar.gz"):
        raise UserError(f"--to: found {target.name!r}; the name must end in .tar.gz")
    if arguments.directory:
        os.chdir(arguments.directory)
    jobs = list(all_jobs(configuration))
    if not arguments.unfinished:
        check_finished(configuration, jobs)
    place = Places(configuration)
    files = sorted(members(configuration, jobs, arguments.weights, arguments.rows))
    named = [raw, configuration.model_dump(mode="json"), list(recorded_paths(files))]
    anonymous = Anonymous(Path.cwd(), ROOT, named, place.moved)
    with written(target) as temporary, temporary.open("wb") as file, tempfile.TemporaryDirectory() as scratch:
        archive = Archive(file, target.name.removesuffix(".tar.gz"), anonymous, Path(scratch))
        for name, content in documents(arguments, configuration, raw, given, place).items():
            archive.add_text(name, content)
        archive.add_files(place, files)
        archive.add_files(place, sorted(logs(configuration)))
        for path in code_files():
            archive.add_code(path)
        archive.close()
    print(f"{len(archive.sums)} files, {target.stat().st_size / 1e6:.1f} MB: {target}")
    if not arguments.creator or not arguments.licence:
        print("Zenodo asks for creators and a licence: add --creator and --licence, or enter them there")


def check_finished(configuration: Configuration, jobs: list[Job]) -> None:
    """Raise UserError, one line, if an output of the results is missing or does not match the configuration."""
    folder = f"{configuration.results}/"
    outputs = [output for job in jobs for output in job.outputs if output.startswith(folder)]
    missing = [output for output in outputs if not Path(output).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(outputs)} outputs are missing, the first is {missing[0]}: finish the run, or"
            " archive the existing outputs with --unfinished"
        )
    lineage = Lineage(configuration.resources, configuration.results, checksums=True)
    found = [one for one in differences(lineage, jobs) if not one.only_code]
    if found:
        raise UserError(
            f"{len(found)} outputs do not match the configuration ({summary(found, 1)}): run the workflow again, or"
            " archive them with --unfinished"
        )


class Places:
    """Where the grid's folders are in the archive: at the same relative path, or at the top if they are elsewhere."""

    def __init__(self, configuration: Configuration) -> None:
        self.folders = {}
        for key in ("resources", "results"):
            folder = getattr(configuration, key)
            is_outside = Path(folder).is_absolute() or folder.startswith("..")
            self.folders[folder] = key if is_outside else folder
        self.moved = {
            str(place): name
            for folder, name in self.folders.items()
            if folder != name
            for place in {Path(folder).absolute(), Path(folder).resolve()}
        }
        self.moved |= {folder: name for folder, name in self.folders.items() if folder != name}
        self.resources, self.results = (self.folders[getattr(configuration, key)] for key in ("resources", "results"))

    def of(self, path: str) -> str:
        """The path of a file in the archive."""
        for folder, name in self.folders.items():
            if path.startswith(f"{folder}/"):
                return name + path.removeprefix(folder)
        return path


def members(configuration: Configuration, jobs: Iterable[Job], weights: bool, rows: bool) -> set[str]:
    """The files of the grid that exist: outputs, the files that their records name, and lineage records."""
    files: set[str] = set()
    for job in jobs:
        if job.step in ROWS and not rows:
            files |= {str(record_of(Path(output))) for output in job.outputs}
            continue
        files |= set(job.outputs)
        for output in map(Path, job.outputs):
            files |= {str(file) for file in beside(job, output, weights)}
    for name in table_names(configuration):
        files |= {f"{configuration.results}/tables/{name}.{suffix}" for suffix in ("csv", "tex")}
    files |= {str(record_of(Path(file))) for file in files if not Path(file).name.startswith(".")}
    return {file for file in files if Path(file).is_file()}


def beside(job: Job, output: Path, weights: bool) -> Iterator[Path]:
    """The files that belong to an output of a job, which declares only their record."""
    run_files = ["run.json", "log.jsonl", *(["weights.safetensors"] if weights else [])]
    if not output.is_file():
        return
    if job.step == "train":
        yield from (output.with_name(name) for name in run_files)
    elif job.step == "search":
        for candidate in listed(SearchSettings.read(dict(job.settings), job.step).passes):
            yield from (candidate_folder(output, candidate) / name for name in run_files)
    elif job.step in ("predict", "import_predictions"):
        yield from (predictions_file(output, language) for language in read_json(output))
    elif job.step == "represent":
        yield from (vectors_file(output, language) for language in read_json(output))
    elif job.step == "tokenise":
        yield from (file for file in output.parent.rglob("*") if file.is_file())


def recorded_paths(files: Iterable[str]) -> Iterator[str]:
    """The absolute paths of the files that outputs were made from, such as the user's own rows."""
    for file in filter(is_record, files):
        record = read_json(Path(file))
        for name in (*record.get("inputs", ()), *record.get("sources", ()), *record.get("patterns", ())):
            if name.startswith("/"):
                yield name


def logs(configuration: Configuration) -> Iterator[str]:
    """The logs of the grid's jobs; those of other grids may be in the same folder."""
    names = {*configuration.encoders, *configuration.tasks, *configuration.revisions(), "outside"}
    for file in Path("logs").rglob("*"):
        parts = [part for part in file.parts[1:] if part != "benchmarks"]
        if file.is_file() and (len(parts) == 1 or Path(parts[1]).stem in names):
            yield str(file)


def code_files() -> list[Path]:
    """The files of the workflow's code, relative to its folder: those that git tracks, else all of `CODE`."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z"]
        tracked = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
        files = [Path(name) for name in tracked if name]
    except (OSError, subprocess.CalledProcessError):
        found = [entry for pattern in CODE for entry in ROOT.glob(pattern)]
        inside = [file for entry in found for file in (entry.rglob("*") if entry.is_dir() else [entry])]
        files = [file.relative_to(ROOT) for file in inside if "__pycache__" not in file.parts]
    return sorted(file for file in set(files) if (ROOT / file).is_file())


def documents(
    arguments: argparse.Namespace, configuration: Configuration, raw: Any, given: dict[str, bytes], place: Places
) -> dict[str, bytes]:
    """The files that this program writes itself, by name."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    title = arguments.title or f"Cross-lingual transfer on {', '.join(configuration.tasks)}: results of crossprompt"
    rows = ", with their texts and tokens" if arguments.rows else "; the texts are left out"
    readme = README.format(
        title=title,
        version=citation["version"],
        results=place.results,
        resources=place.resources,
        rows=rows,
        recomputed=", and recompute all tables from the predictions" if arguments.rows else "",
        quick="" if arguments.rows else " --quick",
        weights="Tuned weights are included." if arguments.weights else "Tuned weights are left out.",
        licences="\n".join(licences(configuration)),
    )
    zenodo = {
        "title": title,
        "upload_type": "dataset",
        "description": f"Scores, statistics, predictions and run records of {size(configuration)}. README.md"
        " explains the files.",
        "creators": [{"name": name} for name in arguments.creator],
        "keywords": citation["keywords"],
        **({"license": arguments.licence} if arguments.licence else {}),
        "notes": f"Made with crossprompt {citation['version']}.",
    }
    files = [section.module for section in configuration.methods.values()]
    files += [section.file for section in configuration.tasks.values()]
    return {
        "README.md": readme.encode(),
        "verify.sh": VERIFY.encode(),
        ".zenodo.json": (json.dumps(zenodo, indent=2, ensure_ascii=False) + "\n").encode(),
        "CITATION.cff": (ROOT / "CITATION.cff").read_bytes(),
        "config/resolved.yaml": yaml.safe_dump(with_variables(raw), sort_keys=False, allow_unicode=True).encode(),
        **{f"config/given-{number}-{name}": content for number, (name, content) in enumerate(given.items(), 1)},
        **{file: Path(file).read_bytes() for file in files if file is not None and Path(file).is_file()},
    }


def with_variables(values: Any) -> Any:
    """The configuration with `~` and environment variables of paths replaced by their values."""
    if isinstance(values, dict):
        return {key: with_variables(value) for key, value in values.items()}
    if isinstance(values, list):
        return [with_variables(value) for value in values]
    if isinstance(values, str) and values.startswith(("~", "$")):
        expanded = os.path.expandvars(os.path.expanduser(values))  # noqa: PTH111  (pathlib raises for unknown users)
        return expanded if Path(expanded).is_absolute() else values
    return values


def size(configuration: Configuration) -> str:
    """The grid in words: `1 encoder, 2 tasks and 3 methods`."""
    sizes = {"encoder": len(configuration.encoders), "task": len(configuration.tasks)}
    sizes["method"] = len(configuration.methods)
    encoders, tasks, methods = (counted(size, word) for word, size in sizes.items())
    return f"{encoders}, {tasks} and {methods}"


def licences(configuration: Configuration) -> Iterator[str]:
    """A line for each task: its licence and whether that permits commercial use."""
    for name, section in configuration.tasks.items():
        definition = section.definition
        yield f"* {definition.title or name}: {definition.licence or 'licence not stated'}"


class Archive:
    """A tar archive that is written in one pass, and the checksum of each file in it.

    Args:
        file: where to write.
        top: the folder that the archive unpacks to.
        anonymous: replaces what identifies the user.
        scratch: a folder for files that are rewritten.
    """

    def __init__(self, file: BinaryIO, top: str, anonymous: Anonymous, scratch: Path) -> None:
        self.top, self.anonymous, self.scratch = top, anonymous, scratch
        self.sums: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.compressed = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0)
        self.tar = tarfile.open(mode="w|", fileobj=self.compressed, format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add_text(self, name: str, content: bytes) -> None:
        """Add a file that is in memory, without what identifies the user."""
        content, name = self.anonymous.text(content), self.anonymous.text(name.encode()).decode()
        self._add(name, len(content), [content])

    def add_code(self, path: Path) -> None:
        """Add a file of the code."""
        self._add_anonymous(f"code/{path.as_posix()}", ROOT / path)

    def add_files(self, place: Places, paths: list[str]) -> None:
        """Add files of the grid. Lineage records name the checksums of the files as they are in the archive."""
        records = [path for path in paths if is_record(path)]
        checksums: dict[str, tuple[int, str]] = {}
        digests: dict[str, str] = {}
        for path in paths:
            if path in records:
                continue
            name, before = place.of(path), sha256(Path(path))
            if self._add_anonymous(name, Path(path)) and self.sums[name] != before:
                digests[before] = self.sums[name]
                checksums[path] = (self.sizes[name], self.sums[name])
        for path in records:
            content = Path(path).read_bytes()
            for before, after in digests.items():
                content = content.replace(before.encode(), after.encode())
            output = str(Path(path).with_name(Path(path).name.removeprefix(".").removesuffix(".made.json")))
            if output in checksums:
                record = json.loads(content)
                record["bytes"], record["sha256"] = checksums[output]
                content = (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
            self.add_text(place.of(path), content)

    def _add_anonymous(self, name: str, path: Path) -> bool:
        """Add a file; return whether its content was replaced in part."""
        if path.suffix == ".parquet":
            rewritten = self.scratch / "rewritten.parquet"
            if self.anonymous.parquet(path, rewritten):
                self._add_unchanged(name, rewritten)
                rewritten.unlink()
                return True
        elif path.suffix != ".safetensors":
            content = path.read_bytes()
            if self.anonymous.discloses(content) and is_text(content):
                self.add_text(name, content)
                return True
        self._add_unchanged(name, path)
        return False

    def _add_unchanged(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(CHUNK), b"")
            self._add(name, path.stat().st_size, self.anonymous.check(str(path), chunks))

    def _add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        entry = tarfile.TarInfo(f"{self.top}/{name}")
        entry.size, entry.mtime, entry.mode = size, TIME, 0o755 if name.endswith(".sh") else 0o644
        reader = HashingReader(chunks)
        self.tar.addfile(entry, reader)
        self.sums[name], self.sizes[name] = reader.digest.hexdigest(), size

    def close(self) -> None:
        """Add the checksums, and end the archive."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sums.items()))
        self._add("SHA256SUMS", len(lines.encode()), [lines.encode()])
        del self.sums["SHA256SUMS"]
        self.tar.close()
        self.compressed.close()


class HashingReader(io.RawIOBase):
    """A file of some chunks that computes their checksum while it is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks, self.rest, self.digest = iter(chunks), b"", hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        while len(self.rest) < size and (chunk := next(self.chunks, b"")):
            self.rest += chunk
        found, self.rest = self.rest[:size], self.rest[size:]
        self.digest.update(found)
        return found


def is_record(path: str) -> bool:
    """Whether a file is a lineage record."""
    return Path(path).name.startswith(".") and path.endswith(".made.json")


def is_text(content: bytes) -> bool:
    """Whether a file is UTF-8 text."""
    with contextlib.suppress(UnicodeDecodeError):
        content.decode()
        return True
    return False


if __name__ == "__main__":
    try:
        main(parser().parse_args())
    except UserError as problem:
        sys.exit(f"{ERROR_PREFIX}{problem}")
