"""Predict the user's own texts with a tuned model.

    make predict ARGS="results/e5-small/xnli/en/lora/seed-13 reviews.csv"

RUN is the folder of a finished run. FILE is CSV, TSV, JSON lines (.jsonl) or plain text (one text a line), or - for
standard input. Its columns have the names of the task's fields, such as text and text_pair, or the names that they have
in the task's own dataset. Labels are not needed.

The output has a row for each row of FILE, in the same order. A row that cannot be read has an `error` instead of a
prediction. A killed command continues where it stopped when it is repeated.

The exit status is 0, or 3 if some rows have errors, or 1 if nothing could be predicted.
"""

import argparse
import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from workflow_scripts.core.errors import ERROR_PREFIX, UserError
from workflow_scripts.core.faults import explain
from workflow_scripts.core.files import sha256
from workflow_scripts.core.visible import visible
from workflow_scripts.serving.output import Partial, Printed, Result, form_of
from workflow_scripts.serving.records import FORMATS, BadRecord, Placed, format_by_name, in_chunks, opened, records
from workflow_scripts.serving.rows import RowReader

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 2**20  # of the texts of a chunk: it bounds memory where texts are long
NAMED = 20  # bad rows on standard error, at most
STREAM = Path("-")
WITH_ERRORS = 3  # the exit status


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(
        prog="predict_file", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run, with run.json")
    result.add_argument("file", type=Path, metavar="FILE", help="the texts, or - for standard input")
    result.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="the predictions, .jsonl or .csv, or - for standard output; default: FILE.predictions.jsonl, and standard"
        " output for standard input",
    )
    result.add_argument(
        "--resources", type=Path, default=Path("resources"), metavar="FOLDER", help="the grid's resources"
    )
    result.add_argument("--format", choices=FORMATS, help="of FILE; default: by the ending of its name")
    result.add_argument("--delimiter", metavar="CHARACTER", help="the character between the columns of CSV or TSV")
    return result


