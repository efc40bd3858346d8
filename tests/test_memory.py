"""A batch that does not fit into memory goes through the encoder in micro-batches, with the same result."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import random_tokens, save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.core import memory_kills
from workflow_scripts.core.faults import explain
from workflow_scripts.experiment.environment import prepare, step_variables
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.tuning.acceleration.dropout import random_words
from workflow_scripts.tuning.acceleration.packed import available
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.loop import Validated, train
from workflow_scripts.tuning.memory import MicroBatches, is_out_of_memory
from workflow_scripts.tuning.model import build_together

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent

# A training in a process with a limited address space, so that allocations really fail.
LIMITED = """
import logging, resource, sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
import torch
from tiny import random_tokens, save_encoder, settings
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.loop import Validated, train
from workflow_scripts.tuning.model import build_together

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
folder = Path(sys.argv[1])
room = int(sys.argv[2])
chosen = settings(kind="tagging", batch_size=4096, epochs=1, precision="float32", micro_batch_size=4096)
tokens = random_tokens("tagging", 4096, longest=50)
models = build_together(folder / "encoder", chosen, None, 1)
device = torch.device("cpu")
few = random_tokens("tagging", 16, longest=50)
# A warm-up run, so that memory for lazily loaded code is not measured.
(first,) = build_together(folder / "encoder", chosen, None, 1)


def validate(model):
    return Validated({{"f1": 1.0}}, 1.0)


train([first], few, chosen, [1e-3], validate, Checkpoint(folder, f"warm-{{room}}", 1e9), device)
if room:
    used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
train(models, tokens, chosen, [1e-2], validate, Checkpoint(folder, f"key-{{room}}", 1e9), device)
torch.save(models[0].tuned_tensors(), folder / f"weights-{{room}}.pt")
"""


def train_within(folder: Path, room: int) -> tuple[str, dict[str, torch.Tensor]]:
    """The log of a training with this many bytes of memory left, and its weights; 0 means no limit."""
    script = LIMITED.format(tests=str(ROOT / "tests"), root=str(ROOT))
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    outcome = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(room)], env=environment, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout, torch.load(folder / f"weights-{room}.pt")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process")
def test_a_training_that_runs_out_of_memory_continues_with_micro_batches_to_the_same_weights(tmp_path):
    save_encoder(tmp_path / "encoder", "bert")
    log, whole = train_within(tmp_path, room=0)
    assert "out of memory" not in log
    log, parts = train_within(tmp_path, room=600_000_000)
    assert "out of memory with 4096 features per micro-batch; continuing with 2048: " in log
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_micro_batch_size_is_halved_until_it_fits_and_stays_so():
    micro_batches, seen = MicroBatches(32), []

    def work(parts: list[np.ndarray]) -> list[int]:
        sizes = [len(part) for part in parts]
        seen.append(sizes)
        if max(sizes) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return np.concatenate(parts).tolist()

    assert micro_batches.run(work, np.arange(20)) == list(range(20))
    assert seen == [[20], [10, 10]]
    assert micro_batches.run(work, np.arange(25)) == list(range(25))
    assert seen[2:] == [[10, 10, 5]]


def test_a_single_feature_that_does_not_fit_raises_the_original_error():
    def work(parts: list[np.ndarray]) -> None:
        raise MemoryError("no")

    with pytest.raises(MemoryError, match="no"):
        MicroBatches(8).run(work, np.arange(8))


def test_other_errors_are_not_taken_for_out_of_memory():
    def work(parts: list[np.ndarray]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        MicroBatches(8).run(work, np.arange(8))


def test_every_out_of_memory_message_is_recognised_and_explained():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    for error in (
        caught.value,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ):
        assert is_out_of_memory(error)
        message = explain(error)
        assert message and message.startswith("there is not enough memory (") and "\n" not in message


def printed_by(script: str) -> float:
    """The number that a Python script of a process of its own prints."""
    outcome = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(outcome.stdout)


PEAK = """
import torch
from workflow_scripts.tuning.device import memory_peak
print(memory_peak(torch.device("cpu")))
"""


def test_the_memory_of_a_job_is_its_own_and_not_that_of_the_process_that_started_it():
    from_a_large_one = f"""
import subprocess, sys
held = bytes(1) * (2 << 30)
subprocess.run([sys.executable, "-c", {PEAK!r}], check=True)
"""
    assert 50 < printed_by(from_a_large_one) < 1000


FAULTS = """
import ctypes, resource
from workflow_scripts.tuning.device import keep_freed_memory

{called}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = (ctypes.c_void_p,)
for _ in range(4):  # the first ones to grow
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    batch = [libc.malloc(2**22) for _ in range(50)]
    for block in batch:
        libc.memset(block, 1, 2**22)
    for block in reversed(batch):
        libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc returns memory in this way")
def test_a_batch_reuses_the_memory_of_the_one_before():
    assert printed_by(FAULTS.format(called="keep_freed_memory()")) < 1000
    assert printed_by(FAULTS.format(called="")) > 10_000, "this machine's C library keeps it anyway"


