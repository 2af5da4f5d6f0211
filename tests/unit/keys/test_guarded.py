"""What a hostile file of another program, or a passphrase, could do to the library."""

import subprocess

import foreign_keys as make
import pytest
import signers
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12

import dicomcrypt as dc
from dicomcrypt.errors import CertificateRefusedError
from dicomcrypt.keys import guarded
from dicomcrypt.keys.signing import Signer
from dicomcrypt.pki.files import load_private_key

KIND = "hpke-p256"


@pytest.fixture
def openssl_there(need_command):
    need_command("openssl", "openssl")


def packed(passphrase: str | None = "x"):  # noqa: S107
    return make.packed(KIND, make.certificate(KIND), passphrase=passphrase)


@pytest.fixture
def write(tmp_path):
    def writing(data, name="file.p12"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return writing


@pytest.mark.parametrize("form", ["p12", "pem", "der"])
def test_a_nul_in_a_passphrase_never_reaches_the_library(form, write, capfd):
    data = {"p12": packed, "pem": lambda: make.private_pem(KIND, "x"),
            "der": lambda: make.private_der(KIND, "x")}[form]()
    with pytest.raises(dc.UsageError, match="NUL"):
        dc.load_identities(write(data), passphrase=lambda: "se\0cret")
    if form == "p12":
        with pytest.raises(dc.UsageError, match="NUL"):
            Signer.load(write(data), passphrase="se\0cret")  # noqa: S106
    assert capfd.readouterr().err == ""


def test_a_librarys_breakdown_is_an_error_without_its_words():
    class PanicException(BaseException):
        pass

    def load(data, passphrase):
        raise PanicException("115 101 99 114 101 116")

    with pytest.raises(ValueError, match="broke down") as caught:
        guarded.call(load, b"\x30\x00", b"x")
    assert caught.value.__context__ is None
    with pytest.raises(KeyboardInterrupt):
        guarded.call(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), b"\x30\x00", None)


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.mark.usefixtures("openssl_there")
@pytest.mark.parametrize("words", [
    ["pkcs12", "-export", "-iter", "30000"], ["pkcs12", "-export", "-legacy", "-iter", "30000"],
    ["pkcs12", "-export", "-keypbe", "NONE", "-certpbe", "NONE", "-iter", "50001"],
    ["pkcs8", "-topk8", "-iter", "50001"],
    ["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-iter", "50001"],
], ids=" ".join)  # fmt: skip
def test_what_would_hash_for_ever_is_refused(words, tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "MOST_ROUNDS", 50_000)
    (tmp_path / "key").write_bytes(make.private_pem(KIND))
    (tmp_path / "crt").write_bytes(make.pem(make.certificate(KIND)))
    out = tmp_path / "out"
    more = ["-inkey", tmp_path / "key"] if words[0] == "pkcs12" else []
    source = tmp_path / ("crt" if words[0] == "pkcs12" else "key")
    openssl(*words, *more, "-in", source, "-passout", "pass:x", "-out", out)
    with pytest.raises(dc.UsageError, match="hashed") as caught:
        dc.load_identities(out, passphrase=lambda: "x")
    assert str(out) in str(caught.value)
    if words[0] == "pkcs8":
        with pytest.raises(dc.UsageError, match=r"private key .*hashed"):
            load_private_key(out, lambda: "x")


def test_a_file_of_many_rounds_ends_at_once(write):
    _, content, mac = guarded._Reader().first(packed()).parts
    rounds = len(mac.parts[2].content) + 2
    endless = sequence(mac.content[:-rounds] + b"\x02\x04\x7f\xff\xff\xff")
    whole = sequence(b"\x02\x01\x03", sequence(content.content), endless)
    for load in (lambda path: dc.load_identities(path, passphrase=lambda: "x"), Signer.load):
        with pytest.raises(dc.UsageError, match="hashed over 10000000 times"):
            load(write(whole))


def test_scrypt_is_bounded_by_memory():
    def octets(n):
        salt, numbers = b"\x04\x04salt", b"\x02\x05" + n.to_bytes(5) + b"\x02\x01\x08\x02\x01\x01"
        kdf = sequence(b"\x06\x09" + guarded._SCRYPT, sequence(salt, numbers))
        return sequence(sequence(b"\x06\x09" + bytes.fromhex("2a864886f70d01050d"),
                                 sequence(kdf, sequence())), b"\x04\x10" + bytes(16))

    guarded.bound(octets(1 << 20))
    with pytest.raises(dc.UsageError, match="1 GiB"):
        guarded.bound(octets(1 << 21))


