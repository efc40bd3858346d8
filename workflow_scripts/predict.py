"""Apply a tuned model to the test sets of some languages, without further training.

    encoder + weights + tokens + corpus rows ──> predictions/en+de/en.parquet   id, prediction (JSON), confidence,
                                                                                confidence_uncalibrated
                                                 predictions/en+de.json         checksum by language

A prediction is a label, a list of tags or the text of an answer. Its confidence is its probability at the temperature
of the run, and uncalibrated at temperature 1: a number, or a list with one for each tag. It is empty for regression and
for generated answers. A tokenizer is needed only where answers are generated. The model's settings and its temperature
are read from the run's record, `run.json`. Settings: `PredictSettings`.
"""

import argparse
import logging

from workflow_scripts.core.files import read_json, sha256, write_json
from workflow_scripts.core.names import predictions_file
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_rows, write_predictions
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.kinds.tokens import read_tokens

logger = logging.getLogger(__name__)


class PredictSettings(StepSettings):
    """The languages, in the order of the test sets."""

    languages: list[str]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, PredictSettings)
    result.add_argument("--encoder", type=input_file, required=True, help="the encoder's record, encoder.json")
    result.add_argument(
        "--run", type=input_file, required=True, help="run.json of the tuned model, in a folder with its weights"
    )
    result.add_argument("--tokens", type=input_file, nargs="+", required=True, help="tokens.json of the test sets")
    result.add_argument(
        "--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet, in the same order"
    )
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write, in the folder predictions/"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Predict every test set and write the predictions, the record last."""
    from workflow_scripts.tuning.device import find_device
    from workflow_scripts.tuning.model import load_run
    from workflow_scripts.tuning.predict import predict_with_confidences

    settings: PredictSettings = arguments.settings
    read_encoder(arguments.encoder)
    device = find_device()
    texts = [read_tokens(file) for file in arguments.tokens]
    model, training = load_run(arguments.encoder.parent, arguments.run.parent, device, texts)
    temperature, record = read_json(arguments.run)["temperature"], {}
    for language, tokens, rows_file in zip(settings.languages, texts, arguments.rows, strict=True):
        rows = read_rows(rows_file, training.kind)
        file = predictions_file(arguments.record, language)
        predictions, confidences = predict_with_confidences(model, tokens, rows, training, device, temperature)
        write_predictions(file, predictions, confidences=confidences)
        record[language] = sha256(file)
        logger.info("%s: %d predictions", language, len(rows))
    write_json(arguments.record, record)


if __name__ == "__main__":
    run(main, parser())
