"""Python processes that start with slow imports already done: importing PyTorch takes two seconds, Snakemake one.

A fork server imports third-party packages once and forks for each process that is asked for. The modules of this
project are not among those packages: each process imports them from the checkout that its PYTHONPATH names.
`ForkServers` makes a folder with the commands `python` and `snakemake`, which take the arguments of the real ones
(fork_client.py). If a command is killed, its process and process group are killed as well.

Four things differ from real commands, and a test of one of them must not use fork servers: environment variables that
are read by an import (such as HF_HOME) or by the start of Python are the server's; the time and memory of imports are
not visible; the process is not a descendant of the command; SIGSTOP does not reach it.
"""

import array
import ast
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "workflow_scripts"
COMMANDS = ("python", "snakemake")
# The imports of these are what most steps need.
STEPS = ("tuning.runs", "tuning.predict", "tuning.representations", "tokenise", "render", "compare", "project")
LAZY = (
    *("transformers.models.bert.modeling_bert", "sklearn.linear_model", "sklearn.manifold", "sklearn.preprocessing"),
    *("seqeval.metrics", "scipy.stats", "jinja2"),
)
# Variables that the workflow sets for steps and that a process reads at start-up or on import.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
EVENTS = ("signals", "process ended", "request", "tests ended")
FORWARDED = (signal.SIGTERM, signal.SIGINT)


# The server


def import_packages(command: str) -> None:
    """Import the third-party packages that the processes of a command need, and nothing of this project."""
    if command == "snakemake":
        for module in ("snakemake.cli", "snakemake.storage", "smart_open", "requests", "pydantic", "yaml"):
            importlib.import_module(module)
        importlib.import_module("snakemake.cli").get_argument_parser()  # imports the plugins
        parse_this_project()
        return
    # Through the steps, which import some packages partially (workflow_scripts/tuning/acceleration/lean.py).
    sys.path.insert(0, str(ROOT))
    for module in STEPS:
        importlib.import_module(f"{PACKAGE}.{module}")
    with importlib.import_module(f"{PACKAGE}.tuning.acceleration.lean").without_compiler():
        for module in LAZY:
            importlib.import_module(module)
    for module in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[module]
    sys.path.pop(0)


def parse_this_project() -> None:
    """Parse every module once. Otherwise each run of the Snakefile would for the fingerprints, a third of its time."""
    parse = ast.parse
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / PACKAGE).rglob("*.py")]
    trees = {source: parse(source) for source in sources}

    def parse_once(source: Any, *arguments: Any, **options: Any) -> ast.AST:
        tree = trees.get(source) if options.keys() == {"filename"} and not arguments else None
        return tree or parse(source, *arguments, **options)

    ast.parse = parse_once


def serve(command: str, listening: socket.socket, tests: int) -> None:
    """Fork for every request until the tests end; their process holds the other end of the pipe `tests`."""
    import_packages(command)
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page of a forked process
    connections: dict[int, socket.socket] = {}  # by the process that it asked for
    selector = selectors.DefaultSelector()
    selector.register(tests, selectors.EVENT_READ, ("tests ended", 0, 0))
    selector.register(listening, selectors.EVENT_READ, ("request", 0, 0))
    while True:
        # Signals before requests: a request that follows a kill finds the process dead.
        for key, _ in sorted(selector.select(), key=lambda selected: EVENTS.index(selected[0].data[0])):
            event, process, handle = key.data
            if event == "tests ended":
                for process in connections:
                    kill_group(process)
                return
            if event == "request":
                connection, _ = listening.accept()
                request, streams = receive(connection)
                if request is None:
                    connection.close()
                    continue
                process = fork(request, streams)
                handle = os.pidfd_open(process)
                connections[process] = connection
                selector.register(handle, selectors.EVENT_READ, ("process ended", process, handle))
                selector.register(connection, selectors.EVENT_READ, ("signals", process, handle))
            elif event == "process ended":
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                connection = connections.pop(process)
                with contextlib.suppress(OSError):
                    connection.sendall(str(status).encode())
                with contextlib.suppress(KeyError):
                    selector.unregister(connection)
                selector.unregister(handle)
                connection.close()
                os.close(handle)
            elif process in connections:
                numbers = b""
                with contextlib.suppress(ConnectionError):
                    numbers = connections[process].recv(100)
                for number in numbers:
                    signal.pidfd_send_signal(handle, number)
                if not numbers:  # the command was killed
                    selector.unregister(connections[process])
                    kill_group(process)
                    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)


