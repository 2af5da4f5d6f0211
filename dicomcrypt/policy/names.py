"""The registry's names for what stands in certificates and keys."""

from __future__ import annotations

from typing import Any, NamedTuple

_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}
_CURVE_HASH = {"p256": "sha256", "p384": "sha384", "p521": "sha512"}


class Named(NamedTuple):
    """An algorithm as the registry calls it; part: "key", "signature"; bits of an RSA key."""

    part: str
    algorithm: str
    bits: int | None = None


def of_key(public_key: Any, *, signs: bool) -> Named:
    """Name what a public key of the `cryptography` library would be used for.

    signs: for signatures; otherwise to encrypt to. A kind that the registry does not have
    gets a name of its own, which no policy permits to sign."""
    from cryptography.hazmat.primitives.asymmetric import (
        ec,
        ed25519,
        mldsa,
        mlkem,
        rsa,
        x25519,
    )

    if isinstance(public_key, rsa.RSAPublicKey):
        name = "rsa-pss-sha256" if signs else "rsa-oaep-sha256"
        return Named("key", name, public_key.key_size)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        curve = _CURVES.get(public_key.curve.name)
        if curve is None:
            return Named("key", f"ec-{public_key.curve.name}")
        return Named("key", f"ecdsa-{curve}-{_CURVE_HASH[curve]}" if signs else f"hpke-{curve}")
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return Named("key", "ed25519")
    if isinstance(public_key, x25519.X25519PublicKey):
        return Named("key", "x25519")
    for level in (44, 65, 87):
        if isinstance(public_key, getattr(mldsa, f"MLDSA{level}PublicKey")):
            return Named("key", f"ml-dsa-{level}")
    for size in (768, 1024):
        if isinstance(public_key, getattr(mlkem, f"MLKEM{size}PublicKey")):
            return Named("key", f"mlkem{size}")
    return Named("key", type(public_key).__name__.removesuffix("PublicKey").strip("_").lower())


def of_signature(certificate: Any) -> Named:
    """Name the algorithm with which a certificate or CRL of `cryptography.x509` was signed."""
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    oid = certificate.signature_algorithm_oid
    try:
        hashed = certificate.signature_hash_algorithm
        parameters = certificate.signature_algorithm_parameters
    except Exception:  # whatever the library does not know has no name here
        return Named("signature", oid.dotted_string)
    if hashed is None:
        name = getattr(oid, "_name", "").lower()
        known = {"ed25519": "ed25519", "ml-dsa-44": "ml-dsa-44", "ml-dsa-65": "ml-dsa-65",
                 "ml-dsa-87": "ml-dsa-87"}
        return Named("signature", known.get(name, oid.dotted_string))
    if hashed.name in ("sha1", "md5"):
        return Named("signature", hashed.name)
    if isinstance(parameters, padding.PSS):
        return Named("signature", f"rsa-pss-{hashed.name}")
    if isinstance(parameters, padding.PKCS1v15):
        return Named("signature", f"rsa-pkcs1v15-{hashed.name}")
    if isinstance(parameters, ec.ECDSA):
        return Named("signature", f"ecdsa-{hashed.name}")
    return Named("signature", oid.dotted_string)


def of_certificate(certificate: Any) -> list[Named]:
    """Name a certificate's key, for each use that it has, and its signature."""
    from cryptography import x509

    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        signs = usage.digital_signature or usage.key_cert_sign or usage.content_commitment
        wraps = usage.key_encipherment or usage.key_agreement
    except (x509.ExtensionNotFound, ValueError):
        signs = wraps = True
    key = certificate.public_key()
    found = dict.fromkeys(
        of_key(key, signs=way) for way, has in ((False, wraps), (True, signs)) if has
    )
    return [*(found or {of_key(key, signs=True): None}), of_signature(certificate)]
