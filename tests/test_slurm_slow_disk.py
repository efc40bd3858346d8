"""The workflow on a real SLURM whose machines share a disk that shows the files of other machines late."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faulty_disk import faulty_disk, seeing
from slurm_cluster import SlurmCluster, missing_programs
from slurm_runs import PATIENCE, STARTED, Command, nothing_runs_on, profile, until  # noqa: F401  (a fixture)
from snakemake_runs import ROOT, SNAKEMAKE, Workplace

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"no SLURM here: {', '.join(missing_programs())}"),
]

# In seconds; see `faulty_disk`. A step starts less than LATE after the job before it has written its files.
LATE, LOOKED_FOR = 55, 1
# As in the profile. It is more than LATE, since the lineage record of a file is written a little later than the file.
LATENCY_WAIT = 60
LOGIN, *NODES = "login", "node1", "node2"
RUN = "tiny/pawsx/en/prompt_tuning-2"
TABLES = ["results/scores.csv", f"results/{RUN}/seed-13/weights.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder, which is empty except on the machines."""
    result = tmp_path / "working folder"
    result.mkdir()
    return result


@pytest.fixture
def machines(tmp_path: Path, folder: Path) -> Iterator[dict[str, list[str]]]:
    """The start of a command on each machine: all share `content` as their working folder."""
    with ExitStack() as mounted:
        starts = {}
        for name in (LOGIN, *NODES):
            disk = faulty_disk(tmp_path / name, late=LATE, looked_for=LOOKED_FOR, content=tmp_path / "content")
            starts[name] = seeing(mounted.enter_context(disk), folder)
        yield starts


@pytest.fixture
def slurm(machines: dict[str, list[str]]) -> Iterator[SlurmCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as place,
        SlurmCluster(Path(place), nodes=NODES, starts=machines) as cluster,
    ):
        yield cluster


def node_of(rule: str, command: Command) -> str:
    """The node on which a rule's job or a group's runs; empty if the command ends without it."""

    def nodes() -> list[str]:
        found = [job["node"] for job in command.slurm.queue("RUNNING") if job["comment"].startswith(f"rule_{rule}")]
        return found or ([] if command.process.poll() is None else [""])

    return until(nodes, command.said)[0]


def test_a_run_whose_machines_see_the_files_of_the_others_late_makes_the_same_tables_and_trains_nothing_twice(
    slurm, machines, folder, tiny_encoder, tmp_path
):
    """Every job reads what the job before it wrote on another machine."""
    configuration = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
        "seeds": [13],
        "search": {"seed": 13, "together": 2},
        "training": {"epochs": 2, "batch_size": 8},
        "methods": {"prompt_tuning": {"prompt_lengths": [2], "learning_rates": [1e-3, 1e-2]}},
        "tasks": {"pawsx": {"languages": ["en"], "max_length": 64}},
    }
    undisturbed = Workplace(ROOT, tmp_path / "undisturbed", configuration)
    words = [*TABLES, *undisturbed.words({})]
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(undisturbed.folder), "--cores", "1"]
    beside = subprocess.Popen([SNAKEMAKE, *words, *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    STARTED.append(beside)

    # Snakemake asks about its jobs after 12 seconds, which most of them take here, and after another 22.
    options = ["--slurm-init-seconds-before-status-checks", "12", "--slurm-status-command", "squeue"]
    options += ["--latency-wait", str(LATENCY_WAIT), "--retries", "0"]
    command = Command(
        slurm, folder, [*words, *options], profile(tmp_path, on_cpu=("tokenise", "train")), start=machines[LOGIN]
    )
    nodes = [node_of(rule, command) for rule in ("tokens", "search", "train", "evaluation")]
    assert command.ended() == 0, command.said()
    assert "FAIL" not in command.said()
    assert nodes == ["node2", "node1", "node2", "node1"]
    content = tmp_path / "content"
    assert "the search trained this run" in (content / "logs/train" / RUN / "seed-13.log").read_text(encoding="utf-8")
    assert not list(folder.iterdir())  # all of it was written through the disks

    assert beside.wait(timeout=PATIENCE) == 0
    for table in TABLES:
        assert (content / table).read_bytes() == (undisturbed.folder / table).read_bytes()
