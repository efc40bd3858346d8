"""Where everything comes from: the code, the encoders, the machines, the packages and the configuration."""

import json
from collections.abc import Mapping
from typing import Any

from workflow_scripts.core.names import NO_SEED
from workflow_scripts.reporting.parts import Code, Folded, Heading, Part, Record, Section
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.wording import readable_date


def section(report: Report) -> Section:
    """The last section of the page."""
    provenance = report.inputs.provenance
    date = readable_date(provenance.get("date") or "")
    written = {"Written": date or "not recorded", "Git commit": provenance.get("git_commit") or "not recorded"}
    parts: list[Part] = [Record(written)]
    if provenance.get("other_grids"):
        others = {one["results"]: _other_grid(one) for one in provenance["other_grids"]}
        parts += [Heading("Other grids in this report"), Record(others)]
    encoders = provenance.get("encoders") or {}
    if encoders:
        parts.append(Heading("Encoders"))
        parts += [Folded(name, (Record(manifest),), opened=len(encoders) == 1) for name, manifest in encoders.items()]
    if provenance.get("trained_on"):
        trained = [
            {group["device"]: f"{group['models']} models in {group['precision']}{_quantised(group)}"}
            for group in provenance["trained_on"]
        ]
        parts += [Heading("Trained on"), *map(Record, trained)]
    if provenance.get("outside"):
        parts += [Heading("Predictions made elsewhere"), Record(dict(map(_imported, provenance["outside"])))]
    for key, title, kind in (("machine", "Aggregated on", ""), ("versions", "Package versions", "columns")):
        if provenance.get(key):
            parts += [Heading(title), Record(provenance[key], kind)]
    merged = json.dumps(provenance.get("configuration"), indent=2, ensure_ascii=False, default=str)
    parts.append(Folded("The configuration as merged", (Code(merged),)))
    return Section("provenance", "Provenance", tuple(parts))


def _other_grid(record: Mapping[str, Any]) -> str:
    """When another grid's results were written, and by which commit."""
    date = readable_date(record.get("date") or "") or "not recorded"
    return f"written {date}, Git commit {record.get('git_commit') or 'not recorded'}"


def _imported(record: Mapping[str, Any]) -> tuple[str, str]:
    """Which predictions these are, and their file with its checksum."""
    seed = f" / seed {record['seed']}" if record["seed"] != NO_SEED else ""
    where = f"{record['arm']} / {record['task']} / {record['language']}{seed}"
    return where, f"{record['file']}, {record['rows']:,} rows, SHA-256 {record['sha256']}"


def _quantised(group: Mapping[str, Any]) -> str:
    """How the encoder's weights were quantised, as the rest of a phrase."""
    return f", the encoder quantised to {group['quantise']}" if group.get("quantise") else ""
