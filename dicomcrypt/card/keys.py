"""A card's keys as private keys of `cryptography`: the library signs and decrypts with them
wherever it takes one of its own. They are used with SHA-256 alone, as the card is.

Their secret half stays in the card: what would need it raises TokenError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import TokenError
from .profile import Algorithm, Slot
from .session import CardSession

_SALT = 32


def _refuse(what: str) -> NoReturn:
    raise TokenError(f"the card's key cannot {what}")


def _digest(data: Any, algorithm: Any) -> bytes:
    """The SHA-256 digest that is to be signed, of data or given as such."""
    done = isinstance(algorithm, utils.Prehashed)
    name = algorithm._algorithm if done else algorithm
    if not isinstance(name, hashes.SHA256):
        _refuse("sign with another hash than SHA-256")
    if done:
        return bytes(data)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def _is_mgf1_sha256(mask: Any) -> bool:
    return isinstance(mask, padding.MGF1) and isinstance(mask._algorithm, hashes.SHA256)


class _OnCard:
    """What keys of both kinds share."""

    def __init__(
        self, session: CardSession, slot: Slot, public: Any,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        self._session, self._slot, self._public = session, slot, public
        self._ready = ready

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.name}, {self._slot})"

    def public_key(self) -> Any:
        return self._public

    @property
    def key_size(self) -> int:
        size: int = self._public.key_size
        return size

    def _proven(self, signature: bytes, *how: Any) -> bytes:
        """A signature that is right: a card that errs, or is made to, gives others, and a wrong one
        may tell of its key. Raises TokenError."""
        try:
            self._public.verify(signature, *how)
        except InvalidSignature:
            raise TokenError(f"card {self._session.name}: its signature by the key {self._slot} is "
                             "wrong") from None
        return signature

    def private_numbers(self) -> Any:
        _refuse("be read")

    def private_bytes(self, *_: Any) -> bytes:
        _refuse("be read")

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> NoReturn:
        _refuse("leave this process")


class CardRSAPrivateKey(_OnCard, rsa.RSAPrivateKey):
    """An RSA key: PKCS #1 v1.5 and PSS (salt of 32 bytes) signatures, OAEP."""

    def sign(self, data: Any, padding_: Any, algorithm: Any) -> bytes:
        digest = _digest(data, algorithm)
        if isinstance(padding_, padding.PKCS1v15):
            chosen = Algorithm.RSA_PKCS1
        elif isinstance(padding_, padding.PSS) and _is_mgf1_sha256(padding_._mgf) and (
            padding_._salt_length in (_SALT, padding.PSS.DIGEST_LENGTH)
        ):
            chosen = Algorithm.RSA_PSS
        else:
            _refuse("sign with this padding: PKCS #1 v1.5, or PSS with a salt of 32 bytes")
        self._ready()
        signature = self._session.sign_digest(self._slot, chosen, digest)
        return self._proven(signature, digest, padding_, utils.Prehashed(hashes.SHA256()))

    def decrypt(self, ciphertext: bytes, padding_: Any) -> bytes:
        """Raises TokenError, CardStatusError with 6A80 for what is no cryptogram of this key."""
        fits = isinstance(padding_, padding.OAEP) and _is_mgf1_sha256(padding_._mgf)
        if not (fits and isinstance(padding_._algorithm, hashes.SHA256) and not padding_._label):
            _refuse("decrypt with another padding than OAEP with SHA-256")
        self._ready()
        return self._session.decipher(self._slot, ciphertext)


class CardECPrivateKey(_OnCard, ec.EllipticCurvePrivateKey):
    """A P-256 key: ECDSA, ECDH."""

    @property
    def curve(self) -> ec.EllipticCurve:
        curve: ec.EllipticCurve = self._public.curve
        return curve

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        if not isinstance(signature_algorithm, ec.ECDSA):
            _refuse("sign with another algorithm than ECDSA")
        digest = _digest(data, signature_algorithm.algorithm)
        self._ready()
        plain = self._session.sign_digest(self._slot, Algorithm.ECDSA, digest)
        r, s = (int.from_bytes(half, "big") for half in (plain[:32], plain[32:64]))
        signature = utils.encode_dss_signature(r, s)
        return self._proven(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    def exchange(self, algorithm: Any, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        if not isinstance(algorithm, ec.ECDH) or peer_public_key.curve.name != self.curve.name:
            _refuse("do this key agreement")
        point = peer_public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._ready()
        return self._session.exchange(self._slot, point)


def card_key(
    session: CardSession, slot: Slot, ready: Callable[[], object] = lambda: None
) -> CardRSAPrivateKey | CardECPrivateKey:
    """Return a slot's private key; the card wants its PIN before it is used.

    ready: called before each use, and may give it. Raises TokenError if there is no key, or its
    public half is of an unknown kind."""
    public = session.public_key(slot)
    if isinstance(public, rsa.RSAPublicKey):
        return CardRSAPrivateKey(session, slot, public, ready)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        return CardECPrivateKey(session, slot, public, ready)
    raise TokenError(f"card {session.name}: its key {slot} is of a kind that is not known here")
