"""Processes of a fork server do what real ones would: the tests that start them rely on it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fork_server import SERVERS
from snakemake_runs import ROOT

PYTHONS = {"fork server": lambda: SERVERS.command("python"), "real": lambda: sys.executable}
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="fork servers need Linux")


def run(python: str, code: str, *words: str, folder: Path = ROOT, **variables: str) -> tuple[int, str, str]:
    """The exit status of Python code and what it wrote to its two streams."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"} | variables
    command = [PYTHONS[python](), "-c", code, *words]
    ended = subprocess.run(command, cwd=folder, env=environment, input="given", capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import sys; print(sys.argv, sys.stdin.read()); print('error', file=sys.stderr)",
        "import os; print(os.getcwd(), os.environ['MINE'], sorted(os.environ) == sorted(dict(os.environ)))",
        "import os; print(oct(os.umask(0)))",
        "import workflow_scripts; print(workflow_scripts.__file__)",
        "import signal; print([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)])",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a reason')",
        "import os; os._exit(4)",
        "import os; os.kill(os.getpid(), 9)",
        "import atexit; atexit.register(print, 'at the end')",
        "print(hash('a text'))",
        "import os; print(os.listdir('/proc/self/fd'))",
    ],
)
def test_a_process_is_what_it_would_be_without(code, tmp_path):
    run_by = {python: run(python, code, "a b", folder=tmp_path, MINE="x", PYTHONHASHSEED="0") for python in PYTHONS}
    assert run_by["fork server"] == run_by["real"]


def test_an_exception_ends_with_its_traceback():
    status, _, error = run("fork server", "1 / 0")
    assert status == 1 and error.endswith("ZeroDivisionError: division by zero\n")


def test_packages_are_imported_before_and_nothing_of_this_project():
    code = "import sys; print('torch' in sys.modules, [name for name in sys.modules if 'workflow_scripts' in name])"
    assert run("fork server", code)[1] == "True []\n"


def test_a_step_reads_the_checkout_that_the_import_path_names(tmp_path):
    (tmp_path / "workflow_scripts").mkdir()
    (tmp_path / "workflow_scripts" / "__init__.py").touch()
    (tmp_path / "workflow_scripts" / "train.py").write_text("import sys; print(__name__, sys.argv)")
    command = [SERVERS.command("python"), "-m", "workflow_scripts.train", "--log", "x"]
    output = subprocess.check_output(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True)
    assert output == f"__main__ ['{tmp_path}/workflow_scripts/train.py', '--log', 'x']\n"


WAITS = """
import os, signal, sys, time
def stop(number, frame):
    os.write(1, f"received {number}\\n".encode())
    sys.exit(number)
signal.signal(signal.SIGTERM, stop)
print(os.getpid(), flush=True)
while True: time.sleep(0.01)
"""


def started() -> tuple[subprocess.Popen[str], int]:
    """A command that waits, and the number of its process."""
    command = subprocess.Popen([SERVERS.command("python"), "-c", WAITS], stdout=subprocess.PIPE, text=True)
    return command, int(command.stdout.readline())


def test_a_signal_reaches_the_process():
    command, _ = started()
    command.send_signal(signal.SIGTERM)
    assert command.communicate()[0] == f"received {signal.SIGTERM:d}\n"
    assert command.returncode == signal.SIGTERM


def test_a_command_that_is_killed_takes_its_process_with_it():
    command, process = started()
    command.kill()
    command.communicate()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_that_the_tests_ignore_is_ignored():
    """As by real processes: `nohup make test` and `make test &` in a script ignore some."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        code = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)"
        assert run("fork server", code)[1] == "True\n"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_that_was_killed_within_its_request_leaves_the_server_as_it_was():
    server = Path(SERVERS.command("python")).parent / "python.socket"
    for part in (b"", (1000).to_bytes(4, "little"), (1000).to_bytes(4, "little") + b'{"program": "py'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server))
            connection.sendall(part)
    assert run("fork server", "print('here')") == (0, "here\n", "")
