"""A local page that answers what is typed into it, with one or more tuned models of a task.

    make demo ARGS="results/e5-small/xnli/en/lora/seed-13 results/e5-small/xnli/en/fine_tuning/seed-13"

The page is served on this machine only, to the address that is printed. Ctrl-C ends it.
"""

import argparse
import json
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import ERROR_PREFIX, UserError
from workflow_scripts.core.faults import explain
from workflow_scripts.serving.predictor import Answer, Predictor
from workflow_scripts.tuning.device import find_device
from workflow_scripts.tuning.finished import DEPTH

ADDRESS = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
REPORT = Path(__file__).parents[2] / "report"  # its colours and fonts
FILES = {
    "/": (PAGE / "index.html", "text/html"),
    "/report.css": (REPORT / "style.css", "text/css"),
    "/style.css": (PAGE / "style.css", "text/css"),
    "/script.js": (PAGE / "script.js", "text/javascript"),
}
LARGEST = 2**20  # bytes of a request's body
PATIENCE = 30  # seconds that a request may take to arrive
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a finished run, with run.json")
    result.add_argument(
        "--resources", type=Path, default=Path("resources"), metavar="FOLDER", help="the grid's resources"
    )
    result.add_argument("--port", type=int, default=8000, help="of the address; 0 takes a free one; default: 8000")
    return result


class Models:
    """The runs of a task, which answer one after the other.

    Args:
        predictors: the model of each run, by the name that the page shows.

    Raises UserError if they are not of one task.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self._predictors = predictors
        self._lock = threading.Lock()  # prompts are in the layers only during a forward pass
        self._first, *others = predictors.values()
        for name, other in zip(list(predictors)[1:], others, strict=True):
            if _task(other) != _task(self._first):
                raise UserError(
                    f"{name} is a run of {other.settings.task}, but {next(iter(predictors))} of"
                    f" {self._first.settings.task}: name runs of one task with the same labels"
                )

    def description(self) -> dict[str, Any]:
        """The initial content of the page."""
        reader, settings = self._first.reader, self._first.settings
        shapes = {name: "words" if name in reader.in_words else "list" for name in reader.lists}
        return {
            "task": settings.task,
            "labels": list(settings.labels),
            "runs": list(self._predictors),
            "fields": [{"name": name, "shape": shapes.get(name, "text")} for name in reader.fields],
        }

    def answer(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The row as it was read, and the answer of each run. Raises UserError for a record that makes no row."""
        reader = self._first.reader
        row = reader.row(record, "") | {"id": "1"}
        answers = {}
        for name, predictor in self._predictors.items():
            with self._lock:
                (answer,) = predictor.answers([row])
            if isinstance(answer, UserError):
                raise answer
            answers[name] = answer
        return {
            "row": {name: row[name] for name in reader.fields},
            "answers": [{"run": name, **_as_json(answer)} for name, answer in answers.items()],
        }


def _task(predictor: Predictor) -> tuple[Any, ...]:
    settings = predictor.settings
    return settings.task, settings.kind, tuple(settings.labels), predictor.reader.fields


def _as_json(answer: Answer) -> dict[str, Any]:
    return {
        "prediction": answer.prediction,
        "probability": answer.probability,
        "probabilities": answer.probabilities,
        "place": answer.place,
    }


class Server(ThreadingHTTPServer):
    """Serves the page on this machine only.

    Raises OSError if the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, models: Models, port: int) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.models = models

    @property
    def hosts(self) -> tuple[str, ...]:
        """The values of the header Host of requests to this server."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that closed its connection; print any other error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers requests.

    Another site could name this server in a page, or let its own name point to 127.0.0.1 (DNS rebinding). So requests
    to another host are refused, and so are those whose page comes from another origin.
    """

    server: Server
    timeout = PATIENCE
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "crossprompt", ""

    def do_GET(self) -> None:
        """Send a file of the page, or the description of the task."""
        if not self._is_to_us():
            return
        if self.path == "/task.json":
            self._send_json(HTTPStatus.OK, self.server.models.description())
        elif self.path in FILES:
            file, media_type = FILES[self.path]
            self._send(HTTPStatus.OK, file.read_bytes(), media_type)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        """Answer a record."""
        if not self._is_to_us():
            return
        if self.path != "/answer":
            return self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            return self._refuse(HTTPStatus.FORBIDDEN, "requests of other sites are refused")
        if self.headers.get_content_type() != "application/json":  # a form of another site cannot send this type
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
        if len(length) > len(str(LARGEST)) or int(length) > LARGEST:
            message = f"the text is too long: at most {LARGEST // 2**20} MiB"
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        try:
            record = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            return self._refuse(HTTPStatus.BAD_REQUEST, "the request is not a JSON object")
        try:
            self._send_json(HTTPStatus.OK, self.server.models.answer(record))
        except UserError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error).removeprefix(": "))
        except Exception as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, explain(error) or f"{type(error).__name__}: {error}")
            raise

    def _is_to_us(self) -> bool:
        if self.headers.get("Host") in self.server.hosts:
            return True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this server is http://{self.server.hosts[0]}")
        return False

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(content, ensure_ascii=False).encode(errors="replace"), "application/json")

    def _refuse(self, status: HTTPStatus, error: str) -> None:
        self.close_connection = True  # the rest of the body is not read
        self._send_json(status, {"error": error})

    def _send(self, status: HTTPStatus, content: bytes, media_type: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows the address."""


def names_of(runs: Sequence[Path]) -> list[str]:
    """A name for each run: the parts of its path below `results` in which the runs differ, or else its method and seed.

    Raises UserError if a run is named twice.
    """
    parts = [run.absolute().parts[-DEPTH:] for run in runs]
    differing = [place for place in range(DEPTH) if len({run[place:][:1] for run in parts}) > 1]
    names = [" · ".join(run[place] for place in differing or (0, 2, 3)) for run in parts]
    if len(set(names)) < len(names):
        repeated = next(run for run, name in zip(runs, names, strict=True) if names.count(name) > 1)
        raise UserError(f"{repeated} is named twice")
    return names


def start(runs: Sequence[Path], resources: Path, port: int) -> Server:
    """Load the runs and bind the port. Raises UserError if that is not possible."""
    device, names = find_device(), names_of(runs)
    predictors = {name: Predictor(run, resources, device) for name, run in zip(names, runs, strict=True)}
    models = Models(predictors)
    try:
        return Server(models, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"port {port} cannot be used ({error}): name another one, or --port 0 for a free one"
        ) from error


def main(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    with start(arguments.runs, arguments.resources, arguments.port) as server:
        print(f"http://{server.hosts[0]}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    try:
        main(parser().parse_args())
    except UserError as problem:
        sys.exit(f"{ERROR_PREFIX}{problem}")
    except KeyboardInterrupt:
        print()
