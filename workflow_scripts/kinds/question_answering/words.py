"""Question answering by generation: the model continues the template's text with the answer, token by token.

Only decoders and encoder-decoders can. A row is one feature, without windows: beyond the room for it, the longest text,
in practice the context, is cut at its end. In training the answer is followed by the tokenizer's end token; the loss is
that of the next token, over the answer's tokens alone.

A prompt (what the model continues) is made without looking at the answer, and is the same for every split: it leaves
`new_tokens` of `max_length` free in a decoder, which reads the prompt and the answer as one text. An encoder-decoder's
encoder reads the prompt alone.

Columns besides `row`, `input_ids`:

* `prompt` (int32): how many of `input_ids` are the prompt; in a test set, all
* for training and validation `read_at`, `scored`, `scored_at` and `decoder_ids`, as in `kinds/words.py`
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import given
from workflow_scripts.kinds.protocol import Columns, Counts, OwnLength, Row
from workflow_scripts.kinds.question_answering.rows import ABSENT
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.kinds.words import HEAD_DROPOUT, LEVEL, NOTHING, Question, around_answer, fitted, outputs

if TYPE_CHECKING:
    import torch

__all__ = ["HEAD_DROPOUT", "LEVEL", "READ", "TARGETS", "TOGETHER", "counted", "decode", "loss", "outputs", "tokenise"]
TOGETHER = False
READ = {"read_at": OwnLength(0), "scored": OwnLength(NOTHING), "scored_at": OwnLength(0), "decoder_ids": OwnLength(0)}
TARGETS: dict[str, int | None] = {}
LINE_BREAK = "\n"


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """The prompt of each row and, for training and validation, its first gold answer.

    In training, rows are left out whose context, as cut, holds no gold answer. Counts `cut_texts` (rows with a text
    that is cut), `absent_answers` (rows without a gold answer in the context, before it is cut) and `cut_answers`
    (answers of more than `new_tokens` tokens, which have no end token then).

    Raises UserError for a model that cannot generate, a tokenizer without an end token, and where `max_length` leaves
    no room.
    """
    words, reads = given(settings.words, "words"), given(settings.reads, "reads")
    new_tokens = given(words.new_tokens, "words.new_tokens")
    if reads == "encoder":
        raise UserError(
            f"tasks.{settings.task}: found answers: words; an encoder of masked words cannot generate an answer: use a"
            " decoder or an encoder-decoder, or set answers to head"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"tasks.{settings.task}: the tokenizer has no end token, which a generated answer needs: name one as"
            " eos_token in tokenizer_config.json, or set answers to head"
        )
    if new_tokens >= settings.max_length:
        raise UserError(
            f"tasks.{settings.task}.words.new_tokens: {new_tokens} new tokens leave no room for a text in max_length"
            f" {settings.max_length}: lower the one or raise the other"
        )
    room = settings.max_length - (new_tokens if reads == "decoder" else 0)
    before, _ = around_answer(settings, ("context", "question"))
    columns: Columns = {"row": [], "input_ids": [], "prompt": []}
    if settings.split != "test":
        columns |= {name: [] for name in READ}
    counts = {"cut_texts": 0, "absent_answers": 0, "cut_answers": 0}
    for number, row in enumerate(rows):
        whole = {"context": row["context"], "question": row["question"].strip()}
        texts = fitted(Question(whole, [""], 0), before, "", tokenizer, settings, row["id"], room)
        text = before.format_map(texts)
        prompt = _prompt(text, tokenizer, reads)
        if not prompt:
            raise UserError(f"tasks.{settings.task}: row {row['id']!r}: the tokenizer makes no token of the text")
        answers = list(zip(row["answers"]["start"], row["answers"]["text"], strict=True))
        counts["cut_texts"] += any(texts[name] != whole[name] for name in texts)
        counts["absent_answers"] += all(start == ABSENT for start, _ in answers)
        if settings.split == "test":
            added: dict[str, Any] = {"row": number, "input_ids": prompt, "prompt": len(prompt)}
        else:
            length = len(texts.get("context", ""))
            held = [answer for start, answer in answers if start != ABSENT and start + len(answer) <= length]
            if settings.split == "train" and not held:
                continue
            answer = _answer(text, [*held, answers[0][1]][0], tokenizer, reads)
            counts["cut_answers"] += len(answer) >= new_tokens
            scored = [*answer, tokenizer.eos_token_id][:new_tokens]
            added = {"row": number, "prompt": len(prompt)} | _teacher_forced(prompt, scored, reads)
        for name, value in added.items():
            columns[name].append(value)
    if not columns["row"]:
        raise UserError(
            f"tasks.{settings.task}: no row of the training set has a gold answer in its context as cut to max_length"
            f" {settings.max_length}: raise it"
        )
    return columns, counts


def _prompt(text: str, tokenizer: Any, reads: str) -> list[int]:
    """The tokens that the model reads before an answer, for a decoder without the special tokens at the text's end."""
    encoded = tokenizer(text.rstrip())
    ids: list[int] = encoded["input_ids"]
    if reads == "encoder-decoder":
        return ids
    of_text = [place for place, part in enumerate(encoded.sequence_ids(0)) if part is not None]
    return ids[: of_text[-1] + 1] if of_text else ids


