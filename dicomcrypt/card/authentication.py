"""A card proves who its holder is: to a host, or to another card."""

from __future__ import annotations

import functools
import os

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import TokenError
from ..pki import names
from .profile import PARTNERS, Algorithm, Slot
from .proof import check, proof
from .session import CardSession


def _certificate(session: CardSession) -> x509.Certificate:
    found = session.certificate(Slot.AUT.certificate_file)
    if found is None:
        raise TokenError(f"card {session.name}: it has no certificate to authenticate with: put "
                         "one into it with dicomcrypt card cert import --file AUT")
    return found


def _algorithm(certificate: x509.Certificate) -> Algorithm:
    is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    return Algorithm.RSA_PSS if is_rsa else Algorithm.ECDSA


def proven_certificate(session: CardSession) -> x509.Certificate:
    """Let a card, whose PIN was given, sign a fresh challenge; return the certificate whose key
    did, which is not judged. Raises TokenError if the signature is wrong, or there is none."""
    certificate, challenge = _certificate(session), os.urandom(32)
    algorithm = _algorithm(certificate)
    signature = session.prove(algorithm, challenge)
    try:
        check(certificate.public_key(), algorithm, signature, proof(challenge))
    except InvalidSignature:
        raise TokenError(f"card {session.name}: it does not hold the key of its certificate in "
                         f"{Slot.AUT.certificate_file}") from None
    return certificate


def introduce(guest: CardSession, host: CardSession) -> names.Role:
    """Let a card, whose PIN was given, authenticate to another one, which knows then until its
    reset that a holder of that role is there; return the role.

    Raises CardStatusError if the other card refuses the certificate or the proof, TokenError."""
    certificate = _certificate(guest)
    role = names.role_of(certificate.extensions)
    if role is None or role not in PARTNERS.values():
        raise TokenError(f"card {guest.name}: its certificate states no role that a card knows")
    algorithm = _algorithm(certificate)
    host.meet(role, certificate.public_bytes(Encoding.DER), algorithm,
              functools.partial(guest.prove, algorithm))
    return role
