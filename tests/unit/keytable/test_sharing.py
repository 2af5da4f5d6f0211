"""A key table's file among users, processes and threads."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from key_tables import LOGIN, PASSWORD, cheap

from dicomcrypt.errors import (
    JobBusyError,
    NoIdentityError,
    OutputExistsError,
    PolicyError,
    UsageError,
)
from dicomcrypt.keytable import KeyTable, SqliteStore


def test_the_file_is_for_its_owner_alone_and_never_overwritten(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        KeyTable.create(path, {LOGIN: cheap("x")})
    assert path.read_bytes() == before


def test_a_table_that_cannot_be_made_leaves_nothing(tmp_path):
    class Refused:
        def wrap(self, key, scope, binding):
            raise PolicyError("expired")

    with pytest.raises(PolicyError):
        KeyTable.create(tmp_path / "keys.db", {"x": Refused()})
    with pytest.raises(UsageError, match="needs a login"):
        KeyTable.create(tmp_path / "keys.db", {})
    assert not os.listdir(tmp_path)


def test_two_processes_write_to_one_table(path):
    script = (
        "import sys; from dicomcrypt.keytable import KeyTable\n"
        f"with KeyTable(sys.argv[1]).unlock({LOGIN!r}, {PASSWORD!r}) as table:\n"
        "    for _ in range(25): table.new_key('record')\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        assert table.check() == 60


def test_threads_take_turns(table):
    made, failed = [], []

    def work():
        try:
            for _ in range(20):
                made.append(table.new_key("record"))
                list(table.labels())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert table.check() == 90
    assert all(table.get(key_id) == key for key_id, key in made)


def test_a_table_in_use_is_said_to_be_so(path, table):
    table._store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(JobBusyError, match="in use"):
        table.new_key("record")
    other.execute("ROLLBACK")
    other.close()
    table.new_key("record")


def test_without_room_to_count_there_is_no_guess(path):
    if os.geteuid() == 0:
        pytest.skip("root writes to what is read-only")
    path.chmod(0o400)
    with pytest.raises(UsageError, match="cannot be written"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_another_store_comes_in_by_the_protocol(path, tmp_path):
    copied = tmp_path / "copied.db"
    shutil.copy(path, copied)
    opened = []

    def opener(name):
        opened.append(name)
        return SqliteStore(copied)

    with KeyTable("elsewhere:1", store=opener).unlock(LOGIN, PASSWORD) as table:
        assert table.check() == 10
    assert opened == ["elsewhere:1"]


def test_no_message_holds_a_secret(path, table):
    _, key = table.new_key("record", "Mustermann")
    for wrong in ("secret words", "x"):
        with pytest.raises(NoIdentityError) as raised:
            KeyTable(path).unlock(LOGIN, wrong)
        assert not re.search(r"secret words|Mustermann", str(raised.value))
    assert key.hex() not in repr(table)
