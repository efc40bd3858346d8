"""The picture of the workflow in report/rulegraph.svg, which docs/architecture.md shows."""

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from snakemake_runs import ROOT, SNAKEMAKE

SVG = "{http://www.w3.org/2000/svg}"

Graph = tuple[set[str], set[tuple[str, str]]]


def named(labels: dict[str, str], edges: list[tuple[str, str]]) -> Graph:
    """The rules and who feeds whom, by name: the numbers of the nodes differ between runs."""
    return set(labels.values()), {(labels[source], labels[target]) for source, target in edges}


def drawn() -> Graph:
    """The rule graph as the picture shows it."""
    titles = {}
    for group in ElementTree.parse(ROOT / "report" / "rulegraph.svg").iter(f"{SVG}g"):
        titles[group.findtext(f"{SVG}title", "")] = group.findtext(f"{SVG}text", "")
    labels = {title: label for title, label in titles.items() if title.isdecimal()}
    return named(labels, [(title.split("->")[0], title.split("->")[1]) for title in titles if "->" in title])


def planned(folder: Path) -> Graph:
    """The rule graph of the workflow as it is, planned in an empty working folder."""
    command = [SNAKEMAKE, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--rulegraph", "dot"]
    command += ["--configfile", str(ROOT / "configs/mini.yaml")]
    dot = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    labels = dict(re.findall(r'^\s*(\d+)\[label = "([^"]+)"', dot, re.MULTILINE))
    return named(labels, re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE))


def test_the_picture_shows_the_rules_of_today(tmp_path):
    assert drawn() == planned(tmp_path), "run `make graph`"
