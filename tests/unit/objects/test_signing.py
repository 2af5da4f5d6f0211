"""Signed objects through everything that reads, writes or changes objects."""

import io
import threading

import object_files as make
import pytest
import signers

import dicomcrypt as dc
from dicomcrypt.container.reader import Container
from dicomcrypt.objects.buffers import FileSource, MemorySource
from dicomcrypt.objects.files import encrypt_path, encrypted_before, verify_path
from dicomcrypt.objects.signing import SignaturePolicy, signature_policy, unlock

ALICE, BOB = dc.Identity.generate(), dc.Identity.generate()
SIGNER = signers.signer()
IMAGE = make.dicom(300, 400, make.noise(300 * 400 * 2 * 16), frames=16, bits=16)
DEMAND = {"require_signature": True, "signers": [SIGNER.certificate]}


def sealed_of(path):
    source = FileSource(path)
    try:
        return unlock(Container(source), [ALICE]).sealed
    finally:
        source.close()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in.dcm").write_bytes(IMAGE)
    path = tmp_path / "in.dcm.dcmx"
    dc.encrypt_file(tmp_path / "in.dcm", path, [ALICE.recipient], sign_with=SIGNER)
    return path


def test_files_are_signed_and_verified(path, tmp_path):
    out = tmp_path / "out"
    assert dc.decrypt_file(path, out, [ALICE], **DEMAND) == len(IMAGE)
    assert out.read_bytes() == IMAGE
    size, whole, facts = verify_path(path, [ALICE])
    assert (size, whole, facts["trust"]) == (len(IMAGE), True, "not checked")
    policy = signature_policy(signers=[SIGNER.certificate])
    assert verify_path(path, [ALICE], policy=policy)[2]["trust"] == "given signer"
    opened = dc.inspect(path, [ALICE])["opened"]
    assert opened["signature"] == facts
    assert dc.inspect(path)["signed"]


def test_pieces_batches_and_buffers_are_signed(tmp_path):
    sink = io.BytesIO()
    with dc.ObjectWriter(sink, [ALICE.recipient], sign_with=SIGNER) as writer:
        for at in range(0, len(IMAGE), 100_001):
            writer.write(IMAGE[at : at + 100_001])
    assert dc.decrypt(sink.getvalue(), [ALICE], **DEMAND) == IMAGE
    with dc.Batch([ALICE.recipient], sign_with=signers.signer("mldsa87")) as batch:
        for data in (b"", b"text", IMAGE):
            out = bytearray(batch.encrypted_size(len(data)))
            size = batch.encrypt_into(data, out)
            back = bytearray(len(data))
            assert dc.decrypt_into(out[:size], back, [ALICE], require_signature=True) == len(data)
            assert back == data


def test_what_is_read_back_is_verified(tmp_path, path):
    from dicomcrypt.keys.batch import Envelope

    envelope = Envelope({1: [ALICE.recipient]})
    source, target = tmp_path / "in.dcm", tmp_path / "verified.dcmx"
    encrypt_path(source, target, envelope, -1, verify=True, signer=SIGNER)
    assert dc.decrypt(target.read_bytes(), [ALICE], **DEMAND) == IMAGE
    assert encrypted_before(source, target, envelope, signed=True)
    target.write_bytes(signers.stripped(target.read_bytes()))
    assert encrypted_before(source, target, envelope)
    with pytest.raises(dc.OutputExistsError, match="not signed"):
        encrypted_before(source, target, envelope, signed=True)


def test_a_signer_that_fails_leaves_no_object(tmp_path):
    class Broken:
        size = 1

        def sign(self, manifest):
            raise OSError("the card is gone")

    source = tmp_path / "in"
    source.write_bytes(b"text")
    with pytest.raises(OSError, match="card"):
        dc.encrypt_file(source, tmp_path / "out", [ALICE.recipient], sign_with=Broken())
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    out = bytearray(1 << 17)
    with pytest.raises(OSError, match="card"):
        dc.encrypt_into(b"text", out, [ALICE.recipient], sign_with=Broken())
    assert out == bytes(len(out))


def test_a_check_of_the_certificate_decides(path):
    seen = []
    policy = SignaturePolicy(check=seen.append)
    assert verify_path(path, [ALICE], policy=policy)[2]["trust"] == "checked"
    assert [s.certificate for s in seen] == [SIGNER.certificate]

    def refuse(signature):
        raise dc.PolicyError(f"{signature.subject} was revoked")

    with pytest.raises(dc.PolicyError, match="revoked"):
        verify_path(path, [ALICE], policy=SignaturePolicy(check=refuse))


def test_frames_ranges_and_threads_read_signed_objects(path):
    with dc.open(path, [ALICE], **DEMAND) as obj:
        expected, found, failed = list(obj.frames), {}, []

        def read(first):
            try:
                for n in range(first, 16, 3):
                    found[n] = obj.frame_bytes(n)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=read, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert [found[n] for n in range(16)] == expected
        assert b"".join(expected) in IMAGE
    with open(path, "rb") as file, dc.open(file, [ALICE], **DEMAND) as obj:
        assert obj.frame_bytes(3) == expected[3]
    with dc.open(make.CountingSource(path.read_bytes()), [ALICE], **DEMAND) as obj:
        assert obj.frame_bytes(3) == expected[3]


# ---- changing recipients ----------------------------------------------------------


