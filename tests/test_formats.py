"""Files of every format are read completely and correctly, and errors in them are named."""

import csv
import gzip
import io
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Tokens

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.fingerprint import fingerprint
from workflow_scripts.corpora.formats import (
    FORMATS,
    FormatOptions,
    column,
    delimited,
    format_of,
    json_document,
    module_of,
    named,
    records,
    tags,
    text,
)
from workflow_scripts.corpora.formats.parquet import class_names


def read(path: Path, **options: Any) -> list[dict]:
    """The records of a file, of the format that its suffix means unless the options have one."""
    return [record for record, _ in records(path, FormatOptions(**{"format": format_of(path), **options}), path.name)]


def places(path: Path, **options: Any) -> list[str]:
    return [place for _, place in records(path, FormatOptions(**{"format": format_of(path), **options}), path.name)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file, compressed if its name ends in .gz."""

    def write_file(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write_file


# The real files


def test_the_unquoted_tsv_files_of_xtreme_are_read_whole(xtreme_folder):
    rows = {"xnli/train-en": 8999, "xnli/dev-en": 2490, "pawsx/test-de": 2000, "pawsx/test-es": 2000}
    for name, count in rows.items():
        found = read(xtreme_folder / f"{name}.tsv", header=False)
        assert len(found) == count
        assert all(list(record) == ["1", "2", "3"] for record in found)
        assert not any("\r" in value for record in found for value in record.values())
    assert {record["3"] for record in found} == {"0", "1"}


def test_the_quoting_of_csv_writer_is_undone_in_real_files(more_folder):
    """Read without quoting, SIB-200's files give the same texts as by the csv module, which wrote them."""
    quoted = 0
    for path in sorted((more_folder / "sib200").glob("*/*.tsv")):
        assert read(path) == read(path, quoted=True)
        quoted += path.read_text("utf-8").count('\t"')
    assert quoted > 200


def test_bare_quotes_of_real_files_are_kept(xtreme_folder):
    """PAWS-X was written without quoting: the texts are what is between the tabs."""
    for language in ("de", "es", "zh"):
        path = xtreme_folder / "pawsx" / f"test-{language}.tsv"
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
        assert any('"' in line for line in lines)
        assert ["\t".join(record.values()) for record in read(path, header=False)] == lines


def test_sib200_is_parallel_by_its_ids(more_folder):
    for split, count in {"train": 701, "dev": 99, "test": 204}.items():
        ids = [
            [(record["index_id"], record["category"]) for record in read(folder / f"{split}.tsv")]
            for folder in sorted((more_folder / "sib200").iterdir())
        ]
        assert len(ids) == 9
        assert len(ids[0]) == count
        assert all(other == ids[0] for other in ids)


def test_real_json_lines_are_read_whole(more_folder):
    belebele = read(more_folder / "belebele" / "eng_Latn.jsonl")
    assert len(belebele) == 900
    assert column(belebele[0], "mc_answer1", "")
    assert {
        folder.name: len(read(folder / f"test.{folder.name}.jsonl")) for folder in (more_folder / "xcopa").iterdir()
    } == {
        "it": 500,
        "sw": 500,
        "zh": 500,
    }


def test_real_squad_files_have_the_answers_of_a_plain_reading(xtreme_folder):
    """The same questions as the standard library gives of the whole file, each answer at its place."""
    for name in (
        "xquad/xquad.zh.json",
        "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.ru.dev.json",
        "squad/train-v1.1.json",
    ):
        path = xtreme_folder / name
        expected = [
            (question["id"], paragraph["context"], [answer["answer_start"] for answer in question["answers"]])
            for article in json.loads(path.read_text("utf-8"))["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
        found = read(path, format="squad")
        assert [(row["id"], row["context"], row["answers"]["answer_start"]) for row in found] == expected
        right = [
            record["context"].startswith(answer, start)
            for record in found
            for answer, start in zip(record["answers"]["text"], record["answers"]["answer_start"], strict=True)
        ]
        assert sum(right) > 0.99 * len(right)


def test_real_conll_files_have_their_tokens_and_sentence_ids(more_folder):
    """The tokens, without their spaces, are those of the sentence that the comment `text` states."""
    parallel = []
    for language in ("en", "de", "ru"):
        found = read(more_folder / "uner" / f"{language}_pud-ud-test.iob2", comments="#")
        assert len(found) == 1000
        parallel.append([record["sent_id"] for record in found])
        assert all(record["1"] == [str(number + 1) for number in range(len(record["2"]))] for record in found)
        assert {tag for record in found for tag in record["3"]} == {
            f"{p}-{t}" for p in "BI" for t in ("PER", "ORG", "LOC")
        } | {"O"}
        same = ["".join(record["2"]) == record["text"].replace(" ", "") for record in found]
        assert sum(same) > 900
    assert parallel[0] == parallel[1] == parallel[2]
    assert len({record["newdoc id"] for record in found}) > 100


def test_no_token_of_real_files_is_taken_for_a_comment(xtreme_folder, more_folder):
    """Tokens such as `#` and `#hashtag`, at the beginning of a sentence and inside one."""
    counts = {"xtreme": 0, "uner": 0}
    for path in (xtreme_folder / "udpos" / "test-en.tsv", xtreme_folder / "udpos" / "test-de.tsv"):
        lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
        found = read(path, format="conll", comments="#")
        assert [token for record in found for token in record["1"]] == [line.split("\t")[0] for line in lines]
        counts["xtreme"] += sum(line.startswith("#") for line in lines)
    for path in (more_folder / "uner").glob("*.iob2"):
        tokens = [line.split("\t")[1] for line in path.read_text("utf-8").split("\n") if "\t" in line]
        found = read(path, comments="#")
        assert [token for record in found for token in record["2"]] == tokens
        counts["uner"] += sum(token.startswith("#") for token in tokens)
    assert all(counts.values())


def test_real_conllu_files_have_their_words_only(xtreme_folder):
    for language in ("de", "es", "ar"):
        path = xtreme_folder / "ud" / f"{language}_pud-ud-test.conllu"
        words = [
            line.split("\t")
            for line in path.read_text("utf-8").split("\n")
            if line[:1].isdigit() and line.split("\t")[0].isdecimal()
        ]
        found = read(path)
        assert len(found) == 1000
        assert [form for record in found for form in record["form"]] == [word[1] for word in words]
        assert [upos for record in found for upos in record["upos"]] == [word[3] for word in words]
        assert all(record["sent_id"] and record["text"] for record in found)


# Delimited files


def test_csv_is_read_as_the_csv_module_reads_it(write):
    rows = [["text", "label"], ["a, b", "x"], ['he said "no"', "y"], ["two\nlines", "z"], ["", ""], ["ü", "x"]]
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    for name in ("reviews.csv", "reviews.csv.gz"):
        path = write(name, "\ufeff" + buffer.getvalue())
        assert read(path) == [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        assert places(path) == [f"{name}, line {number}" for number in (2, 3, 4, 6, 7)]


def test_quotes_and_line_separators_in_an_unquoted_file_are_text(write):
    path = write("a.tsv", 'text\tlabel\r\nhe said "no\tx\r\n"one" or "two"\ty\na\u2028b\x0b\x85\t"say ""no"""\n\n')
    assert [list(record.values()) for record in read(path)] == [
        ['he said "no', "x"],
        ['"one" or "two"', "y"],
        ["a\u2028b\x0b\x85", 'say "no"'],
    ]


def test_header_quotes_and_delimiter_are_options(write):
    path = write("a.csv", 'x;"y\n;z"\n')
    assert read(path, header=False, delimiter=";") == [{"1": "x", "2": "y\n;z"}]
    assert read(write("b.csv", '"x,y"\n'), header=False, quoted=False) == [{"1": '"x', "2": 'y"'}]
    assert read(write("c.tsv", '"x\ty"\t1\n'), header=False, quoted=True) == [{"1": "x\ty", "2": "1"}]


def test_a_line_of_a_file_without_header_may_be_a_single_text(write):
    assert read(write("a.tsv", "one; two, three|four\nfive\n"), header=False) == [
        {"1": "one; two, three|four"},
        {"1": "five"},
    ]


def test_a_header_name_loses_its_spaces_and_an_empty_one_is_its_number(write):
    assert read(write("a.csv", ",text, label\n0,a,b\n")) == [{"1": "0", "text": "a", "label": "b"}]


# JSON


def test_json_is_read_as_the_standard_library_reads_it_wherever_chunks_end(write, monkeypatch):
    """Random documents in pieces of 1 to 9 bytes: every place where a value, an escape or a character can be cut."""
    chance = random.Random(0)

    def value(depth: int) -> Any:
        kinds = ["text", "number", "constant"] + ["list", "object"] * (depth > 0)
        kind = chance.choice(kinds)
        if kind == "text":
            return "".join(chance.choice(["a", '"', "\\", "ü", "\U0001f600", "\n", "{", "]", ","]) for _ in range(5))
        if kind == "number":
            return chance.choice([0, -1, 12345, 1.5e-7, -3.25])
        if kind == "constant":
            return chance.choice([True, False, None])
        if kind == "list":
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        return {f"k{number}": value(depth - 1) for number in range(chance.randrange(4))}

    for trial in range(200):
        monkeypatch.setattr(text, "CHUNK", 1 + trial % 9)
        rows = [{"id": number, "value": value(3)} for number in range(1 + trial % 5)]
        around = {"version": value(0), "meta": {"data": [{"no": 1}]}, "data": rows, "empty": [], "tags": ["a", 1]}
        layout = {"ensure_ascii": trial % 2 == 0, "indent": [None, 1][trial % 3 == 0]}
        for document in (rows, around):
            assert read(write("a.json", json.dumps(document, **layout))) == rows


def test_an_error_in_json_is_found_where_the_standard_library_finds_it(write, monkeypatch):
    """A character of a document is replaced or the rest is truncated: the same line, or the same records."""
    chance = random.Random(1)
    rows = [{"id": number, "text": 'a "b" \\ c', "tags": [1, 2.5, None]} for number in range(4)]
    whole = json.dumps({"version": 1, "data": rows}, indent=1)
    found_errors = 0
    for trial in range(300):
        monkeypatch.setattr(text, "CHUNK", 1 + trial % 40)
        place = chance.randrange(1, len(whole))
        damaged = (
            whole[:place] + chance.choice(['"', "}", "x", ",", ":"]) + whole[place + 1 :]
            if trial % 2
            else whole[:place]
        )
        path = write("a.json", damaged)
        try:
            json.loads(damaged)
        except json.JSONDecodeError as error:
            found_errors += 1
            with pytest.raises(UserError, match=rf"^a\.json, line {error.lineno}: not JSON"):
                read(path)
    assert found_errors > 200


def test_half_a_character_is_replaced_counted_and_logged(write, caplog):
    rows = '{"id": "1", "t": "ok \\ud83d\\ude00"}\n{"id": "2", "t": ["x \\ud83d"]}\n'
    lines = write("a.jsonl", rows)
    document = write("a.json", "[" + rows.strip().replace("\n", ",") + "]")
    for path, place in ((lines, "a.jsonl, line 2"), (document, "a.json, record 2")):
        caplog.clear()
        assert read(path) == [{"id": "1", "t": "ok \U0001f600"}, {"id": "2", "t": ["x \ufffd"]}]
        assert caplog.messages == [
            f"{path.name}: half a character (a lone surrogate) was replaced by U+FFFD in 1 of 2 records, the first:"
            f" {place}"
        ]


# Parquet


def test_parquet_rows_and_class_labels_are_those_of_the_library_that_wrote_them(tmp_path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["no", "yes"]),
            "tags": List(ClassLabel(names=["O", "B-PER"])),
            "answers": {"text": List(Value("string")), "kind": ClassLabel(names=["long", "short"])},
        }
    )
    rows = [
        {"text": f"t{n}", "label": n % 2, "tags": [0, 1], "answers": {"text": ["a"], "kind": n % 2}}
        for n in range(3000)
    ]
    path = tmp_path / "train.parquet"
    Dataset.from_list(rows, features=features).to_parquet(path)
    assert read(path) == rows
    assert places(path)[2047] == "train.parquet, row 2048"
    names = class_names(path)
    assert names == {"label": ["no", "yes"], "tags": ["O", "B-PER"], "answers.kind": ["long", "short"]}
    assert named(column(rows[1], "tags", ""), names["tags"], "") == ["O", "B-PER"]
    for number, end in ((2, r"\(no, yes\)$"), (-1, "withheld")):
        with pytest.raises(UserError, match=rf"^row 7: label {number} is not one of 0 to 1 .*{end}"):
            named(number, names["label"], "row 7")


def test_parquet_is_read_by_pages(tmp_path):
    """Arrow's memory is bounded by pages and batches, not by the file or its row groups."""
    path = tmp_path / "a.parquet"
    values = pa.array([f"{number} " * 20 for number in range(300_000)])
    pq.write_table(pa.table({"t": values}), path, compression="none", use_dictionary=False)
    del values
    size = path.stat().st_size
    assert size > 32 * 2**20
    before, most = pa.total_allocated_bytes(), 0
    for _ in records(path, FormatOptions("parquet")):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < size / 4


def test_class_labels_as_older_releases_state_them(tmp_path):
    path = tmp_path / "a.parquet"
    label = {"names": ["a", "b"], "_type": "ClassLabel"}
    info = {"info": {"features": {"x": {"feature": label, "length": -1, "_type": "Sequence"}, "y": [label]}}}
    table = pa.table({"x": [[0]], "y": [[1]]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path)
    assert class_names(path) == {"x": ["a", "b"], "y": ["a", "b"]}
    pq.write_table(table, path)
    assert class_names(path) == {}


# CoNLL


def test_comments_and_tokens_are_distinguished(write):
    """The same sentence between tabs and between spaces; only a tab distinguishes a first token `#` from a comment."""
    content = "# id = s1\n#note=n\n#tag\tX\n#\tY\n# a\tZ\n\n# newdoc id = d2\n#\tX\n\nu\tX\n"
    path = write("a.conll", content)
    assert read(path, comments="#") == [
        {"id": "s1", "note": "n", "1": ["#tag", "#", "# a"], "2": ["X", "Y", "Z"]},
        {"newdoc id": "d2", "1": ["#"], "2": ["X"]},
        {"newdoc id": "d2", "1": ["u"], "2": ["X"]},
    ]
    path = write("b.conll", content.replace("# a\t", "#a\t").replace("\t", "  "))
    assert [record["1"] for record in read(path, comments="#")] == [["#tag", "#", "#a"], ["u"]]
    assert places(write("c.conll", "#\tX\n#\tX\n\n\n \nu\tX"), comments="#") == [
        "c.conll, lines 1 to 2",
        "c.conll, lines 6 to 6",
    ]


def test_columns_between_spaces_do_not_end_at_other_white_space(write):
    path = write("a.conll", "-DOCSTART- -X- O\n\n10\u00a0000  CD   O \n\u3000 PU O\n")
    assert read(path) == [{"1": ["10\u00a0000", "\u3000"], "2": ["CD", "PU"], "3": ["O", "O"]}]


def test_a_conll_header_names_the_columns(write):
    path = write("a.conll", "token,tag\na,X\n\nb,Y\n")
    assert read(path, header=True, delimiter=",") == [{"token": ["a"], "tag": ["X"]}, {"token": ["b"], "tag": ["Y"]}]


# Schemes of tags

SEQEVAL = {"iob1": IOB1, "iob2": IOB2, "bioes": IOBES, "iobes": IOBES}


def spans(found: list[str], scheme: str) -> set[tuple[str, int, int]]:
    """The entities by seqeval."""
    return {(entity.tag, entity.start, entity.end) for entity in Tokens(list(found), SEQEVAL[scheme]).entities}


def lenient(found: list[str]) -> list[str]:
    """IOB2 tags of the entities that seqeval's default mode finds, which reads tags as conlleval does."""
    converted = ["O"] * len(found)
    for kind, first, last in get_entities(list(found)):
        converted[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return converted


@pytest.mark.parametrize("scheme", SEQEVAL)
def test_conversion_keeps_the_entities_of_all_short_valid_sequences(scheme):
    """Every sequence of up to 4 tags; those that seqeval's entities fully explain are valid."""
    possible = ["O", *(f"{prefix}-{kind}" for prefix in tags.PREFIXES[scheme] for kind in ("X", "Y"))]
    valid = 0
    for length in (1, 2, 3, 4):
        for sequence in itertools.product(possible, repeat=length):
            found = spans(sequence, scheme)
            covered = {place for _, first, end in found for place in range(first, end)}
            explained = covered == {place for place, tag in enumerate(sequence) if tag != "O"}
            if scheme != "iob1":  # Any sequence is valid in iob1: an unneeded B- begins an entity.
                assert (tags.problem(sequence, scheme) == "") == explained, sequence
            if explained:
                converted, changed = tags.repaired(sequence, scheme)
                assert spans(converted, "iob2") == found and changed == 0, sequence
                assert tags.problem(converted) == ""
                valid += 1
    assert valid > 100


def test_repair_reads_invalid_tags_as_conlleval_does():
    for sequence in itertools.product(["O", "B-X", "I-X", "B-Y", "I-Y"], repeat=5):
        converted, changed = tags.repaired(sequence)
        assert converted == lenient(sequence)
        assert changed == sum(old != new for old, new in zip(sequence, converted, strict=True))
        assert tags.problem(converted) == ""
        assert (changed == 0) == (tags.problem(sequence) == "")


def test_real_entities_survive_every_scheme(more_folder):
    """IOB2 of real sentences, written in the other schemes from the entities that seqeval finds."""
    entities = 0
    for path in (more_folder / "uner").glob("*.iob2"):
        for record in read(path, comments="#"):
            original = record["3"]
            assert tags.problem(original) == ""
            found = spans(original, "iob2")
            entities += len(found)
            iob1, bioes = ["O"] * len(original), ["O"] * len(original)
            ends = {(kind, end) for kind, _, end in found}
            for kind, first, end in found:
                iob1[first:end] = [f"I-{kind}"] * (end - first)
                iob1[first] = f"{'B' if (kind, first) in ends else 'I'}-{kind}"
                inside = [f"I-{kind}"] * (end - first - 2)
                bioes[first:end] = [f"S-{kind}"] if end - first == 1 else [f"B-{kind}", *inside, f"E-{kind}"]
            assert tags.repaired(iob1, "iob1") == tags.repaired(bioes, "bioes") == (original, 0)
            assert tags.problem(bioes, "bioes") == ""
    assert entities == 5204


@pytest.mark.parametrize(
    ("sequence", "scheme", "what"),
    [
        ("O O I-PER", "iob2", "tag 3 is I-PER after O"),
        ("I-PER O", "iob2", "tag 1 is I-PER at the start of the sentence"),
        ("B-LOC I-PER", "iob2", "tag 2 is I-PER after B-LOC"),
        ("B-LOC PER", "iob2", "tag 2 is 'PER', not one of O, B-TYPE, I-TYPE"),
        ("B- O", "iob2", "tag 1 is 'B-', not one of O, B-TYPE, I-TYPE"),
        ("S-LOC", "iob1", "tag 1 is 'S-LOC', not one of O, B-TYPE, I-TYPE"),
        ("S-X I-X", "bioes", "tag 2 is I-X after S-X"),
        ("B-X O", "bioes", "tag 2 is O after B-X, which E-X does not end"),
        ("O B-X", "bioes", "tag 2 is B-X at the end of the sentence, where E- or S- is expected"),
    ],
)
def test_the_first_problem_of_tags_is_named(sequence, scheme, what):
    assert tags.problem(sequence.split(), scheme) == what


def test_repair_of_bioes_does_not_join_entities():
    assert tags.repaired("S-X I-X O E-X E-X B-X".split(), "bioes") == ("B-X B-X O B-X B-X B-X".split(), 5)


# Columns


def test_a_column_may_be_nested():
    record = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "answers": [{"text": "x"}, {"text": "y"}], "n": None, "2": "two"}
    names = {"a.b": 1, "a.c": {"d": 3}, "a.c.d": 3, "answers.text": ["x", "y"], "n": None, 2: "two"}
    assert {name: column(record, name, "") for name in names} == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lable", "f, line 2: no column 'lable' (did you mean 'Label'?); the columns are text, Label, answers"),
        ("TEXT", "f, line 2: no column 'TEXT' (did you mean 'text'?); the columns are text, Label, answers"),
        (
            "2",
            "f, line 2: no column '2'; the columns are text, Label, answers: columns have numbers in files without a"
            " header, with `header: false`",
        ),
        (
            "answers.txt",
            "f, line 2: no column 'answers.txt' (did you mean 'answers.text'?); the columns are answers.text,"
            " answers.start",
        ),
        ("text.a", "f, line 2: no column 'text.a': 'text' holds a text, not nested columns"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(name, message):
    with pytest.raises(UserError) as error:
        column({"text": "t", "Label": "l", "answers": {"text": [], "start": []}}, name, "f, line 2")
    assert str(error.value) == message


# Errors in files

PARQUET = io.BytesIO()
pq.write_table(pa.table({"a": [1]}), PARQUET)
TWICE = io.BytesIO()
pq.write_table(pa.table([[1], [2]], names=["a", "a"]), TWICE)
BAD_FILES = {
    "fewer columns": ("a.csv", "a,b\n1,2\n3\n", {}, r"a\.csv, line 3: 1 column, expected 2 \(a, b\): put quotes"),
    "more columns": ("a.tsv", "a\tb\n1\t2\t3\n", {}, r"a\.tsv, line 2: 3 columns, expected 2 .*`quoted: true`"),
    "rows of lines": ("a.csv", 'a,b\n"1\n2"\n', {}, r"a\.csv, lines 2 to 3: 1 column, expected 2"),
    "no header": ("a.tsv", "1\t2\n1\n", {"header": False}, r"a\.tsv, line 2: 1 column, expected 2 \(1, 2\)"),
    "header twice": (
        "a.csv",
        "a,b,a\n",
        {},
        r"a\.csv, line 1: columns 1 and 3 of the header are both named 'a': rename",
    ),
    "open quote": (
        "a.csv",
        'a,b\n1,2\n"3,4\n5,6\n',
        {},
        r"a\.csv, line 3: the quotes .*unexpected end .*`quoted: false`",
    ),
    "bare quote": ("a.csv", 'a,b\n"3"x,4\n', {}, r"a\.csv, line 2: the quotes of this row are not those of CSV"),
    "delimiter": (
        "a.csv",
        "a;b\n1;2\n",
        {},
        r"a\.csv, line 1: one column with ',' as delimiter: set `delimiter: \";\"`",
    ),
    "encoding": ("a.csv", b"a,b\n1,2\nM\xfcller,3\n", {}, r"a\.csv, line 3: not UTF-8 at byte 9 \(0xfc\): save"),
    "encoding gz": ("a.csv.gz", b"a,b\n1,2\nM\xfcller,3\n", {}, r"a\.csv\.gz, line 3: not UTF-8 at byte 9 \(0xfc\)"),
    "encoding json": ("a.json", b'[\n{"a":\n"M\xfcller"}]', {}, r"a\.json, line 3: not UTF-8 at byte 10 \(0xfc\)"),
    "cut character": ("a.json", b'[{"a": "\xc3', {}, r"a\.json, line 1: not UTF-8 at byte 8 \(0xc3\)"),
    "utf-16": ("a.csv", "a,b\n".encode("utf-16"), {}, r"a\.csv is UTF-16: save it as UTF-8"),
    "zero bytes": ("a.csv", "a,b\n".encode("utf-16-le"), {}, r"a\.csv is not UTF-8 text"),
    "parquet as csv": ("a.csv", PARQUET.getvalue(), {}, r"a\.csv is a parquet file: set `format: parquet`"),
    "spreadsheet": ("a.csv", b"PK\x03\x04\x00", {}, r"a\.csv is a zip archive or a spreadsheet: .* export"),
    "lfs": ("a.csv", "version https://git-lfs.github.com/spec/v1\n", {}, r"a\.csv is a pointer of Git LFS"),
    "html": ("a.tsv", "<!DOCTYPE html>\n<html>", {}, r"a\.tsv is an HTML page, not data"),
    "empty": ("a.csv", "", {}, r"a\.csv is empty: fetch it again"),
    "blank": ("a.jsonl", "\n\n", {}, r"a\.jsonl holds no records"),
    "header only": ("a.csv", "a,b\n", {}, r"a\.csv holds no records"),
    "empty gz": ("a.conll.gz", "", {}, r"a\.conll\.gz holds no records"),
    "empty list": ("a.json", "[]", {}, r"a\.json holds no records"),
    "not json": ("a.jsonl", '{"a": 1}\n{"a": }\n', {}, r"a\.jsonl, line 2, column 7: not JSON \(Expecting value\)"),
    "not an object": ("a.jsonl", '{"a": 1}\n[1]\n', {}, r"a\.jsonl, line 2: not an object, but '\[1\]': each line"),
    "a list": ("a.jsonl", '[{"a": 1}]\n', {}, r"a\.jsonl, line 1: not an object, .*: set `format: json`"),
    "indented": ("a.jsonl", '{\n"a": 1}\n', {}, r"a\.jsonl, line 1: the JSON spans several lines: set `format: json`"),
    "deep": ("a.jsonl", '{"a": ' + "[" * 200_000, {}, r"a\.jsonl, line 1: not JSON \(too deeply nested\)"),
    "deep json": ("a.json", "[" * 200_000, {}, r"a\.json, line 1: not JSON \(too deeply nested\)"),
    "lines as json": (
        "a.json",
        '{"a": [{}]}\n{"a": [{}]}\n',
        {},
        r"a\.json: an object a line: set `format: json_lines`",
    ),
    "no list": (
        "a.json",
        '{"a": {"b": 1}, "c": [1]}',
        {},
        r"a\.json: no list of objects under any of its keys \(a, c\)",
    ),
    "two lists": ("a.json", '{"a": [{}], "b": [{}]}', {}, r"a\.json: lists of objects under both 'a' and 'b'"),
    "number": ("a.json", "[{}, 3]", {}, r"a\.json, record 2: not an object, but 3"),
    "text": ("a.json", '"a"', {}, r"a\.json: not a list of objects, nor"),
    "more json": ("a.json", "[{}]\n]", {}, r"a\.json, line 2: not JSON \(more text after the end"),
    "not squad": (
        "a.json",
        '[{"a": 1}]',
        {"format": "squad"},
        r"a\.json, article 1: not in the .* 'paragraphs' is missing",
    ),
    "not a gzip": ("a.csv.gz", None, {}, r"a\.csv\.gz is not a gzip file, though its name ends in \.gz"),
    "not parquet": ("a.parquet", "no", {}, r"a\.parquet: cannot be read as parquet \(.*\): fetch it again"),
    "cut parquet": ("a.parquet", PARQUET.getvalue()[:-20], {}, r"a\.parquet: cannot be read as parquet"),
    "parquet twice": ("a.parquet", TWICE.getvalue(), {}, r"a\.parquet: more than one column is named 'a': rename"),
    "conll": ("a.conll", "a X\n\nb\n", {}, r"a\.conll, line 3: 1 column, expected 2: correct the line"),
    "comments": ("a.conll", "a X\n\n# id = 5\nb Y\n", {}, r"a\.conll, line 3: 4 columns, .* set `comments: \"#\"`"),
    "conllu": ("a.conllu", "1\ta\n", {}, r"a\.conllu, line 1: 2 columns between tabs, a CoNLL-U file has 10"),
    "ids": ("a.conllu", "1" + "\t_" * 9 + "\n3" + "\t_" * 9, {}, r"a\.conllu, line 2: found the id '3', expected 2"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_input_is_one_line_that_names_the_place(what, write, tmp_path):
    name, content, options, message = BAD_FILES[what]
    path = write(name, content or "")
    if content is None:
        path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(UserError, match=f"^{message}") as error:
        read(path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [b"\xfc", b"\xe8\xaa", b"\xed\xa0\xbd"], ids=["latin-1", "cut", "surrogate"])
def test_byte_and_line_of_bad_encoding_are_those_of_the_whole_file(bad, write, monkeypatch):
    """After characters of several bytes, and wherever chunks end; Python decodes the whole file to compare."""
    lines_of_file = ['{"id": 1, "t": "ü語\U0001f600"}', '{"id": 2, "t": "語語"}', '{"id": 3, "t": "XX"}']
    for name, content in {"a.jsonl": "\n".join(lines_of_file), "a.json": "[" + ",\n".join(lines_of_file) + "]"}.items():
        data = content.encode().replace(b"XX", bad)
        with pytest.raises(UnicodeDecodeError) as error:
            data.decode()
        start = error.value.start
        line = data.count(b"\n", 0, start) + 1
        for size in range(1, 12):
            monkeypatch.setattr(text, "CHUNK", size)
            with pytest.raises(UserError, match=rf"^{name}, line {line}: not UTF-8 at byte {start} "):
                read(write(name, data))


def test_a_damaged_gzip_file_is_named(write):
    path = write("a.csv.gz", "a,b\n" + "1,2\n" * 10_000)
    content = path.read_bytes()
    broken = content[:60] + bytes(byte ^ 0x55 for byte in content[60:70]) + content[70:]
    for damaged in (content[:-20], broken, content[:-8] + b"\0" * 8):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"^a\.csv\.gz is a damaged gzip file \(.+\): fetch it again$"):
            read(path)


def test_limits_of_lines_and_fields_are_named(write, monkeypatch):
    """A file of one long line, and a quote that is never closed, must not fill the memory."""
    monkeypatch.setattr(text, "LINE_LIMIT", 1000)
    with pytest.raises(UserError, match=r"^a\.jsonl, line 2: the line has more than .* `format: json`$"):
        read(write("a.jsonl", '{"a": 1}\n{"a": "' + "x" * 1000))
    monkeypatch.setattr(delimited, "FIELD_LIMIT", 5000)
    with pytest.raises(UserError, match=r"^a\.csv, line 2: the quotes .*larger than field limit.*`quoted: false`"):
        read(write("a.csv", 'a\n"x\n' + "x\n" * 10_000))


def test_a_byte_order_mark_is_not_part_of_the_first_column(write, monkeypatch):
    monkeypatch.setattr(text, "CHUNK", 1)
    for name, content in {
        "a.tsv": "a\tb\n1\t2\n",
        "a.jsonl": '{"a": 1}',
        "a.json": '[{"a": 1}]',
        "a.conll": "a b",
    }.items():
        plain = read(write(name, content))
        assert read(write(name, "\ufeff" + content)) == plain


def test_a_text_in_parquet_that_is_not_utf8_is_named_by_its_row(tmp_path):
    path = tmp_path / "a.parquet"
    values = pa.array([b"ok"] * 2000 + [b"M\xfcller"] + [b"ok"] * 10)
    column_of_text = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
    pq.write_table(pa.table({"t": column_of_text}), path)
    with pytest.raises(UserError, match=r"^a\.parquet, row 2001: not UTF-8"):
        read(path)


def test_a_missing_file_is_named_with_similar_ones(tmp_path, write):
    write("train-en.tsv", "a\tb\n")
    write("notes.md", "x")
    with pytest.raises(UserError, match=r"/train-de\.tsv is missing; its folder has train-en\.tsv$"):
        next(records(tmp_path / "train-de.tsv", FormatOptions("tsv")))
    with pytest.raises(UserError, match=r"is missing: .* has no folder deu, but notes\.md, train-en\.tsv$"):
        next(records(tmp_path / "deu" / "x" / "train.tsv", FormatOptions("tsv")))
    with pytest.raises(UserError, match=r"is a folder: name a file in it, such as notes\.md, train-en\.tsv$"):
        next(records(tmp_path, FormatOptions("tsv")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "^format 'xml' is not one of csv, tsv, "),
        ({"format": "parquet", "header": True}, "^header does not apply to files of format parquet: remove it$"),
        (
            {"format": "csv", "comments": "#"},
            r"^comments does not apply to files of format csv: remove it \(this format has header, quoted, .*\)$",
        ),
        ({"format": "csv", "delimiter": "::"}, "^delimiter '::' is not a single character"),
        ({"format": "conll", "comments": ""}, "^comments is empty"),
    ],
)
def test_an_option_that_a_format_does_not_have_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        FormatOptions(**options)


def test_the_suffix_determines_the_format():
    names = {
        "a.CSV": "csv",
        "a.b.tsv.gz": "tsv",
        "a.jsonl": "json_lines",
        "a.json": "json",
        "a-00000-of-00002.parquet": "parquet",
        "en.iob2": "conll",
        "a.conllu.gz": "conllu",
    }
    assert {name: format_of(Path(name)) for name in names} == names
    with pytest.raises(
        UserError, match=r"^data/a\.txt: the suffix '\.txt' does not determine the format: set `format`"
    ):
        format_of(Path("data/a.txt"))


# Streaming and imports


def test_files_are_streamed(write):
    """The first records come before the reader has seen the file's end, which is bad in each of these."""
    bad_end = {
        "a.csv": ("a,b\n", "1,2\n", "1\n"),
        "a.tsv": ("a\tb\n", "1\t2\n", "1\n"),
        "a.jsonl": ("", '{"a": 1}\n', "{\n"),
        "a.json": ("[", '{"a": 1},', "]"),
        "a.conll": ("", "a X\n\n", "a\n"),
        "a.conllu": ("", "1" + "\ta" * 9 + "\n\n", "a\n"),
    }
    for name, (start, record, end) in bad_end.items():
        path = write(name, start + record * (1_200_000 // len(record)) + end)
        stream = records(path, FormatOptions(format_of(path)))
        assert len(list(islice(stream, 1000))) == 1000
        with pytest.raises(UserError):
            for _ in stream:
                pass


def test_a_format_imports_its_own_module_only(write):
    """So an edit to one format reruns only the steps that read it, and JSON lines do not wait for Arrow."""
    path = write("a.jsonl", '{"a": 1}\n')
    script = (
        "import sys; from pathlib import Path; from workflow_scripts.corpora.formats import FormatOptions, records;"
        f"list(records(Path({str(path)!r}), FormatOptions('json_lines'))); print(*sorted(sys.modules))"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    package = "workflow_scripts.corpora.formats"
    assert {name for name in run.stdout.split() if name.startswith(package)} == {
        package,
        f"{package}.json_lines",
        f"{package}.text",
    }
    assert not {"pyarrow", "numpy", "csv"} & set(run.stdout.split())


def test_every_format_has_a_module_with_a_fingerprint():
    assert len({fingerprint(module_of(name)) for name in FORMATS}) == len(set(FORMATS.values()))


def test_only_the_text_in_use_of_a_json_file_is_in_memory(write):
    document = json_document._Document(
        write("a.json", "[" + ",".join(['{"a": "' + "x" * 990 + '"}'] * 5000) + "]"), "a"
    )
    longest = max(len(document._text) for _ in document.items("[", "]"))
    assert longest < 3 * text.CHUNK
