"""HPKE's receiver where a token does the Diffie-Hellman step: DHKEM(P-256, P-384, P-521).

`cryptography` opens HPKE with private keys that it holds, and has no call for a shared point that
a token computed. So what follows that point is done here after RFC 9180 (sections 4, 4.1 and 5.1,
base mode) out of the library's HKDF and AES-GCM; tests hold it against the library's HPKE.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from ..container.stanza import P256, P384, P521

_VERSION = b"HPKE-v1"
_KDF, _AEAD = 1, 2  # HKDF-SHA256, AES-256-GCM


class Group(NamedTuple):
    """A KEM of RFC 9180 section 7.1: its id, hash, length of secrets and of points."""

    kem_id: int
    digest: hashes.HashAlgorithm
    secret: int
    point: int


GROUPS = {
    P256: Group(0x0010, hashes.SHA256(), 32, 65),
    P384: Group(0x0011, hashes.SHA384(), 48, 97),
    P521: Group(0x0012, hashes.SHA512(), 64, 133),
}


def _extract(
    suite: bytes, digest: hashes.HashAlgorithm, salt: bytes, label: bytes, data: bytes
) -> bytes:
    return HKDF.extract(digest, salt, _VERSION + suite + label + data)


def _expand(
    suite: bytes, digest: hashes.HashAlgorithm, key: bytes, label: bytes, info: bytes, size: int
) -> bytes:
    labelled = struct.pack(">H", size) + _VERSION + suite + label + info
    return HKDFExpand(digest, size, labelled).derive(key)


def shared_secret(group: Group, dh: bytes, enc: bytes, public: bytes) -> bytes:
    """ExtractAndExpand of section 4.1. dh: x coordinate of the shared point, in full length;
    enc, public: uncompressed points."""
    suite = b"KEM" + struct.pack(">H", group.kem_id)
    prk = _extract(suite, group.digest, b"", b"eae_prk", dh)
    return _expand(suite, group.digest, prk, b"shared_secret", enc + public, group.secret)


def open_sealed(group: Group, dh: bytes, public: bytes, sealed: bytes, info: bytes) -> bytes:
    """Open `enc | ciphertext`; raises InvalidTag if it is not for this key, or was changed."""
    enc, ciphertext = sealed[: group.point], sealed[group.point :]
    secret = shared_secret(group, dh, enc, public)
    suite = b"HPKE" + struct.pack(">HHH", group.kem_id, _KDF, _AEAD)
    sha256 = hashes.SHA256()
    context = b"\0" + _extract(suite, sha256, b"", b"psk_id_hash", b"")
    context += _extract(suite, sha256, b"", b"info_hash", info)
    secret = _extract(suite, sha256, secret, b"secret", b"")
    key = _expand(suite, sha256, secret, b"key", context, 32)
    nonce = _expand(suite, sha256, secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, None)
