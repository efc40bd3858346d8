"""The protocol of kinds, and the kinds entities, multiple choice and regression from rows to scores."""

import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from step_settings import scoring, tokenising
from tiny import LABELS, PADDING, in_memory, random_columns, random_tokens, save_encoder
from tiny import settings as tiny_settings
from tokenizer_kinds import trained
from transformers import AutoModelForMultipleChoice

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import read_rows, schema_of, write_rows
from workflow_scripts.evaluation import metrics
from workflow_scripts.evaluation.contributions import contributions
from workflow_scripts.kinds import KINDS, part
from workflow_scripts.kinds.entities import examples as entity_examples
from workflow_scripts.kinds.entities import model as entities
from workflow_scripts.kinds.entities.metrics import entities as spans_of
from workflow_scripts.kinds.entities.rows import problem as entity_problem
from workflow_scripts.kinds.entities.rows import tags_of
from workflow_scripts.kinds.multiple_choice import examples as choice_examples
from workflow_scripts.kinds.multiple_choice import model as multiple_choice
from workflow_scripts.kinds.multiple_choice import rows as choice_rows
from workflow_scripts.kinds.protocol import IGNORED, PARTS
from workflow_scripts.kinds.question_answering.metrics import normalisation
from workflow_scripts.kinds.regression import examples as score_examples
from workflow_scripts.kinds.regression import model as regression
from workflow_scripts.kinds.regression import rows as score_rows
from workflow_scripts.kinds.regression.metrics import pearson, spearman
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tokens import Tokens, joined_rows, read_tokens, write_tokens
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.batches import Samples, collate, training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.gradients import Gradients
from workflow_scripts.tuning.loop import Validated, train
from workflow_scripts.tuning.model import TunedModel, build_together
from workflow_scripts.tuning.predict import evaluate, predict

CPU = torch.device("cpu")
TYPES = ["PER", "LOC"]
TEXTS = [
    "Angela Merkel visited the old town of Weimar in the spring and walked along the river with her guests.",
    "Which of the following did the passage say about the museum? It opens on Monday. It is closed in winter.",
    "A man is playing a guitar. A woman is slicing an onion while the rain falls on the quiet street outside.",
]
NEW_KINDS = ("entities", "multiple_choice", "regression")


@pytest.fixture(scope="module", params=["SentencePiece unigram", "WordPiece"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return trained(request.param, TEXTS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bert"), "bert")


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# The protocol


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_defines_the_names_of_every_part(kind, name):
    module = part(kind, name)
    assert [defined for defined in PARTS[name] if not hasattr(module, defined)] == []
    for defined in PARTS[name]:
        assert callable(getattr(module, defined)) == (not defined.isupper()), defined


@pytest.mark.parametrize("kind", KINDS)
def test_the_targets_of_every_kind_are_columns_of_its_batches(kind):
    module = part(kind, "model")
    assert module.LEVEL in ("sequence", "token")
    batch = collate(random_tokens(kind, 6), np.arange(6), PADDING, module.TARGETS, CPU)
    assert module.TARGETS and set(module.TARGETS) <= set(batch)
    shape = (6, batch["input_ids"].shape[1]) if module.LEVEL == "token" else (6,)
    logits = torch.zeros(*shape, module.outputs(LABELS[kind]))
    assert module.loss(logits, batch).shape == ()
    assert module.counted(batch) > 0


def test_a_file_defines_a_kind_that_builds_on_another(tmp_path):
    file = tmp_path / "similarity.py"
    parts = [f"from workflow_scripts.kinds.regression.{name} import *" for name in PARTS]
    facts = f"from workflow_scripts.kinds.regression.facts import {', '.join(PARTS['facts'])}"
    file.write_text("\n".join([*parts, facts, "LEVEL = 'token'"]))
    assert part(str(file), "model").LEVEL == "token"
    assert part(str(file), "model").loss is regression.loss
    file = tmp_path / "incomplete.py"
    file.write_text("from workflow_scripts.kinds.regression.model import *")
    with pytest.raises(UserError, match=r"incomplete\.py does not define score, which a kind of task needs"):
        part(str(file), "metrics")


# Rows


def entity_row(identity: str, *tags: str) -> dict[str, Any]:
    return {"id": identity, "group": identity, "tokens": ["word"] * len(tags), "tags": list(tags)}


def choice_row(identity: str, *choices: str, label: int = 0, text: str = "A man", question: str | None = None) -> dict:
    row = {"text": text, "question": question, "choices": list(choices), "label": label}
    return {"id": identity, "group": text, **row}


def score_row(identity: str, score: float, text: str = "A man", second: str | None = "A woman") -> dict[str, Any]:
    return {"id": identity, "group": text, "text": text, "text_pair": second, "score": score}


ROWS = {
    "entities": [entity_row("1", "B-PER", "I-PER", "O"), entity_row("2", "O", "B-LOC")],
    "multiple_choice": [choice_row("1", "a", "b", label=1), choice_row("2", "a", "b", "c", question="Why?")],
    "regression": [score_row("1", 4.75), score_row("2", 0.0)],
}


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_rows_are_read_as_they_were_written(tmp_path, kind):
    write_rows(tmp_path / "rows.parquet", ROWS[kind], kind)
    assert read_rows(tmp_path / "rows.parquet", kind) == ROWS[kind]
    assert set(schema_of(kind).names) == set(ROWS[kind][0])
    assert all(isinstance(of_column, pa.DataType) for of_column in part(kind, "rows").FIELDS.values())


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_good_rows_have_no_problem_and_nothing_odd(kind):
    rows = part(kind, "rows")
    assert [rows.problem(row, LABELS[kind]) for row in ROWS[kind]] == ["", ""]
    assert [rows.oddity(row) for row in ROWS[kind]] == ["", ""]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["O", "I-PER"], "tag 'I-PER' of token 2 ('word') follows 'O' and not an entity of its type"),
        (["I-PER"], "tag 'I-PER' of token 1 ('word') follows 'O'"),
        (["B-LOC", "I-PER"], "tag 'I-PER' of token 2 ('word') follows 'B-LOC'"),
        (["B-PER", "I-PER", "I-LOC"], "tag 'I-LOC' of token 3 ('word') follows 'I-PER'"),
        (["PER"], "tag 'PER' of token 1 ('word') is not one of O, B-PER, I-PER, B-LOC, I-LOC"),
        (["B-ORG"], "tag 'B-ORG' of token 1 ('word') is not one of"),
        ([], "the sentence has no tokens"),
    ],
)
def test_gold_tags_that_are_not_iob2_are_refused(tags, found):
    assert found in entity_problem(entity_row("1", *tags), TYPES)


