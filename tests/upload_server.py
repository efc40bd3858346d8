"""A small server on loopback that implements the part of the Hugging Face Hub's protocol that an upload uses.

A client creates a repository, asks how to send each file, sends the large ones by their SHA-256 (Git LFS, basic
transfer), and commits: small files as base64, large ones by hash, and deletions. Every request needs the token.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_a-secret-with-write-permission"
LARGE = (".safetensors", ".onnx")


class UploadServer:
    """The server; use it in a `with` block.

    Attributes:
        repositories: the files of each, by name.
        visibility: of each that was created.
        commits: the messages, in order.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, str] = {}
        self.commits: list[str] = []
        self.sent: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "UploadServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        """Apply the lines of a commit."""
        files = self.repositories[name]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    self.commits.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.sent[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]


class _Handler(BaseHTTPRequestHandler):
    hub: UploadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self) -> None:
        body, hub = self._body(), self.hub
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[0] != "content" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._reply(403, {"error": "this token may not write"})
            return
        match [self.command, *parts]:
            case ["POST", "api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                status = 409 if name in hub.repositories else 200
                hub.repositories.setdefault(name, {})
                hub.visibility.setdefault(name, asked.get("visibility", "public"))
                self._reply(status, {"url": f"{hub.url}/{name}", "name": name})
            case ["POST", "api", "validate-yaml"]:
                self._reply(200, {"errors": [], "warnings": []})
            case ["GET", "api", "models", owner, name, "tree", "main"]:
                files = hub.repositories[f"{owner}/{name}"]
                self._reply(
                    200,
                    [
                        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for path, content in files.items()
                    ],
                )
            case ["POST", "api", "models", _, _, "preupload", "main"]:
                modes = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                    }
                    for one in json.loads(body)["files"]
                ]
                self._reply(200, {"files": modes})
            case ["POST", owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                objects = [
                    {
                        **one,
                        "actions": {
                            "upload": {"href": f"{hub.url}/content/{one['oid']}"},
                            "verify": {"href": f"{hub.url}/{owner}/{name}/info/lfs/verify"},
                        },
                    }
                    for one in json.loads(body)["objects"]
                ]
                self._reply(200, {"transfer": "basic", "objects": objects})
            case ["PUT", "content", oid]:
                right = hashlib.sha256(body).hexdigest() == oid
                if right:
                    hub.sent[oid] = body
                self._reply(200 if right else 400, {})
            case ["POST", _, _, "info", "lfs", "verify"]:
                self._reply(200 if json.loads(body)["oid"] in hub.sent else 404, {})
            case ["POST", "api", "models", owner, name, "commit", "main"]:
                hub.commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
                self._reply(200, {"commitUrl": f"{hub.url}/{owner}/{name}/commit/{'c' * 40}", "commitOid": "c" * 40})
            case _:
                self._reply(404, {"error": f"{self.command} {self.path}"})

    def _reply(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
