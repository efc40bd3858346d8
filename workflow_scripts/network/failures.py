"""Explaining why a download failed, in one line: what happened, and how to fix it.

The clients hide the cause: an untrusted certificate, an unknown host name and a closed port all raise `ConnectError`,
and a missing certificate file raises `FileNotFoundError` without its name. The cause is at the end of the exception
chain, or in the environment variables that configure the client.

Messages never contain the path or query of a URL, since signed URLs are secrets, nor a proxy's password.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from workflow_scripts.core.errors import UserError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the client uses the first that is set
SCHEMES = "http, https, socks5 or socks5h"
# Without the error's text, which may contain the token.
INVALID_REQUEST = "the request could not be sent", "check HF_TOKEN for invalid characters"


@dataclass(frozen=True)
class Repository:
    """A repository on the Hugging Face Hub, for error messages.

    Attributes:
        name: `owner/name`.
        revision: a branch, tag or commit.
        kind: "dataset" or "model".
        key: the configuration key of the revision.
        otherwise: an alternative for when the hub cannot be reached, such as `use source: folder`.
    """

    name: str
    revision: str
    kind: str
    key: str
    otherwise: str = ""

    @property
    def page(self) -> str:
        """The URL of its page."""
        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@contextmanager
def explain_failures(repository: Repository, file: str = "") -> Iterator[None]:
    """Turn every exception in the block into a one-line UserError; call only the hub's client within the block."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise refusal(error, repository, file) from error


def refusal(error: BaseException, repository: Repository, file: str = "") -> UserError:
    """Turn an exception of the hub's client into a one-line error: repository, file, what happened, how to fix it."""
    what = f"{repository.name} at {repository.revision}" + (f", {file}" if file else "")
    cause = error
    # If the client could not reach the hub, it reports only that the file is not cached; the cause says why.
    while isinstance(cause, LocalEntryNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    kind, key = repository.kind, repository.key
    if isinstance(cause, GatedRepoError):
        way = f"the {kind} is gated: accept its terms on {repository.page} and set HF_TOKEN to a token of that account"
    elif isinstance(cause, RevisionNotFoundError):
        way = f"there is no such revision: correct {key}"
    elif isinstance(cause, RepositoryNotFoundError):
        way = (
            f"{constants.ENDPOINT} has no such {kind}, or it is private: check the name and HF_ENDPOINT, and HF_TOKEN"
            " for a private one"
        )
    elif isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        way = f"this revision has no such file: set {key} to another revision"
    elif status == 429:
        seconds = retry_after(cause)
        wait = f"in {seconds:.0f} s" if seconds else "later"
        way = f"too many requests: run again {wait}, or set HF_TOKEN, since the hub allows more requests with a token"
    elif status in (401, 403):
        way = f"access was refused ({status}): check HF_TOKEN, which may have expired or lack read permission"
    elif isinstance(cause, HFValidationError):
        way = "this is not a valid repository name: correct it"
    else:
        disk = f"the disk of the hub's cache ({constants.HF_HUB_CACHE}), or move it with HF_HOME"
        way = ": ".join(explanation(cause, f"HF_ENDPOINT ({constants.ENDPOINT})", disk))
        if repository.otherwise and isinstance(cause, httpx2.HTTPError):
            way += f", or {repository.otherwise}"
    return UserError(f"{what} cannot be fetched: {way}")


def explanation(error: BaseException, address: str = "", disk: str = "") -> tuple[str, str]:
    """Return what happened and how to fix it.

    Args:
        error: the exception of a client.
        address: the setting with the server's address.
        disk: what to check if the error does not come from the network.
    """
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)) and constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set and the cache does not hold it", "unset it on a machine with internet"
    if isinstance(error, HfHubHTTPError):
        answered = f"the server answered {error.response.status_code} {error.response.reason_phrase}".strip()
        if error.response.status_code == httpx2.codes.PROXY_AUTHENTICATION_REQUIRED:
            return _proxy_refused(answered)
        return answered, f"run again later, or set {address} to another server"
    if isinstance(error, httpx2.TransportError):
        return _explain_connection(error, address)
    if setting := unusable_setting():
        return setting
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    description = f"{type(error).__name__}: {text or 'no message'}"
    if isinstance(error, UnicodeEncodeError):
        return INVALID_REQUEST
    if isinstance(error, OSError) and not isinstance(error, (ConnectionError, FileMetadataError)):
        return description, f"check {disk}"
    return f"the server did not answer as expected ({description})", f"check {address} and any proxy"


def reason(error: BaseException) -> str:
    """Return what happened, without the fix."""
    return explanation(error)[0]


