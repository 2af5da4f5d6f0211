"""A key table with ten entries and a document."""

import pytest
from key_tables import LOGIN, PASSWORD, cheap

from dicomcrypt.keys import HybridIdentity
from dicomcrypt.keytable import KeyTable


@pytest.fixture(scope="module")
def backup():
    return HybridIdentity.generate()


@pytest.fixture
def path(tmp_path, backup):
    """A table with ten entries and a document, locked."""
    access = {LOGIN: cheap(PASSWORD), "backup": backup.recipient}
    with KeyTable.create(tmp_path / "keys.db", access) as table:
        with table.transaction():
            for n in range(10):
                table.new_key("record", f"label {n}")
        table.put_document("policy", b"the first")
    return tmp_path / "keys.db"


@pytest.fixture
def table(path):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        yield table
