"""Private keys under a passphrase: PKCS#8 with PBES2 (RFC 8018, RFC 5958), and PKCS#12.

The library encrypts PKCS#8 with 2048 rounds of PBKDF2 and lets nobody set them, so that PBES2 is
put together here of its PBKDF2, AES-CBC and ASN.1. It, OpenSSL and others read it.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from .. import policy
from ..errors import UsageError

#: Rounds of PBKDF2 with HMAC-SHA256: what OWASP asks for.
ROUNDS = 600_000
ALGORITHM = "pbkdf2-sha256"
_PBES2, _PBKDF2, _HMAC_SHA256, _AES_256_CBC = map(x509.ObjectIdentifier, (
    "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.2.840.113549.2.9",
    "2.16.840.1.101.3.4.1.42",
))  # fmt: skip


@asn1.sequence
class _Prf:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class _Pbkdf2:
    salt: bytes
    rounds: int
    prf: _Prf


@asn1.sequence
class _Kdf:
    algorithm: x509.ObjectIdentifier
    parameters: _Pbkdf2


@asn1.sequence
class _Scheme:
    algorithm: x509.ObjectIdentifier
    vector: bytes


@asn1.sequence
class _Parameters:
    kdf: _Kdf
    scheme: _Scheme


@asn1.sequence
class _Algorithm:
    algorithm: x509.ObjectIdentifier
    parameters: _Parameters


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _Algorithm
    encrypted: bytes


def _words(passphrase: str) -> bytes:
    words = passphrase.encode()
    if not 0 < len(words) <= 1023:  # what OpenSSL reads
        raise UsageError("a key's passphrase has 1 to 1023 bytes")
    policy.current().require(ALGORITHM, "encrypt")
    return words


def private_pem(key: Any, passphrase: str | None) -> bytes:
    """PKCS#8 in PEM, encrypted if there is a passphrase.

    Raises UsageError for a passphrase that is empty or too long, PolicyError where the policy does
    not let PBKDF2 encrypt."""
    if passphrase is None:
        pem: bytes = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip
        return pem
    words = _words(passphrase)
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption())
    salt, vector = os.urandom(16), os.urandom(16)
    derived = PBKDF2HMAC(hashes.SHA256(), 32, salt, ROUNDS).derive(words)
    pad = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(derived), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(pad.update(plain) + pad.finalize()) + encryptor.finalize()
    kdf = _Kdf(algorithm=_PBKDF2, parameters=_Pbkdf2(
        salt=salt, rounds=ROUNDS, prf=_Prf(algorithm=_HMAC_SHA256, parameters=asn1.Null())))
    der = asn1.encode_der(_EncryptedPrivateKeyInfo(
        algorithm=_Algorithm(algorithm=_PBES2, parameters=_Parameters(
            kdf=kdf, scheme=_Scheme(algorithm=_AES_256_CBC, vector=vector))),
        encrypted=encrypted,
    ))  # fmt: skip
    return _pem(der, "ENCRYPTED PRIVATE KEY")


def _pem(der: bytes, label: str) -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def pkcs12(
    name: bytes, key: Any, certificate: x509.Certificate, above: list[x509.Certificate],
    passphrase: str,
) -> bytes:
    """PKCS#12 with AES-256 and as many rounds, and a MAC with SHA-256.

    The MAC has 2048 rounds of the key derivation of PKCS#12: the library lets nobody set them, so
    that guesses at the passphrase may be checked there instead. Take one that is long.
    Raises UsageError for a kind of key that does not fit."""
    from cryptography.hazmat.primitives.serialization import PrivateFormat
    from cryptography.hazmat.primitives.serialization import pkcs12 as form

    seal = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(form.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(_words(passphrase))
    )
    try:
        return form.serialize_key_and_certificates(name, key, certificate, above or None, seal)
    except TypeError:
        raise UsageError("a key of this kind does not fit into PKCS#12: keep it as PEM") from None
