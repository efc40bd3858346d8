"""Downloads over HTTP: retried while a server is busy, resumed after an interruption, checked before use.

The Hugging Face Hub's client does most of this for the hub's files. `fetch_file` does it for files of any server, with
the client's session, which knows proxies and HF_HUB_OFFLINE and sends no token by itself.
"""

import hashlib
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, get_session, hf_raise_for_status, tqdm

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.network.failures import explanation, origin_of, reason, retry_after

logger = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every URL, those signed for one user as well
Result = TypeVar("Result")

ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds, doubled from attempt to attempt
LONGEST_WAIT = 120.0  # a server that asks for more is not waited for

# What the hub's client tries again by itself, when it downloads a file.
CLIENT_RETRIES = (httpx2.ConnectError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
BUSY = (408, 429)
FAILING = (500, 502, 503, 504)
PARTIAL = 206
RANGE_NOT_SATISFIABLE = 416

TIMEOUT = 60.0  # seconds without a byte


def patiently(call: Callable[[], Result], what: str, client_retries: bool) -> Result:
    """The result of `call`, which is tried again after what may pass: a busy or failing server, a cut connection.

    `client_retries` says that the hub's client already does so for some of it inside of `call`. A server that says how
    long to wait (`Retry-After`) is obeyed. The last error is raised as it is.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except httpx2.HTTPError as error:
            wait = retry_after(error) or FIRST_WAIT * 2 ** (attempt - 1)
            if attempt == ATTEMPTS or wait > LONGEST_WAIT or not _may_pass(error, client_retries):
                raise
            logger.warning("%s: %s; trying again in %.0f s", what, reason(error), wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: httpx2.HTTPError, client_retries: bool) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (FAILING if client_retries else (*BUSY, *FAILING))
    if client_retries and isinstance(error, CLIENT_RETRIES):
        return False
    if isinstance(origin_of(error), ssl.SSLError):  # of a certificate or of the port: it stays so
        return False
    return isinstance(error, (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError))


def fetch_file(url: str, path: Path, size: int | None, git_blob: str) -> None:
    """Make `path` hold the file that git calls `git_blob`, from the cache or from `url`.

    A part that an earlier start has fetched is kept in a hidden file beside it and gone on with. Raises UserError if
    the file cannot be had or is another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two jobs may want one file: with `validation: test` English test files are also the validation set.
    with WeakFileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file() and git_blob_sha1(path) == git_blob:
            return
        part = path.with_name(f".{path.name}.part")
        try:
            patiently(lambda: _go_on(url, part, size), path.name, client_retries=False)
        except Exception as error:
            what, way = explanation(error, "corpora.universal_dependencies.url", f"the disk of {path.parent}")
            raise UserError(
                f"{url} cannot be fetched: {what}: {way}, or fetch the release elsewhere and name its folder under"
                " corpora.universal_dependencies.path"
            ) from error
        found = git_blob_sha1(part)
        if found != git_blob:
            part.unlink()
            raise UserError(
                f"{url} is not the expected file: git's SHA-1 of it is {found}, expected {git_blob}; run again, and if"
                " it stays so, the server or a proxy changes files: take another"
            )
        part.replace(path)


def _go_on(url: str, part: Path, size: int | None) -> None:
    """Fetch what `part` lacks."""
    done = part.stat().st_size if part.is_file() else 0
    if size is not None and done > size:
        done = 0
    if done and done == size:
        return
    # Compressed answers have no ranges that could be gone on with.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer:
        if answer.status_code == RANGE_NOT_SATISFIABLE:
            # Nothing comes after what is here: it is whole, and its hash tells whether it is the file.
            return
        hf_raise_for_status(answer)
        goes_on = answer.status_code == PARTIAL
        total = int(answer.headers["Content-Length"]) + done * goes_on if "Content-Length" in answer.headers else None
        with (
            part.open("ab" if goes_on else "wb") as file,
            tqdm(
                desc=url.rpartition("/")[2], total=total, initial=done * goes_on, unit="B", unit_scale=True
            ) as progress,
        ):
            for block in answer.iter_bytes():
                file.write(block)
                progress.update(len(block))


def git_blob_sha1(path: Path) -> str:
    """The SHA-1 that git gives a file's content: of `blob SIZE\\0` and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
