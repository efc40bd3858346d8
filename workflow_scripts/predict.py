"""Apply a tuned model to the test set of one language, with no further training.

    encoder + weights + tokens + corpus rows ──> predictions.parquet   id, prediction (JSON)

The prediction is a label, a list of tags or the text of an answer. It needs no tokenizer. What the model is, is read
from the run's own record.
"""

import argparse
import logging
from pathlib import Path

from workflow_scripts.corpora.schema import read_rows, write_predictions
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import read_json, run, step_parser
from workflow_scripts.tasks.tokens import read_tokens

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--encoder", type=Path, required=True, help="the encoder's record, encoder.json")
    result.add_argument("--run", type=Path, required=True, help="the folder of the tuned model")
    result.add_argument("--tokens", type=Path, required=True, help="tokens.json of the test set")
    result.add_argument("--rows", type=Path, required=True, help="the test set, parquet")
    result.add_argument("--predictions", type=Path, required=True, help="the parquet file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Predict and write."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from workflow_scripts.tuning.device import find_device
    from workflow_scripts.tuning.model import restore
    from workflow_scripts.tuning.predict import predict

    settings = read_json(arguments.run / "run.json")["settings"]
    weights = arguments.run / "weights.safetensors"
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights} cannot be read ({error}): delete {arguments.run} and run again") from error
    rows, tokens = read_rows(arguments.rows, settings["kind"]), read_tokens(arguments.tokens)
    device = find_device()
    model = restore(arguments.encoder.parent, settings, tensors).to(device)
    predictions = predict(model, tokens, rows, settings, device)
    write_predictions(arguments.predictions, predictions)
    logger.info("%d predictions", len(predictions))


if __name__ == "__main__":
    run(main, parser())