def test_a_header_rewrap_keeps_the_signature(path):
    before = sealed_of(path)
    assert not dc.rewrap(path, [ALICE], add=[BOB.recipient])["rewritten"]
    assert sealed_of(path) == before
    dc.rewrap(path, [ALICE], remove=[BOB.recipient], keep_key=True)
    assert sealed_of(path) == before
    assert dc.decrypt(path.read_bytes(), [ALICE], **DEMAND) == IMAGE


def test_a_rewrap_that_needs_larger_slots_keeps_the_signature(path):
    before, places = sealed_of(path), signers.trailer(path.read_bytes())
    many = [dc.Identity.generate().recipient for _ in range(4)]
    assert dc.rewrap(path, [ALICE], add=[BOB.recipient, *many])["rewritten"]
    assert sealed_of(path) == before
    after = signers.trailer(path.read_bytes())
    assert after.signatures[0] > places.signatures[0]
    assert after.signatures[1] == places.signatures[1]
    for reader in (ALICE, BOB):
        assert dc.decrypt(path.read_bytes(), [reader], **DEMAND) == IMAGE


def test_a_signature_is_not_dropped_by_the_way(path):
    dc.rewrap(path, [ALICE], add=[BOB.recipient])
    before = path.read_bytes()
    with pytest.raises(dc.UsageError, match="--drop-signature"):
        dc.rewrap(path, [ALICE], remove=[BOB.recipient])
    for options in ({"sign_with": SIGNER}, {"drop_signature": True}):
        with pytest.raises(dc.UsageError, match="encrypted anew"):
            dc.rewrap(path, [ALICE], remove=[BOB.recipient], keep_key=True, **options)
        with pytest.raises(dc.UsageError, match="encrypted anew"):
            dc.rewrap(path, [ALICE], add=[BOB.recipient], **options)
    assert path.read_bytes() == before
    dc.rewrap(path, [ALICE], remove=[BOB.recipient], sign_with=signers.signer("p384", "Dr. B"))
    blob = path.read_bytes()
    assert dc.decrypt(blob, [ALICE], require_signature=True) == IMAGE
    with pytest.raises(dc.PolicyError):
        dc.decrypt(blob, [ALICE], **DEMAND)
    dc.rewrap(path, [ALICE], add=[BOB.recipient])
    dc.rewrap(path, [ALICE], remove=[BOB.recipient], drop_signature=True)
    assert not dc.inspect(path)["signed"]
    assert dc.decrypt(path.read_bytes(), [ALICE]) == IMAGE


def test_a_broken_signature_is_not_rewrapped(path):
    blob = bytearray(path.read_bytes())
    start, size = signers.trailer(blob).signatures
    blob[start + size - 100] ^= 1
    path.write_bytes(blob)
    with pytest.raises(dc.DamagedError):
        dc.rewrap(path, [ALICE], add=[BOB.recipient])
    assert path.read_bytes() == blob


# ---- salvage -----------------------------------------------------------------------


def test_salvage_says_what_is_left_of_the_signature(path, tmp_path):
    whole = dc.salvage(path, tmp_path / "whole", [ALICE])
    assert (whole["lost"], whole["signature"]["state"]) == ([], "valid")
    assert whole["signature"]["signer"] == "CN=Dr. A"
    blob = path.read_bytes()
    keys = make.unlocked(blob, ALICE).keys

    def flip(plain):
        at = 7 * 300 * 400 * 2
        return plain[:at] + bytes([plain[at] ^ 1]) + plain[at + 1 :]

    path.write_bytes(signers.forged(blob, 2, keys, flip))
    forged = dc.salvage(path, tmp_path / "forged", [ALICE])
    assert forged["lost"] == []  # somebody who may read sealed it
    assert forged["signature"]["state"] == "broken"
    assert forged["signature"]["changed"] == [
        {"stream": "pixels", "start": 1 << 20, "end": 2 << 20}
    ]
    damaged = bytearray(blob)
    damaged[signers.trailer(blob).streams[2][0] + 5000] ^= 1
    path.write_bytes(damaged)
    report = dc.salvage(path, tmp_path / "damaged", [ALICE])
    assert len(report["lost"]) == 1
    assert report["signature"]["state"] == "broken"
    damaged = bytearray(blob)
    damaged[signers.trailer(blob).signatures[0] + signers.trailer(blob).signatures[1] - 9] ^= 1
    path.write_bytes(damaged + b"added")
    report = dc.salvage(path, tmp_path / "unsigned", [ALICE])
    assert report["lost"] == []
    assert report["signature"] == {
        "state": "broken", "reason": "the signature stream is damaged or forged"
    }
    assert (tmp_path / "unsigned").read_bytes() == IMAGE


def test_policies_tell_jobs_apart():
    one, other = SIGNER.certificate, signers.signer("p384", "Dr. B").certificate
    assert signature_policy().demands == []
    found = [signature_policy(True), signature_policy(signers=[one]),
             signature_policy(signers=[other]), SignaturePolicy(check=print)]
    assert len({tuple(p.demands) for p in found}) == 4
    assert signature_policy(signers=[one, other]).demands == (
        signature_policy(signers=[other, one]).demands
    )


def test_memory_sources_open_too(path):
    assert unlock(Container(MemorySource(path.read_bytes())), [ALICE]).signature is not None
