"""The device that a step computes on, its random numbers and its memory."""

import resource
import sys

import numpy as np
import torch

from workflow_scripts.tuning.dropout import seed_dropout
from workflow_scripts.tuning.gpus import claim_gpu


def find_device() -> torch.device:
    """The GPU that the scheduler gave to this job, or one that no other job holds; the CPU where there is none."""
    claim_gpu()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Fix the initial values, the order of the data and the dropout masks."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    seed_dropout(seed)


def memory_peak(device: torch.device) -> float:
    """The highest memory use of this process so far, in MiB: the GPU's where there is one, else resident memory."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # bytes on macOS, KiB on Linux
