"""Keys and certificates as other programs make them, for tests."""

from __future__ import annotations

import datetime
import functools

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

PASSPHRASE = "naïve café"  # noqa: S105
MAKERS = {
    "hpke-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "hpke-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "hpke-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "x25519": x25519.X25519PrivateKey.generate,
    "mlkem768": mlkem.MLKEM768PrivateKey.generate,
    "mlkem1024": mlkem.MLKEM1024PrivateKey.generate,
    "rsa-oaep-sha256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
    "ca": lambda: ec.generate_private_key(ec.SECP256R1()),
}
#: Those that can be encrypted to.
KINDS = list(MAKERS)[:7]
#: Those that the library writes into PKCS #12.
PACKABLE = ("hpke-p256", "hpke-p384", "hpke-p521", "rsa-oaep-sha256")


@functools.cache
def private(kind: str):
    """One private key of each kind for all tests of a process."""
    return MAKERS[kind]()


def private_pem(kind: str, passphrase: str | None = None, form=PrivateFormat.PKCS8) -> bytes:
    return private(kind).private_bytes(Encoding.PEM, form, _encryption(passphrase))


def private_der(kind: str, passphrase: str | None = None) -> bytes:
    return private(kind).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, _encryption(passphrase)
    )


def _encryption(passphrase: str | None):
    if passphrase is None:
        return NoEncryption()
    return BestAvailableEncryption(passphrase.encode())


def public_pem(kind: str) -> bytes:
    return private(kind).public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def usage(*allowed: str) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in allowed for name in names})


def certificate(kind: str, *, name: str = "somebody", uses=None, authority: bool | None = None,
                email: str | None = None, serial: int = 0xABC, issuer: str = "ca"):
    """A certificate for a kind of key; uses: names of keyUsage bits, None for no keyUsage."""
    builder = (
        x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer))
        .serial_number(serial).public_key(private(kind).public_key())
        .not_valid_before(datetime.datetime(2025, 1, 1))
        .not_valid_after(datetime.datetime(2045, 1, 1))
    )  # fmt: skip
    if uses is not None:
        builder = builder.add_extension(usage(*uses), True)
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, None), True)
    if email is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name(email)]), False
        )
    return builder.sign(private("ca"), hashes.SHA256())


def ca_certificate(name: str = "ca", serial: int = 1):
    return certificate("ca", name=name, uses=("key_cert_sign", "crl_sign"), authority=True,
                       serial=serial)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def pem(*certificates) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def packed(kind: str, certificate, others=(), passphrase: str | None = None) -> bytes:
    """PKCS #12."""
    return pkcs12.serialize_key_and_certificates(
        b"somebody", private(kind) if kind else None, certificate, list(others),
        _encryption(passphrase),
    )


def unwrap_elsewhere(pipe):
    """What a spawned process does, which finds this module but not the tests'."""
    identity, stanza, core = pipe.recv()
    pipe.send(identity.unwrap(stanza, core))
