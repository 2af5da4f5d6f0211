"""A scene for each page."""

import pytest
from doc_commands import Scene


@pytest.fixture
def scene(tmp_path):
    """A folder with a home folder, in which a page runs (tests/support/doc_commands.py)."""
    made = Scene(tmp_path)
    yield made
    made.close()
