"""What the generated benchmark promises."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from corpus_rows import described, rows_of
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.mini import LANGUAGES, SIZES, generated
from workflow_scripts.corpora.mini.sounds import elide, with_particle
from workflow_scripts.corpora.mini.wording import SLOT, join_tokens, load_wording
from workflow_scripts.experiment.tasks import builtin
from workflow_scripts.kinds import part

SETS = [("en", "train"), ("en", "validation"), *((language, "test") for language in LANGUAGES)]
OTHER_LANGUAGES = LANGUAGES[1:]
ROOT = Path(__file__).parent.parent


TASKS = ("xnli", "pawsx", "udpos", "xquad", "tydiqa")
rows = generated


@pytest.mark.parametrize("task", TASKS)
def test_the_task_files_list_its_languages(task):
    definition = builtin(task)
    source = definition.sources["mini"]
    assert tuple(source.languages or definition.languages) == LANGUAGES
    assert (source.train_languages or definition.train_in()) == ["en"]


@pytest.mark.parametrize(("language", "split"), [("de", "test"), ("en", "train"), ("en", "validation")])
def test_a_limit_takes_the_first_rows(language, split):
    found = rows_of(described("xnli", "mini", language, split, limit=7))
    assert found == rows_of(described("xnli", "mini", language, split))[:7]
    assert len(found) == 7


def test_every_row_has_the_group_of_its_kind():
    """In parallel corpora, groups are named by their first row, the same in all languages."""
    for task, shared in (("xnli", "text"), ("xquad", "context")):
        found, first = rows_of(described(task, "mini", "de", "test")), {}
        assert [row["group"] for row in found] == [first.setdefault(row[shared], row["id"]) for row in found]
    assert all(row["group"] == row["context"] for row in rows_of(described("tydiqa", "mini", "de", "test")))
    assert all(row["group"] == row["id"] for row in rows_of(described("udpos", "mini", "de", "test")))


def templates(found):
    """All the templates in a part of a language file."""
    if isinstance(found, str):
        return {found}
    return set().union(*map(templates, found.values() if isinstance(found, dict) else found))


def words_of(row):
    if "tokens" in row:
        return " ".join(row["tokens"])
    return " ".join(str(row[field]) for field in ("text", "text_pair", "context", "question") if field in row)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("language", "split"), SETS)
def test_every_row_passes_its_schema(task, language, split):
    made = rows(task, language, split)
    assert len(made) == SIZES[split]
    assert len({row["id"] for row in made}) == len(made)
    for row in made:
        assert part(builtin(task).kind, "rows").problem(row, builtin(task).labels) == ""
        assert part(builtin(task).kind, "rows").oddity(row) == ""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("language", "split"), SETS)
def test_no_row_has_an_unfilled_slot_or_doubled_spaces(task, language, split):
    for row in rows(task, language, split):
        assert not re.search(r"[<>{}@]|\s\s|\s[.,?]", words_of(row) if "tokens" not in row else "".join(row["tokens"]))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SIZES)
def test_no_english_row_comes_twice(task, split):
    texts = [words_of(row) for row in rows(task, "en", split)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_parallel_rows_share_ids_and_labels(language):
    for task in ("xnli", "pawsx"):
        english, other = rows(task, "en", "test"), rows(task, language, "test")
        assert [(row["id"], row["label"]) for row in english] == [(row["id"], row["label"]) for row in other]


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
@pytest.mark.parametrize("task", ["xquad", "tydiqa"])
def test_parallel_questions_ask_for_the_same_filler(task, language):
    english, other = load_wording("test", "en"), load_wording("test", language)

    def keys(wording, text):
        return {
            (kind, key)
            for kind, known in wording.plan["fillers"].items()
            for key in map(str, known)
            if text in plain_forms(wording, kind, key)
        }

    for ours, theirs in zip(rows(task, "en", "test"), rows(task, language, "test"), strict=True):
        assert ours["id"] == theirs["id"]
        assert keys(english, ours["answers"]["text"][0]) & keys(other, theirs["answers"]["text"][0])


def plain_forms(wording, kind, key):
    """The texts of a filler, with and without a capital."""
    entry = wording.words["fillers"].get(kind, {}).get(key, key)
    texts = [
        join_tokens([word.rpartition("/")[0] or word for word in form.split()], wording.language)
        for form in map(str, entry if isinstance(entry, list) else [entry])
    ]
    return {*texts, *(text[:1].upper() + text[1:] for text in texts)}


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_a_language_says_all_that_english_says(language):
    """The same tasks, relations, numbers of templates, and fillers."""

    def shape(found):
        if isinstance(found, dict):
            return {key: shape(value) for key, value in found.items()}
        return len(found)

    english, other = load_wording("test", "en").words, load_wording("test", language).words
    for task in TASKS:
        assert shape(english[task]) == shape(other[task]), task
    for kind, known in other["fillers"].items():
        assert set(known) - {"columns"} == set(map(str, load_wording("test", "en").plan["fillers"][kind])), kind


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_a_template_has_the_same_slots_in_all_languages(language):
    english, other = load_wording("test", "en"), load_wording("test", language)

    def compare(ours, theirs, slots, where):
        if isinstance(ours, str):
            used = [{match["slot"] for match in SLOT.finditer(text)} & slots for text in (ours, theirs)]
            assert used[0] == used[1], (where, ours, theirs)
        else:
            for key in ours if isinstance(ours, dict) else range(len(ours)):
                compare(ours[key], theirs[key], slots, f"{where} {key}")

    for task in TASKS:
        for name in english.plan[task]:
            if task == "udpos":
                compare(english.words[task], other.words[task], set(english.plan[task]["slots"]), task)
            else:
                slots = set(english.plan[task][name]["slots"])
                compare(english.words[task][name], other.words[task][name], slots, f"{task} {name}")


def test_templates_and_fillers_of_the_test_set_do_not_occur_in_training():
    wordings = {split: load_wording(split, "en") for split in SIZES}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        for task in TASKS:
            assert not templates(wordings[one].words[task]) & templates(wordings[other].words[task])
        fillers = [
            {(kind, str(key)) for kind, known in wordings[split].plan["fillers"].items() for key in known}
            for split in (one, other)
        ]
        assert not fillers[0] & fillers[1]


def test_the_two_question_sets_share_no_template():
    for split in SIZES:
        words = load_wording(split, "en").words
        assert not templates(words["xquad"]) & templates(words["tydiqa"])


@pytest.mark.parametrize("task", ["xnli", "pawsx"])
@pytest.mark.parametrize("split", SIZES)
def test_labels_are_balanced(task, split):
    counts = Counter(row["label"] for row in rows(task, "en", split))
    assert set(counts.values()) == {SIZES[split] // len(builtin(task).labels)}


@pytest.mark.parametrize("split", SIZES)
def test_each_hypothesis_goes_with_all_three_labels(split):
    wording = load_wording(split, "en")
    for family, plan in wording.plan["xnli"].items():
        assert len(plan["hypotheses"]) == len(wording.words["xnli"][family]["hypotheses"])
        for cases in plan["hypotheses"]:
            assert set(cases) == set(builtin("xnli").labels)
            assert all(cases.values())


@pytest.mark.parametrize("split", SIZES)
def test_turned_wordings_name_the_exchanged_slots_in_the_other_order(split):
    wording = load_wording(split, "en")
    for relation, plan in wording.plan["pawsx"].items():
        one, other = plan["exchanged"]
        for number, template in enumerate(wording.words["pawsx"][relation]):
            slots = [match["slot"] for match in SLOT.finditer(template)]
            assert (slots.index(one) > slots.index(other)) == (number in plan["turned"]), template


def bag_of_words_accuracy(task, fields):
    """Trained on the English training set, scored on the English test set."""

    def texts(made):
        return [" ".join(row[field] for field in fields) for row in made]

    train, test = rows(task, "en", "train"), rows(task, "en", "test")
    vectorizer = CountVectorizer()
    model = LogisticRegression(max_iter=200)
    model.fit(vectorizer.fit_transform(texts(train)), [row["label"] for row in train])
    return model.score(vectorizer.transform(texts(test)), [row["label"] for row in test])


def test_the_hypothesis_alone_does_not_give_the_label_away():
    assert bag_of_words_accuracy("xnli", ["text_pair"]) <= 0.45


def test_the_words_of_a_paraphrase_pair_do_not_give_the_label_away():
    assert bag_of_words_accuracy("pawsx", ["text", "text_pair"]) <= 0.58


def test_an_answer_stands_once_in_its_paragraph():
    for task in ("xquad", "tydiqa"):
        for row in rows(task, "en", "test"):
            assert len(re.findall(rf"\b{re.escape(row['answers']['text'][0])}\b", row["context"])) == 1, row


def test_korean_answers_leave_the_particle_out():
    known = load_wording("test", "ko").words["fillers"]
    for row in rows("xquad", "ko", "test"):
        answer = row["answers"]["text"][0]
        assert answer.isdigit() or any(answer in words.values() for words in known.values()), answer


@pytest.mark.parametrize(
    ("noun", "particle", "expected"),
    [
        ("안나", "은/는", "안나는"),
        ("마틴", "은/는", "마틴은"),
        ("사이먼", "이/가", "사이먼이"),
        ("피터", "을/를", "피터를"),
        ("다니엘", "과/와", "다니엘과"),
        ("빈", "으로/로", "빈으로"),
        ("로마", "으로/로", "로마로"),
        ("서울", "으로/로", "서울로"),
        ("8월", "을/를", "8월을"),
        ("12", "이/가", "12가"),
        ("1998", "으로/로", "1998로"),
    ],
)
def test_korean_particles_follow_the_last_sound(noun, particle, expected):
    assert with_particle(noun, particle) == expected


@pytest.mark.parametrize(
    ("word", "following", "expected"),
    [("de", "Anna", ("d'", "ADP")), ("de", "Rome", ("de", "ADP")), ("que", "Elena", ("qu'", "SCONJ"))],
)
def test_french_words_elide_before_a_vowel(word, following, expected):
    assert elide(word, following) == expected


@pytest.mark.parametrize(
    ("language", "tokens", "text"),
    [
        ("en", ["Anna", "'s", "dog", ",", "too", "."], "Anna's dog, too."),
        ("fr", ["l'", "arabe", "d'", "Anna", "."], "l'arabe d'Anna."),
        ("es", ["¿", "Quién", "es", "?"], "¿Quién es?"),
        ("ja", ["アンナ", "は", "歌う", "。"], "アンナは歌う。"),
        ("zh", ["安娜", "唱歌", "。"], "安娜唱歌。"),
        ("ko", ["안나는", "노래한다", "."], "안나는 노래한다."),
    ],
)
def test_tokens_are_joined_as_the_language_writes_them(language, tokens, text):
    assert join_tokens(tokens, language) == text


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_japanese_and_chinese_text_has_no_spaces_and_full_width_punctuation(language):
    for task in ("xnli", "pawsx", "xquad", "tydiqa"):
        for row in rows(task, language, "test"):
            texts = [value for key, value in row.items() if key in ("text", "text_pair", "context", "question")]
            assert not any(re.search(r"[\s.,?]", text) for text in texts), row


def test_the_frequent_tags_occur_in_training():
    tags = Counter(tag for row in rows("udpos", "en", "train") for tag in row["tags"])
    for tag in set(builtin("udpos").labels) - {"X"}:
        assert tags[tag] >= 20, tag


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_word_that_is_only_punctuation_is_tagged_so(language):
    for row in rows("udpos", language, "test"):
        for token, tag in zip(row["tokens"], row["tags"], strict=True):
            assert (tag == "PUNCT") == (not any(character.isalnum() for character in token)), (token, tag)


def test_another_hash_seed_gives_the_same_rows():
    def digest(seed):
        program = (
            "import hashlib, json\n"
            "from workflow_scripts.corpora.mini import generated as rows\n"
            "made = [rows(task, 'ko', 'test') for task in ('xnli', 'pawsx', 'udpos', 'xquad', 'tydiqa')]\n"
            "made += [rows(task, 'en', 'train')[:200] for task in ('xnli', 'udpos')]\n"
            "print(hashlib.sha256(json.dumps(made).encode()).hexdigest())"
        )
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    made = [rows(task, "ko", "test") for task in ("xnli", "pawsx", "udpos", "xquad", "tydiqa")]
    made += [rows(task, "en", "train")[:200] for task in ("xnli", "udpos")]
    assert digest("1") == digest("2") == hashlib.sha256(json.dumps(made).encode()).hexdigest()


@pytest.mark.parametrize(
    ("task", "language", "split", "named"),
    [
        ("xnli", "de", "train", "choose from en"),
        ("xnli", "sw", "test", "choose from en, de"),
        ("xnli", "en", "dev", "choose from train, validation, test"),
        ("ner", "en", "test", "choose from xnli"),
    ],
)
def test_what_the_benchmark_does_not_have_is_refused_in_one_line(task, language, split, named):
    with pytest.raises(UserError, match=named) as refusal:
        rows(task, language, split)
    assert "\n" not in str(refusal.value)
