"""The memory of real training steps on a CPU beside that of simulated ones (`benchmarks.simulation`).

    python -m benchmarks.memory                               # two layers of an 8B Llama, random weights
    python -m benchmarks.memory --folder /models/smollm2-135m # a checkpoint

Each method is trained for two steps, with and without gradient checkpointing, in a process of its own. The memory of
the process is read from the kernel: at the peak of loading, after it (`weights`), and at the peak of the second step
(`peak`), each minus the memory before. As on a GPU, frozen matrices are not packed, and attention is PyTorch's fused
one. `loading` includes pages of the checkpoint's file, which the kernel can drop.
"""

import argparse
import gc
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.bench import SETTINGS, run_json

LLAMA_8B = {
    **{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size": 1000},
}
METHODS = {"prompt_tuning": 20, "lora": 0, "llama_adapter": 10, "fine_tuning": 0}  # the length of the prompts
COLUMNS = ("loading", "weights", "simulated_weights", "peak", "simulated_peak")
WARM = 8  # tokens of a first step, which loads libraries


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--folder", type=Path, help="a checkpoint instead of random layers of an 8B Llama")
    result.add_argument("--layers", type=int, default=2, help="layers of the 8B Llama; default: 2")
    result.add_argument("--texts", type=int, default=4, help="texts of a batch; default: 4")
    result.add_argument("--length", type=int, default=256, help="tokens of a text; default: 256")
    result.add_argument("--methods", nargs="+", choices=METHODS, default=["prompt_tuning", "lora"])
    result.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    result.add_argument("--quantise", choices=("nf4", "int8"))
    result.add_argument("--threads", type=int, default=2, help="CPU threads; default: 2")
    result.add_argument("--method", choices=METHODS, help="(for one measurement) the method")
    result.add_argument("--checkpointing", action="store_true", help="(for one measurement) gradient checkpointing")
    return result


def main() -> None:
    """Measure each method in its own process, or one of them in this one."""
    arguments = parser().parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory(prefix="crossprompt-memory-") as name:
        folder = arguments.folder or make_llama(Path(name), arguments.layers)
        print(f"{'MB':34} {'loading':>8} {'weights':>8} {'simulated':>9} {'peak':>8} {'simulated':>9}")
        for method in arguments.methods:
            for checkpointing in (False, True):
                words = ["--folder", folder, "--method", method, "--texts", arguments.texts]
                words += ["--length", arguments.length, "--precision", arguments.precision]
                words += ["--quantise", arguments.quantise] if arguments.quantise else []
                words += ["--checkpointing"] if checkpointing else []
                found = run_json("benchmarks.memory", *words, threads=arguments.threads)
                title = f"{method}{', checkpointing' if checkpointing else ''}"
                numbers = [found[key] / 1e6 for key in COLUMNS]
                print(f"{title:34} {{:8.0f}} {{:8.0f}} {{:9.0f}} {{:8.0f}} {{:9.0f}}".format(*numbers), flush=True)


def make_llama(folder: Path, layers: int) -> Path:
    """Write some layers of an 8B Llama with random bfloat16 weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    values = {key: value for key, value in LLAMA_8B.items() if key != "model_type"}
    config = AutoConfig.for_model(str(LLAMA_8B["model_type"]), num_hidden_layers=layers, **values)
    torch.manual_seed(0)
    AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def measure(arguments: argparse.Namespace) -> dict[str, int]:
    """Train a method for two steps; return bytes, measured and simulated."""
    import torch
    from transformers import AutoConfig

    from benchmarks.simulation import FusedAttention, simulate
    from workflow_scripts.tuning import model as tuned_model
    from workflow_scripts.tuning.acceleration import packed
    from workflow_scripts.tuning.backbone import attention
    from workflow_scripts.tuning.device import seed_everything
    from workflow_scripts.tuning.loop import build_optimizer
    from workflow_scripts.tuning.predict import lower_precision
    from workflow_scripts.tuning.settings import TrainingSettings

    torch.set_num_threads(arguments.threads)
    settings = TrainingSettings(**settings_of(arguments))
    cpu, texts, length = torch.device("cpu"), arguments.texts, arguments.length
    # First, so that what it imports is not counted as the model's.
    simulated = simulate(lambda: AutoConfig.from_pretrained(arguments.folder), settings, texts, length)
    gc.collect()
    seed_everything(1)
    torch.mm(torch.ones(64, 64, dtype=torch.bfloat16), torch.ones(64, 64, dtype=torch.bfloat16))

    def step(length: int) -> None:
        batch = {name: torch.ones(texts, length, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        with lower_precision(cpu, settings.precision):
            (logits,) = tuned_model.forward_together([model], batch)
            loss = logits.float().square().mean()
        del logits
        loss.backward()
        model.remove_prompts()
        optimizer.step()
        optimizer.zero_grad()

    before = held()
    forget_peak()
    with (
        mock.patch.object(packed, "available", lambda: False),
        mock.patch.object(attention, "PlainAttention", FusedAttention),
    ):
        (model,) = tuned_model.build_together(arguments.folder, settings, None, 1)
        model.train()
        loading, weights = held("VmHWM"), held()
        optimizer = build_optimizer(model, 1e-4, settings, cpu)
        step(WARM)
        forget_peak()
        step(length)
    return {
        "loading": loading - before,
        "weights": weights - before,
        "simulated_weights": simulated.weights,
        "peak": held("VmHWM") - before,
        "simulated_peak": simulated.peak,
    }


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a training on single texts."""
    method = arguments.method
    keys: dict[str, Any] = SETTINGS | {"method": method, "prompt_length": METHODS[method], "dropout": 0.0}
    keys |= {"max_length": arguments.length, "precision": arguments.precision, "quantise": arguments.quantise}
    keys |= {"gradient_checkpointing": arguments.checkpointing, "epochs": 1, "batch_size": arguments.texts}
    keys |= {"prompt_std": 0.02} if method == "prompt_tuning" else {}
    keys |= {"lora_rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.0} if method == "lora" else {}
    return keys


def held(key: str = "VmRSS") -> int:
    """Return the bytes that this process holds; with `VmHWM`, the most that it held."""
    found = re.search(rf"^{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Reset the kernel's record of peak memory, `VmHWM`."""
    fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
    try:
        os.write(fd, b"5")
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
