"""A small server on loopback that implements the part of the Hugging Face Hub's protocol that its client uses.

It lists a dataset or a model at a revision, answers for a file with its commit, size and hash, and sends the bytes,
whole or a range, from another host name, as the hub does with its content network. Faults are queued for a kind of
request and occur one after the other. It also serves plain files, like a forge serving those of a repository.
"""

import hashlib
import io
import json
import ssl
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMIT = "a" * 40
TOKEN = "hf_a-secret-that-no-log-may-hold"


def parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """The bytes of a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    return buffer.getvalue()


@dataclass
class Repository:
    """A dataset or model: its files, where its branch `main` is, and who may read it."""

    files: dict[str, bytes]
    commit: str = COMMIT
    licence: str | None = "cc-by-4.0"
    gated: bool = False


@dataclass
class Fault:
    """A faulty response: a status with headers, a connection closed after some bytes, or wrong bytes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    content: bytes | None = None


@dataclass
class Request:
    """One request as the server received it."""

    kind: str
    method: str
    host: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The server; use it in a `with` block.

    Attributes:
        repositories: by name.
        plain: other files by path.
        faults: by kind of request (`list`, `tree`, `ask`, `send`, `plain`), the next ones first.
        requests: all there were.
    """

    def __init__(self, repositories: dict[str, Repository] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.repositories = repositories or {}
        self.plain: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[Request] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of_kind(self, kind: str) -> list[Request]:
        """The requests of one kind."""
        return [request for request in self.requests if request.kind == kind]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["api", "datasets" | "models", owner, name, "revision", revision]:
                self._answer("list", f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision]:
                self._answer("tree", f"{owner}/{name}", revision)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._answer("ask", f"{owner}/{name}", revision, "/".join(path))
            case [owner, name, "resolve", revision, *path]:
                self._answer("ask", f"{owner}/{name}", revision, "/".join(path))
            case ["content", owner, name, *path]:
                self._send("send", self.hub.repositories[f"{owner}/{name}"].files["/".join(path)])
            case _:
                content = self.hub.plain.get(urlsplit(self.path).path)
                if content is None:
                    self._note("plain")
                    self._refuse(404, {})
                else:
                    self._send("plain", content)

    def _note(self, kind: str) -> Fault | None:
        host = self.headers["Host"].rpartition(":")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(kind, self.command, host, unquote(self.path), headers))
        return self.hub.faults[kind].pop(0) if self.hub.faults[kind] else None

    def _answer(self, kind: str, name: str, revision: str, path: str = "") -> None:
        fault = self._note(kind)
        repository = self.hub.repositories.get(name)
        if fault is not None and fault.status != 200:
            self._refuse(fault.status, fault.headers)
        elif repository is None:
            # The hub hides private content: it asks unknown users to log in.
            known = "Authorization" in self.headers
            self._refuse(404 if known else 401, {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._refuse(403 if "Authorization" in self.headers else 401, {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", repository.commit):
            self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
        elif kind == "list":
            self._list(name, repository)
        elif kind == "tree":
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in repository.files.items()
            ]
            self._reply(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif path not in repository.files:
            self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit})
        else:
            content = repository.files[path]
            self._reply(
                302,
                b"",
                {
                    "Location": f"{urlsplit(self.hub.url).scheme}://localhost:{self.hub.port}/content/{name}/{path}",
                    "X-Repo-Commit": repository.commit,
                    "X-Linked-Size": str(len(content)),
                    "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                },
            )

    def _list(self, name: str, repository: Repository) -> None:
        files = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130},
            }
            for path, content in repository.files.items()
        ]
        body = {"id": name, "sha": repository.commit, "siblings": files, "cardData": {"license": repository.licence}}
        self._reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send(self, kind: str, content: bytes) -> None:
        fault = self._note(kind) or Fault()
        if fault.status != 200:
            self._refuse(fault.status, fault.headers)
            return
        content = content if fault.content is None else fault.content
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            self._refuse(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self._reply(206 if start else 200, content[start:], headers, fault.cut_after)

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self._reply(status, b"", headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if cut_after is not None:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut_after])
        self.close_connection = self.close_connection or cut_after is not None


def use_hub(server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub's client in this process use the server, with a cache in the folder and without a token."""
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(folder / "hub cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(folder / "no token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
