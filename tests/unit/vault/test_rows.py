"""Rows of the catalogue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vault_rows import patient_rows

from dicomcrypt.errors import DamagedError, UsageError
from dicomcrypt.native._cbor import encode_map
from dicomcrypt.vault.rows import FIELDS, TEXT_LIMIT, Row, fields_of, identity_row

BASE = {"object_id": b"o" * 16, "path": b"a/b", "size": 1, "object_size": 2, "mtime_ns": -3,
        "added_ns": 4, "core_digest": b"c" * 16}  # fmt: skip


def test_a_row_comes_back():
    for row in patient_rows(3, 5):
        assert Row.decode(row.encode()) == row


def test_keys_are_those_of_the_specification():
    assert FIELDS[0] == "object_id"
    assert FIELDS[17] == "PatientID"
    assert FIELDS[21] == "StudyInstanceUID"
    assert FIELDS[32] == "SOPInstanceUID"
    assert FIELDS[38] == "SeriesDate"
    assert FIELDS[50] == "columns"


def test_text_is_trimmed_bounded_and_can_be_written():
    found = fields_of({
        "PatientID": " 17 \0", "PatientName": "a\udcff", "StudyDate": "2020.01.31",
        "StudyDescription": "x" * 5000, "StudyID": "  ", "NumberOfFrames": "12", "Rows": "many",
        "Manufacturer": "left out",
    })  # fmt: skip
    row = Row(**found, **BASE)
    assert (row.PatientID, row.PatientName, row.StudyDate) == ("17", "a?", "20200131")
    assert len(row.StudyDescription) == TEXT_LIMIT
    assert (row.StudyID, row.frames, row.rows) == (None, 12, None)
    assert Row.decode(row.encode()) == row


def test_an_identity_is_a_patients_else_a_studys_else_a_jobs():
    assert identity_row(" A ", " 1 ", study="1.2").values() == {1: 0, 16: "A", 17: "1"}
    assert identity_row("A", " ", study="1.2").values() == {1: 0, 21: "1.2"}
    assert identity_row(job=b"j").values() == {1: 0, 51: b"j"}
    with pytest.raises(UsageError):
        identity_row("A", "")


@pytest.mark.parametrize("values", [
    {0: b"short", 2: b""}, {0: b"o" * 16}, {1: 2}, {2: "text"}, {3: 1 << 63}, {17: b"bytes"},
    {99: 1}, {8: b"d" * 16}, {2: bytes(70000)}, {17: ["list"]},
], ids=str)  # fmt: skip
def test_what_no_row_holds_is_refused(values):
    with pytest.raises(DamagedError):
        Row.decode(encode_map(values))


@given(st.binary(max_size=60))
def test_noise_is_refused_or_is_a_row(data):
    try:
        row = Row.decode(data)
    except DamagedError:
        return
    assert Row.decode(row.encode()) == row
