"""Hostile files for readers: strategies that derive them from valid ones, and a guard that watches a reader.

Most inputs are valid files with a few mutations, since random bytes fail the first check.
"""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from workflow_scripts.core.errors import UserError

SECONDS = 2.0  # of CPU time: a busy machine must not fail a test
MEMORY = 2**30  # bytes beyond what the process has
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SMALL = 60  # examples in the test suite

# Hostile content: each is inserted somewhere, or replaces a part.
FRAGMENTS: tuple[bytes, ...] = (
    *(
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\x0b",
        b"\x1c",
        b"\x85",
        b"\t",
        b"\t\t",
    ),
    *(
        "\u2028".encode(),
        "\u202e".encode(),
        "\u200f".encode(),
        "\ufeff".encode(),
        "\U0001f468\u200d\U0001f469".encode(),
    ),
    *(b"\\ud83d", b'"\\udc00"', b"e\xcc\x81", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"),
    *(b'"', b'""', b'"""', b"'", b",", b";", b"|", b"\\", b"\x1b[31m", b"\x07", b"<script>", b"=cmd|' /C calc'!A0"),
    *(b"-1", b"1e999", b"1e400", b"NaN", b"Infinity", b"-0", b"0x1F", b"1_000", b"9" * 400, b"9" * 5000, b"1.5"),
    *(b"true", b"null", b"[]", b"{}", b"[[", b"{{", b"}", b"]", b":", b": ", b"- ", b"{}: ", b"*a", b"&a ", b"<<: *a"),
    *(b"[" * 60, b"[" * 2000 + b"]" * 2000, b'{"a":' * 600 + b"1" + b"}" * 600, b"[" * 100_000),
    *(b"!!python/object/apply:os.system [touch hacked]", b"!!binary x", b"!!timestamp x", b"2001-99-99", b"!!int x"),
    *(
        b"!!set {a}",
        b"!!omap [a]",
        b"!!bool maybe",
        b"!x y",
        b"%YAML 9.9\n---\n",
        b"? [a]\n: b",
        b"...",
        b"---\n",
        b"@",
        b"`",
    ),
    *(
        b"../../hacked",
        b"/etc/passwd",
        b"~",
        b"$HOME",
        b"file:///etc/passwd",
        b"{language}",
        b"{split}",
        b"*",
        b"hacked.py",
    ),
    *(b"-DOCSTART-", b"# newdoc", b"# newdoc id", b"#", b"1-2", b"1.1", b"B-PER", b"I-ORG", b"E-", b"S-"),
    *(b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"PAR1", b"PK\x03\x04", b"GGUF", b"id", b"a" * 70_000),
)
# Numbers of binary headers, little-endian.
NUMBERS = tuple(
    value.to_bytes(size, "little")
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2, 7, 8, 9, 2**7, 2**8 - 1, 2**15, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
    if value < 256**size
)


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes], fragments: Sequence[bytes] = FRAGMENTS) -> bytes:
    """A valid file with up to eight mutations, rarely random bytes alone."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(min_size=1, max_size=200))
    data = bytearray(draw(st.sampled_from(samples)))
    # One draw for all choices: hypothesis shrinks the number of mutations, the rest follows from a seed.
    for seed in draw(st.lists(st.integers(0, 2**32), max_size=8)):
        chance = random.Random(seed)
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 20, 100)))
        match chance.randrange(8):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * chance.choice((1, 2, 50, 2000))
            case 4:
                data[at:end] = bytes(data[at:end])[::-1]
            case 5:
                number = chance.choice(NUMBERS)
                data[at : at + len(number)] = number
            case 6:
                data[at:end] = chance.choice(fragments)
            case _:
                data[at:at] = chance.choice(fragments)
    return bytes(data)


def fuzzed(test: Callable[..., None]) -> Callable[..., None]:
    """A property test: the same few examples each time, or FUZZ_EXAMPLES random ones."""
    return settings(
        max_examples=EXAMPLES or SMALL,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
        suppress_health_check=list(HealthCheck),
    )(test)


class Tripwire:
    """Records what Python code writes outside a folder, and what it starts or connects to, while it is armed.

    An audit hook cannot be removed, so there is one for the process.
    """

    CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
    STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn")

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.found: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in self.STARTS:
            self.found.append(f"{event} {arguments}")
        elif event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and not isinstance(path, int):
                self._check(event, path)
        elif event in self.CHANGES:
            for path in arguments:
                if isinstance(path, str | bytes | os.PathLike):
                    self._check(event, path)

    def _check(self, event: str, path: Any) -> None:
        assert self.folder is not None
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (pathlib's would keep `..`)
        if place != os.devnull and not Path(place).is_relative_to(self.folder):
            self.found.append(f"{event} {place}")


_wire: list[Tripwire] = []


@contextmanager
def _limits(folder: Path) -> Iterator[None]:
    """Limits on CPU time and memory, and the tripwire."""
    if not _wire:
        _wire.append(Tripwire())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    handler = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _wire[0].folder, _wire[0].found = folder, []
    try:
        yield
    finally:
        _wire[0].folder = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def guarded(read: Callable[[], Any], folder: Path, names: Sequence[str]) -> Any:
    """The result of `read`, or the message of its UserError. Fails if the reader does anything that it must not do.

    Args:
        read: reads the hostile file.
        folder: where it may write.
        names: each line of a message must contain one of them, such as the file's name.
    """
    started = time.process_time()
    message = None
    try:
        with _limits(folder):
            result = read()
    except UserError as error:
        message = str(error)
        caused: BaseException | None = error
        while caused is not None:  # a reader must not hide that it hit the limits
            assert not isinstance(caused, MemoryError | TimeoutError), repr(caused)
            caused = caused.__cause__ or caused.__context__
    assert not _wire[0].found, _wire[0].found
    taken = time.process_time() - started
    assert taken < SECONDS, f"{taken:.1f} s"
    if message is None:
        return result
    message.encode()  # a log is UTF-8
    for line in message.split("\n"):
        assert line.strip()
        assert any(name in line for name in names), line
        assert len(line) < 3000, f"{len(line)} characters: {line[:300]}"
    return message
