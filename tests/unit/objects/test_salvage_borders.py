"""Salvage where a stream's head, its index or the object's end is hit."""

import pathlib

import pydicom.data
import pytest

import dicomcrypt as dc
from dicomcrypt.container.layout import PIXELS
from dicomcrypt.container.reader import Container
from dicomcrypt.objects.buffers import MemorySource


@pytest.fixture
def ct(identity):
    plain = pathlib.Path(pydicom.data.get_testdata_file("CT_small.dcm")).read_bytes()
    blob = bytearray(dc.encrypt(plain, [identity.recipient]))
    return plain, blob, Container(MemorySource(blob)).streams


def rescued(tmp_path, blob, identity):
    (tmp_path / "bad.dcmx").write_bytes(blob)
    report = dc.salvage(tmp_path / "bad.dcmx", tmp_path / "out", [identity])
    return (tmp_path / "out").read_bytes(), report


def test_a_pixel_stream_whose_head_is_hit_is_told_as_lost_and_keeps_its_place(
    tmp_path, ct, identity
):
    plain, blob, streams = ct
    blob[streams[PIXELS][0] + 3] ^= 1
    out, report = rescued(tmp_path, blob, identity)
    assert len(out) == len(plain)
    assert report["lost"] == [{"stream": "pixels", "start": 0, "end": 32768}]
    assert out[:6300] == plain[:6300]
    assert out[6300 : 6300 + 32768] == bytes(32768)
    assert out[6300 + 32768 :] == plain[6300 + 32768 :]


def test_a_pixel_stream_whose_index_is_hit_does_not_push_the_rest_away(tmp_path, ct, identity):
    plain, blob, streams = ct
    blob[sum(streams[PIXELS]) - 20] ^= 1
    out, report = rescued(tmp_path, blob, identity)
    assert len(out) == len(plain)
    assert report["lost_bytes"] == 32768
    assert out[6300 + 32768 :] == plain[6300 + 32768 :]


@pytest.mark.parametrize("added", [1, 95, 4096])
def test_an_object_to_which_something_was_added_is_rescued_whole(tmp_path, ct, identity, added):
    plain, blob, _ = ct
    out, report = rescued(tmp_path, blob + b"x" * added, identity)
    assert out == plain
    assert report["lost"] == []
    assert "trailer" in report