def kill_group(process: int) -> None:
    for kill in (os.kill, os.killpg):  # before its first line a process has no group of its own
        with contextlib.suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The request on a connection and the three standard streams that come with it.

    None if the command was killed before it had sent its whole request.
    """
    streams = array.array("i")
    try:
        data, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * streams.itemsize))
        for _, _, content in ancillary:
            streams.frombytes(content)
        with connection.makefile("rb") as rest:
            return json.loads(rest.read(int.from_bytes(data, "little"))), list(streams)
    except (OSError, ValueError):
        for stream in streams:
            os.close(stream)
        return None, []


def fork(request: dict[str, Any], streams: list[int]) -> int:
    """Fork a process that executes a command; return its number."""
    process = os.fork()
    if process == 0:
        try:
            status = become(request, streams)
        except BaseException as error:
            status = status_of(error)
        end(status)
    for stream in streams:
        os.close(stream)
    return process


def become(request: dict[str, Any], streams: list[int]) -> int:
    """Execute a command in this process. Returns the exit status."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    os.umask(request["umask"])
    for number in FORWARDED:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program, words = Path(request["program"]), request["words"]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if program.name == "snakemake":
        # Snakemake puts the folder of its Python first on the path of its jobs.
        sys.executable = str(program.with_name("python"))
        sys.argv = [str(program), *words]
        return importlib.import_module("snakemake.cli").main() or 0
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, str(Path.cwd()))
    kind, *sys.argv = words
    if kind == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        code, sys.argv[0] = sys.argv[0], "-c"
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        raise ValueError(f"a fork server runs python -m MODULE and python -c CODE, not python {' '.join(words)}")
    return 0


def status_of(error: BaseException) -> int:
    """The exit status after an exception, which is reported as Python does."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 1


def end(status: int) -> NoReturn:
    """End the process after Python's exit handlers, without unloading packages."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


# The tests' side


class ForkServers:
    """The servers of both commands, each started when it is first used."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pipes: list[int] = []
        self.folder = Path(tempfile.mkdtemp(prefix="fork-"))  # short: a socket's path has at most 107 characters
        for name in COMMANDS:
            client = [sys.executable, "-I", "-S", str(Path(__file__).with_name("fork_client.py"))]
            command = shlex.join([*client, str(self.folder / f"{name}.socket"), str(self.folder / name)])
            (self.folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (self.folder / name).chmod(0o755)

    def command(self, name: str) -> str:
        """The path of the command `python` or `snakemake`, whose server then runs; Snakemake's jobs need both."""
        if not hasattr(os, "pidfd_open"):  # not Linux
            return str(Path(sys.executable).with_name(name))
        for needed in COMMANDS if name == "snakemake" else [name]:
            if needed not in self.processes:
                self._start(needed)
        return str(self.folder / name)

    def _start(self, name: str) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.folder / f"{name}.socket"))
        listening.listen(100)
        theirs, ours = os.pipe()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | ENVIRONMENT
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-P", __file__, name, str(listening.fileno()), str(theirs)],
            env=environment,
            pass_fds=(listening.fileno(), theirs),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pipes.append(ours)  # closed when this process ends for any reason
        listening.close()
        os.close(theirs)

    def stop(self) -> None:
        for pipe in self.pipes:
            os.close(pipe)
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.folder)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
else:
    SERVERS = ForkServers()
    atexit.register(SERVERS.stop)
