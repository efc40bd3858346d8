"""Tagging (UD-POS): one tag a word, read off the vector of one of the word's subwords.

That is the first one, as in XTREME and the paper (`labelled_subword: first`). With SentencePiece vocabularies it is
often a bare word-start marker in languages that are written without spaces, the same for every word;
`labelled_subword: first_visible` passes over it.

Adds the columns `labels` (list of int32: the tag at a word's labelled subword, IGNORED elsewhere) and `word` (list of
int32: the word's number at its labelled subword, -1 elsewhere).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.corpora.schema import Row
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.tasks import IGNORED
from workflow_scripts.tasks.tokens import Columns, Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "token"
HEAD_DROPOUT = True
TARGETS: dict[str, int | None] = {"labels": IGNORED}


def outputs(labels: Sequence[str]) -> int:
    """One logit a tag."""
    return len(labels)


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: dict[str, Any]) -> Columns:
    """Each sentence becomes one feature; one of more than `max_length` tokens is cut between words into several.

    So every word gets a prediction, as the metric asks for. Raises UserError for a word that alone is too long.
    """
    labels = {label: index for index, label in enumerate(settings["labels"])}
    before, after = _around(tokenizer)
    space = _before_word(tokenizer)
    room = settings["max_length"] - len(before) - len(after)
    # The pieces that show nothing: a bare word-start marker.
    invisible = (
        {number for piece, number in tokenizer.get_vocab().items() if not piece.strip("\u2581\u0120 ")}
        if settings["labelled_subword"] == "first_visible"
        else set()
    )
    columns: Columns = {"row": [], "input_ids": [], "labels": [], "word": []}
    for number, row in enumerate(rows):
        # Each word by itself, as XTREME does: a tokenizer without a marker for word starts still keeps words apart.
        texts = [space * (place > 0) + word for place, word in enumerate(row["tokens"])]
        pieces = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        # A word of characters that the tokenizer drops (a lone zero-width mark) still needs a place for its tag.
        pieces = [ids or [tokenizer.unk_token_id] for ids in pieces]
        for words in _windows([len(ids) for ids in pieces], room):
            if not words:
                raise UserError(f"a word of sentence {row['id']!r} has more than {room} subwords: raise max_length")
            window = [pieces[word] for word in words]
            firsts = [labels[row["tags"][word]] for word in words]
            ids = [*before, *(piece for word in window for piece in word), *after]
            tag_row, word_row = [IGNORED] * len(ids), [-1] * len(ids)
            position = len(before)
            for word, first, piece in zip(words, firsts, window, strict=True):
                visible = next((place for place, number in enumerate(piece) if number not in invisible), 0)
                tag_row[position + visible], word_row[position + visible] = first, word
                position += len(piece)
            columns["row"].append(number)
            columns["input_ids"].append(ids)
            columns["labels"].append(tag_row)
            columns["word"].append(word_row)
    return columns


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that stand before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(place for place in range(len(full)) if full[place : place + len(plain)] == plain)
    return full[:start], full[start + len(plain) :]


def _before_word(tokenizer: Any) -> str:
    """What a word needs before it to be the word of a running text: a space where that is a part of the word's subword.

    XLM-R's tokenizer marks the start of a lone word and BERT's marks none; byte-level BPE and Gemma's, which is
    mmBERT's, take a word without a space for the rest of the word before.
    """
    first, second, running = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b", "a b"))
    return "" if running == first + second else " "


def _windows(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Cut words of these lengths into runs of at most `room` subwords; an empty run stands for a word too long."""
    window: list[int] = []
    used = 0
    for word, length in enumerate(lengths):
        if length > room:
            yield []
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
