"""Answers in words: against the library's own language models, and what the step `tokenise` makes of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_architectures import MODELS
from test_architectures import saved as saved_encoder
from test_decoders import DECODERS, FAMILIES
from test_decoders import saved as saved_family
from test_tuning import tune
from tiny import PADDING
from tiny import settings as tiny_settings
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Columns
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Ragged, Tokens
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import build, restore
from workflow_scripts.tuning.predict import evaluate, logits, predict

CPU = torch.device("cpu")
LABELS = ["good", "bad", "so so"]
SHORT = ["good", "bad"]
WITH_OUTPUT = [name for name in MODELS if name != "multilingual-e5"]  # e5 was published without its output layer
WORDS = ["good", "bad", "so", "film", "plot", "the", "was", "is", "it", "dull", "great", "bright", ":", "answer"]
START, END, MASK, UNKNOWN = 0, 2, 3, 4


def reads(name: str) -> str:
    return "decoder" if name in DECODERS else "encoder-decoder" if name in FAMILIES else "encoder"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {
        name: (saved_family if name in FAMILIES else saved_encoder)(name, tmp_path_factory.mktemp("model"))
        for name in MODELS
    }


def tokenizer(kind: str) -> Any:
    """Words as tokens; an encoder's text begins and ends with special tokens, a decoder's only begins with one."""
    vocabulary = {"<s>": START, "<pad>": PADDING, "</s>": END, "<mask>": MASK, "<unk>": UNKNOWN}
    vocabulary |= {word: 5 + number for number, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    end = "" if kind == "decoder" else " </s>"
    special = [("<s>", START), ("</s>", END)]
    backend.post_processor = processors.TemplateProcessing(f"<s> $A{end}", f"<s> $A{end} $B{end}", special)
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **names)


ROWS = [
    {"id": "1", "text": "the film was great", "text_pair": None, "label": "good"},
    {"id": "2", "text": "it was", "text_pair": None, "label": "bad"},
    {"id": "3", "text": "the plot is so bright it is dull", "text_pair": None, "label": "so so"},
    {"id": "4", "text": "dull", "text_pair": None, "label": "bad"},
]
TEMPLATE = "{text} answer : {answer}"


def asked(read_by: str, labels: list[str], **changes: Any) -> TokeniseSettings:
    made = {"task": "films", "kind": "classification", "labels": labels, "split": "train", "max_length": 20}
    return TokeniseSettings(**made | {"words": {"template": TEMPLATE, "answers": {}}, "reads": read_by} | changes)


def tokenised(
    read_by: str, labels: list[str], rows: Any = None, kind: str = "classification", **changes: Any
) -> Tokens:
    rows = [row for row in ROWS if row["label"] in labels] if rows is None else rows
    columns, _ = part(kind, "words").tokenise(rows, tokenizer(read_by), asked(read_by, labels, kind=kind, **changes))
    return as_tokens(columns, len(rows))


def as_tokens(columns: Columns, rows: int) -> Tokens:
    def column(values: list[Any]) -> np.ndarray | Ragged:
        if not isinstance(values[0], list):
            return np.array(values, dtype=np.int32)
        return Ragged(
            np.array([number for one in values for number in one], dtype=np.int32), np.cumsum([0, *map(len, values)])
        )

    return Tokens({name: column(values) for name, values in columns.items() if values}, {"rows": rows})


def words_settings(labels: list[str], **changes: Any) -> Any:
    return tiny_settings(**{"answers": "words", "labels": labels, "method": "none"} | changes)


def library_scores(folder: Path, kind: str, text: str, answers: list[str]) -> list[float]:
    """The mean log-probability of each answer by the library's own model, one answer and one token at a time."""
    loader = {
        "encoder": AutoModelForMaskedLM,
        "decoder": AutoModelForCausalLM,
        "encoder-decoder": AutoModelForSeq2SeqLM,
    }
    model = loader[kind].from_pretrained(folder, attn_implementation="eager").eval()
    number = {word: 5 + place for place, word in enumerate(WORDS)}
    before = [START, *(number[word] for word in f"{text} answer :".split())]
    scores = []
    for answer in answers:
        tokens = [number[word] for word in answer.split()]
        found = []
        for place, token in enumerate(tokens):
            if kind == "decoder":
                values = model(torch.tensor([[*before, *tokens[:place]]])).logits[0, -1]
            elif kind == "encoder":
                masked = torch.tensor([[*before, *[MASK] * len(tokens), END]])
                values = model(masked).logits[0, len(before) + place]
            else:
                decoder_ids = torch.tensor([[START, *tokens[:place]]])
                values = model(torch.tensor([[*before, END]]), decoder_input_ids=decoder_ids).logits[0, -1]
            found.append(float(values.log_softmax(0)[token]))
        scores.append(sum(found) / len(found))
    return scores