def retry_after(error: BaseException) -> float | None:
    """Return how many seconds the server asks to wait (`Retry-After`), or None."""
    if isinstance(error, HfHubHTTPError):
        stated = error.response.headers.get("Retry-After", "")
        return float(stated) if stated.isdecimal() else None
    return None


def root_cause(error: BaseException) -> BaseException:
    """Return the exception at the end of the chain, raised by the operating system or the TLS library."""
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        error = before
        seen.add(id(error))
    return error


def _explain_connection(error: httpx2.TransportError, address: str) -> tuple[str, str]:
    """Explain an error in the connection to the server, or to the proxy in front of it."""
    try:
        url = error.request.url
    except RuntimeError:  # raised before there was a request
        return f"the connection failed ({type(error).__name__})", f"check the network and {address}, then run again"
    server = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
    proxy = proxy_for(url.scheme, url.host)
    variable, proxy_url = proxy or ("", "")
    peer = f"the proxy {proxy_url} of {variable}" if proxy else server
    check = (
        f"check {variable}, or add {url.host} to NO_PROXY if it needs no proxy"
        if proxy
        else f"check the network, {address} and, if you need a proxy, HTTPS_PROXY; then run again"
    )
    origin = root_cause(error)
    if isinstance(origin, ssl.SSLCertVerificationError):
        trusted = next((name for name in CERTIFICATES if os.environ.get(name)), "")
        current = f" ({trusted} is {os.environ[trusted]})" if trusted else ""
        return (
            f"the certificate of {server} is not trusted ({origin.verify_message})",
            f"set SSL_CERT_FILE to the certificate file of the authority that signed it{current}; in a network that"
            " inspects TLS, ask its administrators for that file",
        )
    if isinstance(origin, ssl.SSLError):
        return (
            f"{peer} does not speak TLS ({origin.reason or origin})",
            f"check whether the address in {variable or address} should begin with http:// instead of https://",
        )
    if isinstance(origin, socket.gaierror):
        return f"the name of {peer} cannot be resolved ({origin.strerror})", check
    if isinstance(origin, ConnectionRefusedError):
        return f"{peer} refuses connections: nothing listens on that port", check
    if isinstance(error, httpx2.TimeoutException):
        return f"{peer} did not answer in time", check
    if isinstance(error, httpx2.ProxyError):
        return _proxy_refused(f"{peer} did not connect to {server} ({error})")
    if isinstance(error, httpx2.LocalProtocolError):
        return INVALID_REQUEST
    if isinstance(origin, OSError) and origin.strerror:
        return f"the connection to {peer} failed ({origin.strerror})", check
    return f"the connection to {peer} failed ({type(error).__name__})", check


def _proxy_refused(what: str) -> tuple[str, str]:
    return what, "check HTTPS_PROXY or ALL_PROXY; with user and password: http://USER:PASSWORD@HOST:PORT"


def proxy_for(scheme: str, host: str) -> tuple[str, str] | None:
    """Return the proxy that the client uses for a server as (environment variable, URL without password), or None."""
    proxies = getproxies()
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass(host):
        return None
    return _variable(kind), _without_password(proxies[kind])


def unusable_setting() -> tuple[str, str] | None:
    """Return which environment variable makes the client unusable, and the fix; None if there is none.

    This builds the client's own objects, so that harmless settings are not reported.
    """
    try:
        httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        name = next((name for name in CERTIFICATES if os.environ.get(name)), None)
        if name is None:
            return None
        cause = root_cause(error)
        return (
            f"{name} is {os.environ[name]}, which contains no certificates that can be read"
            f" ({getattr(cause, 'strerror', None) or cause})",
            f"set {name} to the file of your network's certificate authority, or unset it",
        )
    for kind, url in getproxies().items():
        if kind not in ("http", "https", "all") or not url:
            continue
        name, shown = _variable(kind), _without_password(url)
        try:
            httpx2.HTTPTransport(proxy=url if "://" in url else f"http://{url}").close()
        except ImportError:
            return (
                f"{name} is {shown}, and the package for SOCKS proxies is missing",
                "pip install --requirement envs/requirements.txt --constraint envs/constraints.txt",
            )
        except (httpx2.InvalidURL, ValueError):
            return (
                f"{name} is {shown}, which is not a usable proxy",
                f"set it to SCHEME://HOST:PORT with the scheme {SCHEMES}, or unset it",
            )
    return None


def _variable(kind: str) -> str:
    """Return the environment variable for proxies of a kind ("http", "https" or "all").

    If neither spelling is set (the system's settings may define the proxy), this is the upper-case one.
    """
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())  # lower case takes precedence
    return next((name for name in names if os.environ.get(name)), names[1])


def _without_password(url: str) -> str:
    """Return a proxy's URL without user and password."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest else url
