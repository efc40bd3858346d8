"""Measure a model's vectors: against the untuned encoder's, between translations, and by label.

    vectors of the model and of the untuned encoder ──> alignment.csv   language, measure, value

Measures: `before_after` (cosine in percent, table 3); `translation`, `non_translation` (cosines in percent) and
`relative_difference` (percent; table 4, for language xx of the pair en-xx); `linear_accuracy` (percent, of a classifier
fitted on English vectors; cross-validated); `boundary_angle` (degrees between a language's own boundary and English's);
`split_half_angle` (degrees between the English boundaries of two halves of the samples).
Settings: `analysis.samples.SampleSettings`.
"""

import argparse
import csv
import logging
from collections.abc import Iterator

from workflow_scripts.analysis.alignment import mean_cosine_of_other_pairs, mean_cosine_of_pairs, relative_difference
from workflow_scripts.analysis.boundaries import boundary_angles, split_half_angle, transfer_accuracy
from workflow_scripts.analysis.samples import Samples, SampleSettings, read_records
from workflow_scripts.core.files import written
from workflow_scripts.core.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)

COLUMNS = ("language", "measure", "value")


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, SampleSettings)
    result.add_argument(
        "--vectors", type=input_file, nargs="+", required=True, help="records of `represent` of the model"
    )
    result.add_argument("--untuned", type=input_file, nargs="+", required=True, help="those of the untuned encoder")
    result.add_argument("--alignment", type=output_file, required=True, help="the CSV file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Compute the measures and write the table."""
    settings: SampleSettings = arguments.settings
    before = read_records(arguments.untuned, settings)
    after = read_records(arguments.vectors, settings)
    logger.info("%d samples in %s", len(after.ids), ", ".join(after.vectors))
    with written(arguments.alignment) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((language, measure, repr(value)) for language, measure, value in measures(before, after))


def measures(before: Samples, after: Samples) -> Iterator[tuple[str, str, float]]:
    """Yield (language, measure, value) for each measure that the samples allow; nothing for fewer than two samples."""
    assert before.ids == after.ids
    if len(after.ids) < 2:
        return
    english, *others = after.vectors
    for language, vectors in after.vectors.items():
        yield language, "before_after", mean_cosine_of_pairs(before.vectors[language], vectors)
    for language in others:
        translations = mean_cosine_of_pairs(after.vectors[english], after.vectors[language])
        non_translations = mean_cosine_of_other_pairs(after.vectors[english], after.vectors[language])
        yield language, "translation", translations
        yield language, "non_translation", non_translations
        yield language, "relative_difference", relative_difference(translations, non_translations)
    for language, accuracy in transfer_accuracy(after.vectors, after.labels).items():
        yield language, "linear_accuracy", accuracy
    for language, degrees in boundary_angles(after.vectors, after.labels).items():
        yield language, "boundary_angle", degrees
    halves = split_half_angle(after.vectors[english], after.labels[english])
    if halves is not None:
        yield english, "split_half_angle", halves


if __name__ == "__main__":
    run(main, parser())
