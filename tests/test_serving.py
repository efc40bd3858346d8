"""A tuned model on the user's own texts: probabilities, input files, `make predict`."""

import numpy as np
import pytest
import torch
from tiny import LABELS, in_memory, random_columns

from workflow_scripts.kinds import part
from workflow_scripts.kinds.question_answering.model import LONGEST_ANSWER


def random_logits(kind: str, features: int, tokens, seed: int = 0) -> list[np.ndarray]:
    """Logits of each feature, in the shape that the kind's head gives."""
    random = np.random.default_rng(seed)
    outputs = part(kind, "model").outputs(LABELS[kind])
    lengths = tokens.ragged("input_ids").lengths()
    token_level = part(kind, "model").LEVEL == "token"
    return [
        random.normal(size=(length, outputs) if token_level else outputs).astype(np.float32) * 3 for length in lengths
    ]


def rows_of(kind: str, columns: dict) -> list[dict]:
    """Rows that the features could come from; only what decoding reads."""
    number = max(columns["row"]) + 1
    rows = [{"id": f"r{row}"} for row in range(number)]
    for feature, row in enumerate(columns["row"]):
        if kind in ("tagging", "entities"):
            rows[row]["tokens"] = ["w"] * (max(columns["word"][feature]) + 1)
        if kind == "multiple_choice":
            rows[row].setdefault("choices", []).append("c")
        if kind == "question_answering":
            rows[row]["context"] = "abcdefghijklmnopqrstuvwxyz"
    return rows


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kind", ["classification", "tagging", "entities", "multiple_choice"])
def test_probabilities_are_the_softmax_of_the_logits_divided_by_the_temperature_for_what_is_predicted(
    kind, temperature
):
    columns = random_columns(kind, 12)
    tokens, rows, model = in_memory(columns), rows_of(kind, columns), part(kind, "model")
    logits = random_logits(kind, 12, tokens)
    predicted = model.decode(logits, tokens, rows, LABELS[kind])
    found = model.probabilities(logits, tokens, rows, LABELS[kind], temperature)
    assert list(found) == list(predicted) == [row["id"] for row in rows]
    for number, row in enumerate(rows):
        features = [feature for feature, of in enumerate(columns["row"]) if of == number]
        values = torch.tensor(np.stack([logits[feature] for feature in features])) / temperature
        mine, answer = found[row["id"]], predicted[row["id"]]
        if kind == "classification":
            assert list(mine) == LABELS[kind]
            assert list(mine.values()) == pytest.approx(values[0].softmax(-1).tolist())
            assert max(mine, key=mine.get) == answer
        elif kind == "multiple_choice":
            assert mine == pytest.approx(values[:, 0].softmax(0).tolist())
            assert int(np.argmax(mine)) == answer
        else:
            assert mine == pytest.approx(values[0, 1:-1].softmax(-1).max(-1).values.tolist())


def spans_by_enumeration(logits, columns, temperature):
    """The probability of each span of characters, one after the other, over all windows of a question."""
    weights: dict[tuple[int, int], float] = {}
    for values, starts, ends in zip(logits, columns["offset_start"], columns["offset_end"], strict=True):
        for first in range(len(starts)):
            for last in range(first, min(len(starts), first + LONGEST_ANSWER)):
                if min(starts[first], starts[last]) >= 0 and ends[first] > starts[first] and ends[last] > starts[last]:
                    weight = float(np.exp((float(values[first, 0]) + float(values[last, 1])) / temperature))
                    span = (starts[first], ends[last])
                    weights[span] = weights.get(span, 0.0) + weight
    total = sum(weights.values())
    return {span: weight / total for span, weight in weights.items()}


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_probability_of_an_answer_is_that_of_its_characters_among_all_spans_of_all_windows(temperature):
    columns = random_columns("question_answering", 2, longest=15) | {"row": [0, 0]}
    columns["offset_start"][1] = [start if start < 0 else start + 3 for start in columns["offset_start"][1]]
    columns["offset_end"][1] = [end if end < 0 else end + 3 for end in columns["offset_end"][1]]
    tokens, rows = in_memory(columns), rows_of("question_answering", columns)
    model = part("question_answering", "model")
    for seed in range(5):
        logits = random_logits("question_answering", 2, tokens, seed)
        (column, start, end) = model.places(logits, tokens, rows)["r0"]
        assert rows[0][column][start:end] == model.decode(logits, tokens, rows, [])["r0"]
        expected = spans_by_enumeration(logits, columns, temperature)
        assert model.probabilities(logits, tokens, rows, [], temperature)["r0"] == pytest.approx(expected[start, end])


def test_a_context_without_tokens_has_an_empty_answer_of_probability_zero():
    columns = random_columns("question_answering", 1) | {"row": [0]}
    columns["offset_start"] = columns["offset_end"] = [[-1] * len(columns["input_ids"][0])]
    tokens, rows, model = in_memory(columns), [{"id": "r0", "context": ""}], part("question_answering", "model")
    logits = random_logits("question_answering", 1, tokens)
    assert model.decode(logits, tokens, rows, []) == {"r0": ""}
    assert model.probabilities(logits, tokens, rows, [], 1.0) == {"r0": 0.0}


@pytest.mark.parametrize("kind", ["classification", "multiple_choice"])
def test_probabilities_of_answers_in_words_are_the_softmax_that_the_loss_takes(kind):
    """Two rows of two answers: the first in one feature, the second in two."""
    columns = {
        "row": [0, 1, 1],
        "input_ids": [[5, 6], [5, 7], [5, 8]],
        "choice": [[0, 0, 1], [0, -1], [1, 1]],
        "first": [1, 1, 0],
        "correct": [1, 0, 0],
    }
    tokens, rows = in_memory(columns), [{"id": "a"}, {"id": "b"}]
    logits = [np.array(values, dtype=np.float32) for values in ([-1, -3, -1.5], [-2, 9], [-0.5, -0.7])]
    words = part(kind, "words")
    found = words.probabilities(logits, tokens, rows, ["no", "yes"], 1.0)
    predicted = words.decode(logits, tokens, rows, ["no", "yes"])
    batch = {
        "choice": torch.tensor([[0, 0, 1], [0, -1, -1], [1, 1, -1]]),
        "first": torch.tensor([1, 1, 0]),
        "correct": torch.tensor([1, 0, 0]),
    }
    padded = torch.tensor([[-1, -3, -1.5], [-2, 0, 0], [-0.5, -0.7, 0]])
    a, b = (list(of.values()) if isinstance(of, dict) else of for of in (found["a"], found["b"]))
    assert sum(a) == pytest.approx(1) == pytest.approx(sum(b))
    assert float(words.loss(padded, batch)) == pytest.approx(-(np.log(a[1]) + np.log(b[0])) / 2)
    of_labels = kind == "classification"
    assert [predicted["a"], predicted["b"]] == (["yes", "yes"] if of_labels else [1, 1])
