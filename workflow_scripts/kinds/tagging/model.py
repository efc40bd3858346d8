"""Tagging (UD-POS): one tag per word, predicted from the vector of one of its subwords.

That is the first one, as in XTREME and the paper (`labelled_subword: first`). With SentencePiece vocabularies it is
often a bare word-start marker in languages that are written without spaces, the same for every word;
`labelled_subword: first_visible` skips it. In a decoder only the last subword has read the whole word.

Adds the columns `labels` (list of int32: the tag at a word's labelled subword, IGNORED elsewhere) and `word` (list of
int32: the word's number at its labelled subword, -1 elsewhere).
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.kinds.probability import softmax
from workflow_scripts.kinds.protocol import IGNORED, Columns, Counts, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokenizer import around_text
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "token"
HEAD_DROPOUT = True
TARGETS: dict[str, int | None] = {"labels": IGNORED}
TOGETHER = False


def outputs(labels: Sequence[str]) -> int:
    """One logit per tag."""
    return len(labels)


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """Each sentence becomes one feature; one of more than `max_length` tokens is cut between words into several.

    So every word gets a prediction, as the metric requires. Of a single word that is too long, only the first subwords
    that fit are kept, and always the labelled one. Counts `cut_words` and `empty_words` (words for which the tokenizer
    has no subword: a placeholder carries their tag).
    """
    labels = {label: index for index, label in enumerate(settings.labels)}
    before, after = around_text(tokenizer)
    space = _before_word(tokenizer)
    room = settings.max_length - len(before) - len(after)
    # The pieces that show nothing: a bare word-start marker.
    invisible = (
        {number for piece, number in tokenizer.get_vocab().items() if not piece.strip("\u2581\u0120 ")}
        if settings.labelled_subword == "first_visible"
        else set()
    )
    placeholder = _placeholder(tokenizer)
    columns: Columns = {"row": [], "input_ids": [], "labels": [], "word": []}
    counts: Counts = {"cut_words": 0, "empty_words": 0}
    for number, row in enumerate(rows):
        # Words are tokenised separately, as in XTREME: no token then spans two words, with any tokenizer.
        texts = [space * (place > 0) + word for place, word in enumerate(row["tokens"])]
        pieces = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        counts["cut_words"] += sum(len(ids) > room for ids in pieces)
        counts["empty_words"] += sum(not ids for ids in pieces)
        # A word of characters that the tokenizer drops (a lone zero-width mark) still needs a place for its tag.
        words = [_fitted(ids or placeholder, settings.labelled_subword == "last", invisible, room) for ids in pieces]
        for window in _windows([len(ids) for ids, _ in words], room):
            ids = [*before, *(piece for word in window for piece in words[word][0]), *after]
            tag_row, word_row = [IGNORED] * len(ids), [-1] * len(ids)
            position = len(before)
            for word in window:
                subwords, labelled = words[word]
                tag_row[position + labelled] = labels[row["tags"][word]]
                word_row[position + labelled] = word
                position += len(subwords)
            columns["row"].append(number)
            columns["input_ids"].append(ids)
            columns["labels"].append(tag_row)
            columns["word"].append(word_row)
    return columns, counts


def _fitted(ids: list[int], last: bool, invisible: Collection[int], room: int) -> tuple[list[int], int]:
    """At most `room` subwords of a word, and the place of the labelled one: the last, or the first that is visible."""
    visible = (place for place, number in enumerate(ids) if number not in invisible)
    labelled = len(ids) - 1 if last else next(visible, 0)
    if labelled < room:
        return ids[:room], labelled
    return [*ids[: room - 1], ids[labelled]], room - 1


def _before_word(tokenizer: Any) -> str:
    """The prefix that makes a word part of running text: a space if that belongs to the word's subword.

    XLM-R's tokenizer marks the start of a lone word and BERT's marks none; byte-level BPE and Gemma's, which is
    mmBERT's, treat a word without a space as the continuation of the previous word.
    """
    first, second, running = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b", "a b"))
    return "" if running == first + second else " "


def _placeholder(tokenizer: Any) -> list[int]:
    """One token for a word for which the tokenizer has none: the unknown token, or else a full stop or a letter."""
    if tokenizer.unk_token_id is not None:
        return [tokenizer.unk_token_id]
    stop, letter = tokenizer([".", "a"], add_special_tokens=False)["input_ids"]
    return (stop or letter)[:1]


def _windows(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Cut words of these lengths, each at most `room`, into runs of at most `room` subwords."""
    window: list[int] = []
    used = 0
    for word, length in enumerate(lengths):
        if used + length > room:
            yield window
            window, used = [], 0
        window.append(word)
        used += length
    yield window


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Cross-entropy over labelled subwords. logits: (batch, tokens, tags)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """How many targets the mean loss of a batch is over."""
    return int((batch["labels"] != IGNORED).sum())


def decode(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]
) -> dict[str, list[str]]:
    """The tag of the highest logit at each word's labelled subword. logits: one array (tokens, tags) a feature."""
    predictions = {row["id"]: [""] * len(row["tokens"]) for row in rows}
    words = tokens.ragged("word")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        word = words[feature]
        for position in np.flatnonzero(word >= 0):
            predictions[rows[row]["id"]][word[position]] = labels[int(values[position].argmax())]
    return predictions


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, list[float]]:
    """The probability of each word's predicted tag. logits: one array (tokens, tags) a feature."""
    found = {row["id"]: [0.0] * len(row["tokens"]) for row in rows}
    words = tokens.ragged("word")
    for feature, (row, values) in enumerate(zip(tokens.plain("row"), logits, strict=True)):
        word = words[feature]
        labelled = np.flatnonzero(word >= 0)
        of_row = found[rows[row]["id"]]
        for place, value in zip(word[labelled], softmax(values[labelled], temperature).max(-1).tolist(), strict=True):
            of_row[place] = value
    return found
