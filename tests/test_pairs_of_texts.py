"""The texts of a pair are always separated: by the tokenizer's special tokens, or else by a line break."""

from pathlib import Path
from typing import Any

import pytest
from language_models import byte_tokenizer
from paper_tasks import mini_rows
from step_settings import tokenising
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from workflow_scripts.kinds.classification import model as classification
from workflow_scripts.kinds.question_answering import model as question_answering
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tokenizer import load_tokenizer

TEMPLATES = ("none", "begin", "end")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for template in TEMPLATES:
        made[template] = tmp_path_factory.mktemp(template)
        byte_tokenizer(template).save_pretrained(made[template])
    return made


@pytest.fixture(scope="module")
def tokenizers(folders) -> dict[str, Any]:
    return {template: load_tokenizer(folder) for template, folder in folders.items()}


@pytest.mark.parametrize(
    ("template", "pair", "single"),
    [
        ("none", ["o", "n", "e", "Ċ", "t", "w", "o"], ["o", "n", "e"]),
        ("begin", ["<bos>", "o", "n", "e", "Ċ", "t", "w", "o"], ["<bos>", "o", "n", "e"]),
        ("end", ["o", "n", "e", "<eos>", "t", "w", "o", "<eos>"], ["o", "n", "e", "<eos>"]),
    ],
)
def test_a_line_break_separates_where_no_special_token_does(tokenizers, template, pair, single):
    tokenizer = tokenizers[template]
    assert tokenizer.convert_ids_to_tokens(tokenizer("one", "two")["input_ids"]) == pair
    assert tokenizer.convert_ids_to_tokens(tokenizer("one")["input_ids"]) == single
    assert tokenizer.num_special_tokens_to_add(pair=True) == len(pair) - 6
    assert tokenizer.num_special_tokens_to_add(pair=False) == len(single) - 3


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_separator_belongs_to_neither_text_and_is_never_cut(tokenizers, template):
    tokenizer = tokenizers[template]
    rows = [{"id": "1", "text": "a long first text " * 9, "text_pair": "and a second " * 9, "label": "0"}]
    columns, counts = classification.tokenise(rows, tokenizer, tokenising(labels=["0"], max_length=16))
    separator = "<eos>" if template == "end" else "Ċ"
    tokens = tokenizer.convert_ids_to_tokens(columns["input_ids"][0])
    assert len(tokens) == 16 and tokens.count(separator) == (2 if template == "end" else 1)
    assert counts["empty_texts"] == 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_pair_of_empty_texts_has_a_token(tokenizers, template):
    rows = [{"id": "1", "text": "", "text_pair": "", "label": "0"}]
    columns, counts = classification.tokenise(rows, tokenizers[template], tokenising(labels=["0"], max_length=16))
    assert columns["input_ids"][0] and counts["empty_texts"] == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_answers_and_words_keep_their_places(tokenizers, template):
    """The answers of the mini benchmark in all scripts, and the words of its sentences."""
    tokenizer = tokenizers[template]
    for language in ("en", "de", "ja", "zh"):
        rows = mini_rows("xquad", language, "test", 20)
        settings = tokenising(max_length=512, stride=64, split="validation")
        columns, _ = question_answering.tokenise(rows, tokenizer, settings)
        assert columns["row"] == list(range(len(rows)))
        names = ("start", "end", "offset_start", "offset_end")
        for row, first, last, starts, ends in zip(rows, *(columns[name] for name in names), strict=True):
            assert row["context"][starts[first] : ends[last]] == row["answers"]["text"][0]
        sentences = mini_rows("udpos", language, "test", 20)
        labels = sorted({tag for row in sentences for tag in row["tags"]})
        settings = tokenising(labels=labels, max_length=512, labelled_subword="first")
        columns, _ = tagging.tokenise(sentences, tokenizer, settings)
        for row, ids, words in zip(sentences, columns["input_ids"], columns["word"], strict=True):
            starts = [place for place, word in enumerate(words) if word >= 0]
            stop = len(ids) - (1 if template == "end" else 0)
            spans = zip(starts, [*starts[1:], stop], strict=True)
            assert [tokenizer.decode(ids[start:end]).strip() for start, end in spans] == row["tokens"]


def test_a_line_break_in_a_text_is_read_as_before(folders, tokenizers):
    plain = PreTrainedTokenizerFast.from_pretrained(folders["none"])
    assert tokenizers["none"]("two\nlines")["input_ids"] == plain("two\nlines")["input_ids"]


def test_without_a_token_for_a_line_break_the_texts_follow_each_other(tmp_path):
    """Fetching an encoder refuses such a tokenizer."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\n", "")
    tokenizer.save_pretrained(tmp_path)
    assert len(load_tokenizer(tmp_path)("one", "two")["input_ids"]) == 6
