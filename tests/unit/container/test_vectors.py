"""The package over the vectors that the independent implementation made."""

import hashlib
import json
import pathlib

import pytest

import dicomcrypt as dc
from dicomcrypt.ciphers import reference, transform_into
from dicomcrypt.keys.keyfile import read_identities

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "vectors"
DOCUMENT = json.loads((VECTORS / "objects.json").read_text())
CASES = json.loads((VECTORS / "block-layer-v1.json").read_text())["cases"]


def entry_id(entry):
    return pathlib.Path(entry["file"]).stem + (f"-{entry['part']}" if entry["part"] else "")


def identities_of(entry):
    found = [read_identities(DOCUMENT["identities"][name].encode())[0]
             for name in entry["identities"]]
    if entry["passphrase"] is not None:
        found.append(dc.Passphrase(entry["passphrase"]))
    return found


@pytest.mark.parametrize("entry", DOCUMENT["objects"], ids=entry_id)
def test_object_vector_opens_or_is_refused_as_it_must_be(entry):
    blob = (VECTORS / entry["file"]).read_bytes()
    part = entry["part"] or "all"
    if entry["exit"] == 0:
        plain = dc.decrypt(blob, identities_of(entry), part=part)
        assert len(plain) == entry["size"]
        assert hashlib.sha256(plain).hexdigest() == entry["sha256"]
        if "signed" in entry:
            with dc.open(blob, identities_of(entry), require_signature=True) as obj:
                assert obj.container.signature.subject == entry["signed"]
        elif part == "all":
            with pytest.raises(dc.UnsignedError):
                dc.decrypt(blob, identities_of(entry), require_signature=True)
    else:
        expected = {3: dc.NoIdentityError, 4: dc.DamagedError}[entry["exit"]]
        with pytest.raises(expected):
            dc.decrypt(blob, identities_of(entry), part=part)


def plaintext_of(case):
    recipe = case["plaintext"]
    if "shake256" in recipe:
        return hashlib.shake_256(recipe["shake256"].encode()).digest(case["size"])
    return bytes(i % recipe["period"] for i in range(case["size"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_block_layer_vector(case):
    key, runs, plain = bytes.fromhex(case["key"]), case["runs"], plaintext_of(case)
    out, methods = bytearray(len(plain)), bytes.fromhex(case["methods"])
    if case["method"] is None:  # methods that no rule gives: for decryption alone
        out[:] = reference.transform(plain, key, runs, methods)[0]
    else:
        made = transform_into(
            out, plain, key, runs, case["method"], sample_bytes=case["sample_bytes"]
        )
        assert made == methods
    assert hashlib.sha256(out).hexdigest() == case["sha256"]
    if case["transformed"] is not None:
        assert out.hex() == case["transformed"]
    if len(plain) <= 1 << 18:
        by_reference = reference.transform(
            plain, key, runs, case["method"] or methods, sample_bytes=case["sample_bytes"]
        )
        assert by_reference == (bytes(out), methods)
    back = bytearray(len(plain))
    transform_into(back, out, key, runs, methods, inverse=True)
    assert back == plain
