"""Answers in words: a row is put as a text by the task's template, and the model's own output layer scores each answer.

Used instead of a kind's `model.py` where `answers` is `words`. A kind that supports it has a module `words.py` with the
same names, which says what its texts and answers are; everything else is here.

The score of an answer is the mean log-probability of its tokens (Brown et al., 2020, section 2.4):

* an encoder has one mask in the place of each token of the answer, and predicts them all at once (Schick and Schütze,
  2021, score tokens one after the other);
* a decoder predicts each token from the text before it; what follows the answer in the template is left out;
* of an encoder-decoder, the encoder reads the text before the answer, and the decoder predicts the answer.

If all answers to a row are single tokens after the same text, one feature scores them all; else each answer is a
feature of its own. Columns besides `row` and what the tokenizer gives:

* `first` (1 for the first feature of a row, else 0) and `correct` (which answer is correct, from 0)
* `read_at`: where the output layer reads, (positions,)
* `scored`, `scored_at`, `choice`: tokens of answers, the index in `read_at` where each is scored, and its answer, each
  (scored tokens,)
* `decoder_ids`: what the decoder of an encoder-decoder has read before the last token of the answer, (tokens,); empty
  for other models
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.kinds.protocol import Columns, Counts, OwnLength, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.template import ANSWER, fields
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "words"
HEAD_DROPOUT = False
TOGETHER = True
NOTHING = -1  # fills `scored` and `choice`
READ = {
    "read_at": OwnLength(0),
    "scored": OwnLength(NOTHING),
    "scored_at": OwnLength(0),
    "choice": OwnLength(NOTHING),
    "decoder_ids": OwnLength(0),
}
TARGETS: dict[str, int | None] = {"first": None, "correct": None}


@dataclass(frozen=True)
class Question:
    """A row as text.

    Attributes:
        texts: the value of each field of the template besides the answer.
        answers: the possible answers.
        correct: which one is correct, from 0.
    """

    texts: Mapping[str, str]
    answers: Sequence[str]
    correct: int


def outputs(labels: Sequence[str]) -> int:
    """Not used: the output layer is the pretrained model's."""
    return 0


def tokenise_questions(
    rows: Sequence[Row], questions: Sequence[Question], tokenizer: Any, settings: TokeniseSettings
) -> tuple[Columns, Counts]:
    """The columns of the features of each row, in the order of its answers.

    Beyond `max_length` tokens, the text that has most tokens is cut at its end. Raises UserError, naming the row, where
    that leaves no room for the template and the answer.
    """
    reads = given(settings.reads, "reads")
    if reads == "encoder" and tokenizer.mask_token_id is None:
        raise UserError(f"tasks.{settings.task}: the tokenizer has no mask token, which answers: words needs")
    before, after = around_answer(settings, questions[0].texts)
    columns: Columns = {}
    for number, (row, question) in enumerate(zip(rows, questions, strict=True)):
        texts = fitted(question, before, after, tokenizer, settings, row["id"], settings.max_length)
        filled = [(before.format_map(texts), answer, after.format_map(texts)) for answer in question.answers]
        made = [_feature(*parts, tokenizer, reads) for parts in filled]
        blank = next((answer for feature, (_, answer, _) in zip(made, filled, strict=True) if not feature.scored), None)
        if blank is not None:
            raise UserError(f"tasks.{settings.task}: row {row['id']!r}: the tokenizer makes no token of {blank!r}")
        if min(feature.read_at[0] for feature in made) < 0:
            raise UserError(
                f"tasks.{settings.task}.words.template: there is no token before {ANSWER}, from which a decoder could"
                " predict it: write a text before it"
            )
        for place, columns_of_feature in enumerate(_joined(made)):
            columns.setdefault("row", []).append(number)
            columns.setdefault("first", []).append(int(place == 0))
            columns.setdefault("correct", []).append(question.correct)
            for name, value in columns_of_feature.items():
                columns.setdefault(name, []).append(value)
    return columns, {}


def around_answer(settings: TokeniseSettings, known: Collection[str]) -> tuple[str, str]:
    """The template's parts before and after the answer; other models than encoders do not read the second.

    known: the fields that the rows have. Raises UserError for a template that needs others, or that the model would not
    read completely.
    """
    reads = given(settings.reads, "reads")
    before, after = given(settings.words, "words").template.split(ANSWER)
    if reads != "encoder":
        if "{" in after:
            raise UserError(
                f"tasks.{settings.task}.words.template: a {reads} does not read the texts after {ANSWER}: put it at the"
                " end"
            )
        after = ""
    if missing := next((name for name in fields(before + after) if name not in known), None):
        raise UserError(
            f"tasks.{settings.task}.words.template: rows of this task have no {missing}: delete {{{missing}}}"
        )
    return before, after


@dataclass(frozen=True)
class _Feature:
    """A text with one answer: the columns that the encoder reads, and where each token of the answer is predicted."""

    inputs: dict[str, list[int]]
    read_at: list[int]
    scored: list[int]


