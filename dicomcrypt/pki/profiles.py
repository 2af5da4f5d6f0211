"""Kinds of keys, and what certificates for each use carry and must carry (RFC 5280, 4.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa, x448
from cryptography.hazmat.primitives.asymmetric import x25519 as xdh
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from .. import policy
from ..errors import UsageError
from ..keys.extensions import extension, is_authority
from ..policy import names as names_of
from .names import ATTRIBUTE_AUTHORITY

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336

#: Kinds that can sign: authorities, and requests.
SIGNING_KINDS: dict[str, Callable[[], Any]] = {
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ml-dsa-65": lambda: mldsa.MLDSA65PrivateKey.generate(),
}
#: Kinds that can only be encrypted to: they have a bare public key in place of a request.
SEALING_KINDS: dict[str, Callable[[], Any]] = {
    "x25519": lambda: xdh.X25519PrivateKey.generate(),
    "ml-kem-768": lambda: mlkem.MLKEM768PrivateKey.generate(),
    "ml-kem-1024": lambda: mlkem.MLKEM1024PrivateKey.generate(),
}
_MLKEM = (mlkem.MLKEM768PublicKey, mlkem.MLKEM1024PublicKey)
_MLDSA = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)
_AGREEING = (xdh.X25519PublicKey, x448.X448PublicKey)
_EDDSA = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def generate(kind: str) -> Any:
    """Make a private key of one of the kinds; UsageError for others."""
    maker = {**SIGNING_KINDS, **SEALING_KINDS}.get(kind)
    if maker is None:
        known = ", ".join([*SIGNING_KINDS, *SEALING_KINDS])
        raise UsageError(f"{kind!r} is no kind of key; there are {known}")
    return maker()


def key_name(key: Any) -> str:
    """What kind of public key it is, for people."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return CURVES.get(key.curve.name, key.curve.name)
    name = type(key).__name__.removeprefix("_").removesuffix("PublicKey")
    return name.replace("MLKEM", "ML-KEM-").replace("MLDSA", "ML-DSA-")


def signing_hash(key: Any) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash that a key signs certificates with; None if its kind has its own."""
    if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        if key.curve.key_size == 256:
            return hashes.SHA256()
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA512()
    return hashes.SHA256() if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)) else None


def require_signing(key: Any) -> None:
    """Raise PolicyError unless the policy lets a private or public key, and what it signs
    certificates with, sign."""
    public = key.public_key() if hasattr(key, "public_key") else key
    named = names_of.of_key(public, signs=True)
    chosen = signing_hash(public)
    rules = policy.current()
    rules.require(named.algorithm, "sign", named.bits)
    if chosen is not None:
        scheme = "rsa-pkcs1v15" if isinstance(public, rsa.RSAPublicKey) else "ecdsa"
        rules.require(f"{scheme}-{chosen.name}", "sign", named.bits)


def require_kind(key: Any) -> None:
    """Raise PolicyError unless the policy lets a new public key do what its kind is for."""
    signs = can_sign(key)
    named = names_of.of_key(key, signs=signs)
    policy.current().require(named.algorithm, "sign" if signs else "encrypt", named.bits)


def require_uses(key: Any, uses: Iterable[str]) -> None:
    """Raise PolicyError unless the policy lets a public key be used for all of these."""
    for use in uses:
        for signs, use_of_it in ((True, "sign"), (False, "encrypt")):
            if PROFILES[use].signs if signs else PROFILES[use].seals:
                named = names_of.of_key(key, signs=signs)
                policy.current().require(named.algorithm, use_of_it, named.bits)


def weakness(key: Any) -> tuple[str, str] | None:
    """Return (reason, what is wrong with a public key), None if nothing is."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            return "weak-key", f"an RSA key of {key.key_size} bits, where 2048 are the least"
        if key.key_size > 16384:
            return "weak-key", f"an RSA key of {key.key_size} bits, where 16384 are the most"
        exponent = key.public_numbers().e
        if exponent < 3 or not exponent & 1:
            return "weak-key", "an RSA key with an exponent that encrypts nothing"
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in CURVES:
            return None
        return "weak-key", f"a key on the curve {key.curve.name}, which is not taken here"
    if isinstance(key, (*_MLKEM, *_MLDSA, *_AGREEING, *_EDDSA)):
        return None
    return "weak-key", f"a {key_name(key)} key, which is not taken here"


# ---- uses --------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """A use: bits of KeyUsage and the extended usages that say it."""

    signs: bool
    seals: bool
    extended: tuple[x509.ObjectIdentifier, ...]


