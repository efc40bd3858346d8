"""Extractive question answering (XQuAD, TyDiQA-GoldP): the first and the last token of the answer in a context.

A long context is cut into windows that overlap by `stride` tokens (128 in the paper's code), each with the whole
question before it. Adds the columns `offset_start` and `offset_end` (list of int32: the characters of the context that
a token covers, -1 outside the context) and, for training and validation, `start` and `end` (int32: the answer's
tokens; 0, the first token, where the window does not hold the answer). A question whose answer is not in its context is
left out of training, as in XTREME.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.question_answering.rows import ABSENT
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "token"
HEAD_DROPOUT = False  # as in transformers and the paper's code (model/question_answering.py)
TARGETS: dict[str, int | None] = {"start": None, "end": None}
TOGETHER = False
BEST = 20  # candidates for the answer's start and for its end (XTREME's n_best_size)
LONGEST_ANSWER = 30  # tokens (XTREME's max_answer_length)


def outputs(labels: Sequence[str]) -> int:
    """One logit for being the first token, one for being the last."""
    return 2


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """Each question becomes one feature per window.

    A question that leaves no room for its context is cut: to half of the room, so that windows advance by the other
    half. Counts `cut_questions`, `empty_texts` (rows with a question or a context that has no tokens) and
    `absent_answers` (rows without a gold answer in the context). Raises UserError if `max_length` and `stride` leave no
    room for any question.
    """
    stride = given(settings.stride, "stride")
    room = settings.max_length - stride - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 2:
        raise UserError(
            f"max_length {settings.max_length} and stride {stride} leave no room for a question: raise"
            " the one or lower the other"
        )
    questions = [row["question"].strip() for row in rows]
    lengths = [len(ids) for ids in tokenizer(questions, add_special_tokens=False)["input_ids"]]
    too_long = [number for number, length in enumerate(lengths) if length >= room]
    for number in too_long:
        questions[number] = _beginning(questions[number], tokenizer, room // 2)
    encoded = tokenizer(
        questions,
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=settings.max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    columns: Columns = {"row": encoded["overflow_to_sample_mapping"], "input_ids": encoded["input_ids"]}
    if "token_type_ids" in encoded:
        columns["token_type_ids"] = encoded["token_type_ids"]
    columns |= {"offset_start": [], "offset_end": []}
    whole: set[int] = set()  # rows with tokens of both texts
    for feature, number in enumerate(columns["row"]):
        context = rows[number]["context"]
        if {0, 1} <= set(encoded.sequence_ids(feature)):
            whole.add(number)
        starts, ends = [], []
        for part, (start, end) in zip(encoded.sequence_ids(feature), encoded["offset_mapping"][feature], strict=True):
            # Some tokenizers count the space before a word as a part of it; an answer does not begin with a space.
            while part == 1 and start < end and context[start].isspace():
                start += 1
            starts.append(start if part == 1 else -1)
            ends.append(end if part == 1 else -1)
        columns["offset_start"].append(starts)
        columns["offset_end"].append(ends)
    absent = {number for number, row in enumerate(rows) if set(row["answers"]["start"]) == {ABSENT}}
    counts = {
        "cut_questions": len(too_long),
        "empty_texts": len(rows) - len(whole),
        "absent_answers": len(absent),
    }
    if settings.split == "train":
        learnable = [feature for feature, number in enumerate(columns["row"]) if number not in absent]
        columns = {name: [values[feature] for feature in learnable] for name, values in columns.items()}
    if settings.split != "test":
        windows = list(zip(columns["row"], columns["offset_start"], columns["offset_end"], strict=True))
        covered: dict[int, set[tuple[int, int]]] = {}
        for number, starts, ends in windows:
            covered.setdefault(number, set()).update(zip(starts, ends, strict=True))
        answers = {number: _answer(rows[number]["answers"], tokens) for number, tokens in covered.items()}
        spans = [_span(*answers[number], starts, ends) for number, starts, ends in windows]
        columns |= {"start": [first for first, _ in spans], "end": [last for _, last in spans]}
    return columns, counts


def _beginning(text: str, tokenizer: Any, most: int) -> str:
    """Return the longest prefix of a text that ends at a token boundary and has at most `most` tokens on its own."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for _, end in reversed(offsets[:most]):
        # A beginning may have more tokens than it had within the text: half a word is rarely one piece.
        if len(tokenizer(text[:end], add_special_tokens=False)["input_ids"]) <= most:
            return text[:end]
    return ""


