"""Signatures on the command line, and what OpenSSL says of them."""

import json
import pathlib
import subprocess
import sys

import pytest
import signers
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

import dicomcrypt as dc

ROOT_KEY = signers.private_key("p256", "Root CA")
ROOT = signers.certificate(ROOT_KEY, "Root CA")


def make_signer(folder, kind, name):
    key = signers.private_key(kind, name)
    certificate = signers.certificate(key, name, "Root CA", ROOT_KEY)
    (folder / f"{name}.pem").write_bytes(signers.pem(certificate))
    (folder / f"{name}.key").write_bytes(signers.key_pem(key) + signers.pem(certificate, ROOT))
    return key, certificate


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Signers a (P-256), b (RSA) and c (ML-DSA), and their root."""
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "root.pem").write_bytes(signers.pem(ROOT))
    key, certificate = make_signer(folder, "p256", "a")
    make_signer(folder, "rsa", "b")
    make_signer(folder, "mldsa65", "c")
    make_signer(folder, "p384", "d")
    encryption = serialization.BestAvailableEncryption(b"sesame")
    (folder / "a.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(b"a", key, certificate, [ROOT], encryption)
    )
    (folder / "phrase").write_text("sesame\n")
    (folder / "wrong").write_text("open\n")
    return folder


@pytest.fixture
def signed(call, hospital, keys, dicom, tmp_path):
    """An object that a signed."""
    out = tmp_path / "ct.dcmx"
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", out,
                "--sign-with", hospital / "a.key")
    assert done.status == 0, done.err
    return out


@pytest.fixture
def unsigned(call, keys, dicom, tmp_path):
    out = tmp_path / "plain.dcmx"
    assert call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", out).status == 0
    return out


@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_openssl_verifies_our_signatures(
    name, call, hospital, keys, dicom, tmp_path, need_command
):
    openssl = need_command("openssl", "openssl")
    blob, cms, manifest = (tmp_path / n for n in ("o.dcmx", "s.p7s", "m.bin"))
    call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", blob, "--sign-with",
         hospital / f"{name}.key")
    done = call("inspect", blob, "-i", keys / "doctor.key", "--signature-out", cms,
                "--manifest-out", manifest)
    assert done.status == 0, done.err
    assert f"CN={name}" in done.out
    assert "not checked against a trust centre" in done.out
    assert manifest.read_bytes()[:64] == blob.read_bytes()[:64]

    def verify(*options):
        return subprocess.run(
            [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", cms, "-content",
             manifest, "-CAfile", hospital / "root.pem", "-purpose", "any", "-out",
             "/dev/null", *options], capture_output=True, check=False)  # fmt: skip

    for options in ((), ("-cades",)):
        done = verify(*options)
        assert done.returncode == 0, done.stderr
        assert b"erification successful" in done.stderr
    changed = bytearray(manifest.read_bytes())
    changed[-1] ^= 1
    manifest.write_bytes(changed)
    assert verify().returncode != 0


def test_the_rescue_tool_gives_out_what_openssl_verifies(
    signed, hospital, keys, dicom, tmp_path, need_command
):
    openssl = need_command("openssl", "openssl")
    tool = pathlib.Path(__file__).resolve().parents[2] / "tools" / "dcmx_rescue.py"
    out, cms = tmp_path / "rescued", tmp_path / "r.p7s"
    done = subprocess.run(
        [sys.executable, tool, signed, "-i", keys / "doctor.key", "-o", out, "--signature-out",
         cms], capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.read_bytes() == dicom.read_bytes()
    done = subprocess.run(
        [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", cms, "-content",
         f"{cms}.manifest", "-CAfile", hospital / "root.pem", "-purpose", "any", "-out",
         "/dev/null"], capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("demand", "status", "said"),
    [
        ([], 0, ""),
        (["--require-signature"], 0, ""),
        (["--signer", "a.pem"], 0, ""),
        (["--signer", "b.pem", "--signer", "a.pem"], 0, ""),
        (["--signer", "b.pem"], 5, "none of the given signers"),
    ],
)
def test_what_is_demanded_of_a_signed_object(
    demand, status, said, call, signed, hospital, keys, dicom, tmp_path
):
    demand = [hospital / word if word.endswith(".pem") else word for word in demand]
    out, identity = tmp_path / "out", ["-i", keys / "doctor.key"]
    done = call("decrypt", signed, *identity, "-o", out, *demand)
    assert done.status == status
    assert said in done.err
    assert out.exists() == (status == 0)
    assert status or out.read_bytes() == dicom.read_bytes()
    assert call("verify", signed, *identity, *demand).status == status
    frame = tmp_path / "frame.raw"
    assert call("frame", signed, *identity, "-o", frame, *demand).status == status


def test_an_unsigned_object_is_refused_where_a_signature_is_required(
    call, command, unsigned, signed, hospital, keys, tmp_path
):
    stripped = tmp_path / "stripped.dcmx"
    stripped.write_bytes(signers.stripped(signed.read_bytes()))
    identity = ["-i", keys / "doctor.key"]
    for path in (unsigned, stripped):
        assert call("decrypt", path, *identity, "-o", tmp_path / "fine", "-f").status == 0
        for demand in (["--require-signature"], ["--signer", hospital / "a.pem"]):
            for words in (["decrypt", path, "-o", tmp_path / "out"], ["verify", path],
                          ["frame", path, "-o", tmp_path / "f.raw"]):
                done = call(*words, *identity, *demand)
                assert done.status == 4, words
                assert "is not signed, and a signature is required" in done.err
            done = command("decrypt", "-", *identity, *demand, input=path.read_bytes())
            assert (done.returncode, done.stdout) == (4, b"")
    assert {p.name for p in tmp_path.iterdir()} == {
        "plain.dcmx", "ct.dcmx", "stripped.dcmx", "fine"
    }  # fmt: skip


def test_a_forgery_is_refused_before_a_byte_of_it_goes_to_a_pipe(command, signed, keys, doctor):
    from dicomcrypt.container.reader import Container
    from dicomcrypt.objects.buffers import MemorySource

    blob = signed.read_bytes()
    stream_keys = Container(MemorySource(blob)).unlock([doctor]).keys
    forged = signers.forged(blob, 1, stream_keys, lambda p: p[:300] + bytes([p[300] ^ 1]) + p[301:])
    done = command("decrypt", "-", "-i", keys / "doctor.key", input=forged)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"not what was signed" in done.stderr
    assert dc.decrypt(signers.stripped(forged), [doctor])


def test_pipes_are_signed(command, hospital, keys, dicom):
    done = command("encrypt", "-", "-r", keys / "doctor.pub", "--sign-with", hospital / "c.key",
                   input=dicom.read_bytes())
    assert done.returncode == 0, done.stderr
    back = command("decrypt", "-", "-i", keys / "doctor.key", "--signer", hospital / "c.pem",
                   input=done.stdout)
    assert (back.returncode, back.stdout) == (0, dicom.read_bytes())


def test_the_passphrase_of_a_signing_key(call, hospital, keys, dicom, tmp_path):
    words = ["encrypt", dicom, "-r", keys / "doctor.pub", "-o", tmp_path / "o.dcmx",
             "--sign-with", hospital / "a.p12"]
    done = call(*words, "--sign-passphrase-file", hospital / "wrong")
    assert done.status == 3
    assert "passphrase" in done.err
    assert list(tmp_path.iterdir()) == []
    assert call(*words, "--sign-passphrase-file", hospital / "phrase").status == 0
    facts = json.loads(call("inspect", tmp_path / "o.dcmx", "-i", keys / "doctor.key",
                            "--json").out)
    assert facts["opened"]["signature"]["signer"] == "CN=a"
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "--sign-passphrase-file", "x")
    assert done.status == 2


def test_who_cannot_sign(call, hospital, keys, dicom, tmp_path):
    words = ["encrypt", dicom, "-r", keys / "doctor.pub", "-o", tmp_path / "o.dcmx", "--sign-with"]
    old = tmp_path / "old"
    key = signers.private_key("p256", "a")
    old.write_bytes(signers.key_pem(key) + signers.pem(signers.certificate(key, start=-9, end=-1)))
    for path, status, said in ((old, 5, "expired"), (hospital / "root.pem", 2, "no signing key"),
                               (tmp_path / "none", 2, "cannot read")):
        done = call(*words, path)
        assert done.status == status
        assert said in done.err
    assert not (tmp_path / "o.dcmx").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_trees_are_signed_and_verified(jobs, call, hospital, keys, dicom, tmp_path):
    source, safe, back = (tmp_path / n for n in ("in", "safe", "back"))
    (source / "a").mkdir(parents=True)
    for n in range(5):
        (source / "a" / f"{n}.dcm").write_bytes(dicom.read_bytes() + bytes(n))
    done = call("encrypt", source, "-r", keys / "doctor.pub", "-o", safe, "-j", jobs, "--verify",
                "--sign-with", hospital / "a.key")
    assert done.status == 0, done.err
    done = call("verify", safe, "-i", keys / "doctor.key", "-j", jobs, "--json",
                "--signer", hospital / "a.pem")
    found = json.loads(done.out)["files"]
    assert [(f["state"], f["signature"]["signer"], f["signature"]["trust"]) for f in found] == [
        ("done", "CN=a", "given signer")
    ] * 5
    one = safe / "a" / "0.dcm.dcmx"
    one.write_bytes(signers.stripped(one.read_bytes()))
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", jobs,
                "--require-signature")
    assert done.status == 4
    assert "1 failed" in done.err
    assert sorted(p.name for p in (back / "a").iterdir()) == [f"{n}.dcm" for n in range(1, 5)]
    done = call("verify", safe, "-i", keys / "doctor.key", "-j", jobs, "--signer",
                hospital / "b.pem")
    assert done.status == 1  # one is not signed, the others are by another
    # What is there without a signature is not left out as done.
    words = ["encrypt", source, "-r", keys / "doctor.pub", "-o", safe, "--resume"]
    done = call(*words, "--sign-with", hospital / "a.key")
    assert done.status == 1
    assert "exists and is not signed" in done.err
    assert call(*words).status == 0


def test_who_signed_is_said_of_every_object(call, signed, hospital, keys):
    words = ["verify", signed, "-i", keys / "doctor.key", "-v"]
    assert "signed by CN=a, not checked against a trust centre" in call(*words).err
    done = call(*words, "--signer", hospital / "a.pem")
    assert "signed by CN=a)" in done.err


def test_rewrap_says_what_becomes_of_a_signature(call, signed, hospital, keys):
    words = ["rewrap", signed, "-i", keys / "doctor.key"]
    assert call(*words, "--add", keys / "other.pub").status == 0
    verify = ["verify", signed, "-i", keys / "other.key", "--signer", hospital / "a.pem"]
    assert call(*verify).status == 0
    removal = [*words, "--remove", keys / "other.pub"]
    done = call(*removal)
    assert done.status == 2
    assert "--drop-signature" in done.err
    assert call(*verify).status == 0
    assert call(*removal, "--sign-with", hospital / "d.key").status == 0
    verify[3:] = [keys / "doctor.key", "--signer", hospital / "d.pem"]
    assert call(*verify).status == 0


def test_salvage_says_what_is_left_of_a_signature(call, signed, keys, tmp_path):
    words = ["decrypt", signed, "-i", keys / "doctor.key", "--salvage", "-o"]
    done = call(*words, tmp_path / "whole")
    assert done.status == 0
    assert "signature: valid, by CN=a" in done.err
    assert call(*words, tmp_path / "x", "--require-signature").status == 2
    blob = bytearray(signed.read_bytes())
    start, size = signers.trailer(blob).signatures
    blob[start + size - 50] ^= 1
    signed.write_bytes(blob)
    done = call(*words, tmp_path / "unsigned")
    assert done.status == 4
    assert "what came out is not what was signed" in done.err


def test_the_signature_of_an_object_without_one(call, unsigned, signed, keys, tmp_path):
    out = tmp_path / "s"
    done = call("inspect", unsigned, "-i", keys / "doctor.key", "--signature-out", out)
    assert done.status == 2
    assert "is not signed" in done.err
    assert call("inspect", signed, "--signature-out", out).status == 2
    assert not out.exists()
    assert json.loads(call("inspect", signed, "--json").out)["signed"] is True
