"""A key table with ten entries and a document."""

import pytest
from key_tables import LOGIN, PASSWORD, cheap

from dicomcrypt.keys import HybridIdentity
from dicomcrypt.keytable import KeyTable


@pytest.fixture(scope="session")
def backup():
    return HybridIdentity.generate()


@pytest.fixture(scope="session")
def made(tmp_path_factory, backup):
    """The bytes of a table with ten entries and a document."""
    path = tmp_path_factory.mktemp("made") / "keys.db"
    access = {LOGIN: cheap(PASSWORD), "backup": backup.recipient}
    with KeyTable.create(path, access) as table:
        with table.transaction():
            for n in range(10):
                table.new_key("record", f"label {n}")
        table.put_document("policy", b"the first")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, made):
    """Such a table of one's own, locked."""
    path = tmp_path / "keys.db"
    path.touch(0o600)
    path.write_bytes(made)
    return path


@pytest.fixture
def table(path):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        yield table
