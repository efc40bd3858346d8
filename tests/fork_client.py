"""The commands `python` and `snakemake`, executed by a fork server (fork_server.py). Starts in 15 ms.

    fork_client.py SERVER PROGRAM ARGUMENT...

It passes on its arguments, environment, working folder and standard streams, forwards SIGTERM and SIGINT, and ends like
the server's process.
"""

import array
import contextlib
import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    server, program, *words = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until the request is sent: signals are messages as well
    ignored = [number for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN]
    umask = os.umask(0)
    os.umask(umask)
    request = json.dumps(
        {
            "program": program,
            "words": words,
            "folder": os.getcwd(),  # noqa: PTH109  (pathlib is slow to import)
            "environment": dict(os.environ),
            "umask": umask,
            "ignored": ignored,
        }
    ).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg([len(request).to_bytes(4, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(request)

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):  # the process has just ended
            connection.send(bytes([number]))

    for number in set(FORWARDED) - set(ignored):
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        status = int(connection.recv(100))
    except (ConnectionError, ValueError):  # the server is gone
        status = 1
    if status < 0:
        if -status in FORWARDED:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


main()