def _feature(before: str, answer: str, after: str, tokenizer: Any, reads: str) -> _Feature:
    if reads == "encoder-decoder":
        inputs = tokenizer(before.rstrip(), return_attention_mask=False)
        scored = tokenizer(answer.strip(), add_special_tokens=False)["input_ids"]
        return _Feature({**inputs, "decoder_ids": scored[:-1]}, list(range(len(scored))), scored)
    encoded = tokenizer(before + answer + after, return_offsets_mapping=True, return_attention_mask=False)
    offsets, parts = encoded.pop("offset_mapping"), encoded.sequence_ids(0)
    start, stop = len(before), len(before) + len(answer)
    places = [
        place
        for place, (first, last) in enumerate(offsets)
        if parts[place] is not None and first < stop and last > start and last > first
    ]
    scored = [encoded["input_ids"][place] for place in places]
    if reads == "decoder":
        inputs = {name: values[: places[-1]] for name, values in encoded.items()} if places else dict(encoded)
        return _Feature({**inputs, "decoder_ids": []}, [place - 1 for place in places] or [0], scored)
    ids = list(encoded["input_ids"])
    for place in places:
        ids[place] = tokenizer.mask_token_id
    return _Feature({**encoded, "input_ids": ids, "decoder_ids": []}, places or [0], scored)


def _joined(features: Sequence[_Feature]) -> list[dict[str, list[int]]]:
    """The columns of a row's features: of one for all answers if they are read in the same place of the same text."""
    first = features[0]
    if all(len(one.scored) == 1 and (one.inputs, one.read_at) == (first.inputs, first.read_at) for one in features):
        count = len(features)
        scored = [token for one in features for token in one.scored]
        return [_columns(first, scored, [0] * count, list(range(count)), count)]
    return [
        _columns(one, one.scored, list(range(len(one.scored))), [choice] * len(one.scored), len(features))
        for choice, one in enumerate(features)
    ]


def _columns(
    feature: _Feature, scored: list[int], scored_at: list[int], choice: list[int], answers: int
) -> dict[str, list[int]]:
    """The columns of a feature; the last three lists are at least as long as there are answers, see `_scores`."""
    missing = max(0, answers - len(scored))
    return {
        **feature.inputs,
        "read_at": feature.read_at,
        "scored": scored + [NOTHING] * missing,
        "scored_at": scored_at + [0] * missing,
        "choice": choice + [NOTHING] * missing,
    }


def fitted(
    question: Question, before: str, after: str, tokenizer: Any, settings: TokeniseSettings, row: str, room: int
) -> dict[str, str]:
    """The texts, cut so that the template fits into `room` tokens with every answer.

    The text that has most tokens is cut at its end. Raises UserError that names the row if that is not enough.
    """
    texts = {name: question.texts[name] for name in fields(before + after)}
    while True:
        filled = [before.format_map(texts) + answer + after.format_map(texts) for answer in question.answers]
        excess = max(map(len, tokenizer(filled)["input_ids"])) - room
        if excess <= 0:
            return texts
        encoded = tokenizer(list(texts.values()), add_special_tokens=False, return_offsets_mapping=True)
        offsets = dict(zip(texts, encoded["offset_mapping"], strict=True))
        longest = max(offsets, key=lambda name: len(offsets[name]))
        text = texts[longest]
        if not text:
            raise UserError(
                f"tasks.{settings.task}.max_length: {room} tokens leave no room for the template and the answers of"
                f" row {row!r}: raise it"
            )
        kept = offsets[longest][: max(0, len(offsets[longest]) - excess)]
        end = kept[-1][1] if kept else 0
        texts[longest] = text[: min(end, len(text) - 1)]  # tokens of one character's bytes end in the same place


def _scores(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The mean log-probability of each answer in each feature, and how many of its tokens the feature has.

    logits: (features, scored tokens). Both results: (features, answers), where there are as many answers as scored
    tokens, so that the shape does not depend on a value.
    """
    from torch.nn.functional import one_hot

    choice = batch["choice"]
    of_choice = one_hot(choice.clamp(min=0), choice.shape[1]) * (choice >= 0)[..., None]
    counts = of_choice.sum(1)
    return (logits.float()[..., None] * of_choice).sum(1) / counts.clamp(min=1), counts


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Cross-entropy over the scores of each row's answers. logits: (features, scored tokens), log-probabilities.

    No tensor's shape depends on a value, so that a GPU can record the step.
    """
    import torch

    scores, counts = _scores(logits, batch)
    rows = batch["first"].cumsum(0)
    of_row = (rows[:, None] == rows[None, :])[..., None] & (counts > 0)[None]  # (feature, feature, answer)
    log_sums = scores[None].expand(of_row.shape).masked_fill(~of_row, -torch.inf).flatten(1).logsumexp(1)
    correct = batch["correct"][:, None]
    has_correct = counts.gather(1, correct)[:, 0] > 0
    losses = torch.where(has_correct, log_sums - scores.gather(1, correct)[:, 0], 0.0)
    return losses.sum() / batch["first"].sum()


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """The number of rows."""
    return int(batch["first"].sum())


def best_answers(logits: Sequence[np.ndarray], tokens: Tokens) -> dict[int, int]:
    """The best answer of each row, from 0, by the row's number. logits: (scored tokens,) or wider, of each feature."""
    found: dict[int, dict[int, float]] = {}
    choices = tokens.ragged("choice")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        choice = choices[feature]
        scores = found.setdefault(int(row), {})
        for answer in np.unique(choice[choice != NOTHING]):
            scores[int(answer)] = float(values[: len(choice)][choice == answer].mean())
    return {row: max(scores, key=lambda answer: scores[answer]) for row, scores in sorted(found.items())}
