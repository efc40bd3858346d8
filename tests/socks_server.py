"""A SOCKS5 proxy on loopback (RFC 1928): connections without a password, to any host and port, byte for byte."""

import socket
import threading
from socketserver import BaseRequestHandler, ThreadingTCPServer


class SocksServer:
    """The proxy; use it in a `with` block. `asked` lists the host and port of each connection."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        handler = type("Handler", (_Handler,), {"asked": self.asked})
        self._server = ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> "SocksServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseRequestHandler):
    asked: list[tuple[str, int]]

    def handle(self) -> None:
        _, methods = self.request.recv(2)
        self.request.recv(methods)
        self.request.sendall(b"\x05\x00")  # no password is asked for
        _, _, _, kind = self.request.recv(4)
        if kind == 1:
            host = socket.inet_ntoa(self.request.recv(4))
        else:
            host = self.request.recv(self.request.recv(1)[0]).decode()
        port = int.from_bytes(self.request.recv(2), "big")
        self.asked.append((host, port))
        with socket.create_connection((host, port)) as other:
            self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_copy, args=(other, self.request), daemon=True)
            back.start()
            _copy(self.request, other)
            back.join(timeout=5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
