"""A tuned model on the user's own texts: probabilities, input files, `make predict`."""

import csv
import gzip
import itertools
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LABELS, random_columns

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import read_confidences, read_predictions, read_rows
from workflow_scripts.kinds import part
from workflow_scripts.kinds.question_answering.model import LONGEST_ANSWER
from workflow_scripts.kinds.tokens import in_memory
from workflow_scripts.serving import predict_file
from workflow_scripts.serving.output import Partial
from workflow_scripts.serving.predictor import Predictor
from workflow_scripts.serving.records import in_chunks


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
    """Rows that the features could come from, with only the fields that decoding reads."""
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


class Served:
    """The runs of a finished grid, and predictions of files by them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resources = folder / "resources"

    def run(self, task: str, source: str = "en") -> Path:
        """The folder of a task's run."""
        return self.folder / "results" / "tiny" / task / source / "fine_tuning" / "seed-13"

    def rows(self, task: str) -> list[dict]:
        """The rows of a task's English test set."""
        (file,) = self.resources.glob(f"corpora/{task}/en/test.parquet")
        return read_rows(file, KINDS[task])

    def of_the_grid(self, task: str) -> Path:
        """The predictions of a task's English test set, as the workflow's step wrote them."""
        (file,) = self.run(task).glob("predictions/*/en.parquet")
        return file

    def predict(self, task: str, file: Path | str, *options: str) -> int:
        """`make predict` on a file; returns the exit status."""
        words = [str(self.run(task)), str(file), "--resources", str(self.resources), *options]
        return predict_file.main(predict_file.parser().parse_args(words))

    def results(self, task: str, file: Path, *options: str) -> list[dict]:
        """The rows that `make predict` writes."""
        self.predict(task, file, *options)
        return read_lines(file.with_name(f"{file.name}.predictions.jsonl"))


KINDS = {
    "mood": "classification",
    "similarity": "regression",
    "endings": "multiple_choice",
    "udpos": "tagging",
    "xquad": "question_answering",
}
GOLD = ("group", "label", "score", "tags", "answers")


@pytest.fixture(scope="module")
def served(served_grid) -> Served:
    return Served(served_grid.folder)


@pytest.fixture
def in_small_chunks(monkeypatch) -> None:
    """Chunks of four rows."""
    monkeypatch.setattr(predict_file, "CHUNK_ROWS", 4)


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_lines(file: Path, rows: list) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def moods(file: Path, count: int) -> Path:
    """Plain text of so many lines, of different lengths."""
    file.write_text("".join(f"{('wow', 'ugh')[n % 2]} {'abcde'[: n % 5]} {n}\n" for n in range(count)))
    return file


@pytest.mark.parametrize("task", KINDS)
def test_the_predictions_of_a_test_set_are_those_of_the_grid(served, tmp_path, task):
    rows = served.rows(task)
    without_gold = [{name: value for name, value in row.items() if name not in GOLD} for row in rows]
    found = served.results(task, write_lines(tmp_path / "rows.jsonl", without_gold))
    of_grid, confidences = read_predictions(served.of_the_grid(task)), read_confidences(served.of_the_grid(task))
    assert [result["id"] for result in found] == [row["id"] for row in rows]
    assert [result["row"] for result in found] == list(range(1, len(rows) + 1))
    for result in found:
        expected = of_grid[result["id"]]
        if task == "similarity":
            assert result["prediction"] == pytest.approx(expected, abs=1e-5)
            assert "probabilities" not in result
        else:
            assert result["prediction"] == expected
            sure = result["probabilities" if task == "udpos" else "probability"]
            assert sure == pytest.approx(confidences.calibrated[result["id"]], abs=1e-5)
    if task in ("mood", "endings"):
        for result in found:
            shares = result["probabilities"]
            shares = list(shares.values()) if isinstance(shares, dict) else shares
            assert sum(shares) == pytest.approx(1, abs=1e-5)
            assert result["probability"] == max(shares)
    if task == "xquad":
        for row, result in zip(rows, found, strict=True):
            assert row["context"][result["start"] : result["end"]] == result["prediction"]
            assert 0 < result["probability"] <= 1
    if task == "udpos":
        assert all(len(result["probabilities"]) == len(row["tokens"]) for row, result in zip(rows, found, strict=True))


