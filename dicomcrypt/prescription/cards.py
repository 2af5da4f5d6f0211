"""Cards as the holders of keys: a card signs with its key SIG and deciphers with its key DEC, each
with the certificate that lies beside it."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509

from ..card.keys import card_key
from ..card.profile import Slot
from ..card.session import CardSession
from ..errors import PolicyError, TokenError
from ..keys.spki import public_der
from .agent import Agent
from .holders import Holder
from .opening import Sources
from .protecting import Authorise

SLOTS = {"sign": Slot.SIG, "decrypt": Slot.DEC}


def card_certificate(session: CardSession, purpose: str) -> x509.Certificate:
    """Return a card's certificate to `sign` or to `decrypt`; this needs no PIN.

    Raises TokenError if it has none, or one of another key."""
    slot = SLOTS[purpose]
    certificate = session.certificate(slot.certificate_file)
    if certificate is None:
        raise TokenError(f"card {session.name}: it has no certificate to {purpose}: put one into "
                         f"it with dicomcrypt card cert import --file {slot}")
    if public_der(certificate.public_key()) != public_der(session.public_key(slot)):
        raise TokenError(f"card {session.name}: {slot.certificate_file} is of another key than "
                         f"{slot.public_file}")
    return certificate


def card_holder(session: CardSession, purpose: str, ready: Callable[[], object]) -> Holder:
    """Return a card's holder to `sign` or to `decrypt`. ready: gives the card its PIN, when the key
    is used and not before.

    Beside the certificate stand the one of the other key, so that answers can be encrypted to the
    signer, and that of the card's trust centre. Raises TokenError."""
    certificate = card_certificate(session, purpose)
    others = (SLOTS[other].certificate_file for other in SLOTS if other != purpose)
    found = [session.certificate(name) for name in (*others, "EF.CERT.CA")]
    return Holder(card_key(session, SLOTS[purpose], ready), certificate,
                  tuple(c for c in found if c is not None))


def at_the_pad(
    session: CardSession, sources: Sources, show: Callable[[str], None],
    give_pin: Callable[[CardSession], None],
) -> Authorise:
    """Return what lets the patient authorise at a reader with a PIN pad (`protecting.protect`).

    show: shows what the patient agrees to by entering the PIN. give_pin: lets the reader ask for
    it. Raises PolicyError for a reader without one: the PIN would come through this process."""
    if not session.connection.transport.has_pad:
        raise PolicyError(
            f"reader {session.reader!r} has no PIN pad, so the patient's PIN would get here: let "
            "the patient run dicomcrypt prescription patient-agent --card, and give --patient-agent"
        )

    def agrees(text: str) -> bool:
        show(text)
        return True

    return Agent(
        card_certificate(session, "sign"),
        lambda: card_holder(session, "sign", lambda: give_pin(session)), sources, agrees,
    ).authorise
