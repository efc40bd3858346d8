"""Checkpoints: the whole state of a training in one file, so that it goes on after any interruption.

The file lies beside the run's outputs under a name that Snakemake does not know, since Snakemake deletes declared
outputs before a retry. It belongs to one training: its key is a hash of everything that the training depends on.
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

from workflow_scripts.experiment.errors import Interrupted
from workflow_scripts.experiment.files import written

logger = logging.getLogger(__name__)

ASIDE = ".unusable"  # the suffix of a file that was put aside

Tensors = dict[str, torch.Tensor]


def key_of(*parts: Any) -> str:
    """A short hash of what a training depends on; each part must be plain JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Checkpoint:
    """The checkpoint of one training.

    Args:
        folder: the run's folder.
        key: from `key_of`.
        every: seconds between two checkpoints within an epoch.
    """

    def __init__(self, folder: Path, key: str, every: float) -> None:
        self.path = folder / f".checkpoint-{key}.safetensors"
        self.key = key
        self.every = every
        self.saved = time.monotonic()

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The tensors and the state that were saved; None when there are none that can be used.

        An unreadable or foreign file is put aside with a warning. What a process that was killed had half written is
        deleted: it is as large as a checkpoint, and nobody else would.
        """
        for half in self.path.parent.glob("..checkpoint-*"):
            half.unlink(missing_ok=True)
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

    def put_aside(self, reason: object) -> None:
        """Rename the file and say why; the training starts over."""
        aside = self.path.with_suffix(ASIDE)
        self.path.replace(aside)
        logger.warning("%s cannot be used (%s): put aside as %s; training starts over", self.path, reason, aside.name)

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self.saved >= self.every

    def save(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Write to a temporary name, then rename. `state` is plain JSON."""
        with written(self.path) as temporary:
            save_file(tensors, temporary, metadata={"key": self.key, "state": json.dumps(state)})
        self.saved = time.monotonic()

    def remove(self) -> None:
        """The training is finished and its outputs are written. Those of other settings are of no use any more."""
        for path in self.path.parent.glob(".checkpoint-*"):
            if path.suffix != ASIDE:
                path.unlink(missing_ok=True)


class StopSignal:
    """Notes SIGTERM, which SLURM sends before it takes a machine away, and Ctrl-C: the loop can save and leave.

    SLURM may send three within milliseconds, a warning and what follows it. Once one came they are noted to the end of
    the process, which else would be killed on its way out. A signal that the process was started to ignore stays
    ignored, and the log says so.
    """

    def __init__(self) -> None:
        self.received = False
        self.saved: str | None = None  # what was saved, where the signal may raise
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            # A shell without job control does this with SIGINT, so that Ctrl-C stops the foreground alone.
            if signal.getsignal(number) == signal.SIG_IGN:
                reason = "it was started with this signal ignored, as a script starts its background jobs"
                logger.info("%s does not stop this training: %s", number.name, reason)
            else:
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.received:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self, saved: str) -> Iterator[None]:
        """Within the block the signal raises Interrupted, with what was saved: for work that can be done again."""
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
