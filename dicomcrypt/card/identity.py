"""A card's keys as identity and signer of objects."""

from __future__ import annotations

from typing import Any

from ..container.stanza import RSA, Stanza
from ..errors import CardStatusError, TokenError
from ..keys.held import StayingIdentity
from .profile import Slot
from .session import CardSession
from .status import StatusWord


class CardIdentity(StayingIdentity):
    """The deciphering key of a card whose PIN was given: one operation of the card for each stanza,
    and for all objects of a batch together.

    operations: how many the card has done. The session stays open as long as the identity.
    """

    def __init__(self, session: CardSession, recipient: Any) -> None:
        super().__init__(recipient)
        self.session, self.operations = session, 0

    def _unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Raises TokenError, which names the reader and the remedy."""
        if stanza.type != RSA:
            return self._open_hpke(stanza, binding, self._exchange)
        self.operations += 1
        try:
            key = self.session.decipher(Slot.DEC, stanza.body)
        except CardStatusError as error:
            if error.status == StatusWord.WRONG_PARAMETERS:
                return None  # not a cryptogram of this key
            raise
        return key if len(key) == 32 else None

    def _exchange(self, point: bytes) -> bytes:
        self.operations += 1
        return self.session.exchange(Slot.DEC, point)


def card_recipient(session: CardSession, *, certified: bool = True) -> Any:
    """Return the recipient of a card's deciphering key: by its certificate, whose authority's is
    in the card too, or, if there is none and not `certified`, by the bare key.

    Raises TokenError if the card has neither; what else as of `keys.x509.from_certificate`."""
    from ..keys import spki
    from ..keys.x509 import from_certificate
    from ..pki.gate import matches

    certificate = session.certificate(Slot.DEC.certificate_file)
    if certificate is not None:
        if not matches(session.public_key(Slot.DEC), certificate):
            raise TokenError(f"card {session.name}: the certificate in EF.CERT.DEC is not of its "
                             "key: what is encrypted to it cannot be opened with this card")
        authority = session.certificate("EF.CERT.CA")
        return from_certificate(certificate, [authority] if authority is not None else [])
    if certified:
        raise TokenError(f"card {session.name}: it has no certificate to encrypt to: put one into "
                         "it with dicomcrypt card cert import --file DEC")
    return spki.recipient_of(session.public_key(Slot.DEC))


def card_identity(session: CardSession) -> CardIdentity:
    """Return the identity of a card; its PIN must be given before it is used. Raises TokenError."""
    return CardIdentity(session, card_recipient(session, certified=False))


def card_signer(session: CardSession) -> Any:
    """Return who signs objects with a card's signature key, one operation each; its PIN must be
    given before. Raises TokenError if the card has no certificate for it; what else as of
    `keys.signing.Signer`."""
    from ..keys.signing import StayingSigner
    from .keys import card_key

    certificate = session.certificate(Slot.SIG.certificate_file)
    if certificate is None:
        raise TokenError(f"card {session.name}: it has no certificate to sign with: put one into "
                         "it with dicomcrypt card cert import --file SIG")
    authority = session.certificate("EF.CERT.CA")
    return StayingSigner(card_key(session, Slot.SIG), certificate,
                         [authority] if authority is not None else [])
