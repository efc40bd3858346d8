"""Measure a model's vectors: against the untuned encoder's, between translations, and by label.

    vectors of the model and of the untuned encoder ──> alignment.csv   language, measure, value

Measures: `before_after` (cosine in percent, table 3); `translation`, `non_translation` (cosines in percent) and
`relative_difference` (percent; table 4, for language xx of the pair en-xx); `linear_accuracy` (percent, of a classifier
fitted on English vectors; cross-validated); `boundary_angle` (degrees between a language's own boundary and English's);
`split_half_angle` (degrees between the English boundaries of two halves of the samples); `not_finite` (the number of
samples whose vector holds NaN or infinity, of a language that has such samples and therefore no other measure).
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
    """Yield (language, measure, value) for each measure that the samples allow; nothing for fewer than two samples.

    A language with a vector that is not finite has the measure `not_finite` alone. If that is English, the others have
    only the measure that does not compare with English.
    """
    assert before.ids == after.ids
    samples = len(after.ids)
    if samples < 2:
        return
    lost, lost_before = after.not_finite(), before.not_finite()
    for language, count in lost.items():
        logger.warning("%s: %d of %d vectors are not finite: its measures are left out", language, count, samples)
        yield language, "not_finite", float(count)
    usable = {language: vectors for language, vectors in after.vectors.items() if language not in lost}
    for language, vectors in usable.items():
        if language not in lost_before:
            yield language, "before_after", mean_cosine_of_pairs(before.vectors[language], vectors)
    english = next(iter(after.vectors))
    if english in lost:
        return
    for language in list(usable)[1:]:
        translations = mean_cosine_of_pairs(usable[english], usable[language])
        non_translations = mean_cosine_of_other_pairs(usable[english], usable[language])
        yield language, "translation", translations
        yield language, "non_translation", non_translations
        yield language, "relative_difference", relative_difference(translations, non_translations)
    for language, accuracy in transfer_accuracy(usable, after.labels).items():
        yield language, "linear_accuracy", accuracy
    for language, degrees in boundary_angles(usable, after.labels).items():
        yield language, "boundary_angle", degrees
    halves = split_half_angle(usable[english], after.labels[english])
    if halves is not None:
        yield english, "split_half_angle", halves


if __name__ == "__main__":
    run(main, parser())
