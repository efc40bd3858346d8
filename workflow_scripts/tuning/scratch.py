"""A folder on the compute node's own disk for checkpoints, so that they do not load the shared disk: the key `scratch`.

The folder of a run's checkpoints there is named after the user and the run's folder, so those of different runs and
users never mix. It exists while the training runs; only a killed process leaves it.
"""

import hashlib
import logging
import os
import stat
from pathlib import Path

from workflow_scripts.core.names import SCRATCH

logger = logging.getLogger(__name__)


def scratch_folder(run: Path) -> Path | None:
    """Create the folder on this node's own disk for the checkpoints of a run.

    Returns None without the key `scratch`, and with a line in the log where its folder cannot be used.

    Args:
        run: the folder on the shared disk that would hold the checkpoints.
    """
    place = os.environ.get(SCRATCH)
    if not place:
        return None
    try:
        return _created(_on_this_node(place), run)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: pathlib's for a user without a home folder
        reason = (isinstance(error, OSError) and error.strerror) or error
        logger.warning("scratch: %s cannot be used on this node (%s): checkpoints go to %s", place, reason, run)
        return None


def _on_this_node(place: str) -> Path:
    """The folder that the key names, with this process's environment variables. Raises ValueError."""
    path = os.path.expandvars(place)
    if "$" in path:
        raise ValueError("an environment variable in it is not set")
    folder = Path(path).expanduser()
    if not folder.is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    if not folder.is_dir():
        raise ValueError("there is no such folder" if path == place else f"there is no folder {path}")
    return folder


def _created(parent: Path, run: Path) -> Path:
    """The run's own folder, which no other user can enter. Raises OSError, ValueError."""
    user = os.getuid()
    folder = parent / f"crossprompt-{user}-{hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    # In a shared folder, another user could have created it, to plant a checkpoint.
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != user:
        raise ValueError(f"{folder} belongs to another user")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} is not writable")
    return folder
