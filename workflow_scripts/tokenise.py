"""Tokenise the rows of a corpus into model inputs, once for all runs that read them.

    corpus rows + tokenizer ──> resources/tokens/{encoder}/{task}/{language}/{split}/

The folder is a `datasets` Arrow table (`datasets.load_from_disk` reads it) with the record `tokens.json`, which also
counts unusual texts: truncated words and questions, words and texts without a token.
Settings: `kinds.settings.TokeniseSettings`.
"""

import argparse
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.reader import for_reader
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.kinds.tokens import write_tokens

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, TokeniseSettings)
    result.add_argument("--encoder", type=input_file, required=True, help="the encoder's record, encoder.json")
    result.add_argument("--rows", type=input_file, required=True, help="the corpus, a parquet file")
    result.add_argument("--tokens", type=output_file, required=True, help="the record to write, tokens.json")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Tokenise the rows and write the folder. Raises UserError if the encoder or its tokenizer cannot process them."""
    settings: TokeniseSettings = arguments.settings
    encoder = read_encoder(arguments.encoder)
    if encoder["positions"] is not None and settings.max_length > encoder["positions"]:
        raise UserError(
            f"tasks.{settings.task}.max_length: {settings.max_length} tokens, but encoder {encoder['name']} has"
            f" {encoder['positions']} positions: lower it"
        )
    tokenizer = load_tokenizer(arguments.encoder.parent)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if settings.max_length <= special:
        raise UserError(
            f"tasks.{settings.task}.max_length: {settings.max_length} tokens leave no room for a text with the"
            f" {special} special tokens of encoder {encoder['name']}: raise it"
        )
    settings = for_reader(settings, encoder)
    rows = read_rows(arguments.rows, settings.kind)
    made_by = part(settings.kind, model_part("words" if settings.words else "head"))
    columns, counts = made_by.tokenise(rows, tokenizer, settings)
    blank = next((number for number, ids in zip(columns["row"], columns["input_ids"], strict=True) if not ids), None)
    if blank is not None:
        raise UserError(
            f"encoder {encoder['name']}: its tokenizer produces no token for row {rows[blank]['id']!r} and adds no"
            " special tokens: use an encoder whose tokenizer adds them"
        )
    largest = max(max(ids, default=0) for ids in columns["input_ids"])
    if largest >= encoder["vocabulary"]:
        raise UserError(
            f"encoder {encoder['name']}: its tokenizer produces the token id {largest}, but its vocabulary has"
            f" {encoder['vocabulary']} rows: use an encoder whose tokenizer and weights belong together"
        )
    full = sum(len(ids) >= settings.max_length for ids in columns["input_ids"])
    write_tokens(arguments.tokens, columns, {"rows": len(rows), "at_max_length": full, **counts})
    logger.info("%d rows, %d features, %d of them at max_length", len(rows), len(columns["row"]), full)
    for name, count in counts.items():
        if count:
            logger.warning("%s: %d", name.replace("_", " "), count)


if __name__ == "__main__":
    run(main, parser())
