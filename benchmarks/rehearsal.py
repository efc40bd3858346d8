"""A rehearsal at the paper's scale: a few training steps of each method on each task, with an encoder of the same size.

    make rehearsal          -> results/rehearsal.json

The encoder has random weights and XLM-R-large's shape (24 layers, width 1,024, 250,002 pieces, 560 M parameters). Batch
sizes and lengths are the paper's, and every text has the maximum length: the maximum cost of a step. Each task and
method runs in a process of its own, on a GPU if there is one. `peak_memory_mb` is the GPU's memory, or else the
process's. `seconds_a_step` is the fastest step, the first one excluded.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT, SETTINGS, run_json
from workflow_scripts.experiment.tasks import builtin

VOCABULARY = 250_002
# By task: the texts of a batch, and the tokens of a text.
TASKS = {"xnli": (32, 128), "pawsx": (32, 128), "udpos": (32, 128), "xquad": (8, 384), "tydiqa": (8, 384)}
PROMPT_LENGTHS = {"xnli": 32}  # the paper's; 16 elsewhere
METHODS = {"fine_tuning": 2e-5, "prompt_tuning": 5e-3}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, default=ROOT / "results/rehearsal.json", help="the file to write")
    result.add_argument("--steps", type=int, default=3, help="steps of each method on each task; default: 3")
    result.add_argument("--threads", type=int, default=2, help="CPU threads; default: 2")
    result.add_argument("--folder", type=Path, help="(for one rehearsal) the encoder's folder")
    result.add_argument("--task", choices=TASKS, help="(for one rehearsal) the task")
    result.add_argument("--method", choices=METHODS, help="(for one rehearsal) the method")
    return result


def main() -> None:
    """Run all rehearsals, each in its own process, or only one of them."""
    arguments = parser().parse_args()
    if arguments.task:
        print(json.dumps(rehearse(arguments)))
        return
    result: dict[str, dict[str, Any]] = {method: {} for method in METHODS}
    with tempfile.TemporaryDirectory(prefix="crossprompt-rehearsal-") as name:
        make_encoder(Path(name))
        for task in TASKS:
            for method in METHODS:
                words = ["--folder", name, "--task", task, "--method", method]
                words += ["--steps", arguments.steps, "--threads", arguments.threads]
                found = run_json("benchmarks.rehearsal", *words, threads=arguments.threads)
                result[method][task] = found
                print(
                    f"{task:7} {method:14} {found['seconds_a_step']:7.3f} s a step {found['peak_memory_mb']:8.0f} MiB"
                )
                sys.stdout.flush()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def make_encoder(folder: Path) -> None:
    """Write an encoder with random weights and XLM-R-large's shape."""
    import torch
    from transformers import AutoModel

    from benchmarks.estimate import XLM_R_LARGE, published_shape

    torch.manual_seed(0)
    AutoModel.from_config(published_shape(XLM_R_LARGE)()).save_pretrained(folder)


def rehearse(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one method on one task for a few steps; return time, memory and the number of tuned parameters."""
    import torch

    from workflow_scripts.tuning import loop
    from workflow_scripts.tuning.acceleration.embedding import ids_in
    from workflow_scripts.tuning.checkpoint import Checkpoint
    from workflow_scripts.tuning.device import find_device, find_precision, memory_peak
    from workflow_scripts.tuning.gradients import Gradients
    from workflow_scripts.tuning.model import build_together
    from workflow_scripts.tuning.settings import TrainingSettings

    torch.set_num_threads(arguments.threads)
    device, task, method = find_device(), arguments.task, arguments.method
    definition, (batch, length) = builtin(task), TASKS[task]
    keys: dict[str, Any] = {
        **SETTINGS,
        **{"task": task, "kind": definition.kind, "labels": definition.labels, "method": method},
        **{"prompt_length": 0, "max_length": length, "epochs": 1, "batch_size": batch},
        "precision": find_precision("auto", device),
    }
    if method == "prompt_tuning":
        keys |= {"prompt_length": PROMPT_LENGTHS.get(task, 16), "prompt_std": 0.02}
    settings = TrainingSettings(**keys)
    tokens = full_texts(definition.kind, len(definition.labels), batch * arguments.steps, length)
    ids = ids_in(tokens)
    models = [model.to(device) for model in build_together(arguments.folder, settings, ids, 1, ids)]
    ended: list[float] = []
    gradient = Gradients.compute

    def note_time() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        ended.append(time.perf_counter())

    def clocked(*arguments: Any) -> Any:
        note_time()
        return gradient(*arguments)

    def validate(model: Any) -> loop.Validated:
        note_time()
        return loop.Validated({"none": 0.0}, 0.0)

    Gradients.compute = clocked  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Checkpoint(Path(name), "rehearsal", every=1e9)
        checkpoint.save = lambda *_: None  # type: ignore[method-assign]
        loop.train(models, tokens, settings, [METHODS[method]], validate, checkpoint, device)
    seconds = [after - before for before, after in itertools.pairwise(ended)]
    return {
        "seconds_a_step": round(min(seconds[1:]), 4),
        "peak_memory_mb": memory_peak(device),
        "tuned_parameters": sum(parameter.numel() for parameter in models[0].tuned_parameters().values()),
    }


def full_texts(kind: str, labels: int, count: int, length: int) -> Any:
    """Return `count` features of random tokens, all of the given length, with targets of the kind."""
    import numpy as np

    from workflow_scripts.kinds.tokens import Ragged, Tokens

    random = np.random.default_rng(0)
    starts = np.arange(count + 1) * length
    # English text uses a tenth of the vocabulary.
    columns: dict[str, Any] = {
        "row": np.arange(count),
        "input_ids": Ragged(random.integers(5, VOCABULARY // 10, count * length).astype(np.int32), starts),
    }
    if kind == "classification":
        columns["label"] = random.integers(0, labels, count)
    elif kind == "tagging":
        columns["labels"] = Ragged(random.integers(0, labels, count * length).astype(np.int32), starts)
    else:
        columns |= {"start": random.integers(1, length - 9, count)}
        columns["end"] = columns["start"] + 3
    return Tokens(columns, {})


if __name__ == "__main__":
    main()
