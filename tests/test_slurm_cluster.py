"""The workflow on a real SLURM with accounts, QOS, limits, two nodes and two partitions, asked through `sacct`."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import ACCOUNT, SlurmCluster, missing_programs
from slurm_runs import PATIENCE, STARTED, Command, nothing_runs_on, profile, until  # noqa: F401  (a fixture)
from snakemake_runs import ROOT, SNAKEMAKE, Workplace

from workflow_scripts.console.slurm import Queue, refusal, refusal_line, wait_line
from workflow_scripts.experiment import working_folder
from workflow_scripts.experiment.working_folder import cancel_jobs, jobs_of

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing_programs(accounts=True)),
        reason=f"no SLURM with accounts here: {', '.join(missing_programs(accounts=True))}",
    ),
]

TABLE = "results/scores.csv"
MINE = ["--job-name=mine", "--comment=rule_train_wildcards_a_b"]  # of a job that a `Queue` of the name `mine` finds
SEEDS = (13, 42)
RUN = "results/tiny/pawsx/en/prompt_tuning-2/seed-{}"
LOG = "logs/train/tiny/pawsx/en/prompt_tuning-2/seed-{}.log"
EVALUATION = "rule_evaluation_predict_score_wildcards_tiny_pawsx_en_prompt_tuning-2_{}"
TRAIN = "rule_train_wildcards_tiny_pawsx_en_prompt_tuning-2_{}"


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        SlurmCluster(Path(folder), nodes=("node1", "node2"), accounts=True) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tiny_encoder, tmp_path_factory) -> Workplace:
    """Two trainings of a minute or two that save their state after each short epoch. Only the tokens are made."""
    configuration = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 64, "validation": 8, "test": 8}},
        "seeds": list(SEEDS),
        "training": {"epochs": 1800, "batch_size": 8},
        "methods": {"prompt_tuning": {"prompt_lengths": [2]}},
        "tasks": {"pawsx": {"languages": ["en", "de"], "max_length": 64}},
    }
    workplace = Workplace(ROOT, tmp_path_factory.mktemp("undisturbed") / "folder", configuration)
    workplace.folder.mkdir(exist_ok=True)
    subprocess.run(here(workplace, "--cores", "all", "--until", "tokenise"), check=True, capture_output=True)
    return workplace


def here(workplace: Workplace, *words: str) -> list[str]:
    """The command that makes the table in the working folder on this machine."""
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(workplace.folder)]
    return [SNAKEMAKE, TABLE, *place, *workplace.words({}), *words]


def prepared(undisturbed: Workplace, folder: Path, *without: str) -> Path:
    """A working folder that has the resources of the undisturbed run, except for some of their folders."""
    shutil.copytree(undisturbed.folder / "resources", folder / "resources", ignore=shutil.ignore_patterns(*without))
    return folder


def limit(slurm: SlurmCluster, **limits: int) -> None:
    """Set limits of the user in the account; -1 takes one away."""
    words = [f"{name}={value}" for name, value in limits.items()]
    slurm.sacctmgr("modify", "user", "where", f"name={slurm.user}", f"account={ACCOUNT}", "set", *words)


def step(folder: Path, seed: int) -> int:
    """The step after which the training was last resumed; 0 before."""
    log = folder / LOG.format(seed)
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    found = re.findall(r"^resuming after step (\d+) from ", text, re.MULTILINE)
    return int(found[-1]) if found else 0


def saved(folder: Path, seed: int) -> None:
    """Wait until the training has saved its state once more."""

    def times() -> list[int]:
        found = (folder / RUN.format(seed)).glob(".checkpoint-*.safetensors")
        with contextlib.suppress(FileNotFoundError):  # just replaced
            return [file.stat().st_mtime_ns for file in found]
        return []

    before = until(times, f"no checkpoint of seed {seed}")
    until(lambda: times() not in ([], before), f"the training of seed {seed} does not get ahead")


def test_limits_preemption_and_failing_daemons_only_delay_a_run(slurm, undisturbed, tmp_path):
    beside = subprocess.Popen(here(undisturbed, "--cores", "1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    STARTED.append(beside)
    folder = prepared(undisturbed, tmp_path / "working folder")

    # MaxSubmitJobs: sbatch refuses the second training, and it is submitted later.
    limit(slurm, MaxSubmitJobs=1)
    command = Command(slurm, folder, [TABLE, *undisturbed.words({})], profile(tmp_path, slurm_account=ACCOUNT))
    until(lambda: "SLURM takes no more of your jobs for now (AssocMaxSubmitJobLimit)" in command.said(), command.said)
    (job,) = slurm.queue()
    assert len(slurm.queue()) == 1
    limit(slurm, MaxSubmitJobs=-1, MaxJobs=1)

    # MaxJobs: it waits in the queue.
    until(lambda: [job for job in slurm.queue("PENDING") if "MaxJobs" in job["reason"]], command.said)
    limit(slurm, MaxJobs=-1)
    jobs = [slurm.job(command.job_of(TRAIN.format(seed))["number"]) for seed in SEEDS]
    assert job["number"] in {job["JobId"] for job in jobs}
    for job in jobs:
        assert job["Account"] == ACCOUNT and job["Partition"] == "gpu" and job["GRES"].startswith("gpu:a100:1(")
        assert job["NodeList"] == "node1"
    seed = next(seed for seed, job in zip(SEEDS, jobs, strict=True) if job["JobId"] == max(j["JobId"] for j in jobs))

    # slurmdbd does not respond for a while.
    slurm.kill("slurmdbd")
    until(lambda: "SLURM does not report the state of jobs" in command.said(), command.said)
    slurm.start_database()

    # Preemption: SIGTERM. Jobs that end within the grace time are submitted again, others SLURM starts again itself.
    saved(folder, seed)
    words = ["--qos=urgent", f"--account={ACCOUNT}", "--nodelist=node1", "--gpus=a100:2", "--time=1"]
    urgent = slurm.ask("sbatch", "--parsable", *words, "--output=/dev/null", "--wrap=sleep 3")
    until(lambda: slurm.job(urgent)["JobState"] == "COMPLETED", command.said)
    before = until(lambda: step(folder, seed), command.said)

    # The controller is restarted: the jobs run on.
    running = {job["number"] for job in slurm.queue("RUNNING")}
    slurm.kill("slurmctld")
    time.sleep(3)
    slurm.start_controller()
    assert {job["number"] for job in slurm.queue("RUNNING")} == running

    # A node fails and comes back.
    saved(folder, seed)
    node = command.job_of(TRAIN.format(seed))["node"]
    slurm.crash(node)
    until(lambda: slurm.state_of(node).startswith("down"), "SLURM did not notice that the node is gone")
    slurm.start_node(node)
    until(lambda: step(folder, seed) > before, command.said)

    # A drained node: the training finishes, its predictions are made on the other node.
    node = command.job_of(TRAIN.format(seed))["node"]
    slurm.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    evaluation = command.job_of(EVALUATION.format(seed))
    assert evaluation["node"] != node
    assert command.ended() == 0, command.said()
    assert "FAIL" not in command.said()

    slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert beside.wait(timeout=PATIENCE) == 0
    assert (folder / TABLE).read_bytes() == (undisturbed.folder / TABLE).read_bytes()
    for seed in SEEDS:
        weights = f"{RUN.format(seed)}/weights.safetensors"
        assert (folder / weights).read_bytes() == (undisturbed.folder / weights).read_bytes()


def test_a_job_without_an_account_that_it_may_use_fails_at_once_and_the_line_names_the_key(
    slurm, undisturbed, tmp_path
):
    folder = prepared(undisturbed, tmp_path / "folder", "tokens")
    command = Command(slurm, folder, [TABLE, *undisturbed.words({})], profile(tmp_path))
    assert command.ended() == 1
    *_, line = command.said().splitlines()
    assert "SLURM refuses the job (Invalid account or account/partition combination specified)" in line
    assert "set slurm_account in slurm/config.v8+.yaml; yours: research" in line
    assert command.said().count("SLURM refuses") == 2  # when it happens and at the end, not for each attempt


def test_arrays_are_refused(slurm, undisturbed, tmp_path):
    words = [TABLE, *undisturbed.words({}), "--slurm-array-jobs", "train"]
    command = Command(slurm, prepared(undisturbed, tmp_path / "folder"), words)
    assert command.ended() == 1
    assert "leave out --slurm-array-jobs: " in command.said().splitlines()[-1]
    assert slurm.queue() == []


def test_an_unknown_account_of_jobs_in_a_group_is_refused(slurm, undisturbed, tmp_path):
    """Snakemake's plugin alone waits for such jobs forever."""
    folder = prepared(undisturbed, tmp_path / "folder", "tokens")
    command = Command(slurm, folder, [TABLE, *undisturbed.words({})], profile(tmp_path, slurm_account="researh"))
    assert command.ended() == 1
    assert "(The given account researh appears to be invalid. Available accounts: " in command.said()