@pytest.mark.parametrize(
    ("row", "labels", "found"),
    [
        (choice_row("1", "a"), [], "1 choices, where a model needs at least 2"),
        (choice_row("1", "a", "b", label=2), [], "label 2 is not the place of one of 2 choices, counted from 0"),
        (choice_row("1", "a", "b", label=-1), [], "label -1 is not the place"),
        (choice_row("1", "a", "b"), ["A", "B", "C"], "2 choices, but the task has 3 labels: leave out `labels`"),
    ],
)
def test_a_row_whose_label_is_no_choice_is_refused(row, labels, found):
    assert found in choice_rows.problem(row, labels)


def test_odd_choices_are_named():
    assert choice_rows.oddity(choice_row("1", "a", " ")) == "choice 2 is empty"
    assert choice_rows.oddity(choice_row("1", "a", "b", "a")) == "choice 'a' occurs twice"
    assert choice_rows.oddity(choice_row("1", "a", "b", question="")) == "question is empty"
    assert choice_rows.oddity(choice_row("1", "a", "b", text="")) == "text is empty"


def test_a_score_outside_the_range_is_refused():
    assert score_rows.problem(score_row("1", 5.2), ["0", "5"]) == "score 5.2 is not between 0 and 5"
    assert score_rows.problem(score_row("1", -1), [0, 5]) == "score -1 is not between 0 and 5"


@pytest.mark.parametrize(
    "labels", [[], ["0"], ["5", "0"], ["low", "high"], ["0", "1", "2"], ["0", "inf"], ["nan", "1"]]
)
def test_a_range_is_two_ascending_numbers(labels):
    with pytest.raises(UserError, match=r"labels: \[.*\] are not the lowest and the highest score"):
        score_rows.score_range(labels)


def test_records_become_rows():
    record = {"text": "t", "choices": ["a", "b"], "label": "1"}
    assert choice_rows.from_record(record, "x.csv, line 2") == {
        "text": "t",
        "question": None,
        "choices": ["a", "b"],
        "label": 1,
    }
    assert choice_rows.from_record(record | {"question": "Why?"}, "x.csv, line 2")["question"] == "Why?"
    assert score_rows.from_record({"text": "t", "score": "2.5"}, "x.csv, line 2") == {
        "text": "t",
        "text_pair": None,
        "score": 2.5,
    }
    with pytest.raises(UserError, match=r"x\.csv, line 2: label is 1\.5, not a whole number"):
        choice_rows.from_record(record | {"label": 1.5}, "x.csv, line 2")
    with pytest.raises(UserError, match=r"x\.csv, line 2: score is 'high', not a number"):
        score_rows.from_record({"text": "t", "score": "high"}, "x.csv, line 2")
    with pytest.raises(UserError, match=r"^x\.csv, line 2: score is null, not a number: check `columns` of the task$"):
        score_rows.from_record({"text": "t", "score": None}, "x.csv, line 2")
    with pytest.raises(UserError, match=r"line 2: score is missing; the columns are text, 2: check `columns` of the"):
        score_rows.from_record({"text": "t", "2": "2.5"}, "x.csv, line 2")


# Entities


def random_tags(random: Random, valid: bool, most: int = 12) -> list[str]:
    """Random tags of a sentence. If `valid`, an I tag only continues an entity."""
    tags: list[str] = []
    for _ in range(random.randint(1, most)):
        tag = random.choice(tags_of([*TYPES, "ORG"]))
        if valid and tag[0] == "I" and (not tags or tags[-1][2:] != tag[2:]):
            tag = f"B-{tag[2:]}"
        tags.append(tag)
    return tags


