"""Checkpoints: the complete state of a training in one file, so that an interrupted training resumes.

The file is in the run's folder but is not a declared output, since Snakemake deletes those before a retry. Its key, a
hash of everything that the training depends on, ties it to one training.
"""

import contextlib
import hashlib
import json
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workflow_scripts.core.errors import Interrupted
from workflow_scripts.core.files import written

logger = logging.getLogger(__name__)

UNUSABLE_SUFFIX = ".unusable"  # for checkpoints that cannot be used

Tensors = dict[str, torch.Tensor]


def checkpoint_key(*parts: Any) -> str:
    """Return a hash (16 hex digits) of everything that a training depends on; each part must be JSON-serialisable."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Checkpoint:
    """The checkpoint of one training.

    Args:
        folder: the run's folder.
        key: from `checkpoint_key`.
        every: seconds between two checkpoints within an epoch.
    """

    def __init__(self, folder: Path, key: str, every: float) -> None:
        self.path = folder / f".checkpoint-{key}.safetensors"
        self.key = key
        self.every = every
        self.saved = time.monotonic()

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the saved tensors and state, or None if there is no usable checkpoint.

        A file that is damaged or has another key is renamed, with a warning. Partial files of killed processes are
        deleted: they are as large as a checkpoint, and nothing else removes them.
        """
        for partial in self.path.parent.glob("..checkpoint-*"):
            partial.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    raise ValueError(f"it belongs to another training ({metadata.get('key')})")
                return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["state"])  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            self.put_aside(error)
            return None

    def peek(self) -> dict[str, Any] | None:
        """Return the saved state without the tensors, or None if there is no usable checkpoint; changes no file."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                return json.loads(metadata["state"]) if metadata.get("key") == self.key else None
        except (SafetensorError, OSError, ValueError, KeyError):
            return None

    def put_aside(self, reason: object) -> None:
        """Rename the file and log the reason; training then starts over."""
        aside = self.path.with_suffix(UNUSABLE_SUFFIX)
        self.path.replace(aside)
        logger.warning("%s cannot be used (%s): renamed to %s; training starts over", self.path, reason, aside.name)

    def is_due(self) -> bool:
        """Whether `every` seconds have passed since the last checkpoint."""
        return time.monotonic() - self.saved >= self.every

    def save(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Write the checkpoint atomically. `state` must be JSON-serialisable."""
        with written(self.path) as temporary:
            save_file(tensors, temporary, metadata={"key": self.key, "state": json.dumps(state)})
        self.saved = time.monotonic()

    def remove(self) -> None:
        """Delete the folder's checkpoints, also those of earlier settings; call it once the outputs are written."""
        for path in self.path.parent.glob(".checkpoint-*"):
            if path.suffix != UNUSABLE_SUFFIX:
                path.unlink(missing_ok=True)


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
        """Within the block a signal raises Interrupted(saved) immediately; for work that can be repeated."""
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
