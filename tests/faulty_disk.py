"""A file system for tests that behaves as network disks do when something is wrong with them.

It shows a folder of another disk (FUSE). Its faults can be changed while it is mounted.
"""

# FUSE's paths are texts.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH208, PTH211

import contextlib
import errno
import fnmatch
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FAULTS = "faults.json"


class FaultyDisk:
    """A mounted file system.

    Args:
        place: an empty folder of the test, for the mount point, the content and the faults.
    """

    def __init__(self, place: Path) -> None:
        self.folder, self.content, self.faults = place / "network disk", place / "content", place / FAULTS

    def fails(self, **faults: Any) -> None:
        """Replace the faults. Files are chosen by `files`, a pattern of names.

        quota: no file may become larger than so many bytes; writing more fails with `error`.
        at_the_end: writing succeeds and fails with `error` when the file is closed or synchronised, as NFS reports it;
            "fsync": only when it is synchronised, as a disk reports it that writes later.
        read: reading fails with this error. open: opening fails with it. link, flock: these calls fail with it.
        read_only: everything that writes fails.
        """
        temporary = self.faults.with_suffix(".new")
        temporary.write_text(json.dumps(faults))
        temporary.replace(self.faults)


@contextlib.contextmanager
def faulty_disk(
    place: Path, late: float = 0.0, looked_for: float | None = None, content: Path | None = None
) -> Iterator[FaultyDisk]:
    """Mount the file system; skips the test where that is impossible.

    Args:
        place: see `FaultyDisk`.
        late: seconds after which a file that was made elsewhere in `content` is visible.
        looked_for: seconds from the first look for such a file until it is visible although it is younger than `late`.
            So the delay of a test may be longer than its jobs take to start, and it does not wait for all of it.
        content: the folder that it shows; by default an empty one.
    """
    disk = FaultyDisk(place)
    if content is not None:
        disk.content = content
    disk.folder.mkdir(parents=True)
    disk.content.mkdir(parents=True, exist_ok=True)
    disk.fails()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    seconds = [str(late), str(late if looked_for is None else looked_for)]
    command = [sys.executable, __file__, str(disk.content), str(disk.folder), str(disk.faults), *seconds]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not disk.folder.is_mount():
            if server.poll() is not None:
                pytest.skip(f"FUSE cannot mount here: {server.communicate()[1].strip().splitlines()[-1]}")
            time.sleep(0.02)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk.folder)], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)
        server.kill()
        server.communicate()


def seeing(disk: FaultyDisk, folder: Path) -> list[str]:
    """The start of a command that runs in a mount namespace of its own, where `folder` is the mounted file system.

    What the command starts is in this namespace, too. Skips the test where namespaces cannot be made.
    """
    mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
    start = ["unshare", "--mount", "sh", "-c", mount, str(disk.folder), str(folder)]
    attempt = subprocess.run([*start, "true"], check=False, capture_output=True, text=True)
    if attempt.returncode:
        pytest.skip(f"no mount namespaces here: {attempt.stderr.strip()}")
    return start


