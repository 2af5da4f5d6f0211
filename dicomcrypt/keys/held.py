"""Private keys that stay where they are: in a token, a card, or the job's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..container.stanza import RSA, Stanza, stanza_info
from . import dhkem, home
from .keypair import PrivateHalf, PublicHalf


class HeldIdentity(PrivateHalf):
    """What is known of such a key: RSA (type 3), P-256, P-384 or P-521 (types 2, 12, 13).
    """

    costly = True  # tried after all others

    def matches(self, stanza: Stanza) -> bool:
        if stanza.type != self.stanza_type or stanza.hint != self.hint:
            return False
        if stanza.type == RSA:
            bits: int = self.recipient.public_key.key_size
            return len(stanza.body) == (bits + 7) // 8
        return len(stanza.body) == dhkem.GROUPS[stanza.type].point + 48

    def _open_hpke(
        self, stanza: Stanza, binding: bytes, exchange: Callable[[bytes], bytes]
    ) -> bytes | None:
        """Open an HPKE stanza. exchange: from a point to the x coordinate of the shared one, in
        full length."""
        group = dhkem.GROUPS[stanza.type]
        public: ec.EllipticCurvePublicKey = self.recipient.public_key
        sent = stanza.body[: group.point]
        try:  # a point that is not on the curve never gets to the token
            ec.EllipticCurvePublicKey.from_encoded_point(public.curve, sent)
        except ValueError:
            return None
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        info = stanza_info(stanza.type, stanza.scope, binding)
        try:
            return dhkem.open_sealed(group, exchange(sent), point, stanza.body, info)
        except InvalidTag:
            return None


# ---- in the job's process, and asked by its workers ---------------------------

class StayingIdentity(HeldIdentity):
    """An identity that never leaves the job's process: pickled for a worker, it becomes one that
    asks. So a card is used by one process, under one PIN, and once a stanza."""

    def __init__(self, recipient: PublicHalf) -> None:
        super().__init__(recipient)
        self._opened: dict[tuple[Stanza, bytes], bytes | None] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        home.HOME[id(self)] = self
        return AskingIdentity, (id(self), self.recipient)

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the wrapped key, or None if the stanza is not for this key; raises TokenError.

        The key of a batch is kept: many objects have the same stanza."""
        if not self.matches(stanza):
            return None
        place = stanza, binding
        if place not in self._opened:
            if len(self._opened) >= 4096:
                self._opened.clear()
            self._opened[place] = self._unwrap(stanza, binding)
        return self._opened[place]

    answer = unwrap  # what workers ask for

    def _unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        raise NotImplementedError


class AskingIdentity(HeldIdentity):
    """A staying identity as a worker has it."""

    def __init__(self, number: int, recipient: PublicHalf) -> None:
        super().__init__(recipient)
        self._number = number

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """As `StayingIdentity.unwrap`."""
        if not self.matches(stanza) or home.ask is None:
            return None
        return home.ask(home.Question(self._number, stanza, binding))
