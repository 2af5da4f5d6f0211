"""Personalisation: an empty card gets its keys, which it makes itself, PIN, PUK and certificates.

The card signs a request for each key while it is being initialised, the deciphering key's too, as
a proof that it holds them; later it does not.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import UsageError
from ..pki import names
from . import profile
from .keys import card_key
from .profile import PIN, PUK, CardRole, KeyKind, Slot
from .session import CardSession

#: What each key's certificate is for (`pki.profiles.PROFILES`).
USES = {Slot.SIG: "signing", Slot.DEC: "encryption", Slot.AUT: "tls-client"}
#: Whom a card of either role can be for.
HOLDERS = {
    CardRole.PATIENT: {names.Role.PATIENT},
    CardRole.PROFESSIONAL: set(names.Role) - {names.Role.PATIENT, names.Role.APPLICATION},
}
Deliver = Callable[[x509.Certificate], None]
#: Makes a certificate of a request and delivers it to the card; or keeps the request, if somebody
#: else will make it.
Certify = Callable[[Slot, x509.CertificateSigningRequest, Deliver], None]


def new_iccsn() -> str:
    """Return a serial number: 80 (health cards), 000 and 00000 (no country, no issuer), and ten
    random digits."""
    return "8000000000" + f"{secrets.randbelow(10**10):010}"


def personalise(
    session: CardSession, subject: names.Subject, certify: Certify, *, pin: str, puk: str,
    iccsn: str, kind: KeyKind, authority: x509.Certificate | None,
    told: Callable[[str], None] = lambda step: None,
) -> None:
    """Personalise an empty card and put it into operation.

    authority: whose certificates the card takes as those of its partners. told: hears what is
    being done. An interrupted personalisation is begun anew. Raises UsageError if the card is in
    operation already, or the subject has another role than the card; TokenError."""
    if subject.role not in HOLDERS[session.role]:
        raise UsageError(f"a {session.role} card is not for the role {subject.role}")
    if session.is_operational():
        raise UsageError(f"card {session.name} is in operation already: it cannot be personalised "
                         "again")
    profile.reference_block(pin)  # refused before anything is written
    profile.reference_block(puk, PUK)
    told("number, name, PIN and PUK")
    session.describe(iccsn, subject.common_name)
    session.set_reference(PIN, pin)
    session.set_reference(PUK, puk)
    requests = {}
    for slot in Slot:
        told(f"key {slot}")
        session.generate(slot, kind)
    session.verify(pin)
    builder = names.request_builder(subject)
    for slot in Slot:
        requests[slot] = builder.sign(card_key(session, slot), hashes.SHA256())
    for slot, request in requests.items():
        told(f"certificate {slot}")
        certify(slot, request, functools.partial(_deliver, session, slot))
    if authority is not None:
        session.update("EF.CERT.CA", authority.public_bytes(Encoding.DER))
    session.activate()


def _deliver(session: CardSession, slot: Slot, certificate: x509.Certificate) -> None:
    session.update(slot.certificate_file, certificate.public_bytes(Encoding.DER))
