"""One fine-tuning with the Hugging Face Trainer and its predictions: the reference for `benchmarks.compare_trainer`.

    python -m benchmarks.trainer_run --settings JSON --encoder FOLDER --train FOLDER --tests FOLDER... --output FOLDER

Each test folder contains `tokens/` and `rows.parquet`; its predictions are written to OUTPUT/NAME.parquet. The model is
the library's own class for the task, trained in float32 with fused AdamW, a linear schedule and batches grouped by
length. Prediction is the model's plain forward pass. Only the tokens, the padding of test batches and the decoding of
logits are this project's; both sides share them. Prints one line of JSON: `seconds` of the training steps, `loss` (mean
of the last epoch).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# By kind of task: the library's class, and its names for the target columns.
CLASSES = {
    "tagging": ("AutoModelForTokenClassification", {}),
    "classification": ("AutoModelForSequenceClassification", {"label": "labels"}),
    "question_answering": ("AutoModelForQuestionAnswering", {"start": "start_positions", "end": "end_positions"}),
}
BATCH_SIZE = 64  # of prediction


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "--settings", type=json.loads, required=True, metavar="JSON", help="settings of the step `train`"
    )
    result.add_argument("--learning-rate", type=float, required=True, help="the peak of the schedule")
    result.add_argument("--encoder", type=Path, required=True, help="the encoder's folder")
    result.add_argument("--train", type=Path, required=True, help="the folder of the training tokens")
    result.add_argument("--tests", type=Path, nargs="+", required=True, help="folders of the test sets")
    result.add_argument("--output", type=Path, required=True, help="the folder for the predictions")
    return result


def main() -> None:
    """Train, write the predictions and print time and loss."""
    import torch

    from workflow_scripts.corpora.schema import read_rows, write_predictions
    from workflow_scripts.kinds import part
    from workflow_scripts.kinds.tokens import read_tokens

    arguments = parser().parse_args()
    settings: dict[str, Any] = arguments.settings
    torch.set_num_threads(settings["threads"])
    model, outcome = train(settings, arguments.learning_rate, arguments.encoder, arguments.train)
    kind = part(settings["kind"], "model")
    for test in arguments.tests:
        tokens, rows = read_tokens(test / "tokens/tokens.json"), read_rows(test / "rows.parquet", settings["kind"])
        predictions = kind.decode(logits(model, tokens, settings["kind"]), tokens, rows, settings["labels"])
        write_predictions(arguments.output / f"{test.name}.parquet", predictions)
    print(json.dumps(outcome))


def train(settings: dict[str, Any], learning_rate: float, encoder: Path, tokens: Path) -> tuple[Any, dict[str, float]]:
    """Train with the Trainer; return the model, and the seconds and loss."""
    import transformers
    from datasets import load_from_disk
    from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

    from benchmarks.clock import Clock
    from workflow_scripts.tuning.device import find_device

    name, columns = CLASSES[settings["kind"]]
    set_seed(settings["seed"])
    dropout = settings["dropout"]
    options = {} if settings["kind"] == "question_answering" else {"num_labels": len(settings["labels"])}
    model = getattr(transformers, name).from_pretrained(
        encoder,
        attn_implementation="sdpa",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        classifier_dropout=dropout,
        **options,
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    collator = (
        transformers.DataCollatorForTokenClassification(tokenizer)
        if settings["kind"] == "tagging"
        else transformers.DataCollatorWithPadding(tokenizer)
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                use_cpu=find_device().type == "cpu",
                num_train_epochs=settings["epochs"],
                per_device_train_batch_size=settings["batch_size"],
                learning_rate=learning_rate,
                weight_decay=settings["weight_decay"],
                max_grad_norm=settings["gradient_clipping"],
                lr_scheduler_type="linear",
                optim="adamw_torch_fused",
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                report_to="none",
                logging_strategy="epoch",
                disable_tqdm=True,
                seed=settings["seed"],
            ),
            train_dataset=load_from_disk(str(tokens)).rename_columns(columns),
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return model, {"seconds": round(clock.ended - clock.started, 2), "loss": losses[-1]}


def logits(model: Any, tokens: Any, kind: str) -> list[np.ndarray]:
    """Return one array per feature from a plain forward pass: (outputs,) for pairs, else (tokens, outputs)."""
    import torch

    from workflow_scripts.tuning.batches import collate, prediction_batches

    model.eval()
    lengths = tokens.ragged("input_ids").lengths()
    result: list[np.ndarray] = [np.empty(0)] * len(tokens)
    with torch.inference_mode():
        for chosen in prediction_batches(lengths, BATCH_SIZE):
            output = model(**collate(tokens, chosen, model.config.pad_token_id, {}, model.device))
            values = (
                torch.stack((output.start_logits, output.end_logits), -1)
                if kind == "question_answering"
                else output.logits
            )
            for index, row in zip(chosen, values.float().cpu().numpy(), strict=True):
                result[index] = row if kind == "classification" else row[: lengths[index]]
    return result


if __name__ == "__main__":
    main()
