"""Prediction speed of this project against the plain forward pass of transformers, alternating in one process.

    python -m benchmarks.prediction --folder FOLDER --threads N

`benchmarks.bench` prepares FOLDER. Prints one line of JSON: rows per second of each, and the ratio.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

TURNS = 3


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--folder", type=Path, required=True, help="encoder, tokens and runs")
    result.add_argument("--threads", type=int, required=True, help="CPU threads")
    return result


def main() -> None:
    """Measure both alternately and print the best of each."""
    import torch
    from transformers import AutoModel

    from workflow_scripts.kinds.tokens import read_tokens
    from workflow_scripts.tuning.batches import collate, prediction_batches
    from workflow_scripts.tuning.device import find_device
    from workflow_scripts.tuning.model import load_run
    from workflow_scripts.tuning.predict import BATCH_SIZE, logits

    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    device = find_device()
    tokens = read_tokens(arguments.folder / "few/tokens.json")
    model, settings = load_run(arguments.folder / "encoder", arguments.folder / "run-prompt_tuning", device, [tokens])
    plain = AutoModel.from_pretrained(arguments.folder / "encoder", attn_implementation="sdpa").eval()
    plain = plain.to(device, getattr(torch, settings.precision))

    def ours() -> None:
        logits(model, tokens, settings.precision, device)

    @torch.inference_mode()
    def theirs() -> None:
        for chosen in prediction_batches(tokens.ragged("input_ids").lengths(), BATCH_SIZE):
            plain(**collate(tokens, chosen, 1, {}, device)).last_hidden_state[:, 0].cpu()

    def speed(predict: Callable[[], None]) -> float:
        started = time.perf_counter()
        predict()
        return len(tokens) / (time.perf_counter() - started)

    turns = [(speed(ours), speed(theirs)) for _ in range(TURNS + 1)][1:]  # the first warms up
    best = {name: max(values) for name, values in zip(("ours", "plain"), zip(*turns, strict=True), strict=True)}
    rounded = {f"{name}_rows_per_second": round(value, 1) for name, value in best.items()}
    print(json.dumps(rounded | {"ratio_to_plain_forward": round(best["ours"] / best["plain"], 2)}))


if __name__ == "__main__":
    main()
