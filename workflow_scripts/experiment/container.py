"""The container that steps run in with `--sdm apptainer`: its image, and the folders that it mounts.

Snakemake runs each command with `apptainer exec` (or `singularity exec`). The image holds Python and the pinned
packages (`envs/container.sh`), and nothing of this project: its own folder and the data of the user are mounted.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import Configuration

IMAGE = "CROSSPROMPT_IMAGE"  # the environment variable with a file or an address such as docker://...
DEFAULT_IMAGE = "crossprompt.sif"  # in the project's folder; `make image` builds it
GPU_DEVICE = Path("/dev/nvidiactl")
ANY = set("*?[")  # of a pattern that matches several files


def image(root: Path) -> str:
    """The image: the file or address that `CROSSPROMPT_IMAGE` names, else `crossprompt.sif` in the project's folder."""
    named = os.environ.get(IMAGE, "")
    if "://" in named:
        return named
    return str(Path(named).expanduser().absolute() if named else root / DEFAULT_IMAGE)


def check_image(name: str) -> None:
    """Check that the image can be used. Raises UserError: Snakemake would start every job and fail."""
    if any(character.isspace() for character in name):
        raise UserError(
            f"{name}: Snakemake accepts no image with spaces in its path; set {IMAGE} to another path, such as a link"
        )
    if "://" not in name and not Path(name).exists():
        raise UserError(
            f"{name}, the image for --sdm apptainer, is missing: build it with `make image`, or set {IMAGE}"
        )


def show_host(root: Path, configuration: Configuration, values: Any) -> None:
    """Let containers see the project, the folders and files that the configuration names, and the GPU.

    Apptainer reads environment variables for this. The user's own settings there stay.

    Args:
        root: the project's folder.
        configuration: with the folders for resources and results.
        values: the configuration as given, with the paths of the user's own files.

    Raises UserError for a path that cannot be mounted.
    """
    tool = "APPTAINER" if shutil.which("apptainer") else "SINGULARITY"
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    if cache.is_dir():  # with the user's token; the home folder in the container is the working folder
        os.environ["HF_HOME"] = str(cache)
    named = [root, cache, Path(configuration.resources), Path(configuration.results), *paths_in(values)]
    folders = {existing(path.expanduser()) for path in named} - {Path("/")}
    for folder in folders:
        if set(str(folder)) & set(",:"):
            raise UserError(f"{folder} cannot be mounted into a container: rename it, without commas and colons")
    given = os.environ.get(f"{tool}_BIND")
    os.environ[f"{tool}_BIND"] = ",".join([*([given] if given else []), *sorted(map(str, folders))])
    if GPU_DEVICE.exists():
        os.environ.setdefault(f"{tool}_NV", "1")


def paths_in(values: Any) -> Iterator[Path]:
    """Every text of the configuration that is the path of an existing file or folder, or a pattern below one."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from paths_in(value)
    elif isinstance(values, str) and "/" in values:
        parts = Path(os.path.expandvars(values)).expanduser().parts
        fixed = next((at for at, part in enumerate(parts) if set(part) & (ANY | {"{"})), len(parts))
        path = Path(*parts[:fixed])
        if fixed and (fixed < len(parts) or path.exists()):
            yield path


def existing(path: Path) -> Path:
    """The folder of a path, or its nearest parent that exists; absolute."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
