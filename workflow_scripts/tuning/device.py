"""The device that a step runs on: selection, precision, random seeds and memory."""

import ctypes
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.machine import processor
from workflow_scripts.tuning.acceleration.dropout import seed_dropout
from workflow_scripts.tuning.gpus import claim_gpu

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def find_device() -> torch.device:
    """Return the GPU that the scheduler assigned to this job, or else a free one, or the CPU if there is no GPU."""
    claim_gpu()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def find_precision(wanted: str, device: torch.device) -> str:
    """Return the precision of matrix products, "bfloat16" or "float32": the given one, or the faster one for "auto".

    On a CPU the speed is measured, since instruction flags do not reveal it: relative to float32, bfloat16 took 1/10 of
    the time with Intel's AMX, 1/2 on an AMD Zen 4, 2 times as long on an Intel with AVX512_BF16 only, and 8 times as
    long without that.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        seconds = product_seconds()
        fast = seconds["bfloat16"] < seconds["float32"]
    return "bfloat16" if fast else "float32"


def check_precision(precision: str, device: torch.device, checkpoint: Path | None = None) -> None:
    """Raise UserError if the device cannot compute in the precision.

    `checkpoint` is that of a training that began in it on another device.
    """
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        gpu = device_name(device)
        if checkpoint is None:
            raise UserError(f"precision: bfloat16 is not supported by the GPU {gpu}: set training.precision to float32")
        raise UserError(
            f"the training began in bfloat16, which the GPU {gpu} does not support: resume it on another device, or"
            f" delete {checkpoint} to start over in float32"
        )


def product_seconds(rounds: int = 20) -> dict[str, float]:
    """Measure a matrix product of an encoder's size on the CPU: seconds by precision, the best of some rounds.

    The precisions alternate, so that other load on the machine slows both and the comparison is reproducible.
    """
    best = dict.fromkeys(("bfloat16", "float32"), float("inf"))
    operands = {}
    for name in best:
        dtype = getattr(torch, name)
        operands[name] = torch.ones(256, 256, dtype=dtype), torch.ones(256, 1024, dtype=dtype)
    for _ in range(rounds):
        for name, (states, matrix) in operands.items():
            started = time.perf_counter()
            torch.mm(states, matrix)
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def seed_everything(seed: int) -> None:
    """Seed the random number generators of PyTorch, NumPy and dropout."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    seed_dropout(seed)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next batch instead of returning it to the operating system.

    Otherwise every page is remapped for each batch, at up to 7 us: 8 % of fine-tuning's time. Peak memory rises by 1 %.
    Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest value that glibc accepts
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def memory_peak(device: torch.device) -> float:
    """Return this process's peak memory so far in MiB: GPU memory on a GPU, else resident memory."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    # On Linux, getrusage's ru_maxrss is inherited from the parent process at fork.
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text() if status.is_file() else "", re.MULTILINE)
    if found:
        return round(int(found[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # bytes on macOS
