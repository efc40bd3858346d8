"""Texts are always read as text, whatever they contain and whatever was saved with the tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from paper_tasks import MINI_LANGUAGES, mini_rows
from step_settings import tokenising
from tokenizer_kinds import KINDS, trained
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.classification import model as classification
from workflow_scripts.kinds.question_answering import model as question_answering
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tokenizer import load_tokenizer

SPELLED = ("</s>", "<s>", "<mask>", "<pad>", "<unk>", "[SEP]", "[CLS]", "<|endoftext|>", "<0x41>", "<extra>")
TEMPLATES = ("{}", "one {} two", "one{}two", "{}{}", "({})")
XLM_R = "XLM-R's"
TOKENIZERS = (XLM_R, *KINDS, "WordPiece split at spaces alone")


def texts() -> list[str]:
    rows = [row for language in MINI_LANGUAGES for row in mini_rows("xquad", language, "test", 60)]
    return [row[field] for row in rows for field in ("context", "question")]


@pytest.fixture(scope="module")
def folders(bundled_encoder, tmp_path_factory) -> dict[str, Path]:
    """A saved tokenizer of each kind, with separate mask and end-of-text tokens."""
    made = {XLM_R: bundled_encoder}
    for name in TOKENIZERS[1:]:
        tokenizer = trained(name.removesuffix(" split at spaces alone"), texts())
        if name not in KINDS:
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens({"mask_token": "<mask>", "extra_special_tokens": ["<|endoftext|>", "[SEP]"]})
        made[name] = tmp_path_factory.mktemp("tokenizer")
        tokenizer.save_pretrained(made[name])
    return made


@pytest.fixture(scope="module")
def tokenizers(folders) -> dict[str, Any]:
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


def special_ids(tokenizer: Any) -> set[int]:
    """All special ids except the unknown token's, which may occur in a text."""
    return {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(["<|endoftext|>"])} - {tokenizer.unk_token_id}


def specials_in(ids: list[int], tokenizer: Any) -> list[int]:
    return [number for number in ids if number in special_ids(tokenizer)]


def spelled() -> list[str]:
    return [template.format(*[token] * template.count("{}")) for token in SPELLED for template in TEMPLATES]


