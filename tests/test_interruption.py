"""A training that is stopped at any moment resumes, and produces the same result as an uninterrupted one."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fork_server import SERVERS
from safetensors.torch import save_file
from test_steps import ROOT, searching, training, training_settings, workplace  # noqa: F401  (workplace is a fixture)

KILLS = 20
OUTPUTS = ("weights.safetensors", "log.jsonl")


def command(place: Path, run: str, method: str) -> list[str]:
    """A training of a few seconds that saves its state constantly."""
    prompts = {"prompt_length": 4, "prompt_std": 0.02} if method == "prompt_tuning" else {"prompt_length": 0}
    settings = training_settings().changed(method=method, epochs=25, dropout=0.1, **prompts)
    words = [str(word) for word in training(place, run, 0.01)]
    words[words.index("--settings") + 1] = settings.as_text()
    return [
        *(SERVERS.command("python"), "-m", "workflow_scripts.train", *words),
        *("--checkpoint-every", "0.2"),
    ]


def start(words: list[str], ignored: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[bytes]:
    """A process that ignores exactly these signals.

    Otherwise it would inherit the signals that the tests ignore: SIGINT if `make test &` in a script started them.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        # A handler of Python is not inherited: the new process starts with the system's default.
        handler = signal.SIG_IGN if number in ignored else signal.default_int_handler
        before[number] = signal.signal(number, handler)
    try:
        return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(words: list[str]) -> str:
    """Run to the end; return what it wrote to the terminal."""
    process = start(words)
    output = process.communicate()[1].decode()
    assert process.returncode == 0, output
    return output


def outputs(place: Path, run: str) -> list[bytes]:
    evaluations = json.loads((place / run / "run.json").read_text())["evaluations"]
    return [*((place / run / name).read_bytes() for name in OUTPUTS), json.dumps(evaluations).encode()]


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob(".checkpoint-*.safetensors"))


