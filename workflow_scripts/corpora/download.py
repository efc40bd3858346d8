"""Fetching over HTTP: patient with a busy server, resumed after a cut, checked before use.

What the Hugging Face Hub's client does by itself (ranges after a cut, `Retry-After`, proxies, HF_HUB_OFFLINE) it does
here too, for files of any server. No token is ever sent to a server other than the hub.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock

from workflow_scripts.experiment.errors import UserError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds, doubled from attempt to attempt
LONGEST_WAIT = 120.0  # a server that asks for more is not waited for

# What the hub's client tries again by itself, when it downloads a file.
CLIENT_RETRIES = (httpx2.ConnectError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
BUSY = (408, 429)
FAILING = (500, 502, 503, 504)


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
    return isinstance(error, (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError))


def retry_after(error: BaseException) -> float | None:
    """The seconds that a server asks to wait, or None."""
    if isinstance(error, HfHubHTTPError):
        stated = error.response.headers.get("Retry-After", "")
        return float(stated) if stated.isdecimal() else None
    return None


def reason(error: BaseException) -> str:
    """What went wrong, in a few words without any URL: a signed one is a secret."""
    if isinstance(error, HfHubHTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason_phrase}".strip()
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, httpx2.HTTPError):
        return f"the connection failed ({type(error).__name__})"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


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
            patiently(lambda: _go_on(url, part, size, path.name), path.name, client_retries=True)
        except (httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
            raise UserError(
                f"{url} cannot be fetched: {reason(error)}; run again to go on, check network and proxy, or fetch the"
                " release elsewhere and name its folder under corpora.universal_dependencies.path"
            ) from error
        found = git_blob_sha1(part)
        if found != git_blob:
            part.unlink()
            raise UserError(
                f"{url} is not the expected file: git's SHA-1 of it is {found}, expected {git_blob}; run again, and if"
                " it stays so, the server or a proxy changes files: take another"
            )
        part.replace(path)


def _go_on(url: str, part: Path, size: int | None, name: str) -> None:
    """Fetch what `part` lacks."""
    done = part.stat().st_size if part.is_file() else 0
    if size is not None and done > size:
        part.unlink()
        done = 0
    # Compressed answers have no ranges that could be gone on with.
    headers = {"Accept-Encoding": "identity"}
    try:
        with part.open("ab") as file:
            http_get(url, file, resume_size=done, headers=headers, expected_size=size, displayed_filename=name)
    except HfHubHTTPError as error:
        if error.response.status_code != 416:
            raise
        part.unlink()  # There is nothing after its end: it is whole, or of another file. Its hash would tell.
        with part.open("ab") as file:
            http_get(url, file, headers=headers, expected_size=size, displayed_filename=name)


def git_blob_sha1(path: Path) -> str:
    """The SHA-1 that git gives a file's content: of `blob SIZE\\0` and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
