"""What a key table notices of those who may write to its file and have no key."""

import os
import struct

import pytest
from key_tables import LOGIN, PASSWORD, change, rows

from dicomcrypt.errors import DamagedError, NoIdentityError, UsageError
from dicomcrypt.keytable import KeyTable


def test_any_changed_byte_of_an_entry_is_noticed(path, table):
    key_id, value = rows(path, "entries")[3]
    for at in range(len(value)):
        changed = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        change(path, "UPDATE entries SET value = ? WHERE key = ?", changed, key_id)
        with pytest.raises(DamagedError, match=key_id.hex()):
            table.get(key_id)
    for length in range(len(value)):
        change(path, "UPDATE entries SET value = ? WHERE key = ?", value[:length], key_id)
        with pytest.raises(DamagedError, match=key_id.hex()):
            table.get(key_id)
    with pytest.raises(DamagedError, match=key_id.hex()):
        table.check()


def test_any_changed_byte_of_the_head_is_noticed(path):
    ((_, value),) = rows(path, "head")
    for at in range(0, len(value), 5):
        changed = value[:at] + bytes((value[at] ^ 128,)) + value[at + 1 :]
        change(path, "UPDATE head SET value = ?", changed)
        with pytest.raises((DamagedError, NoIdentityError)):  # the id is bound to the password
            KeyTable(path).unlock(LOGIN, PASSWORD)
        change(path, "DELETE FROM attempts")
    change(path, "DELETE FROM head")
    with pytest.raises(DamagedError, match="no head"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_rows_that_are_swapped_removed_or_added_are_noticed(path, tmp_path):
    entries = rows(path, "entries")
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        change(path, "UPDATE entries SET value = ? WHERE key = ?", entries[0][1], entries[1][0])
        with pytest.raises(DamagedError):
            table.get(entries[1][0])
    change(path, "DELETE FROM entries WHERE key = ?", entries[1][0])
    with pytest.raises(DamagedError, match="9 of its 10 entries"):
        KeyTable(path).unlock(LOGIN, PASSWORD)
    for key_id in (entries[1][0], os.urandom(16)):
        change(path, "INSERT INTO entries VALUES (?, ?)", key_id, entries[1][1])
    with pytest.raises(DamagedError, match="11 of its 10 entries"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_an_older_copy_is_noticed_while_the_newer_one_is_unlocked(path, tmp_path):
    head = rows(path, "head")[0][1]
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        counter = table.counter
        table.new_key("record")
        assert table.counter == counter + 1
        change(path, "UPDATE head SET value = ?", head)
        with pytest.raises(DamagedError, match="older copy"):
            table.new_key("record")


def test_a_damaged_table_can_be_read_as_far_as_it_goes_and_not_written(path):
    key_id, value = rows(path, "entries")[0]
    changed = value[:-1] + bytes((value[-1] ^ 1,))
    change(path, "UPDATE entries SET value = ? WHERE key = ?", changed, key_id)
    change(path, "DELETE FROM entries WHERE key = ?", rows(path, "entries")[1][0])
    with pytest.raises(DamagedError):
        KeyTable(path).unlock(LOGIN, PASSWORD)
    with KeyTable(path).unlock(LOGIN, PASSWORD, strict=False) as table:
        assert len(list(table.labels())) == 8
        assert table.damaged == {key_id}
        assert table.get_document("policy") == b"the first"
        with pytest.raises(UsageError, match="only reading"):
            table.new_key("record")


@pytest.mark.parametrize("statement", [
    "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM access; END",
    "CREATE TABLE more (a)",
    "CREATE VIEW v AS SELECT * FROM entries",
    "DROP TABLE documents",
    "CREATE INDEX i ON entries (value)",
])
def test_a_file_with_another_schema_is_refused(path, statement):
    change(path, statement)
    with pytest.raises(DamagedError, match="something else than a key table"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_what_is_no_key_table_is_refused(path, tmp_path):
    (tmp_path / "text").write_text("hello")
    change(tmp_path / "other.sqlite", "CREATE TABLE a (b)")
    for name in ("text", "other.sqlite"):
        with pytest.raises(UsageError, match="no key table"):
            KeyTable(tmp_path / name).unlock(LOGIN, PASSWORD)
    with pytest.raises(UsageError, match="cannot read"):
        KeyTable(tmp_path / "absent").unlock(LOGIN, PASSWORD)
    change(path, "PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="version 2"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_pages_that_are_cut_or_scrambled_are_an_error_and_not_a_crash(path):
    data = path.read_bytes()
    cut = [data[:size] for size in range(100, len(data), 1700)]
    scrambled = [
        data[:at] + os.urandom(40) + data[at + 40 :] for at in range(100, len(data), 613)
    ]
    refused = 0
    for content in cut + scrambled:
        path.write_bytes(content)
        try:
            with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
                assert table.check() == 10  # what was hit was free room
        except (DamagedError, NoIdentityError, UsageError):
            refused += 1
    assert refused > 10


def test_a_key_derivation_beyond_the_limits_is_refused_before_it_costs(path):
    value = dict(rows(path, "access"))[LOGIN.encode()]
    changed = value[:12] + struct.pack("<IBB", 1 << 30, 16, 1) + value[18:]
    change(path, "UPDATE access SET value = ? WHERE key = ?", changed, LOGIN.encode())
    with pytest.raises(DamagedError, match="beyond its limits"):
        KeyTable(path).unlock(LOGIN, PASSWORD)