def _answer(text: str, answer: str, tokenizer: Any, reads: str) -> list[int]:
    """The tokens of an answer after the text. White space is a single space, because a line break ends an answer."""
    answer = " ".join(answer.split())
    if reads == "encoder-decoder":
        alone: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
        return alone
    # As a part of the whole text: most tokenizers count the space before a word as a part of it.
    encoded = tokenizer(text + answer, return_offsets_mapping=True)
    end = len(text.rstrip())
    return [
        token
        for token, part, (_, last) in zip(
            encoded["input_ids"], encoded.sequence_ids(0), encoded["offset_mapping"], strict=True
        )
        if part is not None and last > end
    ]


def _teacher_forced(prompt: list[int], scored: list[int], reads: str) -> dict[str, list[int]]:
    """The columns of a feature whose answer's tokens are each predicted from those before it."""
    decoder = reads == "decoder"
    first = len(prompt) - 1 if decoder else 0
    return {
        "input_ids": prompt + scored[:-1] if decoder else prompt,
        "read_at": list(range(first, first + len(scored))),
        "scored": scored,
        "scored_at": list(range(len(scored))),
        "decoder_ids": [] if decoder else scored[:-1],
    }


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """The mean negative log-probability of the answers' tokens. logits: (features, scored tokens), from OutputLayer."""
    shown = batch["scored"] != NOTHING
    return -(logits.float() * shown).sum() / shown.sum()


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """The number of the answers' tokens."""
    return int((batch["scored"] != NOTHING).sum())


def decode(answers: Sequence[str], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, str]:
    """The answer of each row. answers: the text of each feature, from `Writer`."""
    return {rows[row]["id"]: answer for row, answer in zip(tokens.plain("row"), answers, strict=True)}


class Writer:
    """Reads the text of an answer from its tokens.

    Attributes:
        ends: the tokens that end an answer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ends = {tokenizer.eos_token_id}

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether there is a line break after some text. One before all text may be the template's."""
        return LINE_BREAK in self._text(ids)

    def text(self, ids: Sequence[int]) -> str:
        """The first line of the text that is not blank, without the special tokens."""
        return self._text(ids).partition(LINE_BREAK)[0].strip()

    def _text(self, ids: Sequence[int]) -> str:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        text: str = self.tokenizer.decode(list(ids), **options)
        return text.lstrip()


@cache
def writer(folder: Path) -> Writer:
    """The writer for the tokenizer of an encoder's folder."""
    return Writer(load_tokenizer(folder))
