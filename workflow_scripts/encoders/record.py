"""Reading the manifest of an encoder's folder and checking the folder against it."""

from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import appears, read_json


def read_encoder(record_path: Path) -> dict[str, Any]:
    """Read `encoder.json` and compare the size of each file with it (sizes only: checksums of gigabytes take too long).

    Raises UserError, naming the file, if one is missing or has another size.
    """
    record: dict[str, Any] = read_json(record_path)
    again = f"delete {record_path.parent} and run the workflow again"
    if not isinstance(record, dict) or "files" not in record:
        raise UserError(f"{record_path} is not the record of an encoder: {again}")
    for name, recorded in record["files"].items():
        file = record_path.parent / name
        found = file.stat().st_size if appears(file) else None
        if found != recorded["bytes"]:
            what = "is missing" if found is None else f"has {found} bytes, not {recorded['bytes']}"
            raise UserError(f"{file} {what}: {again}")
    return record
