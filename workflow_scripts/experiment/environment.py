"""The environment variables of every step's process, and checks of the packages and folders that the workflow uses."""

import importlib.machinery
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import DROPPED, MICRO_BATCHES, RESOURCES, RESULTS, SCRATCH, SNAKEMAKE

TUNABLES = "GLIBC_TUNABLES"  # the environment variable that glibc reads at the start of a process

MINIMUM = "envs/minimum.txt"  # the lowest version of each package, a line of pip's requirements each

PROJECT_PACKAGES = ("workflow_scripts", "benchmarks", "tests")


def prepare(variables: Mapping[str, str]) -> None:
    """Set the variables of `step_variables` for every step's process.

    The programs beside this Python come first on the path, so that `python` in a job's command is this one.
    """
    os.environ.update(variables)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def step_variables(
    root: Path,
    resources: str = "resources",
    results: str = "results",
    dropped: Iterable[str] = (),
    own_environments: bool = False,
    micro_batches: Mapping[str, Mapping[str, int]] = {},
    scratch: str | None = None,
) -> dict[str, str]:
    """The environment variables with which steps import this project's modules and their packages.

    Steps import nothing from the working folder: a `datasets.py` there would shadow the package of that name, and the
    modules of another checkout would run under the fingerprints of this one. Only the rules that fetch may go online;
    the others set HF_HUB_OFFLINE themselves.

    Args:
        root: the project's folder.
        resources, results: the folders of the configuration.
        dropped: the methods whose weights are not kept.
        own_environments: steps run in environments of their own (`--sdm conda` or `apptainer`), not in Snakemake's.
        micro_batches: the values of `micro_batch_size`, by task and method, where it is set.
        scratch: the folder of the configuration for checkpoints on a node's own disk.
    """
    paths = [str(root), *([] if own_environments else _further_paths(root))]
    return {
        DROPPED: " ".join(dropped),
        MICRO_BATCHES: json.dumps(micro_batches),
        RESOURCES: resources,
        RESULTS: results,
        SCRATCH: scratch or "",
        SNAKEMAKE: importlib.metadata.version("snakemake"),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        **({"PYTHONNOUSERSITE": "1"} if own_environments else {}),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONHASHSEED": "0",
        TUNABLES: tunables(),
    }


def _further_paths(root: Path) -> list[str]:
    """The user's PYTHONPATH without `root` and without relative entries.

    If the variable was unset, `export PYTHONPATH=$PYTHONPATH:/x` leaves an empty entry, which Python takes as the
    working folder.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [path for path in paths if Path(path).is_absolute() and path != str(root)]


def check_project_folder(root: Path) -> None:
    """Check that steps can import this project and its packages. Raises UserError.

    The project's folder comes first on the import path, so a file in it can shadow a package.
    """
    if set(str(root)) & set(":{}"):
        raise UserError(f"{root}, the workflow's own folder, must not have a colon or braces in its path: move it")
    others = [path for path in sys.path if path and Path(path).resolve() != root.resolve()]
    for file in sorted(root.iterdir()):
        name, is_module = file.stem, file.suffix == ".py" or (file / "__init__.py").is_file()
        if not is_module or name in PROJECT_PACKAGES:
            continue
        if name in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(name, others):
            raise UserError(f"{file} shadows the Python package {name}: rename it or move it elsewhere")


def check_versions(root: Path, own_environments: bool) -> None:
    """Check that no installed package is older than envs/minimum.txt asks for. Raises UserError.

    A missing package is not reported here: the step that imports it fails with a message of its own.

    Args:
        root: the project's folder.
        own_environments: as for `step_variables`; then only Snakemake is used from this environment.
    """
    problems = []
    for line in (root / MINIMUM).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        needed = Requirement(line)
        if own_environments and not needed.name.startswith("snakemake"):
            continue
        try:
            installed = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # Only the numbers: release candidates and local builds count as their release.
        if not needed.specifier.contains(Version(installed).base_version):
            lowest = str(needed.specifier).removeprefix(">=")
            problems.append(f"{needed.name} {installed} is installed, {lowest} or newer is needed")
    if problems:
        raise UserError(
            f"{'; '.join(problems)}: `make run` installs all packages into .venv; in another environment, run"
            f" {sys.executable} -m pip install --requirement {root / MINIMUM}"
        )


def tunables() -> str:
    """The value of GLIBC_TUNABLES: the user's own, and no per-thread cache of small blocks.

    These caches fragment the heap. Without them prompt tuning took 808 MiB instead of 875, and fine-tuning 1,650
    instead of 1,800, in the same time. Other C libraries ignore the variable.
    """
    return ":".join(filter(None, ["glibc.malloc.tcache_count=0", os.environ.get(TUNABLES)]))


def check_writable(resources: Path, results: Path) -> None:
    """Check that every folder of the workflow can be created and written.

    Snakemake's own message would name an output file, but no remedy. Raises UserError.
    """
    for folder, remedy in (
        (Path(), "choose another working folder with --directory"),
        (Path(".snakemake"), "choose another working folder with --directory"),
        (Path("logs"), "choose another working folder with --directory"),
        (resources, "choose another folder with the key resources"),
        (results, "choose another folder with the key results"),
    ):
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest.absolute()} is a file, not a folder: {remedy}")
        if not os.access(nearest, os.W_OK):
            raise UserError(f"{nearest.absolute()} is not writable: change its permissions, or {remedy}")