#: What `issue --for` makes.
PROFILES = {
    "encryption": Profile(False, True, (Eku.EMAIL_PROTECTION,)),
    "signing": Profile(True, False, (Eku.EMAIL_PROTECTION, DOCUMENT_SIGNING)),
    "both": Profile(True, True, (Eku.EMAIL_PROTECTION, DOCUMENT_SIGNING)),
    "tls-server": Profile(True, False, (Eku.SERVER_AUTH,)),
    "tls-client": Profile(True, False, (Eku.CLIENT_AUTH,)),
}
#: Of the authority that issues attribute certificates and the lists of those it revoked.
_ATTRIBUTES = Profile(True, False, (ATTRIBUTE_AUTHORITY,))
#: What each purpose of `check_certificate` takes of extended usages, if there are any.
_EXTENDED = {
    "encrypt": {Eku.EMAIL_PROTECTION, Eku.ANY_EXTENDED_KEY_USAGE},
    "sign": {Eku.EMAIL_PROTECTION, DOCUMENT_SIGNING, Eku.ANY_EXTENDED_KEY_USAGE},
    "tls-server": {Eku.SERVER_AUTH},
    "tls-client": {Eku.CLIENT_AUTH},
}
_EXTENDED["decrypt"], _EXTENDED["verify-signature"] = _EXTENDED["encrypt"], _EXTENDED["sign"]
PURPOSES = (*_EXTENDED, "any")
_WORDS = {
    "encrypt": "encryption", "decrypt": "encryption", "sign": "signatures",
    "verify-signature": "signatures", "tls-server": "TLS servers", "tls-client": "TLS clients",
}  # fmt: skip


def key_usage(**bits: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def can_sign(key: Any) -> bool:
    return hasattr(key, "verify")


def can_seal(key: Any) -> bool:
    """Whether a public key is of a kind that keys can be wrapped to."""
    kinds = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, *_MLKEM, *_AGREEING)
    return isinstance(key, kinds)


def use_extensions(
    key: Any, uses: Iterable[str], *, attributes: bool = False
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return KeyUsage and ExtendedKeyUsage for a public key, each with its criticality.

    Raises UsageError for a use that such a key cannot have."""
    chosen = [_ATTRIBUTES] if attributes else []
    for use in uses:
        profile = PROFILES[use]
        if (profile.signs and not can_sign(key)) or (profile.seals and not can_seal(key)):
            raise UsageError(f"a certificate for {use} cannot be for a {key_name(key)} key")
        chosen.append(profile)
    if not chosen:
        raise UsageError("a certificate must be for something: give --for")
    signs, seals = any(p.signs for p in chosen), any(p.seals for p in chosen)
    agrees = isinstance(key, (ec.EllipticCurvePublicKey, *_AGREEING))
    usage = key_usage(
        digital_signature=signs,
        content_commitment=any(DOCUMENT_SIGNING in p.extended for p in chosen),
        key_encipherment=seals and not agrees, key_agreement=seals and agrees,
        crl_sign=attributes,
    )  # fmt: skip
    extended = dict.fromkeys(oid for profile in chosen for oid in profile.extended)
    return [(usage, True), (x509.ExtendedKeyUsage(list(extended)), False)]



def usage_problem(
    certificate: x509.Certificate, purpose: str, *, pinned: bool = False
) -> str | None:
    """Return why a certificate is not for a purpose, None if it is.

    pinned: it is itself among the trusted roots, as one that signs itself must be."""
    if purpose == "any":
        return None
    words = f"is not for {_WORDS[purpose]}"
    extensions, key = certificate.extensions, certificate.public_key()
    usage = extension(extensions, x509.KeyUsage)
    if is_authority(extensions) and not pinned:
        return f"{words}: it is an authority's"
    if purpose in ("encrypt", "decrypt"):
        if not can_seal(key):
            return f"{words}: nothing can be encrypted to a {key_name(key)} key"
        agrees = isinstance(key, (ec.EllipticCurvePublicKey, *_AGREEING))
        bit = "key_agreement" if agrees else "key_encipherment"
        if usage is not None and not getattr(usage, bit):
            return f"{words}: its key usage has no {bit.replace('_', ' ')}"
    else:
        if not can_sign(key):
            return f"{words}: a {key_name(key)} key cannot sign"
        allowed = ["digital_signature"]
        if purpose in ("sign", "verify-signature"):
            allowed.append("content_commitment")
        elif purpose == "tls-server":
            allowed += ["key_encipherment", "key_agreement"]
        if usage is not None and not any(getattr(usage, bit) for bit in allowed):
            return f"{words}: its key usage has no digital signature"
    if not extended_fits(extensions, purpose):
        return f"{words}: its extended key usage names other uses"
    return None


def extended_fits(extensions: x509.Extensions, purpose: str) -> bool:
    """Whether extended usages, if there are any, name a purpose; of authorities they limit what
    lies below."""
    extended = extension(extensions, x509.ExtendedKeyUsage)
    if extended is None or purpose == "any":
        return True
    return bool(_EXTENDED[purpose] & set(extended))


def usage_names(extensions: x509.Extensions) -> list[str]:
    """Key usage and extended key usage in words."""
    found, usage = [], extension(extensions, x509.KeyUsage)
    if usage is not None:
        for name in ("digital_signature", "content_commitment", "key_encipherment",
                     "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"):
            if getattr(usage, name):
                found.append(name.replace("_", " "))
    words = {Eku.EMAIL_PROTECTION: "e-mail protection", DOCUMENT_SIGNING: "document signing",
             Eku.SERVER_AUTH: "TLS server", Eku.CLIENT_AUTH: "TLS client",
             Eku.ANY_EXTENDED_KEY_USAGE: "any", ATTRIBUTE_AUTHORITY: "attribute authority"}
    extended = extension(extensions, x509.ExtendedKeyUsage)
    return found + [words.get(oid, oid.dotted_string) for oid in extended or ()]
