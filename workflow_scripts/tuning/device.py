"""The device that a step computes on, its random numbers and its memory."""

import ctypes
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

from workflow_scripts.experiment.machine import processor
from workflow_scripts.tuning.dropout import seed_dropout
from workflow_scripts.tuning.gpus import claim_gpu

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def find_device() -> torch.device:
    """The GPU that the scheduler gave to this job, or one that no other job holds; the CPU where there is none."""
    claim_gpu()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What the device is called: the GPU, or the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def find_precision(wanted: str, device: torch.device) -> str:
    """The precision of matrix products, bfloat16 or float32: as wanted, or for "auto" the device's faster one.

    A processor says which instructions it has and not how fast they are: bfloat16 took a tenth of float32's time with
    Intel's AMX, half of it on an AMD Zen 4, twice on an Intel with AVX512_BF16 alone, and eight times without that.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        seconds = product_seconds()
        fast = seconds["bfloat16"] < seconds["float32"]
    return "bfloat16" if fast else "float32"


def product_seconds(rounds: int = 20) -> dict[str, float]:
    """The time of a matrix product of an encoder's size on the CPU, in either precision.

    The best of some rounds, in turns: what else the machine does then slows both, and the choice is the same each time.
    """
    best = dict.fromkeys(("bfloat16", "float32"), float("inf"))
    operands = {}
    for name in best:
        dtype = getattr(torch, name)
        operands[name] = torch.ones(256, 256, dtype=dtype), torch.ones(256, 1024, dtype=dtype)
    for _ in range(rounds):
        for name, (states, matrix) in operands.items():
            begun = time.perf_counter()
            torch.mm(states, matrix)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def seed_everything(seed: int) -> None:
    """Fix the initial values, the order of the data and the dropout masks."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    seed_dropout(seed)


def keep_freed_memory() -> None:
    """Have glibc hold on to what is freed, for the next batch, which takes as much again.

    Else it gives the end of the heap back whenever that is large, and every page comes anew at up to 7 us: 8 % of the
    time of fine-tuning, whose peak rises by 1 %. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the greatest that it takes
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def memory_peak(device: torch.device) -> float:
    """The highest memory use of this process so far, in MiB: the GPU's where there is one, else resident memory."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    # What `getrusage` says begins on Linux at the peak of the process that started this one.
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text() if status.is_file() else "", re.MULTILINE)
    if found:
        return round(int(found[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # bytes on macOS