NEIGHBOURS = """
import ctypes

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
# The first rows fill gaps in the heap; those in the middle are adjacent.
rows = [[libc.malloc(size) for size in (40_000, 1000, 40_000)] for _ in range(1000)]
for block in rows[500]:
    libc.free(block)
print(libc.malloc(80_000) == rows[500][0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc caches small blocks in this way")
def test_in_a_step_a_small_block_does_not_keep_its_freed_neighbours_apart(monkeypatch):
    monkeypatch.setattr(os, "environ", {"GLIBC_TUNABLES": "glibc.malloc.mxfast=0"})
    command = [sys.executable, "-c", NEIGHBOURS]
    assert subprocess.check_output(command, env={}) == b"False\n", "this machine's C library caches none anyway"
    prepare(step_variables(ROOT))
    assert subprocess.check_output(command, env=os.environ) == b"True\n"
    assert "glibc.malloc.mxfast=0" in os.environ["GLIBC_TUNABLES"], "the user's own settings stay"


KEPT = """
import ctypes, re
from pathlib import Path
import torch
from torch import nn
from workflow_scripts.tuning.acceleration.packed import pack_frozen

layer = nn.Linear(64, 64).to(torch.bfloat16).requires_grad_(False)
pack_frozen(layer)

def resident():
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"VmRSS:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

def there_and_back(rows):
    states = torch.ones(rows, 64, dtype=torch.bfloat16, requires_grad={back})
    result = layer(states)
    if {back}:
        result.sum().backward()

for rows in range(100, 110):
    there_and_back(rows)
before = resident()
for rows in range(110, 170):
    there_and_back(rows)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not available(), reason="only oneDNN in bfloat16 caches something")
def test_the_backward_pass_of_a_frozen_layer_caches_nothing_more_for_a_new_shape():
    there = printed_by(KEPT.format(back=False))
    assert there > 60 * 100, "oneDNN caches nothing for a shape here"  # KiB
    assert printed_by(KEPT.format(back=True)) < 1.3 * there


# Random numbers


def test_a_batch_that_ran_out_of_memory_draws_the_random_numbers_of_one_that_was_smaller_at_once():
    def drawn(first: int) -> list[torch.Tensor]:
        def work(parts: list[np.ndarray]) -> list[torch.Tensor]:
            masks = [torch.stack([random_words(len(part)).float(), torch.rand(len(part))]) for part in parts]
            if len(parts[0]) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return masks

        seed_everything(3)
        micro_batches = MicroBatches(first)
        return [mask for _ in range(2) for mask in micro_batches.run(work, np.arange(16))]

    for found, expected in zip(drawn(16), drawn(4), strict=True):
        assert torch.equal(found, expected)


class Killed(BaseException):
    """Ends a training without a checkpoint, like SIGKILL."""


def test_a_kill_before_or_after_a_batch_that_did_not_fit_gives_the_same_bytes(tmp_path, monkeypatch):
    """Even if all batches fit after the kill, since the process that took the memory has ended."""
    encoder = save_encoder(tmp_path / "encoder", "bert")
    settings = tiny_settings(kind="tagging", epochs=2, batch_size=16, micro_batch_size=16, dropout=0.3)
    tokens, loss = random_tokens("tagging", 80), tagging.loss

    def trained(folder: str, fails: int = 0, killed: int = 0, every: float = 1e9) -> dict[str, torch.Tensor]:
        """Run out of memory in one forward pass, or die in one, counted from 1."""
        passes = itertools.count(1)

        def limited_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            number = next(passes)
            if number == fails:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            if number == killed:
                raise Killed
            return loss(logits, batch)

        monkeypatch.setattr(tagging, "loss", limited_loss)
        (model,) = build_together(encoder, settings, None, 1)
        checkpoint = Checkpoint(tmp_path / folder, "key", every)
        result = train([model], tokens, settings, [1e-2], lambda _: Validated({"f1": 1.0}, 1.0), checkpoint, CPU)
        return result.outcomes[0].weights()

    whole = trained("whole", fails=3)
    with pytest.raises(Killed):
        trained("before", killed=2, every=0)
    with pytest.raises(Killed):
        trained("after", fails=3, killed=7)
    for again in (trained("before", fails=2), trained("after")):
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_training_that_a_cluster_killed_for_memory_resumes_once_with_half_the_size_to_the_same_weights(
    tmp_path, caplog
):
    encoder = save_encoder(tmp_path / "encoder", "bert")
    settings = tiny_settings(kind="tagging", epochs=1, batch_size=16, precision="float32")
    tokens = random_tokens("tagging", 48)

    def trained(folder: str) -> tuple[int | None, dict[str, torch.Tensor]]:
        (model,) = build_together(encoder, settings, None, 1)
        checkpoint = Checkpoint(tmp_path / folder, "key", 1e9)
        result = train([model], tokens, settings, [1e-2], lambda _: Validated({"f1": 1.0}, 1.0), checkpoint, CPU)
        return result.state.micro_batch_size, result.outcomes[0].weights()

    size, whole = trained("whole")
    assert size == 16
    memory_kills.note(tmp_path / "killed")
    size, parts = trained("killed")
    assert size == 8 and not memory_kills.take(tmp_path / "killed")
    assert "killed for memory with 16 features per micro-batch; continuing with 8" in caplog.text
    assert trained("killed")[0] == 8  # as its checkpoint says
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