def guessed(random: Random, gold: list[list[str]]) -> list[list[str]]:
    """Tags that are often right and not always valid IOB2."""
    tags = tags_of([*TYPES, "ORG"])
    return [[random.choice([tag, tag, tag, random.choice(tags)]) for tag in sentence] for sentence in gold]


def seqeval_strict(gold: list[list[str]], predicted: list[list[str]]) -> dict[str, float]:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: 100 * float(metric(gold, predicted, mode="strict", scheme=IOB2))
            for name, metric in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score))
        }


def scored(kind: str, gold: list[dict], predictions: list) -> dict[str, float]:
    by_id = {row["id"]: guess for row, guess in zip(gold, predictions, strict=True)}
    return metrics.score(kind, gold, by_id, scoring())


@pytest.mark.parametrize("seed", range(30))
def test_entity_scores_are_those_of_seqevals_strict_mode(seed):
    random = Random(seed)
    gold = [random_tags(random, valid=seed % 3 > 0) for _ in range(40)]
    predicted = guessed(random, gold) if seed % 2 else [random.choices(tags_of(TYPES), k=len(tags)) for tags in gold]
    expected = seqeval_strict(gold, predicted)
    assert expected["f1"] > 1
    rows = [entity_row(str(number), *tags) for number, tags in enumerate(gold)]
    assert scored("entities", rows, predicted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [(["O", "O"], ["O", "O"]), (["B-PER"], ["O"]), (["O"], ["B-PER"]), (["O", "O"], ["O", "I-PER"])],
)
def test_scores_without_entities_are_zero_as_in_seqeval(gold, predicted):
    assert scored("entities", [entity_row("1", *gold)], [predicted]) == seqeval_strict([gold], [predicted])


def test_an_i_tag_that_continues_nothing_finds_no_entity():
    assert spans_of(["I-PER", "B-LOC", "I-PER", "I-LOC", "B-PER", "I-PER", "B-PER"]) == {
        ("LOC", 1, 1),
        ("PER", 4, 5),
        ("PER", 6, 6),
    }


def test_entity_scores_of_real_sentences_are_those_of_seqeval():
    folder = Path(__file__).parents[2] / "shared" / "data" / "more" / "uner"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}")
    random = Random(0)
    for file in sorted(folder.glob("*test.iob2")):
        sentences = [
            [line.split("\t")[2] for line in block.splitlines() if not line.startswith("#")]
            for block in file.read_text(encoding="utf-8").strip().split("\n\n")
        ]
        rows = [entity_row(str(number), *tags) for number, tags in enumerate(sentences)]
        assert {entity_problem(row, ["PER", "ORG", "LOC"]) for row in rows} == {""}
        predicted = guessed(random, sentences)
        expected = seqeval_strict(sentences, predicted)
        assert 10 < expected["f1"] < 90
        assert scored("entities", rows, predicted) == pytest.approx(expected, rel=1e-12)


def test_the_head_has_an_output_for_o_and_two_for_each_type():
    assert tags_of(TYPES) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert entities.outputs(TYPES) == 5


def test_entities_are_tokenised_and_decoded_as_tags(tokenizer):
    rows = [
        {"id": "1", "tokens": ["Angela", "Merkel", "visited", "Weimar"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]},
        {"id": "2", "tokens": ["rain", "falls"], "tags": ["O", "O"]},
    ]
    settings = tokenising(labels=TYPES, max_length=12, labelled_subword="first")
    columns, counts = entities.tokenise(rows, tokenizer, settings)
    assert (columns, counts) == tagging.tokenise(rows, tokenizer, settings.changed(labels=tags_of(TYPES)))
    logits = [np.eye(5)[np.maximum(labels, 0)] for labels in columns["labels"]]
    assert entities.decode(logits, in_memory(columns), rows, TYPES) == {row["id"]: row["tags"] for row in rows}
    assert {label for labels in columns["labels"] for label in labels} == {IGNORED, 0, 1, 2, 3}


