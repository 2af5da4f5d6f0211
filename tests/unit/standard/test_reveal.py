"""What items of others may replace in a file: anybody with a certificate can make one."""

import warnings
import zlib

import pydicom
import pytest
from confidential import file_of, holder, protect_to, reveal_to, small
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicomcrypt.errors import DamagedError
from dicomcrypt.standard import cms_envelope as cms
from dicomcrypt.standard.dicomfile import DicomFile
from dicomcrypt.standard.elements import LITTLE, encode, sequence
from dicomcrypt.standard.protect import (
    CREATOR,
    CREATOR_TAG,
    RECORD_HEAD,
    RECORD_TAG,
    dataset_digest,
)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def with_pixels(**values):
    return small(Rows=4, Columns=4, BitsAllocated=8, PixelData=b"original pixels!", **values)


def forge(path, *contents) -> None:
    """Put items with these elements in the place of a file's encrypted ones."""
    who = [cms.CertificateRecipient(holder().certificate)]
    body = [
        encode(0x04000510, b"UI", b"1.2.840.10008.1.2.1", LITTLE) + encode(
            0x04000520, b"OB", cms.seal(sequence(0x04000550, [content], LITTLE), who), LITTLE)
        for content in contents
    ]  # fmt: skip
    with DicomFile(path) as file:
        sealed = next(e for e in file.before if e.tag == 0x04000500)
        data = path.read_bytes()
    path.write_bytes(data[: sealed.begin] + sequence(0x04000500, body, LITTLE) + data[sealed.end :])


@pytest.fixture
def shared(tmp_path):
    dataset = with_pixels()
    dataset["PixelData"].VR = "OW"
    (tmp_path / "in").write_bytes(file_of(dataset))
    protect_to(tmp_path / "in", tmp_path / "out")
    return tmp_path / "out"


def refused(path):
    with pytest.raises(DamagedError) as caught:
        reveal_to(path, path.with_name("back"))
    return str(caught.value)


@pytest.mark.parametrize(("tag", "vr", "value"), [
    (0x7FE00010, b"OW", b"forged pixels!! "), (0x7FE00008, b"OF", bytes(16)),
    (0x00020010, b"UI", b"1.2.840.10008.1.2"), (0x00020000, b"UL", bytes(4)),
    (0x00000000, b"UL", bytes(4)), (0x04000500, b"SQ", b""),
])  # fmt: skip
def test_pixels_file_meta_and_items_are_not_replaced(tag, vr, value, shared):
    forge(shared, encode(0x00100010, b"PN", b"Real^Name", LITTLE) + encode(tag, vr, value, LITTLE))
    assert "may not" in refused(shared)


def record(path, original: bytes, *, behind=b"") -> bytes:
    with DicomFile(path) as file:
        sealed = next(e for e in file.before if e.tag == 0x04000500)
        digest = dataset_digest(file.transfer_syntax, (
            file.head[file.dataset : sealed.begin], file.head[sealed.end :], file.tail))
    value = RECORD_HEAD.pack(1, digest, len(original), len(behind)) + zlib.compress(
        original + behind)
    return encode(CREATOR_TAG, b"LO", CREATOR, LITTLE) + encode(RECORD_TAG, b"OB", value, LITTLE)


def head_of(**options) -> bytes:
    dataset = small(Rows=4, Columns=4, BitsAllocated=8)
    return file_of(dataset, options.pop("syntax", ExplicitVRLittleEndian), **options)


NAME = encode(0x00100010, b"PN", b"Real^Name", LITTLE)


def test_a_record_gives_its_bytes_back(shared):
    head = head_of(preamble=b"p" * 128)
    forge(shared, NAME, record(shared, head, behind=bytes(10)))
    reveal_to(shared, shared.with_name("back"))
    data = shared.with_name("back").read_bytes()
    assert data.startswith(head)
    assert data.endswith(b"original pixels!" + bytes(10))


def test_a_record_that_nobody_claims_is_an_element_as_others(shared):
    """Its private block has no creator, so it may mean anything."""
    claimed = record(shared, head_of())
    value = claimed[len(encode(CREATOR_TAG, b"LO", CREATOR, LITTLE)) :]
    forge(shared, NAME + value)
    reveal_to(shared, shared.with_name("back"))
    with DicomFile(shared.with_name("back")) as file:
        found = {e.tag: file.head[e.begin : e.end] for e in file.before}
    assert (found[0x00100010], found[RECORD_TAG]) == (NAME, value)


@pytest.mark.parametrize("how", ["pixels", "pixels behind", "hidden behind", "syntax", "no file"])
def test_a_record_does_not_change_pixels_or_transfer_syntax(how, shared):
    head, behind = head_of(), b""
    pixels = encode(0x7FE00010, b"OW", b"forged pixels!! ", LITTLE)
    if how == "pixels":
        head += pixels
    elif how == "pixels behind":
        behind = pixels
    elif how == "hidden behind":
        behind = bytes(8) + pixels
    elif how == "syntax":
        head = head.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4\0")
    else:
        head = b"#!/bin/sh\n" + bytes(200)
    forge(shared, NAME, record(shared, head, behind=behind))
    assert "another original" in refused(shared)


def test_deflated_pixels_stay_as_they_are(tmp_path):
    dataset = with_pixels()
    dataset["PixelData"].VR = "OW"
    (tmp_path / "in").write_bytes(file_of(dataset, DeflatedExplicitVRLittleEndian,
                                          preamble=b"p" * 128))
    protect_to(tmp_path / "in", tmp_path / "out")
    reveal_to(tmp_path / "out", tmp_path / "back")
    back = pydicom.dcmread(tmp_path / "back")
    assert (back.preamble, back.PixelData) == (b"p" * 128, b"original pixels!")