@pytest.mark.parametrize("labels", [SHORT, LABELS], ids=["one token each", "several tokens"])
@pytest.mark.parametrize("name", WITH_OUTPUT)
@torch.no_grad()
def test_the_untuned_model_scores_answers_as_the_library_does(folders, name, labels):
    """In batches with padding, of rows whose answers share a feature and of rows whose answers do not."""
    kind = reads(name)
    settings, tokens = words_settings(labels), tokenised(kind, labels)
    rows = [row for row in ROWS if row["label"] in labels]
    assert len(tokens) == len(rows) * (1 if labels == SHORT else 2)
    model = build(folders[name], settings, None)
    assert not model.tuned_parameters()
    values = logits(model, tokens, "float32", CPU)
    expected = [library_scores(folders[name], kind, row["text"], labels) for row in rows]
    choices = tokens.ragged("choice")
    for number, scores in enumerate(expected):
        of_row = np.flatnonzero(tokens.plain("row") == number)
        choice = np.concatenate([choices[feature] for feature in of_row])
        value = np.concatenate([values[feature][: len(choices[feature])] for feature in of_row])
        found = [value[choice == answer].mean() for answer in range(len(labels))]
        assert found == pytest.approx(scores, abs=3e-5)
    predictions, loss = evaluate(model, tokens, rows, settings, CPU)
    assert predictions == {
        row["id"]: labels[int(np.argmax(scores))] for row, scores in zip(rows, expected, strict=True)
    }
    targets = torch.tensor([labels.index(row["label"]) for row in rows])
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(torch.tensor(expected), targets)), abs=3e-5)


TUNED = [
    ("XLM-R base and large", "fine_tuning"),
    ("XLM-R base and large", "prompt_tuning"),
    ("mDeBERTa-v3", "prompt_tuning"),
    ("Llama", "fine_tuning"),
    ("Llama", "prompt_tuning"),
    ("Llama", "input_prompt_tuning"),
    ("Gemma 3", "lora"),
    ("GPT-2", "adapter"),
    ("mT5", "fine_tuning"),
    ("mT5", "prompt_tuning"),
    ("T5Gemma", "lora"),
]


