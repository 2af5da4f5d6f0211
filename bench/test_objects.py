"""Whole objects in memory, beside other tools; the scanner beside pydicom."""

import io
import os

import pytest

from dicomcrypt.cli.measure import MIB, ct_file, object_cases
from dicomcrypt.native import _scan

TARGETS = {
    "ct encrypt": {"at_most_us": 220}, "ct decrypt": {"at_most_us": 220},
    "4k encrypt": {"at_most_us": 80}, "4k decrypt": {"at_most_us": 80},
    "16MiB encrypt": {"at_least": 0.45}, "16MiB decrypt": {"at_least": 0.36},
}  # fmt: skip
CASES = {}


def case(name):
    if not CASES:
        CASES.update({found.name: (found, objects) for found, objects in object_cases()})
    return CASES[name]


@pytest.mark.parametrize("name", TARGETS)
def test_object(measure, short, name):
    found, objects = case(name)
    big = found.size >= 16 * MIB
    row = measure(name, found.work, found.size, rounds=300 if big else 10000 if short else 1000,
                  yardstick=found.yardstick, yardstick_size=found.yardstick_size,
                  yardstick_name="aes-256-gcm, 16 MiB" if big else "aes-256-gcm",
                  note=found.note, **TARGETS[name])
    assert row.seconds > 0
    if name.endswith("encrypt"):
        objects.encrypt()
        objects.confirm()
    else:
        objects.back[:] = bytes(len(objects.back))
        objects.decrypt()
        assert objects.back == objects.data


def test_scanner(measure):
    pydicom = pytest.importorskip("pydicom")
    data = ct_file()
    scan = None

    def work():
        nonlocal scan
        scan = _scan.Scan()
        scan.feed(data, 0, True)

    def yardstick():
        return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)

    measure("scanner, CT of 79 elements", work, rounds=5000, yardstick=yardstick,
            yardstick_name="pydicom, stop_before_pixels", at_least=40)
    read = yardstick()
    assert len(read) + len(read.file_meta) + 1 == 79  # and the pixel data
    assert scan.status == _scan.PIXELS
    assert (scan.rows, scan.columns, scan.pixel_length) == (read.Rows, read.Columns, 524288)
    assert scan.pixel_value == len(data) - 524288


@pytest.fixture(scope="module")
def ct():
    return ct_file()


def test_pyrage(measure, ct):
    pyrage = pytest.importorskip("pyrage", reason="pyrage is not installed")
    identity = pyrage.x25519.Identity.generate()
    recipient = identity.to_public()
    sealed = pyrage.encrypt(ct, [recipient])
    measure("peer pyrage (age), CT, encrypt", lambda: pyrage.encrypt(ct, [recipient]), len(ct))
    measure("peer pyrage (age), CT, decrypt", lambda: pyrage.decrypt(sealed, [identity]),
                  len(ct))
    assert pyrage.decrypt(sealed, [identity]) == ct


def test_crypt4gh(measure, ct):
    lib = pytest.importorskip("crypt4gh.lib", reason="crypt4gh is not installed")
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    secret, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()

    def encrypt():
        out = io.BytesIO()
        lib.encrypt([(0, secret, public)], io.BytesIO(ct), out)
        return out.getvalue()

    sealed = encrypt()

    def decrypt():
        out = io.BytesIO()
        lib.decrypt([(0, secret, None)], io.BytesIO(sealed), out)
        return out.getvalue()

    measure("peer crypt4gh, CT, encrypt", encrypt, len(ct), rounds=300)
    measure("peer crypt4gh, CT, decrypt", decrypt, len(ct), rounds=300)
    assert decrypt() == ct


def test_tink(measure, ct):
    tink = pytest.importorskip("tink", reason="tink is not installed")
    from tink import aead

    aead.register()
    keyset = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    primitive, bound = keyset.primitive(aead.Aead), os.urandom(16)
    sealed = primitive.encrypt(ct, bound)
    measure("peer tink (AES256_GCM), CT, encrypt", lambda: primitive.encrypt(ct, bound), len(ct))
    measure("peer tink (AES256_GCM), CT, decrypt",
                  lambda: primitive.decrypt(sealed, bound), len(ct))
    assert primitive.decrypt(sealed, bound) == ct