def main(arguments: argparse.Namespace) -> int:
    """Predict the file; return the exit status. Raises UserError if nothing can be predicted."""
    source, target = arguments.file, arguments.to
    if target is None:
        target = STREAM if source == STREAM else source.with_name(f"{source.name}.predictions.jsonl")
    form = "json_lines" if target == STREAM else form_of(target)
    if arguments.delimiter is not None and (len(arguments.delimiter) != 1 or arguments.delimiter in '\r\n"'):
        raise UserError(f"--delimiter {arguments.delimiter!r} is not a single character, such as ';'")
    if source != STREAM:
        _check_source(source, target)
    # PyTorch is imported after the simple errors: that takes seconds.
    from workflow_scripts.serving.predictor import Predictor
    from workflow_scripts.tuning.device import find_device
    from workflow_scripts.tuning.finished import open_run

    device = find_device()
    open_run(arguments.run, arguments.resources)  # before files are read for their checksums
    output = Printed(form) if target == STREAM else Partial(target, form, _key(arguments, device.type))
    with output.open() as written:
        predictor = Predictor(arguments.run, arguments.resources, device, written.state.get("precision"))
        written.state["precision"] = predictor.settings.precision
        if written.rows:
            print(f"{written.rows:,} rows are complete; continuing with the next", file=sys.stderr)
        found = _records(source, arguments.format, arguments.delimiter, predictor.reader)
        named, started, before = 0, time.monotonic(), written.rows
        for chunk in _chunks(found, source == STREAM, written.rows):
            results = answered(predictor, chunk, written.rows)
            written.add(results)
            for result in results:
                if "error" in result and (named := named + 1) <= NAMED:
                    print(visible(f"{_shown(source)}, {result['error']}"), file=sys.stderr)
            if sys.stderr.isatty() and target != STREAM:
                speed = (written.rows - before) / (time.monotonic() - started)
                print(f"\r{written.rows:,} rows, {speed:,.0f} a second", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty() and target != STREAM:
            print(file=sys.stderr)
        if not written.rows:
            raise UserError(f"{_shown(source)} has no rows")
    where = "" if target == STREAM else f": {target}"
    if written.errors:
        more = f" ({written.errors - NAMED:,} not listed above)" if named > NAMED else ""
        print(f"{written.errors:,} of {written.rows:,} rows have an error{more}{where}", file=sys.stderr)
        return WITH_ERRORS
    if target != STREAM:
        print(f"{written.rows:,} rows{where}", file=sys.stderr)
    return 0


def _shown(source: Path) -> str:
    return "standard input" if source == STREAM else str(source)


def _check_source(source: Path, target: Path) -> None:
    if not source.exists():
        raise UserError(f"there is no file {source}")
    if source.is_dir():
        raise UserError(f"{source} is a folder: name a file")
    if target.exists() and target.samefile(source):
        raise UserError(f"--to {target} is the file with the texts: name another one")


def _key(arguments: argparse.Namespace, device: str) -> dict[str, Any]:
    """What the predictions depend on. Standard input cannot be reread, so its predictions are never continued."""
    is_file = arguments.file.is_file()
    return {
        "input": sha256(arguments.file) if is_file else f"process {os.getpid()} at {time.time_ns()}",
        "run": {name: sha256(arguments.run / name) for name in ("run.json", "weights.safetensors")},
        "options": [arguments.file.name, arguments.format, arguments.delimiter],
        "device": device,
    }


def _records(source: Path, form: str | None, delimiter: str | None, reader: RowReader) -> Iterator[Placed]:
    """The records of the source, in its format. Raises UserError if its columns are not those of the task."""
    where = _shown(source)
    if source == STREAM:
        form = form or ("text" if len(reader.fields) == 1 else "json_lines")
        file: BinaryIO = sys.stdin.buffer
    else:
        form = form or format_by_name(source)
        file = opened(source)
    if form == "text":
        reader.check_plain(where)
    return records(file, form, where, delimiter, lambda first: reader.is_header(first, where))


def _chunks(found: Iterable[Placed], is_stream: bool, done: int) -> Iterator[list[Placed]]:
    """The records after the first `done` ones in chunks; in a stream, a chunk ends when no more input is available."""
    if is_stream:
        return _available(found, CHUNK_ROWS)
    return in_chunks(itertools.islice(found, done, None), CHUNK_ROWS, CHUNK_CHARACTERS, _size)


def _size(placed: Placed) -> int:
    """About how many characters a record has."""
    record = placed[0]
    if isinstance(record, BadRecord):
        return 0
    return len(record) if isinstance(record, str) else sum(len(str(value)) for value in record.values())


def _available(found: Iterable[Placed], rows: int) -> Iterator[list[Placed]]:
    """Chunks of what has been read so far, so that each line of a slow stream is answered at once."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=rows)
    end = object()

    def read() -> None:
        try:
            for placed in found:
                waiting.put(placed)
            waiting.put(end)
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        items, size = [waiting.get()], 0
        while len(items) < rows and size < CHUNK_CHARACTERS and not waiting.empty():
            items.append(waiting.get())
            size += _size(items[-1]) if isinstance(items[-1], tuple) else 0
        last = items[-1]
        if last is end or isinstance(last, BaseException):
            items.pop()
        if items:
            yield items
        if isinstance(last, BaseException):
            raise last
        if last is end:
            return


def answered(predictor: Any, chunk: list[Placed], done: int) -> list[Result]:
    """The output of each record. `done`: how many records came before the chunk.

    predictor: a `Predictor`.
    """
    results: list[Result] = []
    rows = []
    for number, (record, place) in enumerate(chunk, done + 1):
        result: Result = {"row": number}
        results.append(result)
        if isinstance(record, BadRecord):
            result["error"] = f"{place}: {record.problem}"
            continue
        if (identity := predictor.reader.id_of(record)) is not None:
            result["id"] = identity
        try:
            rows.append(predictor.reader.row(record, place) | {"id": str(number)})
        except UserError as error:
            result["error"] = str(error)
    answers = dict(zip((row["id"] for row in rows), predictor.answers(rows), strict=True))
    for result, (_, place) in zip(results, chunk, strict=True):
        answer = answers.get(str(result["row"]))
        if isinstance(answer, UserError):
            result["error"] = f"{place}: {answer}"
        elif answer is not None:
            result["prediction"] = answer.prediction
            for name in ("probability", "probabilities"):
                if getattr(answer, name) is not None:
                    result[name] = getattr(answer, name)
            if answer.place is not None:
                _, result["start"], result["end"] = answer.place
    return results


def command() -> None:
    """Run from the command line."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    try:
        status = main(parser().parse_args())
    except UserError as error:
        sys.exit(f"{ERROR_PREFIX}{error}")
    except BrokenPipeError:
        status = 0  # the reader of standard output has closed it
    except KeyboardInterrupt:
        print("interrupted: the same command continues, unless it reads standard input", file=sys.stderr)
        status = 130
    except Exception as error:
        if message := explain(error):
            sys.exit(f"{ERROR_PREFIX}{message}")
        raise
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(status)  # without unloading PyTorch, and without waiting for a line of standard input


if __name__ == "__main__":
    command()
