"""The environment of every step's process."""

import importlib.metadata
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.names import DROPPED, RESOURCES, RESULTS, SNAKEMAKE

TUNABLES = "GLIBC_TUNABLES"  # the environment variable that glibc reads at the start of a process


def prepare(root: Path, resources: str, results: str, dropped: Iterable[str] = ()) -> None:
    """Let steps find their modules and the Python that runs Snakemake, wherever the working folder is.

    `root` is the project's folder, `resources` and `results` those of the configuration; `dropped` are the methods
    whose weights are not kept. Only the rules that fetch may go online; the others switch the hub off themselves.
    """
    os.environ[DROPPED] = " ".join(dropped)
    os.environ[RESOURCES], os.environ[RESULTS] = resources, results
    os.environ[SNAKEMAKE] = importlib.metadata.version("snakemake")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ[TUNABLES] = tunables()


def tunables() -> str:
    """What glibc is told in a step: to keep no small blocks aside, and besides what the user tells it.

    Kept for each thread they lie among what a batch frees, and tear its memory: without them prompt tuning took 808 MiB
    in place of 875 and fine-tuning 1,650 in place of 1,800, in the same time. Other libraries do not read it.
    """
    return ":".join(filter(None, ["glibc.malloc.tcache_count=0", os.environ.get(TUNABLES)]))


def refuse_read_only(resources: Path, results: Path) -> None:
    """Tell of a folder that cannot be written before Snakemake does, which names an output but no way out.

    Raises UserError.
    """
    for folder, way_out in (
        (Path(), "start in another folder with --directory"),
        (Path(".snakemake"), "start in another folder with --directory"),
        (Path("logs"), "start in another folder with --directory"),
        (resources, "name another folder with the key resources"),
        (results, "name another folder with the key results"),
    ):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise UserError(f"{folder.absolute()} cannot be written: give yourself the right to it, or {way_out}")