def test_a_training_that_slurm_kills_for_memory_comes_back_with_more_and_with_smaller_parts(
    slurm, undisturbed, tmp_path
):
    folder = prepared(undisturbed, tmp_path / "folder")
    place = profile(tmp_path, slurm_account=ACCOUNT)
    file = Path(place, "config.v8+.yaml")
    file.write_text(file.read_text(encoding="utf-8").replace("12000 * attempt", "250 if attempt == 1 else 12000"))
    run = f"{RUN.format(SEEDS[0])}/run.json"
    command = Command(slurm, folder, [run, *undisturbed.words({"training.epochs": 2})], place)
    assert command.ended() == 0, command.said()
    assert re.search(
        r"FAIL +train pawsx .*: SLURM killed job \d+: it used more memory than mem_mb allows$",
        command.said(),
        re.MULTILINE,
    )
    log = (folder / LOG.format(SEEDS[0])).read_text(encoding="utf-8")
    assert "killed for memory with 8 features per micro-batch; continuing with 4" in log
    assert not list(folder.rglob(".killed-for-memory"))


def test_a_job_that_cannot_start_is_named_with_its_reason(slurm, undisturbed, tmp_path):
    folder = prepared(undisturbed, tmp_path / "folder")
    slurm.sacctmgr("modify", "qos", "normal", "set", "MaxTRESPerJob=gres/gpu=0")
    command = Command(slurm, folder, [TABLE, *undisturbed.words({})], profile(tmp_path, slurm_account=ACCOUNT))
    try:
        until(lambda: "SLURM does not start job" in command.said(), command.said)
        assert re.search(
            r"^SLURM does not start job (\d+) \(train tiny_pawsx_en_prompt_tuning-2_\d+\) and 1 more: QOSMax\w+"
            r"PerJob\w*\. It waits until that changes: see `scontrol show job \1`, or end it with `scancel \1`\.$",
            command.said(),
            re.MULTILINE,
        )
    finally:
        slurm.sacctmgr("modify", "qos", "normal", "set", "MaxTRESPerJob=gres/gpu=-1")

    # Ctrl-C cancels the jobs.
    command.process.send_signal(signal.SIGINT)
    command.ended()
    until(lambda: not slurm.queue(), "the jobs were not cancelled")