def _answer(answers: dict[str, list[Any]], tokens: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Where the first gold answer begins and ends, without characters at its edges that no token covers, as a space.

    The first one that is in the context; (0, 0), which no token covers, if none is.
    """
    present = zip(answers["start"], answers["text"], strict=True)
    begin, text = next(((start, text) for start, text in present if start != ABSENT), (0, ""))
    stop = begin + len(text)
    covering = [(start, end) for start, end in tokens if begin < end and 0 <= start < min(end, stop)]
    first, last = min((start for start, _ in covering), default=begin), max((end for _, end in covering), default=stop)
    return max(begin, first), min(stop, last)


def _span(begin: int, stop: int, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
    """The tokens that cover the answer, or (0, 0) where the window does not hold all of it."""
    inside = [position for position, start in enumerate(starts) if start >= 0 and ends[position] > start]
    covering = [position for position in inside if ends[position] > begin and starts[position] < stop]
    if not covering or starts[inside[0]] > begin or ends[inside[-1]] < stop:
        return 0, 0
    return covering[0], covering[-1]


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Return the mean of the cross-entropies of start and end. logits: (batch, tokens, 2); padding is masked."""
    from torch.nn.functional import cross_entropy

    # A large finite number, not -infinity: infinity times a zero gradient would be not a number.
    logits = logits.float().masked_fill(~batch["attention_mask"].bool().unsqueeze(-1), -1e4)
    start, end = logits.unbind(-1)
    return (cross_entropy(start, batch["start"]) + cross_entropy(end, batch["end"])) / 2


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """How many targets the mean loss of a batch is over."""
    return len(batch["input_ids"])


def decode(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, str]:
    """The text of the best span over all windows of a question. logits: one array (tokens, 2) a feature."""
    best = _best_characters(logits, tokens, rows)
    return {row["id"]: row["context"][start:end] for row, (start, end) in zip(rows, best, strict=True)}


def places(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row]) -> dict[str, tuple[str, int, int]]:
    """Where each answer is: the column, the first character, and the one after the last."""
    best = _best_characters(logits, tokens, rows)
    return {row["id"]: ("context", start, end) for row, (start, end) in zip(rows, best, strict=True)}


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, float]:
    """The probability of each answer's span among all spans of at most `LONGEST_ANSWER` tokens in all windows.

    A span's probability is proportional to `exp((start + end) / temperature)`. Windows overlap: a span that is in
    several of them has the sum of its probabilities. 0 where no span is allowed.
    """
    best = _best_characters(logits, tokens, rows)
    scores: list[list[np.ndarray]] = [[] for _ in rows]  # of all spans
    of_best: list[list[np.ndarray]] = [[] for _ in rows]
    offset_starts, offset_ends = tokens.ragged("offset_start"), tokens.ragged("offset_end")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        starts, ends = offset_starts[feature], offset_ends[feature]
        inside = (starts >= 0) & (ends > starts)
        start, end = values.astype(np.float64).T / temperature
        for further in range(min(LONGEST_ANSWER, len(inside))):
            first, last = slice(0, len(inside) - further), slice(further, None)
            allowed = inside[first] & inside[last]
            sums = (start[first] + end[last])[allowed]
            is_best = (starts[first][allowed] == best[row][0]) & (ends[last][allowed] == best[row][1])
            scores[row].append(sums)
            of_best[row].append(sums[is_best])
    return {row["id"]: _share(of_best[number], scores[number]) for number, row in enumerate(rows)}


def _share(some: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> float:
    """The sum of the exponentials of some scores, as a share of that of all; 0 if there are none."""
    if not any(values.size for values in some):
        return 0.0
    highest = max(values.max() for values in scores if values.size)
    part, whole = (sum(float(np.exp(values - highest).sum()) for values in of) for of in (some, scores))
    return part / whole


def _best_characters(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row]) -> list[tuple[int, int]]:
    """The characters of the context that the best span of each row covers; (0, 0) where no span is allowed."""
    best, characters = [-np.inf] * len(rows), [(0, 0)] * len(rows)
    offset_starts, offset_ends = tokens.ragged("offset_start"), tokens.ragged("offset_end")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        starts, ends = offset_starts[feature], offset_ends[feature]
        span = best_span(values[:, 0], values[:, 1], inside=(starts >= 0) & (ends > starts))
        if span and span[0] > best[row]:
            best[row], characters[row] = span[0], (int(starts[span[1]]), int(ends[span[2]]))
    return characters


def best_span(start: np.ndarray, end: np.ndarray, inside: np.ndarray) -> tuple[float, int, int] | None:
    """The (score, first token, last token) with the highest sum of logits; None where no span is allowed.

    start, end, inside: (tokens,). Only tokens inside the context count, the `BEST` best starts and ends, and spans of
    at most `LONGEST_ANSWER` tokens.
    """
    allowed = np.flatnonzero(inside)
    firsts = allowed[np.argsort(-start[allowed], kind="stable")[:BEST]]
    lasts = allowed[np.argsort(-end[allowed], kind="stable")[:BEST]]
    lengths = lasts[None, :] - firsts[:, None] + 1
    sums = np.where((lengths >= 1) & (lengths <= LONGEST_ANSWER), start[firsts][:, None] + end[lasts][None, :], -np.inf)
    if not sums.size or sums.max() == -np.inf:
        return None
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    return float(sums[first, last]), int(firsts[first]), int(lasts[last])
