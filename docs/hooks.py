"""MkDocs: show files of the repository that are outside docs/, where plain Markdown finds them by relative links."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# The file in the repository, and where the built documentation has it.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "report/rulegraph.svg": "images/rulegraph.svg",
    "report/screenshot.png": "images/screenshot.png",
}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links to the added files, such as `../report/rulegraph.svg`, to where they are now."""
    for source, target in OUTSIDE.items():
        markdown = markdown.replace(f"(../{source})", f"({target})")
    return markdown