def submission(*words: str, program: str = "true") -> list[str]:
    """The command that submits a job."""
    usual = ["--parsable", f"--account={ACCOUNT}", "--time=1", "--output=/dev/null"]
    return ["sbatch", *usual, *words, f"--wrap={program}"]


def refusal_of(slurm: SlurmCluster, *words: str) -> str:
    """The reason for which SLURM refuses a job, taken from the message that the plugin makes of it."""
    variables = os.environ | slurm.environment
    outcome = subprocess.run(submission(*words), env=variables, capture_output=True, text=True)
    assert outcome.returncode, slurm.cancel_everything()
    return refusal(f"SLURM sbatch failed. The error message was '{outcome.stderr.strip()}'.\n    sbatch call:\n")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--account=teaching"], "slurm_account"),
        (["--partition=gqu"], "slurm_partition"),
        (["--qos=urgnet"], "qos"),
        (["--gpus=h100:1"], "gpu_model"),
        (["--mem=900000"], "mem_mb"),
    ],
)
def test_the_line_about_a_refused_job_names_the_key_to_set(slurm, words, key):
    text = refusal_of(slurm, *words)
    assert text and not wait_line(text)
    assert re.search(rf"^SLURM refuses the job \(.+\): .*\b{key}\b.* in slurm/config\.v8\+\.yaml", refusal_line(text))