def test_the_library_alone_would_read_them_as_special_tokens(folders):
    """The behaviour that the rest of this file guards against; otherwise passing tests would prove nothing."""
    as_it_comes = AutoTokenizer.from_pretrained(folders[XLM_R])
    split = AutoTokenizer.from_pretrained(folders[XLM_R], split_special_tokens=True)
    for tokenizer in (as_it_comes, split):
        assert tokenizer.eos_token_id in tokenizer("one </s> two", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_special_tokens_in_the_texts_of_a_pair_are_text(tokenizers, name):
    tokenizer = tokenizers[name]
    pairs = [{"id": text, "text": text, "text_pair": "two " + text, "label": "0"} for text in ["plain", *spelled()]]
    columns, _ = classification.tokenise(pairs, tokenizer, tokenising(labels=["0"], max_length=128))
    template = specials_in(columns["input_ids"][0], tokenizer)
    assert len(template) == tokenizer.num_special_tokens_to_add(pair=True)
    for row, ids in zip(pairs, columns["input_ids"], strict=True):
        assert specials_in(ids, tokenizer) == template, row["id"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_special_tokens_that_are_words_of_a_sentence_are_words(tokenizers, name):
    tokenizer = tokenizers[name]
    row = {"id": "1", "tokens": ["one", *SPELLED, "two"], "tags": ["X"] * (len(SPELLED) + 2)}
    settings = tokenising(labels=["X"], max_length=512, labelled_subword="first")
    columns, _ = tagging.tokenise([row], tokenizer, settings)
    (ids,), (words,) = columns["input_ids"], columns["word"]
    assert len(specials_in(ids, tokenizer)) == tokenizer.num_special_tokens_to_add(pair=False)
    assert [word for word in words if word >= 0] == list(range(len(row["tokens"])))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_special_tokens_around_an_answer_are_text_and_leave_it_in_its_place(tokenizers, name):
    tokenizer = tokenizers[name]
    rows = []
    for text in spelled():
        context = f"{text} The museum opens on Monday {text} in the old town. {text}"
        answers = {"text": ["Monday"], "start": [context.index("Monday")]}
        rows.append({"id": text, "context": context, "question": f"When {text}?", "answers": answers})
    settings = tokenising(max_length=256, stride=64, split="validation")
    columns, _ = question_answering.tokenise(rows, tokenizer, settings)
    assert columns["row"] == list(range(len(rows)))
    for row, *feature in zip(rows, *(columns[key] for key in ("input_ids", "offset_start", "offset_end")), strict=True):
        ids, starts, ends = feature
        assert len(specials_in(ids, tokenizer)) == tokenizer.num_special_tokens_to_add(pair=True), row["id"]
        covered = {place for start, end in zip(starts, ends, strict=True) for place in range(start, end)}
        visible = {place for place, character in enumerate(row["context"]) if not character.isspace()}
        assert visible <= covered, row["id"]
    for row, starts, ends, first, last in zip(
        rows, *(columns[key] for key in ("offset_start", "offset_end", "start", "end")), strict=True
    ):
        assert row["context"][starts[first] : ends[last]] == "Monday"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_without_special_tokens_are_read_as_the_library_reads_them(tokenizers, folders, name):
    library = AutoTokenizer.from_pretrained(folders[name])
    assert tokenizers[name](texts())["input_ids"] == library(texts())["input_ids"]


def test_a_mask_that_tokenizer_json_lists_as_an_ordinary_token_is_text_too(folders, tmp_path):
    name = "byte-level BPE"
    for file in folders[name].iterdir():
        content = file.read_text(encoding="utf-8")
        if file.name == "tokenizer.json":
            parsed = json.loads(content)
            (mask,) = (token for token in parsed["added_tokens"] if token["content"] == "<mask>")
            mask["special"] = False
            content = json.dumps(parsed)
        (tmp_path / file.name).write_text(content, encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.mask_token_id not in tokenizer("one <mask> two")["input_ids"]


@pytest.mark.parametrize("name", KINDS)
def test_truncation_and_padding_that_were_saved_do_not_take_part(tokenizers, folders, name, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    tokenizer.truncation_side = tokenizer.padding_side = "left"
    tokenizer.backend_tokenizer.enable_truncation(max_length=6, stride=2, direction="left")
    tokenizer.backend_tokenizer.enable_padding(direction="left", length=40)
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["truncation"]
    assert saved["padding"]
    loaded, plain = load_tokenizer(tmp_path), tokenizers[name]
    assert (
        loaded("one two three four five six seven")["input_ids"]
        == plain("one two three four five six seven")["input_ids"]
    )

    pairs = [{"id": "1", "text": "one two", "text_pair": "three four five six " * 9, "label": "0"}]
    sentences = [{"id": "1", "tokens": ["word"] * 30, "tags": ["X"] * 30}]
    questions = mini_rows("xquad", "en", "test", 5)
    for module, rows, settings in (
        (classification, pairs, tokenising(labels=["0"], max_length=16)),
        (tagging, sentences, tokenising(labels=["X"], max_length=16, labelled_subword="first")),
        (question_answering, questions, tokenising(max_length=72, stride=24, split="validation")),
    ):
        assert module.tokenise(rows, loaded, settings) == module.tokenise(rows, plain, settings)


def test_a_saved_prefix_space_is_not_added_to_the_space_before_a_word(folders, tmp_path):
    """With the saved setting, the first word is read like any other word; no word may get two spaces."""
    for file in folders["byte-level BPE"].iterdir():
        content = json.loads(file.read_text(encoding="utf-8"))
        if file.name == "tokenizer.json":
            content["pre_tokenizer"]["add_prefix_space"] = True
        else:
            content["add_prefix_space"] = True
        (tmp_path / file.name).write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    row = {"id": "1", "tokens": ["museum", "museum", "</s>"], "tags": ["X"] * 3}
    settings = tokenising(labels=["X"], max_length=64, labelled_subword="first")
    columns, _ = tagging.tokenise([row], tokenizer, settings)
    of_word = tokenizer(" museum", add_special_tokens=False)["input_ids"]
    assert columns["input_ids"][0][1:-1][: 2 * len(of_word)] == of_word * 2
    assert columns["input_ids"][0] == tokenizer("museum museum </s>")["input_ids"]

    rows = mini_rows("xquad", "en", "test", 20)
    columns, _ = question_answering.tokenise(rows, tokenizer, tokenising(max_length=128, stride=32, split="validation"))
    for number, first, last, starts, ends in zip(
        *(columns[key] for key in ("row", "start", "end", "offset_start", "offset_end")), strict=True
    ):
        if first:
            assert rows[number]["answers"]["text"][0] in rows[number]["context"][starts[first] : ends[last]]
            assert not rows[number]["context"][starts[first]].isspace()


@pytest.fixture
def bare(tmp_path) -> Path:
    """A tokenizer of letters without special tokens, not even an unknown token."""
    letters = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz ?.")}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(letters, []))).save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(config.read_text()).items() if not key.endswith("_token")}
    config.write_text(json.dumps(kept))
    return tmp_path


def test_a_tokenizer_without_special_tokens_reads_every_kind_of_row(bare):
    tokenizer = load_tokenizer(bare)
    assert tokenizer.all_special_ids == []
    pairs = [{"id": "1", "text": "a dog", "text_pair": "a cat", "label": "0"}]
    columns, _ = classification.tokenise(pairs, tokenizer, tokenising(labels=["0"], max_length=64))
    assert tokenizer.decode(columns["input_ids"][0]).replace(" ", "") == "adogacat"
    sentences = [{"id": "1", "tokens": ["a", "東京", "dog"], "tags": ["X"] * 3}]
    settings = tokenising(labels=["X"], max_length=64, labelled_subword="first")
    columns, _ = tagging.tokenise(sentences, tokenizer, settings)
    assert [word for word in columns["word"][0] if word >= 0] == [0, 1, 2]
    context = "it is in the old town of rome"
    answers = {"text": ["rome"], "start": [context.index("rome")]}
    questions = [{"id": "1", "context": context, "question": "where?", "answers": answers}]
    columns, _ = question_answering.tokenise(questions, tokenizer, tokenising(max_length=64, stride=8, split="train"))
    first, last = columns["start"][0], columns["end"][0]
    assert context[columns["offset_start"][0][first] : columns["offset_end"][0][last]] == "rome"


def test_a_tokenizer_that_knows_no_latin_letter_is_refused(bare):
    content = json.loads((bare / "tokenizer.json").read_text())
    content["model"]["vocab"] = {"東": 0, "京": 1}
    (bare / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="makes no token of the letter a"):
        load_tokenizer(bare)
