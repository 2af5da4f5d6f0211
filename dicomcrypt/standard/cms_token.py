"""Keys in tokens, by PKCS #11, as openers of CMS messages. Cards have such keys of their own
(`card.keys`)."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import TokenError
from ..keys.token import AskPin, TokenIdentity, load_token_identity


class TokenKey:
    """A private key in a token, with what of `cryptography`'s private keys opens messages: OAEP
    with SHA-256, or ECDH."""

    def __init__(self, identity: TokenIdentity) -> None:
        self._identity = identity
        self._public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = identity.recipient.public_key

    def __repr__(self) -> str:
        return "TokenKey()"

    def public_key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    @property
    def curve(self) -> ec.EllipticCurve:
        if not isinstance(self._public, ec.EllipticCurvePublicKey):
            raise TokenError("an RSA key in a token has no curve")
        return self._public.curve

    def decrypt(self, ciphertext: bytes, padding_: Any) -> bytes:
        """Raises ValueError for what was not encrypted to this key, TokenError."""
        fits = isinstance(padding_, padding.OAEP) and not padding_._label and all(
            isinstance(digest, hashes.SHA256)
            for digest in (padding_._algorithm, padding_._mgf._algorithm)
        )
        if not fits:
            raise TokenError("a token's key opens RSA-OAEP with SHA-256 alone, no older padding")
        found = self._identity.decipher(ciphertext)
        if found is None:
            raise ValueError("not for this key")
        return found

    def exchange(self, _: ec.ECDH, peer: ec.EllipticCurvePublicKey) -> bytes:
        """Raises TokenError."""
        return self._identity.exchange(
            peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def load_token_key(uri: str, ask_pin: AskPin) -> tuple[TokenKey, list[x509.Certificate]]:
    """Return the key that a `pkcs11:` URI names, and the certificates beside it. Raises as
    `keys.token.load_token_identity`."""
    identity = load_token_identity(uri, ask_pin)
    return TokenKey(identity), identity.certificates()