@pytest.mark.parametrize(("name", "method"), TUNED)
def test_a_model_is_tuned_to_answer_stored_and_restored(folders, name, method):
    settings = words_settings(LABELS, method=method, epochs=30, batch_size=2)
    tokens = tokenised(reads(name), LABELS)
    seed_everything(settings.seed)
    model = build(folders[name], settings, None)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    _, first_loss = evaluate(model, tokens, ROWS, settings, CPU)
    outcome = tune(model, tokens, settings, learning_rate=0.003 if method == "fine_tuning" else 0.03)
    assert not outcome.problem and outcome.weights()
    _, loss = evaluate(model, tokens, ROWS, settings, CPU)
    assert loss < 0.5 * first_loss
    again = restore(folders[name], settings, outcome.weights())
    pairs = zip(*(logits(one, tokens, "float32", CPU) for one in (again, model)), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    after = model.state_dict()
    words = [key for key in before if key.startswith("head") and torch.equal(before[key], after[key])]
    trained = [key for key in before if key.startswith("head") and key not in words]
    assert bool(trained) == (method == "fine_tuning" and name not in ("Llama",))


@pytest.mark.parametrize("name", ["XLM-R base and large", "Llama", "mT5"])
def test_an_answer_does_not_depend_on_the_batch(folders, name):
    settings = words_settings(LABELS, method="prompt_tuning", prompt_std=0.5)
    model, tokens = build(folders[name], settings, None), tokenised(reads(name), LABELS)
    together = predict(model, tokens, ROWS, settings, CPU)
    values = logits(model, tokens, "float32", CPU)
    for number, row in enumerate(ROWS):
        alone = tokenised(reads(name), LABELS, rows=[row])
        assert predict(model, alone, [row], settings, CPU) == {row["id"]: together[row["id"]]}
        for one, feature in zip(
            logits(model, alone, "float32", CPU), np.flatnonzero(tokens.plain("row") == number), strict=True
        ):
            assert one[: len(alone.ragged("choice")[0])] == pytest.approx(values[feature][: len(one)], abs=1e-5)


def test_choices_of_different_lengths_and_numbers_are_compared_by_their_mean(folders):
    rows = [
        {"id": "1", "text": "the film", "question": "is it great", "choices": ["bright plot", "dull"], "label": 0},
        {"id": "2", "text": "it was", "question": "so", "choices": ["good", "bad", "dull film plot"], "label": 2},
    ]
    settings = words_settings([], kind="multiple_choice")
    template = {"template": "{text} {question} answer : {answer}", "answers": {}}
    tokens = tokenised("decoder", [], rows, "multiple_choice", words=template)
    assert tokens.plain("row").tolist() == [0, 0, 1, 1] and tokens.plain("first").tolist() == [1, 0, 1, 0]
    predictions, loss = evaluate(build(folders["Llama"], settings, None), tokens, rows, settings, CPU)
    losses = []
    for row in rows:
        scores = library_scores(folders["Llama"], "decoder", f"{row['text']} {row['question']}", row["choices"])
        assert predictions[row["id"]] == int(np.argmax(scores))
        losses.append(float(torch.nn.functional.cross_entropy(torch.tensor([scores]), torch.tensor([row["label"]]))))
    assert loss == pytest.approx(np.mean(losses), abs=3e-5)


def test_a_long_text_is_cut_and_the_template_and_the_answers_stay():
    row = {"id": "9", "text": "the film was great " * 9, "text_pair": "so dull", "label": "so so"}
    template = {"template": "{text_pair} is {text} answer : {answer}", "answers": {}}
    for kind in ("decoder", "encoder"):
        columns, _ = part("classification", "words").tokenise(
            [row], tokenizer(kind), asked(kind, LABELS, words=template)
        )
        names = {**dict(enumerate(WORDS, 5)), START: "<s>", END: "</s>", MASK: "<mask>"}
        texts = [" ".join(names[number] for number in ids) for ids in columns["input_ids"]]
        cut = "the film was great the film was great the film was"
        if kind == "decoder":
            assert texts == [f"<s> so dull is {cut} great answer :", f"<s> so dull is {cut} great answer : so"]
            assert columns["read_at"] == [[17], [18]] and columns["choice"] == [[0, 1, 2], [2, -1, -1]]
        else:
            masked = f"<s> so dull is {cut} answer : <mask>"
            assert texts == [f"{masked} </s>", f"{masked} <mask> </s>"]
            assert columns["read_at"] == [[17], [17, 18]] and columns["choice"] == [[0, 1, -1], [2, 2, -1]]
        assert columns["correct"] == [2, 2] and columns["first"] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"words": {"template": "{answer} : {text}", "answers": {}}},
            "films.words.template: a decoder does not read the texts after",
        ),
        ({"words": {"template": "{text} {text_pair} {answer}", "answers": {}}}, "rows of this task have no text_pair"),
        ({"max_length": 4}, "films.max_length: 4 tokens leave no room .* row '1'"),
        ({"words": {"template": TEMPLATE, "answers": {"bad": " "}}}, "row '1': the tokenizer makes no token of ' '"),
    ],
)
def test_what_a_decoder_cannot_answer_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message) as refusal:
        tokenised("decoder", LABELS, **changes)
    assert "\n" not in str(refusal.value)


def test_a_decoder_that_would_see_the_answer_is_refused_and_an_encoder_is_not(folders):
    settings = words_settings(LABELS, attention="bidirectional")
    with pytest.raises(UserError, match=r"training.attention: found 'bidirectional'.*set it to pretrained"):
        build(folders["Llama"], settings, None)
    build(folders["mT5"], settings, None)
    build(folders["mDeBERTa-v3"], settings, None)


def test_a_checkpoint_without_output_layer_is_refused_by_name(folders):
    with pytest.raises(UserError, match=r"training.answers: found 'words', .*lm_head.* is missing.*set it to head"):
        build(folders["multilingual-e5"], words_settings(SHORT), None)
    load_encoder(folders["multilingual-e5"], "crossprompt")
