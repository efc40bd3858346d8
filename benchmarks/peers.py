"""One training with the Hugging Face Trainer, and PEFT's prefix tuning for prompts: the contestants of `bench`.

    python -m benchmarks.peers --encoder FOLDER --tokens FOLDER --method fine_tuning --recipe usual

Prints one line of JSON: `examples_per_second` (after three warm-up steps), `peak_memory_mb`, `loss` (mean of the last
ten steps). The recipes:

* usual: float32, every text padded to the maximum length
* best_flags: bfloat16 autocast if the settings say so, batches grouped by length and padded to their longest text,
  fused AdamW

The Trainer groups texts by length within 50 batches; the recipe best_flags runs one complete group.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

WARM_UP = 3  # steps
STEPS = {"usual": 10, "best_flags": 50}  # steps of the usual recipe all have the same shape, so few are enough
LOGGED = 10  # steps between two logged losses


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--encoder", type=Path, required=True, help="the encoder's folder")
    result.add_argument("--tokens", type=Path, required=True, help="the folder of the training tokens")
    result.add_argument("--method", choices=["fine_tuning", "prompt_tuning"], required=True, help="the tuning method")
    result.add_argument("--recipe", choices=["usual", "best_flags"], required=True, help="see above")
    result.add_argument(
        "--settings", type=json.loads, required=True, metavar="JSON", help="settings of the step `train`"
    )
    result.add_argument("--learning-rate", type=float, required=True, help="the peak of the schedule")
    return result


def main() -> None:
    """Train and print speed, memory and loss."""
    import torch
    from datasets import load_from_disk
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from benchmarks.clock import Clock
    from workflow_scripts.tuning.device import find_device, memory_peak

    arguments = parser().parse_args()
    device = find_device()
    settings: dict[str, Any] = arguments.settings
    best = arguments.recipe == "best_flags"
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    batch_size = settings["batch_size"]
    tokens = load_from_disk(str(arguments.tokens)).remove_columns("row")
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.encoder,
        num_labels=len(settings["labels"]),
        attn_implementation="sdpa",
        hidden_dropout_prob=settings["dropout"],
        attention_probs_dropout_prob=settings["dropout"],
        classifier_dropout=settings["dropout"],
    )
    if arguments.method == "prompt_tuning":
        from peft import PrefixTuningConfig, get_peft_model

        prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=settings["prompt_length"])
        model = get_peft_model(model, prefix)

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                use_cpu=device.type == "cpu",
                per_device_train_batch_size=batch_size,
                learning_rate=arguments.learning_rate,
                weight_decay=0.0,
                max_grad_norm=settings["gradient_clipping"],
                lr_scheduler_type="linear",
                bf16=best and settings["precision"] == "bfloat16",
                optim="adamw_torch_fused" if best else "adamw_torch",
                train_sampling_strategy="group_by_length" if best else "random",
                save_strategy="no",
                report_to="none",
                logging_steps=LOGGED,
                disable_tqdm=True,
                seed=settings["seed"],
            ),
            train_dataset=tokens,
            data_collator=DataCollatorWithPadding(
                tokenizer,
                padding="longest" if best else "max_length",
                max_length=None if best else settings["max_length"],
            ),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        for steps in (WARM_UP, STEPS[arguments.recipe]):
            trainer.args.max_steps = steps
            trainer.train()
    result = {
        "examples_per_second": round(steps * batch_size / (clock.ended - clock.begun), 2),
        "peak_memory_mb": memory_peak(device),
        "loss": next(line["loss"] for line in reversed(trainer.state.log_history) if "loss" in line),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