def test_entities_are_shown_with_their_words():
    row = {"tokens": ["Angela", "Merkel", "saw", "Weimar"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    predictions = {"a": ["O", "O", "O", "O"], "b": ["B-PER", "I-PER", "O", "O"], "c": ["I-PER", "O", "O", "I-LOC"]}
    texts, gold, shown = entity_examples.shown(row, predictions)
    assert texts == ["Angela Merkel saw Weimar"]
    assert gold == ["Angela Merkel PER, Weimar LOC"]
    assert shown == {"a": "(no entity)", "b": "Angela Merkel PER", "c": "(no entity)"}
    assert entity_examples.differ([predictions["a"], predictions["b"]])
    assert not entity_examples.differ([predictions["a"], predictions["c"]]), "neither has an entity"
    assert entity_examples.goodness(row, predictions["b"]) == pytest.approx(100 * 2 / 3)
    assert entity_examples.goodness({"tags": ["O"]}, ["O"]) == 100


# Multiple choice


def tokenise_choices(rows: list[dict], tokenizer: Any, max_length: int = 128) -> Any:
    return multiple_choice.tokenise(rows, tokenizer, tokenising(max_length=max_length, labels=[]))


def test_each_choice_becomes_one_feature_of_text_question_and_choice(tokenizer):
    rows = [
        choice_row("1", "the rain", "the river", label=1, text=TEXTS[0], question="Which one?"),
        choice_row("2", "Monday", "winter", "spring", text=TEXTS[1]),
    ]
    columns, counts = tokenise_choices(rows, tokenizer)
    assert counts == {"cut_choices": 0, "empty_texts": 0}
    assert columns["row"] == [0, 0, 1, 1, 1]
    assert columns["choice"] == [0, 1, 0, 1, 2]
    assert columns["correct"] == [0, 1, 1, 0, 0]
    seconds = ["Which one? the rain", "Which one? the river", "Monday", "winter", "spring"]
    for row, second, ids in zip(columns["row"], seconds, columns["input_ids"], strict=True):
        assert ids == tokenizer(rows[row]["text"], second)["input_ids"]


@pytest.mark.parametrize("max_length", range(12, 40))
def test_the_text_is_cut_and_never_the_choice(tokenizer, max_length):
    choices = ["rain", "the old town of Weimar", "spring"]
    columns, counts = tokenise_choices([choice_row("1", *choices, text=TEXTS[0])], tokenizer, max_length)
    text, special = plain_ids(tokenizer, TEXTS[0]), tokenizer.num_special_tokens_to_add(pair=True)
    before = tokenizer("a", "b")["input_ids"].index(plain_ids(tokenizer, "a")[0])
    for choice, ids in zip(choices, columns["input_ids"], strict=True):
        whole = plain_ids(tokenizer, choice)
        room = max_length - special - len(whole)
        if room < 0:
            assert len(ids) == max_length
            continue
        assert ids[-1 - len(whole) : -1] == whole
        assert ids[before : before + min(room, len(text))] == text[:room]
        assert len(ids) == min(max_length, special + len(whole) + len(text))
    lengths = [len(plain_ids(tokenizer, choice)) for choice in choices]
    assert counts["cut_choices"] == sum(length > max_length - special for length in lengths)


def test_a_choice_that_fills_the_whole_input_is_cut_and_counted(tokenizer):
    rows = [choice_row("1", "rain", TEXTS[0], text=TEXTS[1])]
    columns, counts = tokenise_choices(rows, tokenizer, max_length=10)
    assert counts == {"cut_choices": 1, "empty_texts": 0}
    assert [len(ids) for ids in columns["input_ids"]] == [10, 10]
    room = 10 - tokenizer.num_special_tokens_to_add(pair=True)
    assert columns["input_ids"][1][-1 - room : -1] == plain_ids(tokenizer, TEXTS[0])[:room]


def test_rows_with_a_text_without_tokens_are_counted_and_stay(tokenizer):
    rows = [choice_row("1", "rain", "", text="A man"), choice_row("2", "rain", "spring", text="")]
    columns, counts = tokenise_choices([*rows, choice_row("3", "rain", "spring")], tokenizer)
    assert counts == {"cut_choices": 0, "empty_texts": 2}
    assert columns["row"] == [0, 0, 1, 1, 2, 2]


def choice_batch(*sizes: int) -> dict[str, torch.Tensor]:
    """Targets of rows with these numbers of choices; the last choice is correct."""
    places = [place for size in sizes for place in range(size)]
    correct = [int(place == size - 1) for size in sizes for place in range(size)]
    return {"choice": torch.tensor(places), "correct": torch.tensor(correct)}


def test_the_loss_of_choices_is_the_cross_entropy_within_each_row():
    sizes = (2, 5, 3, 2)
    logits = torch.randn(sum(sizes), 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
    of_rows = logits.squeeze(-1).split(sizes)
    expected = torch.stack(
        [torch.nn.functional.cross_entropy(values, torch.tensor(len(values) - 1)) for values in of_rows]
    ).mean()
    loss = multiple_choice.loss(logits, choice_batch(*sizes))
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    assert multiple_choice.counted(choice_batch(*sizes)) == 4


def test_the_loss_of_choices_bears_large_numbers():
    logits = torch.tensor([[3e4], [-3e4], [1.0], [1.0]], requires_grad=True)
    loss = multiple_choice.loss(logits, choice_batch(2, 2))
    assert loss.item() == pytest.approx((6e4 + np.log(2)) / 2)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_the_highest_number_of_a_row_is_its_prediction_whatever_the_order_of_the_features():
    rows = [choice_row("b", "x", "y"), choice_row("a", "x", "y", "z")]
    columns = {"row": [1, 0, 1, 0, 1], "choice": [2, 1, 0, 0, 1], "input_ids": [[1]] * 5}
    logits = [np.array([value]) for value in (0.5, -1.0, 0.1, -1.0, 0.7)]
    predictions = multiple_choice.decode(logits, in_memory(columns), rows, [])
    assert list(predictions.items()) == [("b", 0), ("a", 1)]


def with_equal_choices(rows: int, choices: int) -> Tokens:
    columns = random_columns("classification", rows * choices)
    del columns["label"]
    columns["row"] = [number // choices for number in range(rows * choices)]
    columns["choice"] = [number % choices for number in range(rows * choices)]
    columns["correct"] = [int(number % choices == number // choices % choices) for number in range(rows * choices)]
    return in_memory(columns)


def test_loss_and_gradients_are_those_of_transformers_model_for_multiple_choice(bert):
    """With the same encoder and head; it takes rows of equally many choices, padded to one length."""
    tokens, settings = with_equal_choices(6, 4), tiny_settings(kind="multiple_choice", method="bitfit")
    (model,) = build_together(bert, settings, None, 1)
    oracle = AutoModelForMultipleChoice.from_pretrained(bert, classifier_dropout=0.0, hidden_dropout_prob=0.0)
    oracle.eval()
    with torch.no_grad():
        ours = [parameter for name, parameter in model.tuned_parameters().items() if name.startswith("head.")]
        for theirs, parameter in zip(oracle.classifier.parameters(), ours, strict=True):
            theirs.copy_(parameter)
    batch = collate(tokens, np.arange(24), PADDING, multiple_choice.TARGETS, CPU)
    inputs = {name: batch[name].view(6, 4, -1) for name in ("input_ids", "attention_mask")}
    expected = oracle(**inputs, labels=torch.tensor([number % 4 for number in range(6)]))
    logits = model(batch)
    torch.testing.assert_close(logits.view(6, 4), expected.logits, rtol=1e-4, atol=1e-4)
    loss = multiple_choice.loss(logits, batch)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-4, atol=1e-4)
    loss.backward()
    expected.loss.backward()
    gradients = {name.replace("head.1", "classifier"): tuned.grad for name, tuned in model.tuned_parameters().items()}
    theirs = {name.replace("bert.", "encoder."): parameter.grad for name, parameter in oracle.named_parameters()}
    assert len(gradients) > 20 and set(gradients) <= set(theirs)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-3, atol=1e-5)


def gradients_of(models: list[TunedModel], tokens: Tokens, settings: dict, parts: list[np.ndarray]) -> Any:
    """The losses (models,) and each model's gradients by name."""
    computed = Gradients(tokens, settings, CPU, frozen=False)
    optimizers = [torch.optim.SGD(model.tuned_parameters().values(), lr=0.0) for model in models]
    losses = computed.compute(models, optimizers, parts)
    return losses, [
        {name: parameter.grad.clone() for name, parameter in model.tuned_parameters().items()} for model in models
    ]


def assert_same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro_batch_size", [None, 1, 2, 3, 5])
def test_micro_batches_of_any_size_give_the_gradient_of_the_whole_batch(bert, kind, micro_batch_size):
    """Rows of 2 to 5 choices and texts of different lengths: neither padding nor the other rows of a batch matter."""
    tokens = random_tokens(kind, 30)
    settings = tiny_settings(kind=kind, prompt_length=3, micro_batch_size=micro_batch_size)
    samples = np.arange(len(Samples(tokens, part(kind, "model").TOGETHER)))
    parts = (
        [samples]
        if micro_batch_size is None
        else np.split(samples, range(micro_batch_size, len(samples), micro_batch_size))
    )
    (model,) = build_together(bert, settings, None, 1)
    whole = gradients_of([model], tokens, settings.changed(micro_batch_size=len(samples)), [samples])
    assert_same(gradients_of([model], tokens, settings, parts), whole)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole[1][0].values())


def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_rows(bert):
    tokens, settings = random_tokens("multiple_choice", 24), tiny_settings(kind="multiple_choice", prompt_length=3)
    (model,) = build_together(bert, settings, None, 1)
    samples = np.arange(int(tokens.plain("row").max()) + 1)
    assert len(set(Samples(tokens, True).sizes.tolist())) > 1
    loss, (gradients,) = gradients_of([model], tokens, settings, [samples])
    alone = [gradients_of([model], tokens, settings, [samples[number : number + 1]]) for number in samples]
    assert_same(loss, torch.stack([value for value, _ in alone]).mean(0))
    for name, gradient in gradients.items():
        assert_same(gradient, torch.stack([of_row[name] for _, (of_row,) in alone]).mean(0))


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_models_that_share_a_forward_pass_get_the_gradients_of_each_alone(bert, kind):
    tokens, settings = random_tokens(kind, 20), tiny_settings(kind=kind, prompt_length=3)
    models = build_together(bert, settings, None, 3)
    for number, model in enumerate(models):
        with torch.no_grad():
            for parameter in model.tuned_parameters().values():
                parameter.add_(0.1 * number * torch.ones_like(parameter))
    samples = np.arange(len(Samples(tokens, part(kind, "model").TOGETHER)))
    losses, gradients = gradients_of(models, tokens, settings, [samples])
    for model, loss, gradient in zip(models, losses, gradients, strict=True):
        alone, (gradient_alone,) = gradients_of([model], tokens, settings, [samples])
        assert_same((loss, gradient), (alone[0], gradient_alone))
    assert len({round(float(loss), 5) for loss in losses}) == 3


def test_a_batch_holds_whole_rows():
    tokens = random_tokens("multiple_choice", 200)
    samples = Samples(tokens, together=True)
    rows = tokens.plain("row")
    assert len(samples) == rows[-1] + 1
    batches = training_batches(samples.lengths, 8, seed=1, epoch=0)
    assert sorted(np.concatenate(batches)) == list(range(len(samples)))
    for batch in batches:
        features = samples.features(batch)
        assert list(dict.fromkeys(rows[features])) == list(batch)
        assert all((np.flatnonzero(rows == row) == features[rows[features] == row]).all() for row in batch)
        longest = max(len(tokens.ragged("input_ids")[feature]) for feature in features)
        assert samples.padded_tokens(batch) == len(features) * longest


def test_features_on_their_own_are_their_own_samples():
    tokens = random_tokens("tagging", 30)
    samples = Samples(tokens, together=False)
    assert samples.lengths.tolist() == tokens.ragged("input_ids").lengths().tolist()
    assert samples.features(np.array([3, 1, 2])).tolist() == [3, 1, 2]
    assert samples.sizes.tolist() == [1] * 30


def test_the_validation_loss_is_the_mean_over_rows_of_any_number_of_choices(bert):
    """More rows than one batch of prediction holds."""
    tokens, settings = random_tokens("multiple_choice", 300), tiny_settings(kind="multiple_choice", prompt_length=3)
    rows = rows_for("multiple_choice", tokens)
    (model,) = build_together(bert, settings, None, 1)
    predictions, loss = evaluate(model, tokens, rows, settings, CPU)
    batch = collate(tokens, np.arange(300), PADDING, multiple_choice.TARGETS, CPU)
    with torch.inference_mode():
        assert loss == pytest.approx(float(multiple_choice.loss(model(batch), batch)), rel=1e-4)
    assert predictions == predict(model, tokens, rows, settings, CPU)


def test_choices_are_shown_as_texts():
    row = choice_row("1", "rain", "snow", label=1, text="It is cold.", question="Why?")
    texts, gold, shown = choice_examples.shown(row, {"a": 0, "b": 1})
    assert texts == ["It is cold.", "Why?", "(1) rain (2) snow"]
    assert (gold, shown) == (["snow"], {"a": "rain", "b": "snow"})
    assert choice_examples.differ([0, 1]) and not choice_examples.differ([1, 1])
    assert (choice_examples.goodness(row, 1), choice_examples.goodness(row, 0)) == (100, 0)


def test_the_baseline_of_choices_is_the_most_frequent_place():
    rows = [choice_row(str(number), "a", "b", "c", label=label) for number, label in enumerate([2, 0, 2, 1])]
    assert metrics.baseline("multiple_choice", rows, scoring()) == 50
    assert scored("multiple_choice", rows, [2, 1, 2, 2]) == {"accuracy": 50}


# Regression


def test_scores_are_tokenised_on_a_scale_from_0_to_1_and_decoded_on_their_own(tokenizer):
    rows = [score_row("b", 1.0), score_row("a", 5.0), score_row("c", 2.5)]
    columns, counts = regression.tokenise(rows, tokenizer, tokenising(labels=["1", "5"], max_length=32))
    assert columns["score"] == [0.0, 1.0, 0.375]
    assert columns["input_ids"][0] == tokenizer("A man", "A woman")["input_ids"]
    assert counts == {"empty_texts": 0}
    logits = [np.array([value], dtype=np.float32) for value in (0.0, 1.25, 0.375)]
    assert regression.decode(logits, in_memory(columns), rows, ["1", "5"]) == {"b": 1.0, "a": 6.0, "c": 2.5}


def test_a_single_text_has_a_score(tokenizer):
    columns, _ = regression.tokenise(
        [score_row("1", 1.0, second=None)], tokenizer, tokenising(labels=["0", "2"], max_length=32)
    )
    assert columns["input_ids"] == [tokenizer("A man")["input_ids"]]


def test_the_loss_of_scores_is_the_mean_squared_error():
    loss = regression.loss(torch.tensor([[0.5], [1.0]]), {"score": torch.tensor([0.0, 0.9])})
    assert loss.item() == pytest.approx((0.25 + 0.01) / 2)


def test_columns_of_floats_are_read_as_they_were_written(tmp_path):
    columns = random_columns("regression", 50)
    write_tokens(tmp_path / "tokens" / "tokens.json", columns, {})
    tokens = read_tokens(tmp_path / "tokens" / "tokens.json")
    assert tokens.plain("score").dtype == np.float32
    np.testing.assert_array_equal(tokens.plain("score"), np.float32(columns["score"]))
    assert tokens.plain("row").dtype == np.int32
    batch = collate(tokens, np.arange(4), PADDING, regression.TARGETS, CPU)
    torch.testing.assert_close(batch["score"], torch.tensor(columns["score"][:4]))
    assert tokens.chosen([3, 1]).plain("score").tolist() == tokens.plain("score")[[3, 1]].tolist()
    changed = columns | {"score": [columns["score"][0] + 0.001, *columns["score"][1:]]}
    write_tokens(tmp_path / "changed" / "tokens.json", changed, {})
    digests = {read_tokens(tmp_path / name / "tokens.json").record["sha256"] for name in ("tokens", "changed")}
    assert len(digests) == 2


def correlated(random: np.random.Generator, r: float, n: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    first = random.normal(size=n)
    second = r * first + np.sqrt(1 - r**2) * random.normal(size=n)
    return (first.round(), second.round(1)) if ties else (first, second)


MEASURES = {"spearman": (spearman, stats.spearmanr), "pearson": (pearson, stats.pearsonr)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("r", [-0.9, 0.0, 0.3, 0.8])
def test_correlations_are_those_of_scipy(r, ties):
    gold, predicted = correlated(np.random.default_rng(0), r, 150, ties)
    rows = [score_row(str(number), float(score)) for number, score in enumerate(gold)]
    expected = {name: pytest.approx(100 * oracle(gold, predicted)[0]) for name, (_, oracle) in MEASURES.items()}
    assert scored("regression", rows, predicted.tolist()) == expected


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_the_influence_of_a_row_is_the_derivative_by_its_weight(name, ties):
    """The oracle: scipy's correlation of a sample with each row 200 times, and one row once more."""
    measure, oracle = MEASURES[name]
    gold, predicted = correlated(np.random.default_rng(1), 0.6, 80, ties)
    correlation, influence = measure(gold, predicted)
    assert abs(influence.sum()) < 1e-9
    many_gold, many_predicted = np.repeat(gold, 200), np.repeat(predicted, 200)
    assert correlation == pytest.approx(oracle(many_gold, many_predicted)[0])
    for row in range(0, 80, 7):
        one_more = oracle(np.append(many_gold, gold[row]), np.append(many_predicted, predicted[row]))[0]
        derivative = (one_more - correlation) * (len(many_gold) + 1)
        assert influence[row] == pytest.approx(derivative, abs=2e-3)


@pytest.mark.parametrize("r", [0.3, 0.8])
@pytest.mark.parametrize("name", MEASURES)
def test_the_interval_of_a_correlation_covers_the_true_one(name, r):
    """Of 1,500 samples of 200 rows. The standard error is that of a mean, as for every other metric."""
    measure, _ = MEASURES[name]
    true = r if name == "pearson" else 6 / np.pi * np.arcsin(r / 2)  # of a bivariate normal distribution
    random, quantile, covered = np.random.default_rng(2), stats.t.ppf(0.975, 199), 0
    for _ in range(1500):
        correlation, influence = measure(*correlated(random, r, 200))
        covered += abs(correlation - true) < quantile * (correlation + influence).std(ddof=1) / np.sqrt(200)
    assert 0.92 < covered / 1500 < 0.97


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_the_standard_error_of_a_correlation_is_that_of_the_bootstrap(name, ties):
    measure, _ = MEASURES[name]
    random = np.random.default_rng(3)
    gold, predicted = correlated(random, 0.7, 400, ties)
    _, influence = measure(gold, predicted)
    draws = random.integers(0, 400, (1000, 400))
    resampled = np.std([measure(gold[draw], predicted[draw])[0] for draw in draws])
    assert influence.std() / np.sqrt(400) == pytest.approx(resampled, rel=0.1)


def test_equal_predictions_have_no_correlation():
    rows = [score_row("1", 1.0), score_row("2", 2.0)]
    assert scored("regression", rows, [3.0, 3.0]) == {"spearman": 0.0, "pearson": 0.0}
    assert metrics.baseline("regression", rows, scoring()) == 0.0


def test_scores_are_shown_with_two_decimals():
    row = score_row("1", 4.0)
    texts, gold, shown = score_examples.shown(row, {"a": 3.14159, "b": 4.001})
    assert (texts, gold, shown) == (["A man", "A woman"], ["4.00"], {"a": "3.14", "b": "4.00"})
    assert score_examples.differ([3.14, 3.2]) and not score_examples.differ([3.141, 3.142])
    assert score_examples.goodness(row, 4.0) == 100
    assert 0 < score_examples.goodness(row, 1.0) < score_examples.goodness(row, 3.5) < 100


# MLQA's normalisation


@pytest.mark.parametrize(
    ("language", "text", "normalised"),
    [
        ("en", "The  Eiffel Tower, «a» tower!", "eiffel tower tower"),
        ("es", "El río de la Plata y unas islas", "río de plata y islas"),
        ("es", "¿Los Ángeles?", "ángeles"),
        ("de", "Eine Brücke über den Main", "brücke über main"),
        ("de", "an der Ruhr", "an ruhr"),
        ("vi", "Những chiếc xe của Hà Nội", "xe hà nội"),
        ("hi", "यह एक घर है।", "यह एक घर है"),
        ("ar", "البيت الكبير، هنا؟", "بيت كبير هنا"),
        ("ar", "والبيت", "و بيت"),  # MLQA's script removes the two letters inside words too.
        ("zh", "1949年，中国 (PRC)", "1949 年 中 国 prc"),
        ("zh-Hans", "「东京」", "东 京"),
        ("zh", "カタカナ語", "カタカナ 語"),  # Only ideographs are words of their own.
        ("en", "a-b c’d $5 €5", "ab cd 5 €5"),  # Punctuation of any script, and ASCII symbols.
    ],
)
def test_mlqa_normalises_answers_by_the_rules_of_the_language(language, text, normalised):
    assert normalisation(scoring(normalisation="mlqa", language=language))(text) == normalised


def question(identity: str, *answers: str) -> dict[str, Any]:
    context = " ".join(answers)
    return {
        "id": identity,
        "group": context,
        "context": context,
        "question": "?",
        "answers": {"text": list(answers), "start": [0]},
    }


def test_the_normalisation_of_a_task_decides_its_scores():
    rows, predictions = [question("1", "北京市朝阳区")], {"1": "北京市。"}
    squad = scoring(normalisation="squad", language="zh")
    mlqa = scoring(normalisation="mlqa", language="zh")
    assert metrics.score("question_answering", rows, predictions, squad) == {"f1": 0.0, "exact_match": 0.0}
    f1 = pytest.approx(100 * 2 * 3 / (3 + 6))
    assert metrics.score("question_answering", rows, predictions, mlqa) == {"f1": f1, "exact_match": 0.0}
    found = contributions("question_answering", rows, predictions, mlqa)
    assert found["f1"] == {"1": (pytest.approx(2 / 3), 1.0)}


def test_each_row_of_a_union_of_languages_is_scored_by_the_rules_of_its_own():
    """`das` is an article in German alone; the first language of the source is that of no other row."""
    rows = joined_rows({language: [question("1", "das Haus")] for language in ("en", "de")})
    predictions = dict.fromkeys((row["id"] for row in rows), "Haus")
    for first in ("en", "de"):
        options = scoring(normalisation="mlqa", language=first)
        assert metrics.score("question_answering", rows, predictions, options)["exact_match"] == 50.0
        found = contributions("question_answering", rows, predictions, options)["exact_match"]
        assert list(found.values()) == [(1.0, 2.0)]  # both rows are about one context


def test_a_language_without_rules_of_mlqa_and_another_normalisation_are_refused():
    with pytest.raises(UserError, match="MLQA defines no normalisation of answers in 'ru', only in ar, de"):
        normalisation(scoring(normalisation="mlqa", language="ru"))
    with pytest.raises(UserError, match="normalisation: 'bleu' is not one of squad, mlqa"):
        normalisation(scoring(normalisation="bleu", language="en"))


# From training to scores


def rows_for(kind: str, tokens: Tokens) -> list[dict[str, Any]]:
    """The rows whose gold is what the features' targets say."""
    if kind == "entities":
        tags = tags_of(LABELS[kind])
        labels = [tokens.ragged("labels")[feature] for feature in range(len(tokens))]
        return [
            entity_row(str(row), *(tags[label] for label in of_feature if label >= 0))
            for row, of_feature in enumerate(labels)
        ]
    if kind == "regression":
        return [score_row(str(row), 5 * float(score)) for row, score in enumerate(tokens.plain("score"))]
    rows: dict[int, list[int]] = {}
    for row, correct in zip(tokens.plain("row"), tokens.plain("correct"), strict=True):
        rows.setdefault(int(row), []).append(int(correct))
    return [choice_row(str(row), *map(str, range(len(of)))) | {"label": of.index(1)} for row, of in rows.items()]


@pytest.mark.parametrize("kind", NEW_KINDS)
@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning"])
def test_training_lowers_the_loss_and_the_model_scores_above_the_baseline(bert, kind, method):
    """Prompts alone change a random encoder little."""
    tokens = random_tokens(kind, 400 if kind == "multiple_choice" else 160)
    rate, share, margin = (1e-3, 0.9, 10) if method == "fine_tuning" else (2e-2, 0.98, 5)
    settings = tiny_settings(kind=kind, method=method, epochs=8, batch_size=16)
    rows = rows_for(kind, tokens)
    models = build_together(bert, settings, ids_in(tokens), 1)

    def validate(model: TunedModel) -> Validated:
        predictions, loss = evaluate(model, tokens, rows, settings, CPU)
        return Validated(metrics.score(kind, rows, predictions, scoring()), loss)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), "key", every=60)
        result = train(models, tokens, settings, [rate], validate, checkpoint, CPU)
    epochs = result.outcomes[0].evaluations
    assert not result.outcomes[0].problem
    assert epochs[-1].training_loss < share * epochs[0].training_loss
    assert epochs[-1].validation_loss < share * epochs[0].validation_loss
    value = next(iter(epochs[-1].metrics.values()))
    assert value > metrics.baseline(kind, rows, scoring()) + margin
    assert result.state.examples == 8 * len(rows)
