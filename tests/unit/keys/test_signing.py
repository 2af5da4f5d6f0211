"""Signers from files, and the CMS that they make."""

import pickle

import pytest
import signers
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.keys.cms import signature_algorithm, verify_cms
from dicomcrypt.keys.signing import Signer, load_signer_keys

MANIFEST = bytes(range(187))
NAMES = {
    "p256": "ecdsa-p256-sha256", "p384": "ecdsa-p384-sha384", "p521": "ecdsa-p521-sha512",
    "rsa": "rsa-pss-sha256", "ed25519": "ed25519", "mldsa44": "ml-dsa-44",
    "mldsa65": "ml-dsa-65", "mldsa87": "ml-dsa-87",
}  # fmt: skip
KEY = signers.private_key("p256")
CERTIFICATE = signers.certificate(KEY)
CMS = signers.signer("p256").sign(MANIFEST)


@pytest.mark.parametrize("kind", NAMES)
def test_every_kind_of_key_signs(kind):
    signer = signers.signer(kind)
    assert signer.algorithm == NAMES[kind]
    cms = pickle.loads(pickle.dumps(signer)).sign(MANIFEST)  # noqa: S301
    assert len(cms) <= signer.size
    found = verify_cms(MANIFEST, cms)
    assert found.public_key == signer.public_key
    assert found.chain == signer.chain
    assert found.facts()["signer"] == "CN=Dr. A"
    assert found.facts()["algorithm"] == NAMES[kind]
    with pytest.raises(dc.DamagedError, match="something else"):
        verify_cms(MANIFEST + b"x", cms)
    with pytest.raises(dc.DamagedError):
        verify_cms(MANIFEST, cms + b"\0")


@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_flipping_any_bit_of_a_cms_is_damage(kind):
    key = signers.private_key(kind)
    cms = bytearray(Signer(key, signers.certificate(key)).sign(MANIFEST))
    for bit in range(0, 8 * len(cms), 3):
        cms[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(dc.DamagedError):
            verify_cms(MANIFEST, bytes(cms))
        cms[bit >> 3] ^= 1 << (bit & 7)
    verify_cms(MANIFEST, bytes(cms))
    for size in range(len(cms)):
        with pytest.raises(dc.DamagedError):
            verify_cms(MANIFEST, bytes(cms[:size]))


@settings(database=None, deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.data())
def test_any_bytes_for_a_cms_are_damage(junk, data):
    for cms in (junk, b"\x30\x82" + len(junk).to_bytes(2, "big") + junk):
        with pytest.raises(dc.DamagedError):
            verify_cms(MANIFEST, cms)
    cms = CMS
    at = data.draw(st.integers(0, len(cms)))
    with pytest.raises(dc.DamagedError):
        verify_cms(MANIFEST, cms[:at] + junk + b"x" + cms[at:])


def test_a_signature_by_pkcs7_of_another_form_is_refused():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import pkcs7

    builder = pkcs7.PKCS7SignatureBuilder().set_data(MANIFEST)
    builder = builder.add_signer(CERTIFICATE, KEY, hashes.SHA256())
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    cms = builder.sign(serialization.Encoding.DER, options)
    with pytest.raises(dc.DamagedError):
        verify_cms(MANIFEST, cms)


# ---- signers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "message"), [({"end": 0, "start": -9}, "expired"), ({"start": 2}, "not valid yet")]
)
def test_a_certificate_that_is_not_valid_now_does_not_sign(days, message):
    with pytest.raises(dc.PolicyError, match=message):
        Signer(KEY, signers.certificate(KEY, **days))


def usage(**allowed):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def test_a_certificate_for_something_else_does_not_sign():
    Signer(KEY, signers.certificate(KEY, usage=usage(digital_signature=True)))
    Signer(KEY, signers.certificate(KEY, usage=usage(content_commitment=True)))
    with pytest.raises(dc.PolicyError, match="key usage"):
        Signer(KEY, signers.certificate(KEY, usage=usage(key_encipherment=True)))


def test_keys_that_cannot_sign_are_refused():
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505
    with pytest.raises(dc.PolicyError, match="1024 bits"):
        Signer(small, signers.certificate(small))
    for key, error in ((ec.generate_private_key(ec.SECP256K1()), dc.PolicyError),
                       (x25519.X25519PrivateKey.generate(), dc.UsageError)):
        with pytest.raises(error, match="cannot sign"):
            signature_algorithm(key.public_key())
    with pytest.raises(dc.UsageError, match="not that of the certificate"):
        Signer(signers.private_key("p256", "Dr. X"), CERTIFICATE)


