"""The key files of the vectors."""

import pytest
from rescue_tool import DOCUMENT, PASSPHRASE


@pytest.fixture
def keys(tmp_path):
    """Key files by name."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, line in DOCUMENT["identities"].items():
        (folder / name).write_text(f"# {name}\n\n{line}\n")
    (folder / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    return folder
