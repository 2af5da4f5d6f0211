"""A scene for each page."""

import pcscd
import pytest
from doc_commands import Scene

from tests.conftest import absent, require_module


@pytest.fixture
def scene(tmp_path):
    """A folder with a home folder, in which a page runs (tests/support/doc_commands.py)."""
    made = Scene(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def room():
    """A pcscd with two empty virtual readers."""
    require_module("smartcard", "card")
    if (why := pcscd.available()) is not None:
        absent(why)
    with pcscd.serve() as room:
        yield room