def test_a_signer_shows_no_secret():
    text = repr(Signer(KEY, CERTIFICATE))
    assert text == "Signer('CN=Dr. A', ecdsa-p256-sha256)"


def p12(passphrase=None, *, certificate=CERTIFICATE, chain=()):
    encryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return pkcs12.serialize_key_and_certificates(b"a", KEY, certificate, chain, encryption)


def write(tmp_path, data, name="signer"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


ROOT = signers.certificate(signers.private_key("p256", "Root"), "Root")


@pytest.mark.parametrize(
    ("data", "passphrase", "chain"),
    [
        (signers.key_pem(KEY) + signers.pem(CERTIFICATE), None, 0),
        (signers.pem(ROOT, CERTIFICATE) + signers.key_pem(KEY), None, 1),
        (signers.key_pem(KEY, b"secret") + signers.pem(CERTIFICATE), "secret", 0),
        (p12(), None, 0),
        (p12(b"secret", chain=[ROOT]), "secret", 1),
    ],
    ids=("pem", "pem with chain", "encrypted pem", "pkcs12", "encrypted pkcs12"),
)
def test_signers_of_every_file_format(tmp_path, data, passphrase, chain):
    path = write(tmp_path, data)
    asked = []
    signer = Signer.load(path, passphrase=lambda: asked.append(1) or passphrase)
    assert signer.certificate == CERTIFICATE
    assert len(signer.chain) == chain
    assert bool(asked) == (passphrase is not None)
    if passphrase:
        with pytest.raises(dc.NoIdentityError):
            Signer.load(path, passphrase="wrong")  # noqa: S106
        with pytest.raises(dc.UsageError, match="under a passphrase"):
            Signer.load(path)


def test_key_certificate_and_chain_may_stand_in_files_of_their_own(tmp_path):
    key = write(tmp_path, signers.key_pem(KEY), "key")
    certificate = write(tmp_path, CERTIFICATE.public_bytes(serialization.Encoding.DER), "der")
    chain = write(tmp_path, signers.pem(ROOT), "chain")
    signer = Signer.load(key, certificate, chain=[chain])
    assert (signer.certificate, signer.chain) == (CERTIFICATE, (ROOT,))
    with pytest.raises(dc.UsageError, match="no certificate of the signing key"):
        Signer.load(key)
    with pytest.raises(dc.UsageError, match="no certificate of the signing key"):
        Signer.load(key, chain)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", signers.pem(CERTIFICATE), b"-----BEGIN PRIVATE KEY-----\nAAAA\n",
     b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", bytes(2 << 20),
     signers.key_pem(KEY) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=("empty", "junk", "no key", "cut", "bad key", "too large", "bad certificate"),
)  # fmt: skip
def test_files_that_hold_no_signer_are_refused(tmp_path, data):
    path = write(tmp_path, data)
    with pytest.raises((dc.UsageError, dc.DamagedError), match="signer"):
        Signer.load(path, passphrase="x")  # noqa: S106
    with pytest.raises(dc.UsageError, match="cannot read"):
        Signer.load(tmp_path / "missing")


def test_whose_signatures_are_wanted_stands_in_certificates_or_a_public_key(tmp_path):
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    wanted = Signer(KEY, CERTIFICATE).public_key
    assert load_signer_keys(write(tmp_path, public)) == [wanted]
    assert load_signer_keys(write(tmp_path, signers.pem(CERTIFICATE, ROOT)))[0] == wanted
    der = CERTIFICATE.public_bytes(serialization.Encoding.DER)
    assert load_signer_keys(write(tmp_path, der)) == [wanted]
    for junk in (b"", b"junk", signers.key_pem(KEY)):
        with pytest.raises(dc.UsageError, match="signer"):
            load_signer_keys(write(tmp_path, junk))


def test_names_and_times_are_in_der():
    """The one place where bytes are put together by hand."""
    from dicomcrypt.keys.cms_structures import length

    for size in (0, 1, 127, 128, 255, 256, 65535):
        data = asn1.encode_der(bytes(size))
        assert data[1 : len(data) - size] == length(size)
