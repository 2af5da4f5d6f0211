"""RSA keys in tokens that sign by PKCS#1 v1.5, used as `RSAPrivateKey` of `cryptography` is."""

from __future__ import annotations

from typing import Any

from ..errors import TokenError
from .token import _LOCK, AskPin, _private_key, _public_half, _said, _session, library
from .tokenuri import parse


class TokenSigningKey:
    """An RSA key in a token: `sign` and `public_key` as of a key from a file.

    Raises UsageError for a URI that cannot be meant, TokenError for what the token refuses,
    MissingExtraError."""

    def __init__(self, text: str, ask_pin: AskPin) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._uri = parse(text)
        with _LOCK, _said(self._uri):
            session, _ = _session(self._uri, ask_pin)
            self._key = _private_key(session, self._uri)
            public = _public_half(session, self._key).public_key
        if not isinstance(public, rsa.RSAPublicKey):
            raise TokenError("the key in the token is not an RSA key")
        if not hasattr(self._key, "sign"):
            raise TokenError("the key in the token may not sign (CKA_SIGN is not set)")
        self._public = public

    def __repr__(self) -> str:
        return f"TokenSigningKey({self._uri})"

    def public_key(self) -> Any:
        return self._public

    def sign(self, data: bytes, padding: Any, algorithm: Any) -> bytes:
        """Sign by PKCS#1 v1.5 with SHA-256; raises TokenError for any other."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

        if not isinstance(padding, PKCS1v15) or not isinstance(algorithm, hashes.SHA256):
            raise TokenError("the token is asked for PKCS#1 v1.5 with SHA-256 alone")
        with _LOCK, _said(self._uri):
            signature: bytes = self._key.sign(data, mechanism=library().Mechanism.SHA256_RSA_PKCS)
            return signature