def start_and_save(words: list[str], folder: Path, ignored: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[bytes]:
    """A training that has saved its state for the first time."""
    process = start(words, ignored)
    while not checkpoints(folder):
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module", params=["prompt_tuning", "fine_tuning"])
def uninterrupted(request, workplace) -> tuple[Path, str, float]:  # noqa: F811
    """The folder, the method, and the duration of an uninterrupted training."""
    started = time.monotonic()
    finish(command(workplace, f"uninterrupted-{request.param}", request.param))
    return workplace, request.param, time.monotonic() - started


def finish_after_kills(words: list[str], folder: Path, seconds: Iterator[float], check: Callable[[], None]) -> None:
    """Kill a job many times, each time after some seconds, then let it finish; `check` its files after every stop."""
    killed = 0
    while killed < KILLS:
        process = start(words)
        time.sleep(next(seconds))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.stderr.close()
        if process.returncode == 0:  # it finished: start over, since every kill should hit a training
            check()
            shutil.rmtree(folder)
    finish(words)
    check()
    assert not list(folder.rglob(".checkpoint-*.safetensors"))


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments_it_ends_with_the_same_bytes(uninterrupted):
    place, method, seconds = uninterrupted
    run, chance = f"killed-{method}", random.Random(7)

    def check() -> None:
        assert outputs(place, run) == outputs(place, f"uninterrupted-{method}")

    moments = (chance.uniform(0.3, 1.0) * seconds for _ in itertools.count())
    finish_after_kills(command(place, run, method), place / run, moments, check)


def search_command(place: Path, run: str) -> list[str]:
    """A search of a few seconds with halving, in two passes, that saves its state constantly."""
    rates = (0.03, 0.01, 0.003, 0.0001)
    passes = [[{"learning_rate": rate} for rate in pair] for pair in (rates[:2], rates[2:])]
    changes = {"epochs": 12, "evaluate_every": 8, "keep": "average", "averaged": 2, "patience": 9, "dropout": 0.1}
    words = [str(word) for word in searching(place, run, place / run / "record.json", passes, **changes)]
    at = words.index("--settings") + 1
    words[at] = json.dumps(json.loads(words[at]) | {"halving": {"factor": 2, "rungs": [0.2, 0.5]}})
    return [SERVERS.command("python"), "-m", "workflow_scripts.search", *words, "--checkpoint-every", "0.2"]


def search_outputs(place: Path, run: str) -> dict[str, bytes]:
    files = [file for name in OUTPUTS for file in (place / run).rglob(name)]
    found = {str(file.relative_to(place / run)): file.read_bytes() for file in files}
    return found | {"record.json": (place / run / "record.json").read_bytes()}


@pytest.mark.slow
def test_a_search_with_halving_that_is_killed_at_random_moments_ends_with_the_same_bytes(workplace):  # noqa: F811
    started = time.monotonic()
    finish(search_command(workplace, "halved-uninterrupted"))
    seconds, chance = time.monotonic() - started, random.Random(11)
    expected = search_outputs(workplace, "halved-uninterrupted")
    assert len(expected) == 2 * 4 + 1
    run = "halved-killed"

    def check() -> None:
        assert search_outputs(workplace, run) == expected

    moments = (chance.uniform(0.1, 0.9) * seconds for _ in itertools.count())
    finish_after_kills(search_command(workplace, run), workplace / run, moments, check)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_ends_with_a_status_of_its_own(uninterrupted, number):
    place, method, _ = uninterrupted
    run = f"stopped-{number.name}-{method}"
    words = command(place, run, method)
    process = start_and_save(words, place / run)
    process.send_signal(number)
    output = process.communicate()[1].decode()
    assert process.returncode == 75
    assert output.startswith("interrupted: saved after step ")
    finish(words)
    assert outputs(place, run) == outputs(place, f"uninterrupted-{method}")


def test_a_training_in_the_background_of_a_script_ignores_ctrl_c_says_so_and_stops_at_sigterm(workplace):  # noqa: F811
    run = "in-the-background"
    words = [*command(workplace, run, "prompt_tuning"), "--log", str(workplace / "background.log")]
    process = start_and_save(words, workplace / run, ignored=(signal.SIGINT,))
    (checkpoint,) = checkpoints(workplace / run)
    process.send_signal(signal.SIGINT)
    saved = checkpoint.stat().st_mtime_ns
    while checkpoint.stat().st_mtime_ns == saved:
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.communicate()[1].decode().startswith("interrupted: saved after step ")
    assert process.returncode == 75
    log = (workplace / "background.log").read_text(encoding="utf-8")
    assert log.count("SIGINT does not stop this training") == 1
    assert "SIGTERM does not" not in log


def test_a_training_that_is_asked_to_stop_again_and_again_ends_as_if_asked_once(uninterrupted):
    """SLURM sends SIGTERM before and at the time limit, `scancel` sends one more: none may kill the training."""
    place, method, _ = uninterrupted
    run = f"asked-again-{method}"
    words = command(place, run, method)
    process = start_and_save(words, place / run)
    asked = 0
    while process.poll() is None:
        process.terminate()
        asked += 1
        time.sleep(0.0005)
    assert process.returncode == 75 and asked > 2
    assert process.communicate()[1].decode().count("interrupted: saved after step ") == 1
    finish(words)
    assert outputs(place, run) == outputs(place, f"uninterrupted-{method}")


@pytest.mark.parametrize("content", ["unreadable", "foreign"])
def test_a_checkpoint_that_cannot_be_used_is_put_aside_with_a_warning(uninterrupted, content):
    place, method, _ = uninterrupted
    run = f"{content}-{method}"
    words = command(place, run, method)
    process = start_and_save(words, place / run)
    process.kill()
    process.wait()
    process.stderr.close()
    (checkpoint,) = checkpoints(place / run)
    if content == "unreadable":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    else:
        save_file({}, checkpoint, metadata={"key": "of another training", "state": "{}"})
    assert "renamed to" in finish(words)
    assert checkpoint.with_suffix(".unusable").exists()
    assert outputs(place, run) == outputs(place, f"uninterrupted-{method}")


STEP = """
import os, signal, time
from workflow_scripts.core.step import run, step_parser

def main(arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

run(main, step_parser("A step without a state of its own."))
"""


def test_ctrl_c_ends_any_other_step_with_one_line():
    process = start([sys.executable, "-c", STEP])
    assert process.communicate(timeout=30)[1] == b"interrupted\n"
    assert process.returncode == 130