def test_a_file_may_have_the_columns_of_the_tasks_own_dataset_and_its_ids(served, tmp_path):
    file = tmp_path / "test.csv"
    shutil.copy(served.folder / "my" / "data" / "en" / "test.csv", file)
    found = served.results("mood", file)
    of_grid = read_predictions(served.of_the_grid("mood"))
    assert {result["id"]: result["prediction"] for result in found} == of_grid
    choices = write_lines(tmp_path / "choices.jsonl", [{"start": "a b", "end1": "good end", "end2": "bad 3"}])
    assert served.results("endings", choices)[0]["prediction"] in (0, 1)


def test_every_format_of_the_same_texts_has_the_same_predictions(served, tmp_path, capfd, monkeypatch):
    texts = ["wow, a b", 'ugh "quoted" one', "wow; tab", "zzz qqq 987 unseen", "ugh ünïcödé"]
    files = {
        "a.txt": "".join(f"{text}\r\n" for text in texts),
        "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts),
        "a.tsv": "other\ttext\n" + "".join(f"1\t{text}\n" for text in texts),
        "a.csv": "\ufefftext,other\n" + "".join('"' + text.replace('"', '""') + '",1\n' for text in texts),
        "b.csv": "text|other\n" + "".join('"' + text.replace('"', '""') + '"|1\n' for text in texts),
    }
    found = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode())
        options = ["--delimiter", "|"] if name == "b.csv" else []
        found[name] = served.results("mood", tmp_path / name, *options)
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(files["a.txt"].encode()))
    found["gzip"] = served.results("mood", tmp_path / "c.txt.gz")
    with (tmp_path / "a.txt").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        capfd.readouterr()
        assert served.predict("mood", "-") == 0
    found["stream"] = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    expected = found["a.txt"]
    assert [result["prediction"] for result in expected[:3]] == ["good", "bad", "good"]
    for results in found.values():
        assert [result["prediction"] for result in results] == [result["prediction"] for result in expected]
        for result, other in zip(results, expected, strict=True):
            assert result["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_words_are_cut_at_white_space_or_given_as_a_list(served, tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"tokens": ["the", "cat", "sat"]}, {"tokens": "the  cat sat"}])
    as_list, as_text = served.results("udpos", file)
    (tmp_path / "a.txt").write_text("the cat sat\n")
    (tmp_path / "a.csv").write_text('tokens\n"[""the"", ""cat"", ""sat""]"\n')
    for other in (
        as_text,
        *served.results("udpos", tmp_path / "a.txt"),
        *served.results("udpos", tmp_path / "a.csv"),
    ):
        assert other["prediction"] == as_list["prediction"]


def test_a_bad_row_is_named_and_stays_in_its_place(served, tmp_path, capsys):
    good = {"text": "wow a"}
    lines = [
        json.dumps(good).encode(),
        b'{"text": "half',
        b"[1]",
        b'{"other": 1}',
        b'{"text": ["a"]}',
        b'{"text": "  "}',
        b'{"text": null}',
        b'{"text": "\xff"}',
        b"",
        json.dumps(good | {"id": "last"}).encode(),
    ]
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join(lines))
    status = served.predict("mood", file)
    results = read_lines(tmp_path / "a.jsonl.predictions.jsonl")
    assert status == predict_file.WITH_ERRORS != 0
    assert [result["row"] for result in results] == list(range(1, 10))
    assert ["error" in result for result in results] == [False, *[True] * 7, False]
    assert results[-1]["id"] == "last"
    assert results[0]["prediction"] == results[-1]["prediction"] == "good"
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1] == f"7 of 9 rows have an error: {file}.predictions.jsonl"
    for number, line in zip(range(2, 9), shown, strict=False):
        assert line.startswith(f"{file}, line {number}: ")
    for result, what in zip(
        results[1:8],
        ("not JSON", "not a JSON object", "no column 'text'", "not a text", "is empty", "null", "not UTF-8"),
        strict=True,
    ):
        assert what in result["error"]


