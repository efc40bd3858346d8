"""One training with the Hugging Face Trainer, and PEFT's prefix tuning or LoRA: the contestants of `bench`.

    python -m benchmarks.peers --encoder FOLDER --tokens FOLDER --method fine_tuning --recipe usual

Prints one line of JSON: `examples_per_second` (after three warm-up steps), `peak_memory_mb`, `loss` (mean of the last
ten steps). The recipes:

* usual: float32, every text padded to the maximum length
* best_flags: bfloat16 autocast if the settings say so, with frozen weights loaded in bfloat16; batches grouped by
  length and padded to their longest text; fused AdamW

The Trainer groups texts by length within 50 batches, or within a quarter of the rows if that is less, and starts with
the longest; the recipe best_flags runs one complete group.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

METHODS = ("fine_tuning", "prompt_tuning", "lora")
WARM_UP = 3  # steps
USUAL_STEPS = 10  # all have the same shape, so few are enough
GROUP = 50  # batches that the Trainer groups by length, at most
# The probabilities of dropout in the configurations of BERT's family and of decoders.
DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "attention_dropout")
LOGGED = 10  # steps between two logged losses


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--encoder", type=Path, required=True, help="the encoder's folder")
    result.add_argument("--tokens", type=Path, required=True, help="the folder of the training tokens")
    result.add_argument("--method", choices=METHODS, required=True, help="the tuning method")
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
        AutoConfig,
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
    half = best and settings["precision"] == "bfloat16"
    config = AutoConfig.from_pretrained(arguments.encoder, num_labels=len(settings["labels"]))
    for name in DROPOUT:
        if hasattr(config, name):
            setattr(config, name, settings["dropout"])
    config.pad_token_id = tokenizer.pad_token_id
    # A model that is trained as a whole must be in float32.
    frozen = arguments.method != "fine_tuning"
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.encoder,
        config=config,
        attn_implementation="sdpa",
        dtype=torch.bfloat16 if half and frozen else torch.float32,
    )
    if frozen:
        model = with_peft(model, arguments.method, settings)

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
                bf16=half,
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
        for steps in (WARM_UP, min(GROUP, len(tokens) // 4 // batch_size) if best else USUAL_STEPS):
            trainer.args.max_steps = steps
            trainer.train()
    result = {
        "examples_per_second": round(steps * batch_size / (clock.ended - clock.started), 2),
        "peak_memory_mb": memory_peak(device),
        "loss": next(line["loss"] for line in reversed(trainer.state.log_history) if "loss" in line),
    }
    print(json.dumps(result))


def with_peft(model: Any, method: str, settings: dict[str, Any]) -> Any:
    """Return the model with PEFT's prefix tuning or LoRA; its new parameters are in float32."""
    from peft import LoraConfig, PrefixTuningConfig, get_peft_model

    if method == "prompt_tuning":
        config: Any = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=settings["prompt_length"])
    else:
        config = LoraConfig(
            task_type="SEQ_CLS",
            r=settings["lora_rank"],
            lora_alpha=settings["lora_alpha"],
            lora_dropout=settings["lora_dropout"],
            target_modules=settings["lora_targets"],
        )
    return get_peft_model(model, config)


if __name__ == "__main__":
    main()
