"""Removes what identifies the user and the machine from files: absolute paths, the home folder, access tokens.

/home/me/project/results/my_grid/run.json   ──> results/my_grid/run.json       in the working folder
/data/me/encoder                            ──> elsewhere/encoder              a path that the configuration names
hf_AbCd...                                  ──> REMOVED-TOKEN
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import naming

ELSEWHERE, REMOVED = "elsewhere", "REMOVED-TOKEN"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)
SECRET_LENGTH = 8  # shorter values of such variables are switches such as `0`
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")  # of the Hugging Face Hub
CHUNK = 1 << 20


class Anonymous:
    """Replaces text in the bytes of files.

    Args:
        working_folder: paths below it become relative.
        project: the folder of the code.
        values: the configuration and lists of paths, whose absolute paths are replaced.
        moved: absolute folders with their new names.
    """

    def __init__(self, working_folder: Path, project: Path, values: Any, moved: Mapping[str, str]) -> None:
        replacements: dict[str, str] = {}
        for path in absolute_paths(values):
            if not any(path.is_relative_to(folder) for folder in (working_folder.absolute(), project)):
                replacements[str(path)] = f"{ELSEWHERE}/{path.name}"
        homes = [Path.home(), *(Path(place, user) for place in ("/home", "/Users") if (user := os.environ.get("USER")))]
        for folder, name in ((Path(sys.prefix), "environment"), (project, "code"), *((home, "~") for home in homes)):
            replacements |= {str(one): name for one in (folder, folder.resolve()) if len(one.parts) > 1}
        for folder in (working_folder.absolute(), working_folder.resolve()):
            if len(folder.parts) > 1:
                replacements |= {f"{folder}/": "", str(folder): "."}
        replacements |= moved
        for name, value in os.environ.items():
            if SECRET_NAME.search(name) and len(value) >= SECRET_LENGTH and not Path(value).exists():
                replacements[value] = REMOVED
        # Longest first: a path before the folders that contain it.
        self.replacements = sorted(
            ((old.encode(), new.encode()) for old, new in replacements.items()), key=lambda one: -len(one[0])
        )
        ends = rb"(?![A-Za-z0-9_.-])"  # of a path, so that /home/me does not match in /home/me2
        self._pattern = re.compile(
            b"|".join(re.escape(old) + (b"" if old.endswith(b"/") else ends) for old, _ in self.replacements)
        )
        self._new = dict(self.replacements)

    def text(self, content: bytes) -> bytes:
        """The content without what identifies the user."""
        content = self._pattern.sub(lambda match: self._new[match[0]], content)
        return TOKEN.sub(REMOVED.encode(), content)

    def discloses(self, content: bytes) -> bool:
        """Whether there is anything to replace."""
        return bool(self._pattern.search(content) or TOKEN.search(content))

    def parquet(self, path: Path, target: Path) -> bool:
        """Write a parquet file to `target` with other metadata, if its metadata must change; return whether."""
        schema = pq.read_schema(path)
        before = schema.metadata or {}
        after = {key: self.text(value) for key, value in before.items()}
        if after == before:
            return False
        with naming(target), pq.ParquetFile(path) as file:
            compression = file.metadata.row_group(0).column(0).compression if file.num_row_groups else "snappy"
            with pq.ParquetWriter(target, schema.with_metadata(after), compression=compression) as writer:
                for at in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(at).replace_schema_metadata(after))
        return True

    def check(self, name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the chunks of a file that cannot be changed. Raises UserError if it discloses anything."""
        longest = max((len(old) for old, _ in self.replacements), default=0) + 64
        before = b""
        for chunk in chunks:
            if self.discloses(before + chunk):
                raise UserError(
                    f"{name} contains a path or a token of yours, and this archive could not remove it: delete the"
                    " file, or leave it out"
                )
            before = chunk[-longest:]
            yield chunk


def absolute_paths(values: Any) -> Iterator[Path]:
    """Every text of the configuration that is an absolute path with at least two parts, expanded."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from absolute_paths(value)
    elif isinstance(values, str):
        for text in {values, os.path.expandvars(Path(values).expanduser() if values.startswith("~") else values)}:
            path = Path(text)
            if path.is_absolute() and len(path.parts) > 2:
                yield path
                if not path.is_dir():
                    # Records name the files that a pattern or a folder holds.
                    fixed = next(folder for folder in path.parents if not set(str(folder)) & set("*?[{"))
                    if len(fixed.parts) > 2:
                        yield fixed
