"""Compute the vectors of parallel texts with a tuned model, or with the encoder before any tuning.

    encoder + weights + tokens + corpus rows ──> vectors/en+de/en.safetensors   vectors (rows, width), ids, labels
                                                 vectors/en+de.json             checksum by language

A vector is the first token's hidden state after the last layer. No tokenizer is needed. The choice of rows depends on
the ids of the reference language alone.

Settings: `RepresentSettings`.
"""

import argparse
import logging
from collections.abc import Sequence
from typing import Literal

from workflow_scripts.analysis.samples import Vectors, candidates, write_vectors
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256, write_json
from workflow_scripts.core.names import vectors_file
from workflow_scripts.core.settings import StepSettings, given
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import Row, read_rows
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.kinds.tokens import read_tokens

logger = logging.getLogger(__name__)


class RepresentSettings(StepSettings):
    """The texts.

    Attributes:
        task: the task's name, for messages.
        kind: the task's.
        max_length: the most tokens of a text.
        samples: the most texts that are compared.
        untranslated: the placeholder for a missing translation, if the task has one.
        languages: in the order of the test sets.
        precision: of an encoder that is not tuned.
    """

    task: str
    kind: str
    max_length: int
    samples: int
    untranslated: str | None
    languages: list[str]
    precision: Literal["auto", "bfloat16", "float32"] | None = None


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, RepresentSettings)
    result.add_argument("--encoder", type=input_file, required=True, help="the encoder's record, encoder.json")
    result.add_argument(
        "--run", type=input_file, nargs="?", help="run.json of the tuned model, in a folder with its weights"
    )
    result.add_argument("--tokens", type=input_file, nargs="+", required=True, help="tokens.json of the test sets")
    result.add_argument(
        "--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet, in the same order"
    )
    result.add_argument(
        "--reference", type=input_file, required=True, help="the reference language's test set, parquet"
    )
    result.add_argument("--record", type=output_file, required=True, help="the record to write, in the folder vectors/")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Compute the vectors of every language and write them, the record last."""
    from workflow_scripts.tuning.device import find_device, find_precision
    from workflow_scripts.tuning.model import load_run
    from workflow_scripts.tuning.representations import representations, untuned_model

    read_encoder(arguments.encoder)
    settings: RepresentSettings = arguments.settings
    device = find_device()
    texts = [read_tokens(file) for file in arguments.tokens]
    if arguments.run:
        read = {"task": settings.task, "max_length": settings.max_length}
        model, training = load_run(arguments.encoder.parent, arguments.run.parent, device, texts, **read)
        precision: str = training.precision
    else:
        precision = find_precision(given(settings.precision, "precision"), device)
        model = untuned_model(arguments.encoder.parent, precision, texts).to(device)
    wanted = candidates((row["id"] for row in read_rows(arguments.reference, settings.kind)), settings.samples)
    record = {}
    for language, tokens, rows_file in zip(settings.languages, texts, arguments.rows, strict=True):
        rows = read_rows(rows_file, settings.kind)
        features = {rows[number]["id"]: feature for feature, number in enumerate(tokens.plain("row"))}
        labels, untranslated = split_by_translation([row for row in rows if row["id"] in wanted], settings.untranslated)
        if not labels:
            raise UserError(f"{rows_file} and {arguments.reference} have no translated id in common: fetch them again")
        chosen = tokens.chosen([features[identity] for identity in labels])
        values = representations(model, chosen, precision, device)
        file = vectors_file(arguments.record, language)
        write_vectors(file, Vectors(list(labels), list(labels.values()), values, untranslated))
        record[language] = sha256(file)
        logger.info("%s: vectors of %d of %d texts", language, len(labels), len(wanted))
    write_json(arguments.record, record)


def split_by_translation(rows: Sequence[Row], placeholder: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return labels by id, separately for rows that are translated and for rows where a text is the placeholder."""
    labels: dict[str, str] = {}
    untranslated: dict[str, str] = {}
    for row in rows:
        is_gap = placeholder is not None and placeholder in (row["text"], row["text_pair"])
        (untranslated if is_gap else labels)[row["id"]] = row["label"]
    return labels, untranslated


if __name__ == "__main__":
    run(main, parser())
