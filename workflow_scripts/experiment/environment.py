"""The environment of every step's process."""

import importlib.machinery
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.names import DROPPED, RESOURCES, RESULTS, SNAKEMAKE

TUNABLES = "GLIBC_TUNABLES"  # the environment variable that glibc reads at the start of a process

OURS = ("workflow_scripts", "benchmarks", "tests")  # the packages in the project's folder


def prepare(
    root: Path,
    resources: str = "resources",
    results: str = "results",
    dropped: Iterable[str] = (),
    own_environments: bool = False,
) -> None:
    """Set up the environment variables of all steps, so that each finds this project's modules and their packages.

    A step imports nothing from its working folder: a `datasets.py` there would hide the package of that name, and
    another checkout's modules would run under the fingerprints of this one. Only the rules that fetch may go online;
    the others switch the hub off themselves.

    Args:
        root: the project's folder.
        resources, results: the folders of the configuration.
        dropped: the methods whose weights are not kept.
        own_environments: steps run in environments that Snakemake makes (`--sdm conda`), not in the one that runs it.
    """
    os.environ[DROPPED] = " ".join(dropped)
    os.environ[RESOURCES], os.environ[RESULTS] = resources, results
    os.environ[SNAKEMAKE] = importlib.metadata.version("snakemake")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *([] if own_environments else _further_paths(root))])
    os.environ["PYTHONSAFEPATH"] = "1"
    if own_environments:
        os.environ["PYTHONNOUSERSITE"] = "1"
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ[TUNABLES] = tunables()


def _further_paths(root: Path) -> list[str]:
    """The user's PYTHONPATH without `root` and relative entries.

    `export PYTHONPATH=$PYTHONPATH:/x` leaves an empty entry where the variable was unset, which Python reads as the
    working folder.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [path for path in paths if Path(path).is_absolute() and path != str(root)]


def check_project_folder(root: Path) -> None:
    """Refuse what keeps steps from importing this project or its packages. Raises UserError.

    A file in the project's folder can hide a package, since that folder comes first on the import path.
    """
    if set(str(root)) & set(":{}"):
        raise UserError(f"{root}, the folder of this workflow, must not have a colon or braces in its path: move it")
    others = [path for path in sys.path if path and Path(path).resolve() != root.resolve()]
    for file in sorted(root.iterdir()):
        name, is_module = file.stem, file.suffix == ".py" or (file / "__init__.py").is_file()
        if not is_module or name in OURS:
            continue
        if name in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(name, others):
            raise UserError(f"{file} hides the Python package {name} from this workflow: rename it or move it away")


def tunables() -> str:
    """The settings of glibc in a step: no cache of small blocks, besides what the user sets.

    A cache for each thread fragments the heap: without it prompt tuning took 808 MiB instead of 875 and fine-tuning
    1,650 instead of 1,800, in the same time. Other C libraries ignore the variable.
    """
    return ":".join(filter(None, ["glibc.malloc.tcache_count=0", os.environ.get(TUNABLES)]))


def refuse_read_only(resources: Path, results: Path) -> None:
    """Refuse a folder that cannot be written or made. Snakemake's own message would name an output but no remedy.

    Raises UserError.
    """
    for folder, way_out in (
        (Path(), "start in another folder with --directory"),
        (Path(".snakemake"), "start in another folder with --directory"),
        (Path("logs"), "start in another folder with --directory"),
        (resources, "name another folder with the key resources"),
        (results, "name another folder with the key results"),
    ):
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest.absolute()} is a file and not a folder: {way_out}")
        if not os.access(nearest, os.W_OK):
            raise UserError(f"{nearest.absolute()} cannot be written: give yourself the right to it, or {way_out}")
