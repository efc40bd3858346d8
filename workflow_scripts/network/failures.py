"""Why something cannot be fetched, in one line: what happened, and the way out.

The clients hide the cause: a certificate that is not trusted, a name that is not known and a closed port are all a
`ConnectError`, a missing certificate file is a `FileNotFoundError` without a name. The cause is at the end of the
chain of exceptions, or in the environment variables that the client was built from.

No message holds a path or query of a URL, since a signed one is a secret, nor the password of a proxy.
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

from workflow_scripts.experiment.errors import UserError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the client reads the first that is set
SCHEMES = "http, https, socks5 or socks5h"
# Without the text of the error, which may show the header with the token.
NOT_WRITTEN = "a request could not be written", "check HF_TOKEN for characters that do not belong there"


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face Hub, as messages name it.

    Attributes:
        name: `owner/name`.
        revision: a branch, tag or commit.
        kind: "data set" or "model".
        key: the key of the configuration that holds the revision.
        otherwise: another way to get it, for when the hub cannot be reached, such as `use source: folder`.
    """

    name: str
    revision: str
    kind: str
    key: str
    otherwise: str = ""

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'data set' else ''}{self.name}"


@contextmanager
def explained(repository: Repository, file: str = "") -> Iterator[None]:
    """Within the block the hub's client is called, and nothing else: what it raises becomes a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise refusal(error, repository, file) from error


def refusal(error: BaseException, repository: Repository, file: str = "") -> UserError:
    """One line for what the hub's client raised: the repository, the file, what happened and the way out."""
    what = f"{repository.name} at {repository.revision}" + (f", {file}" if file else "")
    cause = error
    # The client says no more than `not found` when it could not ask; the cause is why.
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
            f"{constants.ENDPOINT} has no such {kind}, or hides it: check the name, HF_ENDPOINT, and HF_TOKEN if it is"
            " private"
        )
    elif isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        way = f"the file is not there: name another revision in {key}"
    elif status == 429:
        seconds = retry_after(cause)
        wait = f"in {seconds:.0f} s" if seconds else "later"
        way = f"too many requests: run again {wait}, or set HF_TOKEN, since the hub grants more to those it knows"
    elif status in (401, 403):
        way = f"access was refused ({status}): check HF_TOKEN, which may have expired or lack the right to read"
    elif isinstance(cause, HFValidationError):
        way = "this is no name of a repository: correct it"
    else:
        disk = f"the disk of the hub's cache ({constants.HF_HUB_CACHE}), or move it with HF_HOME"
        way = ": ".join(explanation(cause, f"HF_ENDPOINT ({constants.ENDPOINT})", disk))
        if repository.otherwise and isinstance(cause, httpx2.HTTPError):
            way += f", or {repository.otherwise}"
    return UserError(f"{what} cannot be fetched: {way}")


def explanation(error: BaseException, address: str = "", disk: str = "") -> tuple[str, str]:
    """What happened and the way out.

    Args:
        error: what a client raised.
        address: the setting that holds the server's address.
        disk: what to check where the error is none of the network's.
    """
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)) and constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set and the cache does not hold it", "unset it on a machine with internet"
    if isinstance(error, HfHubHTTPError):
        answered = f"the server answered {error.response.status_code} {error.response.reason_phrase}".strip()
        if error.response.status_code == httpx2.codes.PROXY_AUTHENTICATION_REQUIRED:
            return _proxy_refused(answered)
        return answered, f"run again later, or set {address} to another server"
    if isinstance(error, httpx2.TransportError):
        return _of_connection(error, address)
    if setting := unusable_setting():
        return setting
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    told = f"{type(error).__name__}: {text or 'no message'}"
    if isinstance(error, UnicodeEncodeError):
        return NOT_WRITTEN
    if isinstance(error, OSError) and not isinstance(error, (ConnectionError, FileMetadataError)):
        return told, f"check {disk}"
    return f"the server did not answer as expected ({told})", f"check {address} and any proxy"


def reason(error: BaseException) -> str:
    """What happened, without the way out."""
    return explanation(error)[0]


def retry_after(error: BaseException) -> float | None:
    """The seconds that a server asks to wait, or None."""
    if isinstance(error, HfHubHTTPError):
        stated = error.response.headers.get("Retry-After", "")
        return float(stated) if stated.isdecimal() else None
    return None


def origin_of(error: BaseException) -> BaseException:
    """The exception at the end of the chain: what the operating system or the TLS library said."""
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        error = before
        seen.add(id(error))
    return error


def _of_connection(error: httpx2.TransportError, address: str) -> tuple[str, str]:
    """What happened on the way to the server, or to the proxy that stands before it."""
    try:
        url = error.request.url
    except RuntimeError:  # it was raised before there was a request
        return f"the connection failed ({type(error).__name__})", f"check the network and {address}, then run again"
    server = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
    proxy = proxy_for(url.scheme, url.host)
    variable, proxy_url = proxy or ("", "")
    peer = f"the proxy {proxy_url} of {variable}" if proxy else server
    check = (
        f"check {variable}, or add {url.host} to NO_PROXY if it is reached without"
        if proxy
        else f"check the network, {address} and, where a proxy is needed, HTTPS_PROXY; then run again"
    )
    origin = origin_of(error)
    if isinstance(origin, ssl.SSLCertVerificationError):
        trusted = next((name for name in CERTIFICATES if os.environ.get(name)), "")
        held = f" ({trusted} is {os.environ[trusted]})" if trusted else ""
        return (
            f"the certificate of {server} is not trusted ({origin.verify_message})",
            f"set SSL_CERT_FILE to the file of the authority that signed it{held}; in a network that inspects TLS its"
            " administrators have that file",
        )
    if isinstance(origin, ssl.SSLError):
        return (
            f"{peer} does not speak TLS ({origin.reason or origin})",
            f"check whether the address in {variable or address} begins with http:// or https://",
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
        return NOT_WRITTEN
    if isinstance(origin, OSError) and origin.strerror:
        return f"the connection to {peer} failed ({origin.strerror})", check
    return f"the connection to {peer} failed ({type(error).__name__})", check


def _proxy_refused(what: str) -> tuple[str, str]:
    return what, "check HTTPS_PROXY or ALL_PROXY; a user and password are written http://USER:PASSWORD@HOST:PORT"


def proxy_for(scheme: str, host: str) -> tuple[str, str] | None:
    """The proxy that the client uses for a server, if any: the variable that names it, and its URL without password."""
    proxies = getproxies()
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass(host):
        return None
    return _variable(kind), _without_password(proxies[kind])


def unusable_setting() -> tuple[str, str] | None:
    """What of the environment keeps the client from being built, and the way out; None if it can be built.

    The client itself is asked, so that this says nothing of settings that do no harm.
    """
    try:
        httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        name = next((name for name in CERTIFICATES if os.environ.get(name)), None)
        if name is None:
            return None
        said = origin_of(error)
        return (
            f"{name} is {os.environ[name]}, which holds no certificates that can be read"
            f" ({getattr(said, 'strerror', None) or said})",
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
                f"{name} is {shown}, which is no proxy that can be used",
                f"write it as SCHEME://HOST:PORT with the scheme {SCHEMES}, or unset it",
            )
    return None


def _variable(kind: str) -> str:
    """The environment variable that names the proxy of a kind; on some systems it comes from their settings."""
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())  # the lower case wins
    return next((name for name in names if os.environ.get(name)), names[1])


def _without_password(url: str) -> str:
    """A proxy's scheme, host and port."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest else url
