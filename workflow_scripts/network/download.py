"""Downloads over HTTP: retried while a server is busy, resumed after an interruption, and verified.

The Hugging Face Hub's client does most of this for the hub's files. `fetch_file` does it for files on any server. It
uses the client's session, which honours proxies and HF_HUB_OFFLINE and sends no token on its own.
"""

import hashlib
import logging
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, get_session, hf_raise_for_status, tqdm

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import once, sha256
from workflow_scripts.network.failures import explanation, reason, retry_after, root_cause

logger = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every URL, including signed ones
Result = TypeVar("Result")

ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds; doubled after every attempt
LONGEST_WAIT = 120.0  # seconds; if a server asks for a longer wait, the download fails

# Errors after which the hub's client itself retries the download of a file.
CLIENT_RETRIES = (httpx2.ConnectError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
BUSY = (408, 429)
FAILING = (500, 502, 503, 504)
PARTIAL = 206
RANGE_NOT_SATISFIABLE = 416

TIMEOUT = 60.0  # seconds without receiving data


def with_retries(call: Callable[[], Result], what: str, client_retries: bool) -> Result:
    """Return the result of `call`, retrying after transient errors: a busy or failing server, a lost connection.

    Args:
        call: the function.
        what: the download's name in log messages.
        client_retries: whether `call` uses the hub's client, which already retries after some of these errors.

    Waits as long as the server asks for (`Retry-After`), else 1, 2, 4, ... seconds. Raises the last error unchanged.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except httpx2.HTTPError as error:
            wait = retry_after(error) or FIRST_WAIT * 2 ** (attempt - 1)
            if attempt == ATTEMPTS or wait > LONGEST_WAIT or not _is_transient(error, client_retries):
                raise
            logger.warning("%s: %s; retrying in %.0f s", what, reason(error), wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _is_transient(error: httpx2.HTTPError, client_retries: bool) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (FAILING if client_retries else (*BUSY, *FAILING))
    if client_retries and isinstance(error, CLIENT_RETRIES):
        return False
    if isinstance(root_cause(error), ssl.SSLError):  # a wrong certificate or port is permanent
        return False
    return isinstance(error, (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError))


def fetch_file(url: str, path: Path, size: int | None, git_blob: str) -> None:
    """Download a file of Universal Dependencies to `path` unless it is already there, and verify it.

    Args:
        url: where the file is.
        path: where to store it; a partial download is kept in a hidden file beside it. Interrupted downloads resume.
        size: its size in bytes, if known.
        git_blob: its SHA-1 as a git blob, see `git_blob_sha1`.

    Raises UserError if the download fails or the content differs.
    """
    way = "fetch the release elsewhere and set corpora.universal_dependencies.path to its folder"
    _fetch(url, path, size, git_blob_sha1, git_blob, "git SHA-1", "corpora.universal_dependencies.url", way)


def fetch_url(url: str, path: Path, expected: str | None) -> None:
    """Download a file to `path` unless it is already there, and verify its SHA-256 if one is expected.

    Raises UserError if the download fails or the content differs.
    """
    way = "fetch the file elsewhere and use a source of the type files"
    _fetch(url, path, None, partial(once, sha256), expected, "SHA-256", "url", way)


def _fetch(
    url: str,
    path: Path,
    size: int | None,
    checksum: Callable[[Path], str],
    expected: str | None,
    name: str,
    key: str,
    other_way: str,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two jobs may need the same file: with `validation: test` the test set is also the validation set.
    with WeakFileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file() and expected in (None, checksum(path)):
            return
        part = path.with_name(f".{path.name}.part")
        try:
            with_retries(lambda: _download_rest(url, part, size), path.name, client_retries=False)
        except Exception as error:
            what, way = explanation(error, key, f"the disk of {path.parent}")
            raise UserError(f"{url} cannot be fetched: {what}: {way}, or {other_way}") from error
        found = checksum(part)
        if expected not in (None, found):
            part.unlink()
            raise UserError(
                f"{url} is not the expected file: its {name} is {found}, expected {expected}: run again; if this"
                " persists, the file has changed, or a server or proxy alters files: correct the checksum or use"
                " another server"
            )
        part.replace(path)


def _download_rest(url: str, part: Path, size: int | None) -> None:
    """Download the rest of a file into the partial file `part`."""
    done = part.stat().st_size if part.is_file() else 0
    if size is not None and done > size:
        done = 0
    if done and done == size:
        return
    # Byte ranges of a compressed response could not be appended.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer:
        if answer.status_code == RANGE_NOT_SATISFIABLE:
            # No bytes are left: the file is complete, and the caller checks its hash.
            return
        hf_raise_for_status(answer)
        resumed = answer.status_code == PARTIAL
        total = int(answer.headers["Content-Length"]) + done * resumed if "Content-Length" in answer.headers else None
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=url.rpartition("/")[2], total=total, initial=done * resumed, unit="B", unit_scale=True
            ) as progress,
        ):
            for block in answer.iter_bytes():
                file.write(block)
                progress.update(len(block))


def git_blob_sha1(path: Path) -> str:
    """Return the SHA-1 of a file as a git blob: the hash of `blob SIZE\\0` followed by the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
