"""Explanations of failed downloads, for datasets and encoders: one line each, with the cause and the fix."""

import datetime
import ipaddress
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants as constants
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hub_server import COMMIT, TOKEN, Fault, HubServer, Repository, use_hub
from socks_server import SocksServer

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora import hub
from workflow_scripts.encoders import sources
from workflow_scripts.network.download import fetch_file, git_blob_sha1
from workflow_scripts.network.failures import Repository as Named
from workflow_scripts.network.failures import refusal

NAME = "someone/tiny"
FETCHES: dict[str, Callable[[], object]] = {
    "dataset": lambda: hub.pin(NAME, "main"),
    "model": lambda: sources.download("tiny", NAME, "main"),
}


@pytest.fixture(params=FETCHES)
def kind(request) -> str:
    """Each test runs for a dataset and for an encoder."""
    return request.param


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> Iterator[None]:
    """No proxies, and a client that is built from the test's own environment."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def tiny(server, tiny_encoder) -> Repository:
    """An encoder on the hub, which also serves as a dataset."""
    files = {file.name: file.read_bytes() for file in tiny_encoder.iterdir()}
    server.repositories[NAME] = Repository(files)
    return server.repositories[NAME]


def refused(kind: str) -> str:
    """Fetch, which must fail; return the error message."""
    with pytest.raises(UserError) as caught:
        FETCHES[kind]()
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{NAME} at ")
    return message


def assert_says(message: str, *texts: str) -> None:
    assert [text for text in texts if text not in message] == []


# The environment


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ALL_PROXY": "socks://127.0.0.1:9"}, ["ALL_PROXY is socks://127.0.0.1:9", "socks5h"]),
        ({"HTTPS_PROXY": "ftp://127.0.0.1:9"}, ["HTTPS_PROXY is ftp://127.0.0.1:9", "SCHEME://HOST:PORT"]),
        ({"http_proxy": "http://127.0.0.1:port"}, ["http_proxy is http://127.0.0.1:port", "unset it"]),
        ({"SSL_CERT_FILE": "/nonexistent.pem"}, ["SSL_CERT_FILE is /nonexistent.pem", "No such file or directory"]),
        ({"SSL_CERT_FILE": __file__}, [f"SSL_CERT_FILE is {__file__}", "no certificates", "certificate authority"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_setting_that_keeps_the_client_from_being_built_is_named(tiny, kind, monkeypatch, settings, says):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert_says(refused(kind), *says)


def test_a_proxys_password_is_in_no_message(tiny, kind, monkeypatch, waits, caplog):
    monkeypatch.setenv("ALL_PROXY", "http://me:secret@127.0.0.1:9")
    message = refused(kind)
    assert_says(message, "the proxy http://127.0.0.1:9 of ALL_PROXY refuses connections", "NO_PROXY")
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@127.0.0.1:9")
    huggingface_hub.close_session()
    assert "secret" not in message + refused(kind) + caplog.text


def test_a_missing_socks_package_is_reported_with_the_command_that_installs_it(tiny, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert_says(refused(kind), "the package for SOCKS proxies is missing", "pip install --requirement")


def test_a_socks_proxy_works(server, tiny, kind, monkeypatch):
    with SocksServer() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
        FETCHES[kind]()
    assert ("127.0.0.1", server.port) in proxy.asked
    if kind == "model":
        assert ("localhost", server.port) in proxy.asked  # the name, which the proxy resolves


# The connection


def test_a_port_where_nothing_listens_is_named(kind, monkeypatch, server, waits):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = refused(kind)
    assert_says(message, "127.0.0.1:9 refuses connections", "HF_ENDPOINT (http://127.0.0.1:9)", "HTTPS_PROXY")
    assert ("use source: folder" in message) == (kind == "model")


def test_a_name_that_is_not_known_is_named(kind, monkeypatch, server, waits):
    monkeypatch.setattr(constants, "ENDPOINT", "http://no-such-host.invalid")
    assert_says(refused(kind), "the name of no-such-host.invalid:80 cannot be resolved", "HF_ENDPOINT")


def test_a_proxy_that_does_not_connect_is_named(server, tiny, kind, monkeypatch, waits):
    """The server answers CONNECT with 501, as a server that is not a proxy does."""
    monkeypatch.setattr(constants, "ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    assert_says(refused(kind), f"the proxy {server.url} of HTTPS_PROXY did not connect to no-such-host.invalid:443")


def test_a_server_that_does_not_speak_tls_is_named(server, tiny, kind, monkeypatch, waits):
    monkeypatch.setattr(constants, "ENDPOINT", server.url.replace("http", "https"))
    assert_says(refused(kind), f"127.0.0.1:{server.port} does not speak TLS", "http://")
    assert waits == []  # permanent errors are not retried


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "localhost.pem"
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = serialization.Encoding.PEM
    file.write_bytes(key.private_bytes(pem, *plain) + signed.public_bytes(pem))
    return file


def test_a_certificate_that_is_not_trusted_is_named_and_once_trusted_works(
    kind, tiny, certificate, tmp_path, monkeypatch, waits
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HubServer({NAME: tiny}, tls=context) as secure:
        use_hub(secure, tmp_path, monkeypatch)
        message = refused(kind)
        assert_says(message, f"the certificate of 127.0.0.1:{secure.port} is not trusted (self-signed", "SSL_CERT_FILE")
        assert waits == []  # permanent errors are not retried
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        huggingface_hub.close_session()
        FETCHES[kind]()


def test_a_server_that_does_not_answer_in_time_is_named(server, tmp_path, monkeypatch, waits):
    monkeypatch.setattr("workflow_scripts.network.download.TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} did not answer in time: check the network"):
            fetch_file(f"http://127.0.0.1:{port}/x", tmp_path / "x", None, "")


def test_a_full_disk_is_not_reported_as_a_network_error(tmp_path):
    named = Named(NAME, "main", "model", "encoders.tiny.revision")
    full = OSError(28, "No space left on device")
    assert_says(str(refusal(full, named)), "No space left on device", "the disk of the hub's cache", "HF_HOME")


# The repository


def gated(server: HubServer) -> None:
    server.repositories[NAME].gated = True


def missing(server: HubServer) -> None:
    server.repositories.clear()


def moved(server: HubServer) -> None:
    server.faults["list"] = [Fault(404, {"X-Error-Code": "RevisionNotFound"})] * 9


def busy(server: HubServer) -> None:
    server.faults["list"] = [Fault(429, {"Retry-After": "3600"})] * 9


def broken(server: HubServer) -> None:
    server.faults["list"] = [Fault(502)] * 9


def forbidden(server: HubServer) -> None:
    server.faults["list"] = [Fault(403)] * 9


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (gated, ["the {kind} is gated", "HF_TOKEN", "{url}"]),
        (missing, ["has no such {kind}", "HF_ENDPOINT", "HF_TOKEN"]),
        (moved, ["there is no such revision", "{key}"]),
        (busy, ["too many requests", "in 3600 s", "HF_TOKEN"]),
        (broken, ["the server answered 502", "HF_ENDPOINT"]),
        (forbidden, ["access was refused (403)", "HF_TOKEN"]),
    ],
)
def test_refusals_of_a_repository_are_explained_for_data_sets_and_encoders(server, tiny, kind, waits, fault, says):
    fault(server)
    key = "encoders.tiny.revision" if kind == "model" else "corpora.revisions"
    url = f"{server.url}/{'datasets/' if kind == 'dataset' else ''}{NAME} "
    assert_says(refused(kind), *(text.format(kind=kind, key=key, url=url) for text in says))


def test_a_file_that_is_not_cached_is_reported_in_offline_mode(server, tiny, kind, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_says(refused(kind), "HF_HUB_OFFLINE is set and the cache does not hold it", "with internet")


def test_a_name_that_no_repository_has_is_refused(server, monkeypatch):
    for fetch in (lambda: hub.pin("a b/c", "main"), lambda: sources.download("tiny", "a b/c", "main")):
        with pytest.raises(UserError, match="a b/c at main cannot be fetched: "):
            fetch()


def test_an_invalid_token_is_reported_and_not_shown(server, tiny, kind, monkeypatch, caplog, waits):
    monkeypatch.setenv("HF_TOKEN", TOKEN + "\u00e9")
    message = refused(kind)
    assert TOKEN not in message + caplog.text
    assert_says(message, "HF_TOKEN")


def test_a_gated_encoder_opens_with_a_token(server, tiny, monkeypatch):
    tiny.gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert sources.download("tiny", NAME, "main").name == COMMIT
    assert {request.headers.get("authorization") for request in server.of_kind("send")} == {None}


def test_a_treebanks_file_gets_the_same_causes(server, tmp_path, waits, monkeypatch):
    path = tmp_path / "ud" / "x.conllu"
    way = "corpora.universal_dependencies.path"
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:9 refuses connections: .*, or fetch the release.*{way}"):
        fetch_file("http://127.0.0.1:9/x.conllu", path, None, "")
    huggingface_hub.close_session()
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    with pytest.raises(UserError, match=r"SSL_CERT_FILE is /nonexistent\.pem"):
        fetch_file("http://127.0.0.1:9/x.conllu", path, None, "")
    path.write_text("1")
    fetch_file(
        "http://127.0.0.1:9/x.conllu", path, None, git_blob_sha1(path)
    )  # a file that is already there needs no request
