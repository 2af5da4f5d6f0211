"""Keys as other programs keep them: SubjectPublicKeyInfo (RFC 5280) and PKCS #8 (RFC 5958).

Stanza types 2 and 10 to 13 by HPKE here, type 3 in `keys.rsa`; an X25519 key is type 1 and the
same recipient wherever it comes from. `recipient_of` and `identity_of` choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x25519
from cryptography.hazmat.primitives.hpke import KEM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from ..container.stanza import MLKEM768, MLKEM1024, P256, P384, P521
from ..errors import PolicyError, UsageError
from .hpke import HpkeIdentity, HpkeRecipient
from .keypair import PublicHalf, usable
from .rsa import RsaIdentity, RsaRecipient
from .x25519 import X25519Identity, X25519Recipient

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

WHICH = "RSA, P-256, P-384, P-521, X25519, ML-KEM-768 and ML-KEM-1024 keys can be encrypted to"


def public_der(key: Any) -> bytes:
    """Return the SubjectPublicKeyInfo of a public key in the one form that hints are made of: named
    curves, points uncompressed."""
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


class SpkiRecipient(HpkeRecipient):
    """A public key in DER whose kind is `key_type`, on the curve `curve` if it has one."""

    key_type: ClassVar[type]
    curve: ClassVar[type[ec.EllipticCurve] | None] = None

    @classmethod
    def fits(cls, key: Any) -> bool:
        """Whether a library's public key is of this kind."""
        if isinstance(key, ec.EllipticCurvePublicKey):
            return cls.curve is not None and isinstance(key.curve, cls.curve)
        return isinstance(key, cls.key_type)

    @classmethod
    def _load(cls, public_bytes: bytes) -> PublicKeyTypes:
        key = load_der_public_key(public_bytes)
        if not cls.fits(key) or public_der(key) != public_bytes:
            raise ValueError("a public key of another kind or form")
        return key


class P256Recipient(SpkiRecipient):
    """A P-256 public key: stanza type 2, classical."""

    algorithm, stanza_type, kem = "hpke-p256", P256, KEM.P256
    key_type, curve = ec.EllipticCurvePublicKey, ec.SECP256R1


class P384Recipient(SpkiRecipient):
    """A P-384 public key: stanza type 12, classical."""

    algorithm, stanza_type, kem = "hpke-p384", P384, KEM.P384
    key_type, curve = ec.EllipticCurvePublicKey, ec.SECP384R1


class P521Recipient(SpkiRecipient):
    """A P-521 public key: stanza type 13, classical."""

    algorithm, stanza_type, kem = "hpke-p521", P521, KEM.P521
    key_type, curve = ec.EllipticCurvePublicKey, ec.SECP521R1


class Mlkem768Recipient(SpkiRecipient):
    """An ML-KEM-768 encapsulation key: stanza type 10, post-quantum alone."""

    algorithm, stanza_type, kem = "mlkem768", MLKEM768, KEM.MLKEM768
    key_type = mlkem.MLKEM768PublicKey


class Mlkem1024Recipient(SpkiRecipient):
    """An ML-KEM-1024 encapsulation key: stanza type 11, post-quantum alone."""

    algorithm, stanza_type, kem = "mlkem1024", MLKEM1024, KEM.MLKEM1024
    key_type = mlkem.MLKEM1024PublicKey


class SpkiIdentity(HpkeIdentity):
    """A private key in PKCS #8 whose public half is the recipient of `recipient_type`."""

    recipient_type: ClassVar[type[SpkiRecipient]]
    private_size = None

    @classmethod
    def _load(cls, private_bytes: bytes) -> tuple[PrivateKeyTypes, bytes]:
        key = load_der_private_key(private_bytes, None)
        if not cls.recipient_type.fits(key.public_key()):
            raise ValueError("a private key of another kind")
        return key, public_der(key.public_key())


class P256Identity(SpkiIdentity):
    recipient_type = P256Recipient


class P384Identity(SpkiIdentity):
    recipient_type = P384Recipient


class P521Identity(SpkiIdentity):
    recipient_type = P521Recipient


class Mlkem768Identity(SpkiIdentity):
    recipient_type = Mlkem768Recipient


class Mlkem1024Identity(SpkiIdentity):
    recipient_type = Mlkem1024Recipient


IDENTITIES: tuple[type[SpkiIdentity], ...] = (
    P256Identity, P384Identity, P521Identity, Mlkem768Identity, Mlkem1024Identity,
)  # fmt: skip


def recipient_of(key: Any) -> PublicHalf:
    """Return the recipient of a library's public key.

    Raises PolicyError for one that is too weak, or on another curve, UsageError for one of a kind
    that cannot be encrypted to.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return usable(RsaRecipient(public_der(key)))
    if isinstance(key, x25519.X25519PublicKey):
        return usable(X25519Recipient(key.public_bytes_raw()))
    for kind in IDENTITIES:
        if kind.recipient_type.fits(key):
            return usable(kind.recipient_type(public_der(key)))
    refused = PolicyError if isinstance(key, ec.EllipticCurvePublicKey) else UsageError
    raise refused(f"the key is {kind_of(key)}: {WHICH}")


def identity_of(key: Any) -> HpkeIdentity | RsaIdentity:
    """Return the identity of a library's private key; raises as `recipient_of`."""
    if isinstance(key, x25519.X25519PrivateKey):
        return X25519Identity(key.private_bytes_raw())
    try:
        public = key.public_key()
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (AttributeError, UnsupportedAlgorithm, ValueError):
        raise UsageError(f"the key cannot decrypt: {WHICH}") from None
    if isinstance(public, rsa.RSAPublicKey):
        return RsaIdentity(private)
    for kind in IDENTITIES:
        if kind.recipient_type.fits(public):
            return kind(private)
    raise UsageError(f"the key is {kind_of(public)}: {WHICH}")


def kind_of(key: Any) -> str:
    """What a public key is, for a message."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"on the curve {key.curve.name}"
    return f"of the kind {type(key).__name__.removesuffix('PublicKey')}"
