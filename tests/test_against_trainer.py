"""Fine-tuning against the Hugging Face Trainer: without dropout, both take the same steps on the same batches."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny import LABELS, PADDING, VOCABULARY, in_memory, random_columns
from tiny import settings as tiny_settings
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from workflow_scripts.kinds.protocol import IGNORED, Columns
from workflow_scripts.tuning import loop
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.batches import training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import TunedModel, build
from workflow_scripts.tuning.predict import logits
from workflow_scripts.tuning.settings import TrainingSettings

CPU = torch.device("cpu")
FEATURES, LEARNING_RATE, CLIPPING = 44, 3e-3, 0.8  # the last batch of an epoch is smaller than the others
CLASSES = {
    "tagging": "AutoModelForTokenClassification",
    "classification": "AutoModelForSequenceClassification",
    "question_answering": "AutoModelForQuestionAnswering",
}
TARGETS = {
    "tagging": {"labels": "labels"},
    "classification": {"label": "labels"},
    "question_answering": {"start": "start_positions", "end": "end_positions"},
}
# Our head's linear layers, and the library's. Its BERT has the dense layer of the head in the encoder.
HEADS = {
    ("tagging", "bert"): {"1": "classifier"},
    ("tagging", "xlm-roberta"): {"1": "classifier"},
    ("classification", "bert"): {"1": "bert.pooler.dense", "4": "classifier"},
    ("classification", "xlm-roberta"): {"1": "classifier.dense", "4": "classifier.out_proj"},
    ("question_answering", "bert"): {"1": "qa_outputs"},
    ("question_answering", "xlm-roberta"): {"1": "qa_outputs"},
}


def collated(columns: Columns, chosen: np.ndarray, kind: str) -> dict[str, torch.Tensor]:
    """A batch in the form of the library's models, padded to its longest text."""
    texts = [torch.tensor(columns["input_ids"][index]) for index in chosen]
    batch = {
        "input_ids": pad_sequence(texts, batch_first=True, padding_value=PADDING),
        "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
    }
    for name, theirs in TARGETS[kind].items():
        targets = [torch.tensor(columns[name][index]) for index in chosen]
        batch[theirs] = (
            pad_sequence(targets, batch_first=True, padding_value=IGNORED)
            if kind == "tagging"
            else torch.stack(targets)
        )
    return batch


def reference(folder: Path, kind: str, name: str, ours: TunedModel, dropout: float = 0.0) -> Any:
    """The library's model for the task, with the head's values of ours."""
    model = getattr(transformers, CLASSES[kind]).from_pretrained(
        folder,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        classifier_dropout=dropout,
        num_labels=len(LABELS[kind]) or 2,
    )
    for mine, theirs in HEADS[kind, name].items():
        model.get_submodule(theirs).load_state_dict(ours.head.get_submodule(mine).state_dict())
    return model


def train_by_trainer(model: Any, batches: list[np.ndarray], columns: Columns, kind: str, settings: TrainingSettings):
    """The log of each step: loss, gradient norm before clipping, learning rate."""

    class OnTheseBatches(transformers.Trainer):
        def get_train_dataloader(self) -> DataLoader:
            return DataLoader(
                range(FEATURES), batch_sampler=batches, collate_fn=lambda chosen: collated(columns, chosen, kind)
            )

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=len(batches),
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="linear",
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.gradient_clipping,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = OnTheseBatches(model=model, args=arguments, train_dataset=range(FEATURES))
        trainer.train()
    return [line for line in trainer.state.log_history if "grad_norm" in line]


def outputs(model: Any, kind: str, **inputs: torch.Tensor) -> torch.Tensor:
    """The library's logits, in the shape of ours."""
    output = model(**inputs)
    if kind == "question_answering":
        return torch.stack((output.start_logits, output.end_logits), -1)
    return output.logits


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "name"), HEADS)
def test_fine_tuning_takes_the_steps_of_the_trainer(encoders, monkeypatch, tmp_path, kind, name, weight_decay):
    """Loss, gradient norm, learning rate of each of 12 steps, then weights and logits.

    The norm is clipped in some steps and not in others. With weight decay the whole embedding table is trained, without
    it the rows that the texts touch. The library's loss of question answering includes padding, which ours leaves out,
    so those texts have one length. A constant added to all logits of a text changes neither loss nor answer; Adam moves
    it by rounding errors alone, so it is not compared.
    """
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    settings = tiny_settings(kind=kind, method="fine_tuning", weight_decay=weight_decay, gradient_clipping=CLIPPING)
    columns = random_columns(kind, FEATURES, longest=5 if kind == "question_answering" else 20)
    tokens = in_memory(columns)
    seed_everything(settings.seed)
    ours = build(encoders[name], settings, ids_in(tokens))
    theirs = reference(encoders[name], kind, name, ours)
    words = theirs.get_input_embeddings().weight
    before = words.detach().clone()

    checkpoint = Checkpoint(tmp_path, "key", every=60)
    validate = lambda model: loop.Validated({"accuracy": 50.0}, 1.0)  # noqa: E731
    (outcome,) = loop.train([ours], tokens, settings, [LEARNING_RATE], validate, checkpoint, CPU).outcomes
    lengths = tokens.ragged("input_ids").lengths()
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in training_batches(lengths, settings.batch_size, settings.seed, epoch)
    ]
    log = train_by_trainer(theirs, batches, columns, kind, settings)

    norms = [line["gradient_norm"] for line in outcome.lines]
    assert min(norms) < settings.gradient_clipping < max(norms)
    assert norms == pytest.approx([line["grad_norm"] for line in log], rel=1e-4)
    for mine, its, error in (("loss", "loss", 1e-5), ("learning_rate", "learning_rate", 1e-9)):
        assert [line[mine] for line in outcome.lines] == pytest.approx([line[its] for line in log], abs=error)
    theirs.eval()
    for found, ids in zip(logits(ours, tokens, settings.precision, CPU), columns["input_ids"], strict=True):
        expected = outputs(theirs, kind, input_ids=torch.tensor([ids]))[0].detach().numpy()
        if kind == "question_answering":
            found, expected = found - found.mean(0), expected - expected.mean(0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert (words != before).any()
    words_of_ours = ours.encoder.get_input_embeddings()(torch.arange(VOCABULARY))
    torch.testing.assert_close(words_of_ours, words, rtol=0, atol=1e-4)
    for mine, its in HEADS[kind, name].items():
        head, its_head = ours.head.get_submodule(mine), theirs.get_submodule(its)
        torch.testing.assert_close(head.weight, its_head.weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", CLASSES)
def test_dropout_spreads_logits_as_in_the_librarys_model_for_the_task(encoders, kind):
    """6,000 copies of a text with independent masks: each logit's mean and deviation agree. XLM-R's heads are ours."""
    settings = tiny_settings(kind=kind, method="fine_tuning", dropout=0.1)
    seed_everything(settings.seed)
    ours = build(encoders["xlm-roberta"], settings, touched=None)
    with torch.no_grad():
        for parameter in ours.head.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))  # as fresh, they would drown the head's dropout
    theirs = reference(encoders["xlm-roberta"], kind, "xlm-roberta", ours, dropout=0.1)
    batch = {"input_ids": torch.tensor([[0, 11, 23, 42, 17, 2]]).repeat(6000, 1)}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    one, other = ours.train()(batch).detach(), outputs(theirs.train(), kind, **batch).detach()
    error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 5
    torch.testing.assert_close(one.std(0), other.std(0), rtol=0.06, atol=0)