def test_bad_rows_of_a_table_leave_the_rows_after_them_alone(served, tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(
        b'text,n\nwow a,1\nwow a\n"ugh never closed,1\nugh b,2\n"wow \n two lines",3\nwow \xff,4\n"a"b,5\nugh c,6\n'
    )
    found = served.results("mood", file)
    assert [result.get("prediction") for result in found] == ["good", None, None, "bad", "good", None, None, "bad"]
    errors = [result["error"] for result in found if "error" in result]
    assert errors[0] == "line 3: 1 columns, expected 2"
    assert errors[1].startswith("line 4: the quotes of this row are not those of CSV")
    assert "not UTF-8 at byte 5" in errors[2]
    assert errors[3].startswith("line 9: the quotes")


def test_rows_that_the_tokenizer_makes_nothing_of_are_answered_with_the_rest(served, tmp_path):
    """BERT's normaliser drops control characters: only the special tokens are left, which the model can read."""
    file = write_lines(tmp_path / "a.jsonl", [{"text": "wow a"}, {"text": "\u200d\ufeff\u0001"}, {"text": "ugh a"}])
    assert ["prediction" in result for result in served.results("mood", file)] == [True] * 3


def test_csv_output_has_a_column_for_each_part_of_an_answer(served, tmp_path):
    file = moods(tmp_path / "a.txt", 3)
    target = tmp_path / "out.csv"
    assert served.predict("mood", file, "--to", str(target)) == 0
    with target.open(newline="") as lines:
        table = list(csv.DictReader(lines))
    expected = served.results("mood", file)
    assert [row["prediction"] for row in table] == [result["prediction"] for result in expected]
    assert [json.loads(row["probabilities"]) for row in table] == [result["probabilities"] for result in expected]
    assert [float(row["probability"]) for row in table] == [result["probability"] for result in expected]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.usefixtures("in_small_chunks")
def test_a_command_that_was_stopped_continues_after_its_last_chunk_to_the_same_bytes(
    served, tmp_path, monkeypatch, ending
):
    file = moods(tmp_path / "a.txt", 18)
    with file.open("ab") as lines:
        lines.write(b"\xff\n\n")
    whole, target = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    served.predict("mood", file, "--to", str(whole))
    asked: list[int] = []
    answers = Predictor.answers

    def stopping(self, rows):
        asked.append(int(rows[0]["id"]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answers(self, rows)

    monkeypatch.setattr(Predictor, "answers", stopping)
    with pytest.raises(KeyboardInterrupt):
        served.predict("mood", file, "--to", str(target))
    assert not target.exists()
    partial = tmp_path / f".out.{ending}.partial"
    with partial.open("ab") as lines:
        lines.write(b"half a chunk" * 1000)  # as a kill during a write leaves it
    assert served.predict("mood", file, "--to", str(target)) == predict_file.WITH_ERRORS
    assert asked == [1, 5, 9, 9, 13, 17]
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.usefixtures("in_small_chunks")
@pytest.mark.parametrize("change", ["input", "run", "options"])
def test_a_partial_file_of_something_else_is_started_over(served, tmp_path, monkeypatch, change):
    file, target = moods(tmp_path / "a.txt", 10), tmp_path / "out.jsonl"
    asked: list[int] = []
    answers = Predictor.answers

    def stopping(self, rows):
        asked.append(int(rows[0]["id"]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answers(self, rows)

    monkeypatch.setattr(Predictor, "answers", stopping)
    with pytest.raises(KeyboardInterrupt):
        served.predict("mood", file, "--to", str(target))
    options = [str(served.run("mood")), str(file), "--resources", str(served.resources), "--to", str(target)]
    if change == "input":
        moods(file, 11)
    elif change == "run":
        options[0] = str(served.run("mood", "de"))
    else:
        options += ["--format", "text"]
    predict_file.main(predict_file.parser().parse_args(options))
    assert asked == [1, 5, 1, 5, 9]


def test_two_commands_cannot_write_the_same_file(tmp_path):
    first, second = (Partial(tmp_path / "out.jsonl", "json_lines", {}) for _ in range(2))
    with first.open():
        first.add([{"row": 1}])
        with pytest.raises(UserError, match="is being written by another process"), second.open():
            pass
    assert read_lines(tmp_path / "out.jsonl") == [{"row": 1}]


def test_a_line_of_a_slow_stream_is_answered_before_the_next_one_comes():
    more = threading.Event()

    def slow():
        yield "first", "line 1"
        assert more.wait(30)
        yield "second", "line 2"

    chunks = predict_file._available(slow(), 100)
    assert next(chunks) == [("first", "line 1")]
    more.set()
    assert list(chunks) == [[("second", "line 2")]]


def test_an_error_of_a_stream_arrives_after_the_records_before_it():
    def failing():
        yield "first", "line 1"
        raise UserError("the end")

    found = []
    with pytest.raises(UserError, match="the end"):
        found.extend(predict_file._available(failing(), 100))
    assert list(itertools.chain(*found)) in ([], [("first", "line 1")])


def test_chunks_end_at_a_number_of_rows_or_of_characters_and_are_read_one_at_a_time():
    read: list[int] = []

    def lines():
        for number in itertools.count():
            read.append(number)
            yield "a" * (10 if number < 4 else 1), "line"

    chunks = in_chunks(lines(), 5, 20, lambda placed: len(placed[0]))
    assert [len(chunk) for chunk in itertools.islice(chunks, 3)] == [2, 2, 5]
    assert len(read) == 9


def test_probabilities_are_divided_by_the_temperature_of_the_run(served, tmp_path):
    copy = Served(Path(shutil.copytree(served.folder, tmp_path / "copy", symlinks=True)))
    record, file = copy.run("mood") / "run.json", moods(tmp_path / "a.txt", 4)
    before, after = [], []
    for temperature, found in ((1.0, before), (4.0, after)):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"temperature": temperature}))
        found += copy.results("mood", file)
    for one, other in zip(before, after, strict=True):
        assert one["prediction"] == other["prediction"]
        logit = np.log(one["probabilities"]["good"] / one["probabilities"]["bad"])
        assert np.log(other["probabilities"]["good"] / other["probabilities"]["bad"]) == pytest.approx(
            logit / 4, abs=0.02 * abs(logit)
        )


@pytest.mark.parametrize(
    ("task", "name", "content", "options", "message"),
    [
        ("mood", "a.csv", "foo,bar\n1,2\n", [], "no column 'text', nor 'sentence' as in the task's dataset"),
        ("mood", "a.csv", "text;n\nwow;1\n", [], "--delimiter ';'"),
        ("mood", "a.csv", "text,text\nwow,1\n", [], "both named 'text'"),
        ("mood", "a.txt", "", [], "has no rows"),
        ("mood", "a.csv", "text\n", [], "has no rows"),
        ("mood", "a.txt", "wow\n", ["--to", "out.xml"], r"must end in \.jsonl"),
        ("mood", "a.txt", "wow\n", ["--delimiter", "ab"], "not a single character"),
        ("mood", "a.parquet", "wow\n", [], "export the texts as CSV"),
        ("mood", "missing.txt", None, [], "there is no file"),
        ("similarity", "a.txt", "one\n", [], "a row of this task has text and text_pair"),
    ],
)
def test_what_cannot_be_predicted_ends_in_one_line(served, tmp_path, task, name, content, options, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        served.predict(task, tmp_path / name, *options)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_refused(served, tmp_path):
    file = moods(tmp_path / "a.txt", 1)
    with pytest.raises(UserError, match="is not a finished run"):
        predict_file.main(predict_file.parser().parse_args([str(tmp_path), str(file)]))
