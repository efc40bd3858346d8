"""A token folder returns what was written, memory-mapped, and damage is reported."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from tiny import random_columns

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.tokens import Ragged, Tokens, read_tokens, write_tokens

FEATURES = 2500  # more than the 1,000 rows of one of the file's batches


@pytest.fixture
def record(tmp_path) -> Path:
    """The record of a folder with features of every kind of column."""
    path = tmp_path / "tokens" / "train" / "tokens.json"
    write_tokens(path, columns(), {"rows": FEATURES, "at_max_length": 3})
    return path


def columns(seed: int = 0):
    made = random_columns("tagging", FEATURES, seed)
    return made | {"label": [row % 3 for row in made["row"]]}


def arrow_file(record: Path) -> Path:
    (file,) = record.parent.glob("*.arrow")
    return file


def as_lists(tokens: Tokens) -> dict[str, list]:
    return {
        name: [row.tolist() for row in column] if isinstance(column, Ragged) else column.tolist()
        for name, column in tokens.columns.items()
    }


def test_what_was_written_is_read(record):
    tokens = read_tokens(record)
    assert len(tokens) == FEATURES
    assert as_lists(tokens) == columns()


def test_the_record_counts_the_features(record):
    lengths = [len(ids) for ids in columns()["input_ids"]]
    found = json.loads(record.read_text())
    assert len(found.pop("sha256")) == 64
    assert found == {
        "rows": FEATURES,
        "at_max_length": 3,
        "features": FEATURES,
        "tokens": sum(lengths),
        "longest": max(lengths),
    }
    assert read_tokens(record).record["features"] == FEATURES


def test_datasets_reads_the_folder(record):
    found = datasets.load_from_disk(str(record.parent))
    assert {name: list(found[name]) for name in found.column_names} == columns()


def test_a_folder_with_a_single_feature_is_read(tmp_path):
    record = tmp_path / "one" / "tokens.json"
    one = {"row": [0], "input_ids": [[0, 2]], "word": [[-1, -1]]}
    write_tokens(record, one, {})
    assert as_lists(read_tokens(record)) == one


def test_two_writings_give_the_same_record_and_another_content_another(tmp_path, record):
    again, other = tmp_path / "again" / "tokens.json", tmp_path / "other" / "tokens.json"
    write_tokens(again, columns(), {"rows": FEATURES, "at_max_length": 3})
    assert again.read_bytes() == record.read_bytes()
    changed = columns()
    changed["labels"][7] = [0] * len(changed["labels"][7])
    write_tokens(other, changed, {"rows": FEATURES, "at_max_length": 3})
    assert json.loads(other.read_text())["sha256"] != json.loads(record.read_text())["sha256"]


def test_writing_again_replaces_its_own_files_and_leaves_those_of_the_user(record):
    (record.parent / "mine.arrow").write_bytes(b"of the user's")
    write_tokens(record, columns(seed=1), {"rows": FEATURES})
    assert as_lists(read_tokens(record)) == columns(seed=1)
    assert (record.parent / "mine.arrow").read_bytes() == b"of the user's"
    assert [path.name for path in record.parent.parent.iterdir()] == ["train"]


def test_leftovers_of_an_interrupted_write_do_not_get_in_the_way(record):
    left = record.parent.with_name(".train.writing")
    left.mkdir()
    (left / "data-00000-of-00001.arrow").write_bytes(b"half")
    write_tokens(record, columns(seed=1), {"rows": FEATURES})
    assert as_lists(read_tokens(record)) == columns(seed=1)


def test_the_features_are_mapped_and_not_copied(record):
    before = pa.total_allocated_bytes()
    tokens = read_tokens(record)
    assert len(tokens.ragged("input_ids")[FEATURES - 1]) > 0
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("kept", [0, 7, 1000, 50_000, -1, -200])
def test_a_truncated_arrow_file_is_refused_by_its_folder(record, kept):
    file = arrow_file(record)
    file.write_bytes(file.read_bytes()[:kept])
    refused(record, f"delete {record.parent}")


def test_a_file_that_is_no_arrow_file_is_refused_by_its_folder(record):
    arrow_file(record).write_bytes(b"<html>502 Bad Gateway</html>" * 100)
    refused(record, f"delete {record.parent}")


def test_a_missing_arrow_file_is_refused_by_its_folder(record):
    arrow_file(record).unlink()
    refused(record, f"delete {record.parent}")


def test_a_missing_record_is_refused_by_its_name(record):
    record.unlink()
    refused(record, str(record))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"features": "many"}', "\x00\x01"])
def test_a_damaged_record_is_refused_by_its_name(record, content):
    record.write_text(content)
    refused(record, str(record.parent))


def test_a_record_of_other_features_is_refused(record):
    record.write_text(json.dumps(json.loads(record.read_text()) | {"features": FEATURES + 1}))
    refused(record, f"{FEATURES} features, its record says {FEATURES + 1}")


def refused(record: Path, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        read_tokens(record)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_ragged_rows_are_padded_at_the_right():
    ragged = Ragged(np.array([1, 2, 3, 4, 5, 6], dtype=np.int32), np.array([0, 3, 3, 4, 6]))
    assert len(ragged) == 4
    assert ragged.lengths().tolist() == [3, 0, 1, 2]
    padded = ragged.padded([3, 0, 2], filler=-7, length=4)
    assert padded.dtype == np.int64
    assert padded.tolist() == [[5, 6, -7, -7], [1, 2, 3, -7], [4, -7, -7, -7]]
