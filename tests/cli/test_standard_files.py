"""Secure DICOM Files (PS3.15 D): ours, those that openssl nests, and what is damaged."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from certificates import DAY, Maker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomcrypt.errors import DamagedError, NoIdentityError, PolicyError, SourceChangedError
from dicomcrypt.keys.signing import Signer
from dicomcrypt.standard import cms_envelope, secure_file
from dicomcrypt.standard.cms_envelope import CertificateKey, CertificateRecipient, Opening
from dicomcrypt.standard.cms_password import PasswordRecipient
from tests.conftest import need

CIPHERS = ("aes-256-cbc", "aes-256-gcm")
INNER = {
    "digest": ("-digest_create", "-md", "sha256"),
    "digest-512": ("-digest_create", "-md", "sha512"),
    "rsa": ("-sign", "-nodetach", "-signer", "rsa.pem", "-md", "sha384"),
    "pss": ("-sign", "-nodetach", "-signer", "rsa.pem", "-keyopt", "rsa_padding_mode:pss"),
    "ec": ("-sign", "-nodetach", "-signer", "ec.pem"),
    "key-id": ("-sign", "-nodetach", "-keyid", "-signer", "ec.pem"),
    "no-attributes": ("-sign", "-nodetach", "-noattr", "-signer", "rsa.pem"),
}
OUTER = {
    "rsa": ("-aes256", "reader.pem"), "aes-128": ("-aes-128-cbc", "reader.pem"),
    "3des": ("-des3", "reader.pem"), "gcm": ("-aes-256-gcm", "reader.pem"),
    "oaep": ("-aes256", "-recip", "reader.pem", "-keyopt", "rsa_padding_mode:oaep"),
    "ecdh": ("-aes256", "ec-reader.pem"), "password": ("-aes256", "-pwri_password", "words"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("files")
    root = Maker.root("Root", begin=-60 * DAY)
    made = {
        "reader": root.leaf("Reader", uses=["encryption"], kind="rsa-2048"),
        "ec-reader": root.leaf("Reader EC", uses=["encryption"]),
        "other": root.leaf("Other", uses=["encryption"]),
        "rsa": root.leaf("Scanner", uses=["signing"], kind="rsa-2048"),
        "ec": root.leaf("Doctor", uses=["signing"]),
    }
    for name, one in made.items():
        (folder / f"{name}.pem").write_bytes(one.key_pem() + one.pem())
        (folder / f"{name}.pem").chmod(0o600)
        (folder / f"{name}.crt").write_bytes(one.pem())
    (folder / "root.pem").write_bytes(root.pem())
    (folder / "words").write_text("words\n")
    ct = next(p for p in corpus if p.name == "CT_small.dcm")
    opening = {n: Opening((CertificateKey(o.key, o.certificate),)) for n, o in made.items()}
    return SimpleNamespace(
        folder=folder, file=lambda name: folder / name, ct=ct, data=ct.read_bytes(),
        recipients=[CertificateRecipient(made[n].certificate) for n in ("reader", "ec-reader")],
        signer={n: Signer(made[n].key, made[n].certificate) for n in ("rsa", "ec")},
        opening=opening,
    )  # fmt: skip


def wrap(world, data=None, **options):
    out = io.BytesIO()
    source = io.BytesIO(world.data if data is None else data)
    secure_file.wrap(source, out, world.recipients, **options)
    return out.getvalue()


def unwrap(world, blob, who="reader"):
    out = io.BytesIO()
    found = secure_file.unwrap(io.BytesIO(blob), out, world.opening[who])
    return out.getvalue(), found


# ---- by itself ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 127, 128, 40_000, (1 << 18) + 3])
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("nested", [False, True])
def test_every_length_comes_back(world, size, cipher, nested):
    data = os.urandom(size)
    signer = world.signer["ec"] if size % 2 else None
    blob = wrap(world, data, cipher=cipher, nested=nested, signer=signer)
    for who in ("reader", "ec-reader"):
        back, found = unwrap(world, blob, who)
        assert back == data
        assert [s.subject for s in found] == (["CN=Doctor"] if signer else [])


def test_what_is_written_is_der_of_the_standard_s_types(world):
    """EnvelopedData of SignedData or DigestedData, all lengths definite."""
    for signer, kind in ((None, cms_envelope.DIGESTED), (world.signer["rsa"],
                                                         cms_envelope.SIGNED)):
        envelope = cms_envelope.parse(wrap(world, signer=signer))
        assert envelope.kind == cms_envelope.oid(kind)
        assert envelope.algorithm.kind == "cbc"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_other_keys_and_passwords_do_not_fit(world, cipher):
    with pytest.raises(NoIdentityError):
        unwrap(world, wrap(world, cipher=cipher), "other")
    out = io.BytesIO()
    people = [PasswordRecipient(b"words", iterations=1000)]
    secure_file.wrap(io.BytesIO(world.data), out, people)
    for password, fits in ((b"words", True), (b"swords", False)):
        back = io.BytesIO()
        if fits:
            secure_file.unwrap(out, back, Opening((), (password,)))
            assert back.getvalue() == world.data
        else:
            with pytest.raises(NoIdentityError):
                secure_file.unwrap(out, back, Opening((), (password,)))


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7),
       cipher=st.sampled_from(CIPHERS), signed=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_flipped_bit_gives_another_file(world, at, bit, cipher, signed):
    blob = bytearray(wrap(world, b"x" * 300, cipher=cipher,
                          signer=world.signer["ec"] if signed else None))
    blob[int(at * len(blob))] ^= 1 << bit
    try:
        back, _ = unwrap(world, bytes(blob))
    except (DamagedError, NoIdentityError, PolicyError):
        return
    assert back == b"x" * 300  # of what nobody reads, such as the other recipient's key


@given(cut=st.floats(0, 1, exclude_max=True), cipher=st.sampled_from(CIPHERS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cut_files_are_damaged(world, cut, cipher):
    blob = wrap(world, cipher=cipher)
    with pytest.raises(DamagedError):
        unwrap(world, blob[: int(cut * len(blob))])


def test_what_follows_is_damage_but_for_one_zero(world):
    blob = wrap(world)
    assert unwrap(world, blob + b"\0")[0] == world.data
    for more in (b"\1", b"\0\0", blob):
        with pytest.raises(DamagedError):
            unwrap(world, blob + more)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_anything_else_is_damaged(world, data):
    with pytest.raises(DamagedError):
        unwrap(world, data)


def test_a_file_that_changes_meanwhile_is_not_wrapped(world):
    class Growing(io.BytesIO):
        def seek(self, *where):
            self.getbuffer()[3] ^= 1
            return super().seek(*where)

    with pytest.raises(SourceChangedError):
        secure_file.wrap(Growing(bytes(100)), io.BytesIO(), world.recipients)


def test_gcm_authenticates_the_type_as_rfc_5083_wants(world):
    """Taken apart by the code for messages in memory."""
    blob = wrap(world, cipher="aes-256-gcm")
    assert cms_envelope.parse(blob).authenticated
    assert world.data in cms_envelope.open_sealed(blob, world.opening["reader"])


# ---- openssl -----------------------------------------------------------------------


def openssl(world, *words):
    return subprocess.run([need("openssl", "openssl"), "cms", *map(os.fspath, words)],
                          check=True, capture_output=True, cwd=world.folder)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("stream", [(), ("-stream",)], ids=["der", "ber"])
def test_what_openssl_nests_comes_back(world, tmp_path, inner, stream):
    if inner == "pss" and stream:
        pytest.skip("openssl 3.0 cannot write that: illegal zero content")
    nested, out = tmp_path / "inner", tmp_path / "outer"
    openssl(world, *INNER[inner], "-binary", *stream, "-in", world.ct, "-outform", "DER", "-out",
            nested)
    outer = list(OUTER) if inner == "rsa" else [list(OUTER)[len(inner) % len(OUTER)]]
    for name in outer:
        openssl(world, "-encrypt", "-binary", *stream, "-in", nested, "-outform", "DER", "-out",
                out, *OUTER[name])
        opening = world.opening["ec-reader" if name == "ecdh" else "reader"]
        if name == "password":
            opening = Opening((), (b"words",))
        back = io.BytesIO()
        with out.open("rb") as file:
            found = secure_file.unwrap(file, back, opening)
        assert back.getvalue() == world.data, name
        assert len(found) == ("digest" not in inner)


@pytest.mark.parametrize("signer", [None, "rsa", "ec"])
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("nested", [False, True])
def test_openssl_takes_ours_apart(world, tmp_path, signer, cipher, nested):
    if cipher == "aes-256-gcm" and not nested:
        pytest.skip("openssl 3.0 does not authenticate the attributes that RFC 5083 wants there")
    blob, inner, back = (tmp_path / n for n in ("blob", "inner", "back"))
    blob.write_bytes(wrap(world, cipher=cipher, nested=nested,
                          signer=world.signer[signer] if signer else None))
    openssl(world, "-decrypt", "-inform", "DER", "-binary", "-in", blob, "-inkey", "reader.pem",
            "-recip", "reader.crt", "-out", inner)
    if not nested:  # the standard's form: what openssl wants around it is put there
        bare = inner.read_bytes()
        kind = cms_envelope.oid(cms_envelope.SIGNED if signer else cms_envelope.DIGESTED)
        inner.write_bytes(cms_envelope.sequence(kind, cms_envelope.tlv(0xA0, bare)))
    how = (["-verify", "-CAfile", "root.pem", "-purpose", "any"] if signer
           else ["-digest_verify"])
    openssl(world, *how, "-inform", "DER", "-binary", "-in", inner, "-out", back)
    assert back.read_bytes() == world.data


# ---- the commands --------------------------------------------------------------------


def test_wrap_and_unwrap(world, call, tmp_path):
    wrapped, back = tmp_path / "ct.dcm.p7m", tmp_path / "back.dcm"
    done = call("standard", "wrap", world.ct, "-r", world.file("reader.crt"), "--sign-with",
                world.file("ec.pem"), "-o", wrapped)
    assert done.status == 0, done.err
    unwrapping = ["standard", "unwrap", wrapped, "-i", world.file("reader.pem"), "-o", back, "-f"]
    for more, status in (
        ((), 0), (("--signer", world.file("ec.crt")), 0),
        (("--trust-root", world.file("root.pem")), 0), (("--signer", world.file("rsa.crt")), 5),
        (("--trust-root", world.file("rsa.crt")), 5), (("--require-signature",), 0),
    ):  # fmt: skip
        assert call(*unwrapping, *more).status == status, more
        assert back.read_bytes() == world.data
    assert call(*unwrapping[:-1]).status == 1  # it exists


def test_every_failure_has_its_status_and_leaves_nothing(world, call, tmp_path):
    wrapped = tmp_path / "ct.dcm.p7m"
    assert call("standard", "wrap", world.ct, "-r", world.file("reader.crt"), "-o",
                wrapped).status == 0
    blob = wrapped.read_bytes()
    damaged = bytearray(blob)
    damaged[-100] ^= 1
    for content, who, more, status in (
        (blob, "other", (), 3), (bytes(damaged), "reader", (), 4), (blob[:-50], "reader", (), 4),
        (blob[:20_000], "reader", (), 4), (b"no CMS", "reader", (), 4),
        (blob, "reader", ("--require-signature",), 4), (blob, None, (), 2),
    ):  # fmt: skip
        wrapped.write_bytes(content)
        keys = ["-i", world.file(f"{who}.pem")] if who else []
        done = call("standard", "unwrap", wrapped, *keys, *more)
        assert done.status == status, done.err
        assert [p.name for p in tmp_path.iterdir()] == ["ct.dcm.p7m"]


def test_a_password_opens_what_it_wrapped(world, call, tmp_path):
    words = ["--passphrase-file", world.file("words")]
    assert call("standard", "wrap", world.ct, *words, "-o", tmp_path / "a.p7m").status == 0
    assert call("standard", "unwrap", tmp_path / "a.p7m", *words).status == 0
    assert (tmp_path / "a").read_bytes() == world.data
    (tmp_path / "others").write_text("other words\n")
    done = call("standard", "unwrap", tmp_path / "a.p7m", "--passphrase-file",
                tmp_path / "others", "-o", tmp_path / "b")
    assert done.status == 3


def test_a_medium_without_room_is_told_of_and_nothing_is_left(world, command, tmp_path):
    """By a limit of the system on a file's length."""
    words = [*command.words, "standard", "wrap", str(world.ct), "-r",
             str(world.file("reader.crt")), "-o", str(tmp_path / "a.p7m")]
    done = subprocess.run(["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *words], check=False,
                          capture_output=True, text=True, env=command.environment(), timeout=100)
    assert done.returncode == 1
    assert "file too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.soak)])
def test_large_files_take_little_memory(world, command, tmp_path, size):
    big = tmp_path / "big.dcm"
    with big.open("wb") as file:
        file.truncate(size)
    peaks = []
    for words in (["wrap", str(big), "-r", str(world.file("reader.crt"))],
                  ["unwrap", f"{big}.p7m", "-i", str(world.file("reader.pem")), "-o",
                   str(tmp_path / "back")]):  # fmt: skip
        code = ("import pathlib, re, sys; from dicomcrypt.cli import cli\n"
                "try: cli(sys.argv[1:], standalone_mode=False)\n"
                "except SystemExit as end: assert not end.code\n"
                "status = pathlib.Path('/proc/self/status').read_text()\n"
                "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])")
        done = subprocess.run([sys.executable, "-c", code, "standard", *words, "-q"], check=True,
                              capture_output=True, env=command.environment(), timeout=300)
        peaks.append(int(done.stdout))
    assert max(peaks) < 80 << 10  # KiB, the interpreter and its libraries included
    assert (tmp_path / "back").stat().st_size == size
