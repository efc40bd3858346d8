"""How fast this machine is at training operations, measured in about a second.

    python -m workflow_scripts.console.probe --threads 1 --jobs 2

Multiplies matrices in the shape of an encoder's layer, in the precision that a training would choose, in as many
threads as jobs will run at once: cores that share memory or power slow each other down. On a GPU one job has the whole
device. It also compiles some Python code, to estimate how fast steps start. Load from other programs is assumed to be
permanent.

Prints JSON: `operations` (floating-point operations a second of one job), `python` (relative to the machine that
`costs.py` was measured on), `precision`, `device`.
"""

import argparse
import inspect
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from workflow_scripts.console.costs import Speed

SHAPES = {"cpu": (512, 384, 1536), "cuda": (4096, 1024, 4096)}  # tokens, width, inner width
SECONDS = 0.6  # of matrix products
PYTHON_SECONDS = 0.5  # of compiling
COMPILED = 0.0105  # seconds to compile argparse on the machine that the constants of costs.py were measured on


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of one job; default: 1")
    parser.add_argument("--jobs", type=int, default=1, help="that run at once; default: 1")
    parser.add_argument("--precision", default="auto", help="bfloat16, float32 or auto, the default")
    arguments = parser.parse_args()
    print(json.dumps(asdict(measured(arguments.threads, arguments.jobs, arguments.precision))))


def measured(threads: int, jobs: int, precision: str) -> Speed:
    """The speed of one of several jobs that run at once, each with several threads."""
    import torch

    from workflow_scripts.tuning.device import find_precision

    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = find_precision(precision, device)
    if device.type == "cuda":
        operations = products(device, found)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            speeds = list(pool.map(lambda _: products(device, found), range(jobs)))
        operations = sum(speeds) / len(speeds)
    return Speed(operations, COMPILED / compiling(), found, device.type)


def products(device: Any, precision: str) -> float:
    """Floating-point operations a second of matrix products of one encoder layer's shapes, on a `torch.device`."""
    import torch

    dtype = getattr(torch, precision)
    tokens, width, inner = SHAPES[device.type]
    states = torch.ones(tokens, width, dtype=dtype, device=device)
    up = torch.ones(width, inner, dtype=dtype, device=device)
    down = torch.ones(inner, width, dtype=dtype, device=device)
    rounds, done, started = 8, 0, time.perf_counter()
    with torch.no_grad():
        while (passed := time.perf_counter() - started) < SECONDS:
            for _ in range(rounds):
                torch.mm(torch.mm(states, up), down)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += rounds
    return done * 2 * 2 * tokens * width * inner / passed


def compiling() -> float:
    """Seconds to compile a module of the standard library, the mean of many times."""
    source, rounds, started = inspect.getsource(argparse), 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < PYTHON_SECONDS or not rounds:
        compile(source, "argparse.py", "exec")
        rounds += 1
    return passed / rounds


if __name__ == "__main__":
    main()