def serve(content: str, folder: str, faults: str, late: float, looked_for: float) -> None:
    """Serve the file system until it is unmounted."""
    import mfusepy

    def failure(name: str) -> mfusepy.FuseOSError:
        return mfusepy.FuseOSError(getattr(errno, name))

    class Disk(mfusepy.Operations):
        use_ns = True

        def __init__(self) -> None:
            self.changed = 0
            self.found: dict[str, Any] = {}
            self.refused: dict[str, str] = {}  # the errors of files of which a part was not written
            self.own: set[str] = set()  # names that were made here
            self.sought: dict[str, tuple[int, float]] = {}  # the inode behind a name, and the time of the first look

        def faults_of(self, path: str) -> dict[str, Any]:
            """The faults that concern a file."""
            if (changed := Path(faults).stat().st_mtime_ns) != self.changed:
                self.changed, self.found = changed, json.loads(Path(faults).read_text())
            found = self.found
            return found if fnmatch.fnmatch(path.rpartition("/")[2], found.get("files", "*")) else {}

        def place(self, path: str) -> str:
            return content + path

        def visible(self, path: str) -> str:
            """What is behind a path. Raises FuseOSError as long as a file that was made elsewhere is not visible."""
            place = self.place(path)
            if late and path not in self.own:
                state = os.lstat(place)
                # Folders have no time of their own: a file that is made in them changes it.
                if stat.S_ISDIR(state.st_mode) or time.time() - state.st_ctime >= late:
                    return place
                if path not in self.sought or self.sought[path][0] != state.st_ino:
                    self.sought[path] = state.st_ino, time.time()
                if time.time() - self.sought[path][1] < looked_for:
                    raise failure("ENOENT")
            return place

        def writable(self, path: str) -> str:
            if self.faults_of(path).get("read_only"):
                raise failure("EROFS")
            self.own.add(path)
            return self.place(path)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            state = os.lstat(self.visible(path)) if fh is None else os.fstat(fh)
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
            times = {f"st_{name}": getattr(state, f"st_{name}_ns") for name in ("atime", "ctime", "mtime")}
            return {name: getattr(state, name) for name in names} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            found = [".", ".."]
            for name in os.listdir(self.place(path)):
                with contextlib.suppress(OSError):
                    self.visible(f"{path.rstrip('/')}/{name}")
                    found.append(name)
            return found

        def access(self, path: str, amode: int) -> int:
            if amode & os.W_OK and self.faults_of(path).get("read_only"):
                raise failure("EROFS")
            return 0 if os.access(self.visible(path), amode) else -errno.EACCES

        def open(self, path: str, flags: int) -> int:
            found = self.faults_of(path)
            if "open" in found:
                raise failure(found["open"])
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.writable(path)
            return os.open(self.visible(path), flags)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            self.refused.pop(path, None)
            return os.open(self.writable(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            if "read" in (found := self.faults_of(path)):
                raise failure(found["read"])
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            found = self.faults_of(path)
            if offset + len(data) > found.get("quota", float("inf")):
                if not found.get("at_the_end"):
                    raise failure(found["error"])
                self.refused[path] = found["error"]
                return len(data)
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            self.refused.pop(path, None)
            os.truncate(self.writable(path), length)
            return 0

        def flush(self, path: str, fh: int) -> int:
            if self.faults_of(path).get("at_the_end") != "fsync":
                self.fsync(path, 0, fh)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            if path in self.refused:
                raise failure(self.refused[path])
            return 0

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        def rename(self, old: str, new: str) -> int:
            os.rename(self.writable(old), self.writable(new))
            # With what was made here in a folder.
            self.own = {new + path.removeprefix(old) if f"{path}/".startswith(f"{old}/") else path for path in self.own}
            self.refused.pop(new, None)
            if old in self.refused:
                self.refused[new] = self.refused.pop(old)
            return 0

        def unlink(self, path: str) -> int:
            self.refused.pop(path, None)
            os.unlink(self.writable(path))
            self.own.discard(path)
            return 0

        def mkdir(self, path: str, mode: int) -> int:
            os.mkdir(self.writable(path), mode)
            return 0

        def rmdir(self, path: str) -> int:
            os.rmdir(self.writable(path))
            return 0

        def symlink(self, target: str, source: str) -> int:
            os.symlink(source, self.writable(target))
            return 0

        def readlink(self, path: str) -> str:
            return os.readlink(self.visible(path))

        def link(self, target: str, source: str) -> int:
            if name := self.faults_of(target).get("link"):
                raise failure(name)
            os.link(self.place(source), self.writable(target))
            return 0

        def chmod(self, path: str, mode: int) -> int:
            os.chmod(self.writable(path), mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            os.chown(self.writable(path), uid, gid)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            place = self.writable(path)
            # In nanoseconds, utimensat's UTIME_NOW and UTIME_OMIT are (1 << 30) - 1 and (1 << 30) - 2.
            if times is None or (1 << 30) - 1 in times:
                os.utime(place)
            elif (1 << 30) - 2 not in times:
                os.utime(place, ns=times)
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            state = os.statvfs(content)
            return {name: getattr(state, name) for name in dir(state) if name.startswith("f_") and name != "f_fsid"}

        def flock(self, path: str, fh: int, op: int) -> int:
            if name := self.faults_of(path).get("flock"):
                raise failure(name)
            import fcntl

            fcntl.flock(fh, op)
            return 0

    # Nothing is remembered by the kernel: another process may change the content.
    caches = {"entry_timeout": 0, "attr_timeout": 0, "negative_timeout": 0, "ac_attr_timeout": 0} if late else {}
    mfusepy.FUSE(Disk(), folder, foreground=True, nothreads=True, fsname="faulty", **caches)


if __name__ == "__main__":
    source, target, faults_file, *delays = sys.argv[1:]
    serve(source, target, faults_file, *map(float, delays))
