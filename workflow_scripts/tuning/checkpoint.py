"""Checkpoints: the complete state of a training in one file, so that an interrupted training resumes.

The file is in the run's folder but is not a declared output, since Snakemake deletes those before a retry. Its key, a
hash of everything that the training depends on, ties it to one training. With the key `scratch`, the file is on the
node's own disk, and is copied to the run's folder when the training is interrupted, and every `copy_every` seconds.
"""

import contextlib
import hashlib
import json
import logging
import math
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.files import fault_of, written

logger = logging.getLogger(__name__)

UNUSABLE_SUFFIX = ".unusable"  # for checkpoints that cannot be used

PARTIAL = ("..checkpoint-*", ".tmp*")  # files that are being written: by us, and by safetensors
UNREADABLE = (SafetensorError, OSError, ValueError, KeyError)  # what damaged files raise

Tensors = dict[str, torch.Tensor]


def checkpoint_key(*parts: Any) -> str:
    """Return a hash (16 hex digits) of everything that a training depends on; each part must be JSON-serialisable."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Checkpoint:
    """The checkpoint of one training: in the run's folder, or in a scratch folder and copied from there periodically.

    Args:
        folder: the run's folder.
        key: from `checkpoint_key`.
        every: seconds between two checkpoints within an epoch.
        scratch: from `scratch_folder`; None keeps every checkpoint in the run's folder.
        copy_every: seconds between two copies from the scratch folder to the run's folder.
    """

    def __init__(
        self, folder: Path, key: str, every: float, scratch: Path | None = None, copy_every: float = math.inf
    ) -> None:
        name = f".checkpoint-{key}.safetensors"
        self.path = folder / name
        self.scratch = scratch
        self.near = None if scratch is None else scratch / name
        self.key = key
        self.every, self.copy_every = every, copy_every
        self.saved = self.copied = time.monotonic()

    @property
    def newest(self) -> Path:
        """The file to resume from: the later one, if there are two usable ones."""
        if self.near is None or (near := self._read(self.near)) is None:
            return self.path
        far = self._read(self.path)
        return self.near if far is None or near["state"]["step"] >= far["state"]["step"] else self.path

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the saved tensors and state, or None if there is no usable checkpoint.

        A file that is damaged or has another key is renamed, with a warning; in the scratch folder it is deleted.
        Partial files of killed processes are deleted: they are as large as a checkpoint, and nothing else removes them.
        Raises UserError if the file in the run's folder cannot be read from disk.
        """
        for folder in {self.path.parent, self.scratch or self.path.parent}:
            for pattern in PARTIAL:
                for partial in folder.glob(pattern):
                    partial.unlink(missing_ok=True)
        if self.near is not None and self.near.exists() and self._read(self.near) is None:
            self._delete_near("it is damaged")
        file = self.newest
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                if metadata.get("key") != self.key:
                    raise ValueError(f"it belongs to another training ({metadata.get('key')})")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return tensors, json.loads(metadata["state"])
        except UNREADABLE as error:
            if file != self.path:
                self._delete_near(error)
                return self.load()
            if fault := fault_of(file):
                raise UserError(fault) from error
            self.put_aside(error)
            return None

    def peek(self) -> dict[str, Any] | None:
        """Return the saved state without the tensors, or None if there is no usable checkpoint; changes no file."""
        return self._read(self.newest)

    def _read(self, file: Path) -> dict[str, Any] | None:
        """The state in a file; None if this training cannot use the file."""
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                return json.loads(metadata["state"]) if metadata.get("key") == self.key else None
        except UNREADABLE:
            return None

    def _delete_near(self, reason: object) -> None:
        """Delete the checkpoint in the scratch folder; stop using the folder if even that fails."""
        assert self.near is not None
        logger.warning("scratch: %s cannot be used (%s): deleted", self.near, reason)
        try:
            self.near.unlink(missing_ok=True)
        except OSError:
            self.near = None

    def put_aside(self, reason: object) -> None:
        """Rename the file and log the reason; training then starts over."""
        aside = self.path.with_suffix(UNUSABLE_SUFFIX)
        self.path.replace(aside)
        logger.warning("%s cannot be used (%s): renamed to %s; training starts over", self.path, reason, aside.name)

    def is_due(self) -> bool:
        """Whether `every` seconds have passed since the last checkpoint."""
        return time.monotonic() - self.saved >= self.every

    def save(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Write the checkpoint atomically.

        A scratch folder that cannot be written is no longer used, with a warning. `state` must be JSON-serialisable.
        Raises UserError if the run's folder cannot be written.
        """
        metadata = {"key": self.key, "state": json.dumps(state)}
        if self.near is not None:
            try:
                with written(self.near, durable=False) as temporary:  # a dead node loses its disk anyway
                    save_file(tensors, temporary, metadata)
            except (UserError, SafetensorError, OSError) as error:
                reason, place = error.__cause__ or error, self.path.parent
                logger.warning("scratch: %s cannot be written (%s): checkpoints go to %s", self.near, reason, place)
                self.near = None
        if self.near is None:
            with written(self.path) as temporary:
                save_file(tensors, temporary, metadata)
        elif time.monotonic() - self.copied >= self.copy_every:
            try:
                self.copy()
            except (UserError, OSError) as error:  # The training is safe on this node; the next copy may succeed.
                logger.warning("%s", error)
            self.copied = time.monotonic()
        self.saved = time.monotonic()

    def copy(self) -> None:
        """Copy the checkpoint in the scratch folder to the run's folder, if it is the newest.

        Raises UserError, or OSError, if the run's folder cannot be written.
        """
        if self.near is None or self.newest != self.near or self._read(self.near) == self._read(self.path):
            return
        started = time.monotonic()
        with written(self.path) as temporary:
            shutil.copyfile(self.near, temporary)
        logger.info("copied the checkpoint from %s in %.1f s", self.near.parent, time.monotonic() - started)

    def remove(self) -> None:
        """Delete the folder's checkpoints, also those of earlier settings; call it once the outputs are written."""
        for path in self.path.parent.glob(".checkpoint-*"):
            if path.suffix != UNUSABLE_SUFFIX:
                path.unlink(missing_ok=True)
        self.clean()

    def clean(self) -> None:
        """Delete the scratch folder; call it once its checkpoints are copied or no longer needed."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


@contextlib.contextmanager
def copied_at_the_end(checkpoints: Sequence[Checkpoint]) -> Iterator[None]:
    """If the block ends by an exception or by SIGTERM, copy checkpoints from the scratch folder to the runs' folders.

    The checkpoints share one scratch folder. It is deleted once they are copied. Raises Interrupted after SIGTERM.
    """
    if all(checkpoint.scratch is None for checkpoint in checkpoints):
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:  # While a model trains, `StopSignal` replaces it.
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except BaseException:
        if signal.getsignal(signal.SIGTERM) == _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing must stop the copy
        for checkpoint in checkpoints:
            checkpoint.copy()
        checkpoints[0].clean()
        raise
    if signal.getsignal(signal.SIGTERM) == _interrupt:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM may send it again
    raise Interrupted("saved")


class StopSignal:
    """Records SIGTERM, which SLURM sends before it ends a job, and Ctrl-C, so that the loop can save and stop.

    SLURM may send up to three signals within milliseconds. After the first, the handlers therefore stay installed until
    the process ends; the default handler would kill it while it shuts down. A signal that the process was started to
    ignore stays ignored, and the log says so.
    """

    def __init__(self) -> None:
        self.received = False
        self.saved: str | None = None  # inside `interruptible`: what has been saved
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            # A shell without job control ignores SIGINT in background jobs, so that Ctrl-C stops the foreground only.
            if signal.getsignal(number) == signal.SIG_IGN:
                reason = "the process was started with this signal ignored, as scripts start background jobs"
                logger.info("%s does not stop this training: %s", number.name, reason)
            else:
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.received:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def interruptible(self, saved: str) -> Iterator[None]:
        """Within the block a signal raises Interrupted(saved) immediately; for repeatable work."""
        self.saved = saved
        try:
            if self.received:
                raise Interrupted(saved)
            yield
        finally:
            self.saved = None

    def _note(self, *_: object) -> None:
        self.received = True
        saved, self.saved = self.saved, None
        if saved is not None:
            raise Interrupted(saved)
