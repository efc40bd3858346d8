"""Answers in words: the task's template turns a row into text, and the model's own output layer scores each answer.

Used instead of a kind's `model.py` where `answers` is `words`. A kind that supports it has a module `words.py` with the
same names, which says what its texts and answers are; everything else is here.

The score of an answer is the mean log-probability of its tokens (Brown et al., 2020, section 2.4):

* an encoder has one mask in the place of each token of the answer, and predicts them all at once (Schick and Schütze,
  2021, score tokens one after the other);
* a decoder predicts each token from the text before it; what follows the answer in the template is left out;
* of an encoder-decoder, the encoder reads the text before the answer, and the decoder predicts the answer.

What is predicted from the same inputs shares a feature: of a decoder the first tokens of all answers, of an encoder the
answers of the same length. Columns besides `row` and what the tokenizer gives:

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
from workflow_scripts.kinds.probability import softmax
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
        made = [_pieces(*parts, tokenizer, reads) for parts in filled]
        scored = [[token for piece in pieces for token in piece.scored] for pieces in made]
        if not all(scored):
            blank = question.answers[scored.index([])]
            raise UserError(f"tasks.{settings.task}: row {row['id']!r}: the tokenizer makes no token of {blank!r}")
        if min(place for pieces in made for piece in pieces for place in piece.read_at) < 0:
            raise UserError(
                f"tasks.{settings.task}.words.template: there is no token before {ANSWER}, from which a decoder could"
                " predict it: write a text before it"
            )
        for place, columns_of_feature in enumerate(_features(made)):
            columns.setdefault("row", []).append(number)
            columns.setdefault("first", []).append(int(place == 0))
            columns.setdefault("correct", []).append(question.correct)
            for name, value in columns_of_feature.items():
                columns.setdefault(name, []).append(value)
    return columns, {}


def around_answer(settings: TokeniseSettings, known: Collection[str]) -> tuple[str, str]:
    """The template's parts before and after the answer; only encoders read the second.

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
class _Piece:
    """Tokens of an answer that are predicted from the same inputs: what the model reads, where, and what is scored."""

    inputs: dict[str, list[int]]
    read_at: list[int]
    scored: list[int]


def _pieces(before: str, answer: str, after: str, tokenizer: Any, reads: str) -> list[_Piece]:
    """The tokens of an answer; a decoder predicts the first from a text that it may share with other answers."""
    if reads == "encoder-decoder":
        inputs = tokenizer(before.rstrip(), return_attention_mask=False)
        scored = tokenizer(answer.strip(), add_special_tokens=False)["input_ids"]
        rest = _Piece({**inputs, "decoder_ids": scored[:-1]}, list(range(1, len(scored))), scored[1:])
        return [_Piece({**inputs, "decoder_ids": []}, [0], scored[:1]), *([rest] if rest.scored else [])]
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
        stops = sorted({places[0], places[-1]}) if places else []  # the first token is predicted from the shorter text
        cut = [{name: values[:stop] for name, values in encoded.items()} | {"decoder_ids": []} for stop in stops]
        read_at = [place - 1 for place in places]
        first = [_Piece(inputs, read_at[:1], scored[:1]) for inputs in cut[:1]]
        return first + [_Piece(inputs, read_at[1:], scored[1:]) for inputs in cut[1:]]
    ids = list(encoded["input_ids"])
    for place in places:
        ids[place] = tokenizer.mask_token_id
    return [_Piece({**encoded, "input_ids": ids, "decoder_ids": []}, places, scored)]


def _features(answers: Sequence[Sequence[_Piece]]) -> list[dict[str, list[int]]]:
    """The columns of a row's features: one for each different input of the pieces of its answers."""
    inputs: dict[str, dict[str, list[int]]] = {}
    scored: dict[str, list[tuple[int, int, int]]] = {}  # place, token, answer
    for number, pieces in enumerate(answers):
        for piece in pieces:
            key = repr(sorted(piece.inputs.items()))
            inputs[key] = piece.inputs
            tokens = zip(piece.read_at, piece.scored, strict=True)
            scored.setdefault(key, []).extend((place, token, number) for place, token in tokens)
    features = []
    for key, found in scored.items():
        read_at = sorted({place for place, _, _ in found})
        # At least as long as there are answers, see `_scores`.
        filler = [NOTHING] * max(0, len(answers) - len(found))
        features.append(
            {
                **inputs[key],
                "read_at": read_at,
                "scored": [token for _, token, _ in found] + filler,
                "scored_at": [read_at.index(place) for place, _, _ in found] + [0] * len(filler),
                "choice": [answer for _, _, answer in found] + filler,
            }
        )
    return features


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
    """The mean log-probability of each answer of the row of each feature, and how many tokens the answer has.

    logits: (features, scored tokens). Both results: (features, answers), where there are as many answers as scored
    tokens, so that the shape does not depend on a value.
    """
    from torch.nn.functional import one_hot

    choice = batch["choice"]
    of_choice = one_hot(choice.clamp(min=0), choice.shape[1]) * (choice >= 0)[..., None]
    rows = batch["first"].cumsum(0)
    of_row = (rows[:, None] == rows[None, :]).float()
    counts = of_row @ of_choice.sum(1).float()
    return of_row @ (logits.float()[..., None] * of_choice).sum(1) / counts.clamp(min=1), counts


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Cross-entropy over the scores of each row's answers. logits: (features, scored tokens), log-probabilities.

    No tensor's shape depends on a value, so that a GPU can record the step.
    """
    import torch

    scores, counts = _scores(logits, batch)
    log_sums = scores.masked_fill(counts == 0, -torch.inf).logsumexp(1)
    losses = log_sums - scores.gather(1, batch["correct"][:, None])[:, 0]
    return (losses * batch["first"]).sum() / batch["first"].sum()  # each row once


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """The number of rows."""
    return int(batch["first"].sum())


def best_answers(logits: Sequence[np.ndarray], tokens: Tokens) -> dict[int, int]:
    """The best answer of each row, from 0, by the row's number. logits: (scored tokens,) or wider, of each feature."""
    means = _mean_scores(logits, tokens)
    return {row: max(sorted(scores), key=lambda answer: scores[answer]) for row, scores in means.items()}


def answer_probabilities(logits: Sequence[np.ndarray], tokens: Tokens, temperature: float) -> dict[int, list[float]]:
    """The probability of each answer among those of its row, by the row's number: the softmax of `loss`.

    logits: (scored tokens,) or wider, of each feature.
    """
    means = _mean_scores(logits, tokens)
    return {
        row: softmax(np.array([scores[answer] for answer in sorted(scores)]), temperature).tolist()
        for row, scores in means.items()
    }


def _mean_scores(logits: Sequence[np.ndarray], tokens: Tokens) -> dict[int, dict[int, float]]:
    """The mean log-probability of each answer, by the row's number, in ascending order."""
    found: dict[int, dict[int, list[float]]] = {}
    choices = tokens.ragged("choice")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        scores = found.setdefault(int(row), {})
        for answer, value in zip(choices[feature].tolist(), values, strict=False):
            if answer != NOTHING:
                scores.setdefault(answer, []).append(float(value))
    return {
        row: {answer: float(np.mean(values)) for answer, values in of_row.items()}
        for row, of_row in sorted(found.items())
    }