def test_a_job_is_submitted_later_where_the_controller_does_not_answer(slurm):
    slurm.kill("slurmctld")
    try:
        line = wait_line(refusal_of(slurm))
    finally:
        slurm.start_controller()
    assert line == "SLURM's controller does not respond: jobs are submitted when it does."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_a_job_is_submitted_later_where_the_disk_of_the_controller_is_full(slurm):
    state = slurm.folder / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(state)], check=True)
    try:
        line = wait_line(refusal_of(slurm))
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert "StateSaveLocation is full" in line


@pytest.fixture
def on_the_cluster(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of SLURM that this process starts reach the cluster."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("on_the_cluster")
def test_a_job_whose_nodes_are_not_available_is_named_once_that_lasts(slurm):
    slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=DRAIN", "Reason=test")
    number = slurm.ask(*submission(*MINE, "--gpus=1"))
    try:
        until(
            lambda: re.match("Nodes required|ReqNodeNotAvail", slurm.queue()[0]["reason"]), lambda: str(slurm.queue())
        )
        assert Queue("mine").stuck() == []
        (line,) = Queue("mine", patience=0).stuck()
        assert line.startswith(f"SLURM does not start job {number} (train a_b): ")
        assert "ReqNodeNotAvail, UnavailableNodes:node" in line or "its nodes are down, drained or reserved" in line
        assert Queue("another's", patience=0).stuck() == []
    finally:
        slurm.ask("scancel", number)
        slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=RESUME")


@contextlib.contextmanager
def stays_completing(slurm: SlurmCluster, number: str) -> Iterator[None]:
    """Stop the slurmstepd of a running job, so that SLURM cannot end the job."""
    daemon = until(lambda: slurm.step_daemon(number), "the job has no slurmstepd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)
        until(lambda: not slurm.queue(), lambda: str(slurm.queue()))


@pytest.mark.usefixtures("on_the_cluster")
def test_a_job_that_stays_in_completing_is_reported_with_its_node(slurm):
    number = slurm.ask(*submission(*MINE, "--nodelist=node2", program="sleep 60"))
    until(lambda: slurm.queue("RUNNING"), "the job does not start")
    with stays_completing(slurm, number):
        slurm.ask("scancel", number)
        until(lambda: slurm.queue("COMPLETING"), lambda: str(slurm.queue()))
        assert Queue("mine").stuck() == []
        (line,) = Queue("mine", patience=0).stuck()
        assert line.startswith(f"SLURM's job {number} (train a_b) has ended but is still completing: ")
        assert " on node2 are not free" in line
    assert Queue("mine", patience=0).stuck() == []


@pytest.mark.usefixtures("on_the_cluster")
def test_only_jobs_of_snakemake_in_the_same_folder_are_cancelled_and_one_that_stays_in_completing_is_left(
    slurm, tmp_path, monkeypatch, caplog
):
    folder, elsewhere = tmp_path / "a folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()

    def submit(comment: str, place: Path) -> str:
        words = [f"--comment={comment}", f"--chdir={place}", "--mem=10"]
        return slurm.ask(*submission(*words, program="sleep 60"))

    own = [submit("rule_train_x", folder), submit("rule_tokens_tokenise", folder)]
    others = [submit("rule_train_x", elsewhere), submit("mine", folder)]
    until(lambda: len(slurm.queue("RUNNING")) == 4, lambda: str(slurm.queue()))
    assert jobs_of(folder) == dict.fromkeys(own, "RUNNING")
    monkeypatch.setattr(working_folder, "ENDING_SECONDS", 5.0)
    with caplog.at_level("WARNING"), stays_completing(slurm, own[0]):
        cancel_jobs(folder)
        assert [job["number"] for job in slurm.queue("RUNNING")] == others
        assert jobs_of(folder) == {own[0]: "COMPLETING"}
        slurm.ask("scancel", *others)
    assert f"so that their nodes are not free: {own[0]}" in caplog.text
