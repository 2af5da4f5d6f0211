"""The code: six digits out of a deterministic RSA signature, and the sum of these digits.

    message   = packed(label, link, person, nonce, issue time)
    signature = RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2), by a key for nothing else
    code      = the dynamic truncation of RFC 4226 section 5.3 of SHA-256(signature)

The signature of a message is one number, so the same code comes out again: what is stored (nonce
and issue time) tells nothing without the private key. The signature is neither stored nor shown.

The sum of the digits (29 for 891632) is the second field of the source paper. It follows from the
code: it catches a slip of the finger and adds nothing to security.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from .. import policy
from ..errors import UsageError

DIGITS = 6
ALGORITHM = "rsa-pkcs1v15-sha256"
#: What a code is for: to open a link, or to prove an address when a link is bound to a person.
PURPOSES = ("open", "email", "mobile")
_LABELS = {purpose: f"dicomcrypt otp 1 {purpose}".encode() for purpose in PURPOSES}
_ENTERED = re.compile(r"[0-9]{6}", re.ASCII)


def packed(*fields: bytes) -> bytes:
    """Join fields, each behind its length in four bytes, big-endian: no two lists give the same."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def truncate(digest: bytes, digits: int = DIGITS) -> str:
    """Return the decimal digits of a digest of 20 bytes or more (RFC 4226 section 5.3; the last
    byte gives the offset for longer ones too, as in RFC 6238)."""
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}}"


def hotp(key: bytes, counter: int, digits: int = DIGITS, digest: str = "sha1") -> str:
    """Return the HMAC-based one-time password of RFC 4226; digest as in RFC 6238."""
    return truncate(hmac.digest(key, counter.to_bytes(8, "big"), digest), digits)


@dataclass(frozen=True, repr=False)
class Code:
    """Six digits and their sum, as one text each."""

    digits: str
    sum: str

    def __repr__(self) -> str:
        return "Code(...)"

    def packed(self) -> bytes:
        return packed(self.digits.encode(), self.sum.encode())


def with_sum(digits: str) -> Code:
    return Code(digits, str(sum(map(int, digits))))


def digits_of(text: str) -> str:
    """Return the six digits that somebody entered; blanks do not count. Raises UsageError for what
    cannot be a code at all, without showing it."""
    digits = "".join(text.split())
    if not _ENTERED.fullmatch(digits):
        raise UsageError(f"a code is {DIGITS} digits")
    return digits


def entered(digits: str, total: str) -> Code:
    """Return a code and the sum beside it as somebody entered them; raises as `digits_of`."""
    digits, total = digits_of(digits), total.strip()
    if not (total.isascii() and total.isdigit() and len(total) <= 2):
        raise UsageError("the sum of the code's digits belongs beside it, such as 29 for 891632")
    return Code(digits, str(int(total)))


class CodeKey:
    """Makes codes by an RSA key that is used for nothing else.

    key: has `sign(data, padding, hash)` and `public_key()` as `RSAPrivateKey` of `cryptography`:
    one from a file, in a token (`keys.tokensigner`), or on a card. Raises PolicyError for a key
    that is too short, UsageError for one that is not RSA or does not sign as it should.
    """

    def __init__(self, key: Any) -> None:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        public = key.public_key()
        if not isinstance(public, rsa.RSAPublicKey):
            raise UsageError("codes are made by an RSA key, and this one is of another kind")
        policy.current().require(ALGORITHM, "sign", public.key_size)
        self._key, self._parameters = key, (padding.PKCS1v15(), hashes.SHA256())
        self.bits = public.key_size
        probe = packed(b"dicomcrypt otp 1 probe")
        try:
            public.verify(self._sign(probe), probe, *self._parameters)
        except InvalidSignature:
            raise UsageError("the key of the codes does not sign by PKCS#1 v1.5 with SHA-256, or "
                             "is not that of its public half") from None

    def __repr__(self) -> str:
        return f"CodeKey(RSA, {self.bits} bits)"

    def _sign(self, message: bytes) -> bytes:
        signature: bytes = self._key.sign(message, *self._parameters)
        return signature

    def code(self, purpose: str, link: str, person: str, nonce: bytes, issued: int) -> Code:
        """Return the code. nonce: 16 bytes; issued: Unix time in milliseconds."""
        message = packed(_LABELS[purpose], link.encode(), person.encode(), nonce,
                         issued.to_bytes(8, "big"))
        return with_sum(self._truncated(hashlib.sha256(self._sign(message)).digest()))

    def _truncated(self, digest: bytes) -> str:
        return truncate(digest)