def sequence(*parts):
    content = b"".join(parts)
    return b"\x30\x82" + len(content).to_bytes(2) + content


def test_usual_files_pass_the_bounds():
    for data in (packed(), packed(None), make.private_der(KIND, "x"), make.private_pem(KIND, "x"),
                 make.private_pem(KIND), make.private_der(KIND)):
        guarded.bound(data)
    assert guarded.call(pkcs12.load_pkcs12, packed(), b"x").key is not None
    assert guarded.call(load_der_private_key, make.private_der(KIND, "x"), b"x") is not None


@pytest.mark.usefixtures("openssl_there")
def test_contents_of_indefinite_length_are_counted_too():
    data = packed()
    _, content, mac = guarded._Reader().first(data).parts
    octets = content.parts[1].parts[0].content
    half = len(octets) // 2
    pieces = b"".join(b"\x04\x82" + len(p).to_bytes(2) + p for p in (octets[:half], octets[half:]))
    ber = (b"\x30\x80\x02\x01\x03\x30\x80\x06\x09" + guarded._DATA + b"\xa0\x80\x24\x80" + pieces
           + bytes(6) + sequence(mac.content) + bytes(2))
    assert list(guarded._rounds(ber)) == list(guarded._rounds(data))
    assert sum(guarded._rounds(data)) > 20_000
    assert guarded.call(pkcs12.load_pkcs12, ber, b"x").key is not None


@pytest.mark.parametrize("data", [
    b"", b"\x30", b"\x30\x80" * 200_000, b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x02\x01\x03",
    b"\x30\x83\x0f\x00\x00" + b"\x05\x00" * 0x78000, b"\x7f" + b"\xff" * 999,
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n?x-----END ENCRYPTED PRIVATE KEY-----",
], ids=range(8))  # fmt: skip
def test_what_cannot_be_followed_is_refused_at_once(data):
    with pytest.raises(dc.UsageError, match="malformed"):
        guarded.bound(data)


def test_the_passphrase_files_own_trouble_is_told(write, tmp_path):
    def ask():
        raise dc.UsageError("cannot read passphrase file 'gone'")

    for load in (lambda path: dc.load_identities(path, passphrase=ask),
                 lambda path: Signer.load(path, passphrase=ask)):
        with pytest.raises(dc.UsageError, match="cannot read passphrase file"):
            load(write(packed()))


@pytest.mark.parametrize("data", [
    b"", b"junk", b"\x30\x03\x02\x01\x00", make.certificate(KIND).public_bytes(make.Encoding.DER),
    b"dcmx-identity-1:x25519:AAAA\n",
], ids=["empty", "junk", "der", "certificate", "ours"])  # fmt: skip
def test_what_holds_no_signing_key_asks_for_no_passphrase(data, write):
    def ask():
        pytest.fail("asked")

    with pytest.raises(dc.UsageError, match="holds no signing key"):
        Signer.load(write(data), passphrase=ask)


def test_of_several_certificates_of_a_signing_key_the_newest_valid_one_signs(write):
    key = signers.private_key("p256", "renewed")
    old, present, newer, coming = (
        signers.certificate(key, start=start, end=end)
        for start, end in ((-99, -9), (-9, 99), (-2, 99), (2, 99))
    )
    path = write(signers.key_pem(key) + signers.pem(old, newer, coming, present))
    assert Signer.load(path).certificate == newer


def test_a_malformed_certificate_of_a_signer_is_one_line(write):
    key = signers.private_key("p256", "a")
    der = signers.certificate(key).public_bytes(make.Encoding.DER)
    at = der.index(b"\x06\x03\x55\x04\x03\x0c") + 6
    odd = der[: at + 1] + b"\xff" * der[at] + der[at + 1 + der[at] :]
    path = write(signers.key_pem(key) + b"", "key.pem")
    with pytest.raises(dc.DamagedError, match="malformed"):
        Signer.load(path, write(odd, "odd.der"))


def test_an_error_keeps_its_reason_where_a_file_is_named(write):
    with pytest.raises(CertificateRefusedError, match=r"recipient file '.*refused") as caught:
        dc.load_recipients(write(b"email a@b.example\n"), find_email=refuse)
    assert caught.value.reason == "expired"


def refuse(address):
    raise CertificateRefusedError("refused", "expired")
