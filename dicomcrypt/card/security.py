"""Commands on keys (ISO/IEC 7816-4:2013, clause 11.5; ISO/IEC 7816-8:2016)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from ..errors import CertificateRefusedError, DamagedError, UsageError
from ..pki import files
from ..pki.checking import Trust, check_certificate
from ..pki.profiles import usage_problem
from . import profile, tlv
from .access import Operation
from .apdu import SHORT_ANSWER, CommandApdu
from .profile import DF_HPJC, FILES, PARTNERS, Algorithm, KeyKind, Slot
from .proof import DIGEST, PADDINGS, SHA256, check, proof
from .state import StoredKey
from .status import StatusWord
from .volatile import Refused

if TYPE_CHECKING:
    from .software import SoftwareCard

_OAEP = padding.OAEP(padding.MGF1(SHA256), SHA256, None)
#: What a template is for: {kind of key: algorithms}.
_SIGNING = {
    KeyKind.RSA_3072: {Algorithm.RSA_PKCS1, Algorithm.RSA_PSS}, KeyKind.P256: {Algorithm.ECDSA},
}
_ALGORITHMS = {
    profile.CRT_SIGNATURE: _SIGNING, profile.CRT_AUTHENTICATION: _SIGNING,
    profile.CRT_CONFIDENTIALITY: {
        KeyKind.RSA_3072: {Algorithm.RSA_OAEP}, KeyKind.P256: {Algorithm.ECDH},
    },
}  # fmt: skip
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_MAKERS: dict[KeyKind, Callable[[], PrivateKey]] = {
    KeyKind.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyKind.P256: lambda: ec.generate_private_key(ec.SECP256R1()),
}
_POINT = 65


def _in_application(card: SoftwareCard) -> None:
    """The keys are those of DF.HPJC, and of no other application."""
    if card.volatile.folder.name != DF_HPJC:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)


def _fields(data: bytes) -> dict[int, bytes]:
    try:
        return tlv.fields(data)
    except DamagedError:
        raise Refused(StatusWord.WRONG_PARAMETERS) from None


# ---- MANAGE SECURITY ENVIRONMENT ---------------------------------------------


def manage_environment(card: SoftwareCard, command: CommandApdu) -> bytes:
    """MSE SET: algorithm (80) and key (84) for the card's own keys (P1 41); algorithm and partner
    (83) for a partner's (P1 81); the hash algorithm (80) for PSO: HASH (41 AA)."""
    where, template = command.p1, command.p2
    own = where == profile.MSE_OWN
    known = {profile.CRT_SIGNATURE, profile.CRT_AUTHENTICATION}
    if own:
        known |= {profile.CRT_CONFIDENTIALITY, profile.CRT_HASH}
    elif where != profile.MSE_PARTNER:
        raise Refused(StatusWord.WRONG_P1P2)
    if template not in known:
        raise Refused(StatusWord.WRONG_P1P2)
    _in_application(card)
    found = _fields(command.data)
    if any(len(value) != 1 for value in found.values()):
        raise Refused(StatusWord.WRONG_PARAMETERS)
    algorithm = found.pop(profile.TAG_ALGORITHM, None)
    if template == profile.CRT_HASH:
        if found or algorithm != b"\x02":
            raise Refused(StatusWord.WRONG_PARAMETERS)
        chosen = (2, 0)
    elif own:
        chosen = _own_key(card, template, algorithm, found)
    else:
        chosen = _partner(template, algorithm, found)
    card.volatile.environment[where, template] = chosen
    return b""


def _own_key(
    card: SoftwareCard, template: int, algorithm: bytes | None, found: dict[int, bytes]
) -> tuple[int, int]:
    if set(found) != {profile.TAG_KEY} or algorithm is None:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    reference = found[profile.TAG_KEY][0]
    slot = _slot(reference)
    stored = card.data.keys.get(slot)
    if stored is None:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    if algorithm[0] not in _ALGORITHMS[template][stored.kind]:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    return algorithm[0], reference


def _partner(
    template: int, algorithm: bytes | None, found: dict[int, bytes]
) -> tuple[int, int]:
    if set(found) != {profile.TAG_PARTNER}:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    reference = found[profile.TAG_PARTNER][0]
    if reference not in PARTNERS:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    if template == profile.CRT_SIGNATURE:  # the certificate says how it is signed
        if algorithm is not None:
            raise Refused(StatusWord.WRONG_PARAMETERS)
        return 0, reference
    if algorithm is None or algorithm[0] not in {a for kind in _SIGNING.values() for a in kind}:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    return algorithm[0], reference


def _slot(reference: int) -> Slot:
    try:
        return Slot.of(reference)
    except KeyError:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND) from None


def _set_up(card: SoftwareCard, where: int, template: int) -> tuple[int, int]:
    """What MSE set for a template: (algorithm, reference)."""
    _in_application(card)
    try:
        return card.volatile.environment[where, template]
    except KeyError:
        raise Refused(StatusWord.CONDITIONS) from None


def _key(card: SoftwareCard, template: int, operation: Operation) -> tuple[Algorithm, PrivateKey]:
    """The card's own key that MSE chose, if the access rules let it be used now."""
    algorithm, reference = _set_up(card, profile.MSE_OWN, template)
    slot = _slot(reference)
    card.need(f"EF.PRK.{slot}", operation)
    return Algorithm(algorithm), card.private_key(slot)


# ---- PERFORM SECURITY OPERATION ----------------------------------------------


def perform_operation(card: SoftwareCard, command: CommandApdu) -> bytes:
    """PSO: the operation that P1 and P2 name."""
    operations = {
        profile.PSO_SIGN: _sign_digest, profile.PSO_DECIPHER: _decipher,
        profile.PSO_HASH: _hash, profile.PSO_VERIFY_CERTIFICATE: _verify_certificate,
    }  # fmt: skip
    operation = operations.get(command.p1p2)
    if operation is None:
        raise Refused(StatusWord.WRONG_P1P2)
    return operation(card, command)


def _signature(key: PrivateKey, algorithm: Algorithm, digest: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, PADDINGS[algorithm], DIGEST)
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(DIGEST)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _sign_digest(card: SoftwareCard, command: CommandApdu) -> bytes:
    """COMPUTE DIGITAL SIGNATURE over a SHA-256 digest, or over that of PSO: HASH."""
    algorithm, key = _key(card, profile.CRT_SIGNATURE, Operation.SIGN)
    digest = command.data or card.volatile.digest
    if not digest:
        raise Refused(StatusWord.CONDITIONS)
    if len(digest) != SHA256.digest_size:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    card.volatile.digest = b""
    return _signature(key, algorithm, digest)


def _decipher(card: SoftwareCard, command: CommandApdu) -> bytes:
    """DECIPHER: 00 and a cryptogram of RSA-OAEP; or A6 {7F49 {86 point}} for ECDH."""
    _, key = _key(card, profile.CRT_CONFIDENTIALITY, Operation.DECIPHER)
    if isinstance(key, rsa.RSAPrivateKey):
        if len(command.data) != 1 + key.key_size // 8 or command.data[0]:
            raise Refused(StatusWord.WRONG_PARAMETERS)
        try:
            return key.decrypt(command.data[1:], _OAEP)
        except ValueError:
            raise Refused(StatusWord.WRONG_PARAMETERS) from None
    point = command.data
    for tag in (0xA6, 0x7F49, 0x86):
        point = _fields(point).get(tag, b"")
    try:
        if len(point) != _POINT:
            raise ValueError("a point is 04, x and y")
        other = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
    except ValueError:
        raise Refused(StatusWord.WRONG_PARAMETERS) from None
    return key.exchange(ec.ECDH(), other)


def _hash(card: SoftwareCard, command: CommandApdu) -> bytes:
    """HASH: SHA-256 of all the data, kept for the signature that comes next."""
    _set_up(card, profile.MSE_OWN, profile.CRT_HASH)
    card.volatile.digest = hashlib.sha256(command.data).digest()
    return card.volatile.digest if command.answer else b""


def _verify_certificate(card: SoftwareCard, command: CommandApdu) -> bytes:
    """VERIFY CERTIFICATE: an X.509 certificate, by the authority of EF.CERT.CA, of the role that
    MSE named, at the clock's time."""
    _, reference = _set_up(card, profile.MSE_PARTNER, profile.CRT_SIGNATURE)
    card.need("EF.CERT.CA", Operation.VERIFY)
    role = PARTNERS[reference]
    card.volatile.verified.pop(role, None)
    held = tlv.first(card.content(FILES["EF.CERT.CA"]))
    if not held:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    try:
        if command.data[:1] != b"\x30":  # DER, and no PEM
            raise UsageError("not DER")
        (given,) = files.parse_certificates(command.data, "the certificate")
        (authority,) = files.parse_certificates(held, "the authority's certificate")
        check_certificate(
            given, Trust((authority,)), purpose="any", role=role, moment=card.clock()
        )
    except CertificateRefusedError as error:
        malformed = error.reason == "malformed"
        raise Refused(
            StatusWord.WRONG_PARAMETERS if malformed else StatusWord.VERIFICATION_FAILED
        ) from None
    except UsageError:
        raise Refused(StatusWord.WRONG_PARAMETERS) from None
    card.volatile.verified[role] = given
    return b""


# ---- authentication ----------------------------------------------------------


def get_challenge(card: SoftwareCard, command: CommandApdu) -> bytes:
    """GET CHALLENGE: Le random bytes, 8 to 64 (all: 32)."""
    if command.p1p2:
        raise Refused(StatusWord.WRONG_P1P2)
    length = 32 if command.answer == SHORT_ANSWER else command.answer
    if command.data or length not in profile.CHALLENGE:
        raise Refused(StatusWord.WRONG_LENGTH)
    card.volatile.challenge = os.urandom(length)
    return card.volatile.challenge


def internal_authenticate(card: SoftwareCard, command: CommandApdu) -> bytes:
    """INTERNAL AUTHENTICATE: the card signs a challenge of 8 to 64 bytes, after a prefix."""
    if command.p1p2:
        raise Refused(StatusWord.WRONG_P1P2)
    algorithm, key = _key(card, profile.CRT_AUTHENTICATION, Operation.AUTHENTICATE)
    if len(command.data) not in profile.CHALLENGE:
        raise Refused(StatusWord.WRONG_LENGTH)
    return _signature(key, algorithm, proof(command.data))


def external_authenticate(card: SoftwareCard, command: CommandApdu) -> bytes:
    """EXTERNAL AUTHENTICATE: a partner, whose certificate was verified before, has signed the last
    challenge; from now on the card knows that a holder of this role is there."""
    if command.p1p2:
        raise Refused(StatusWord.WRONG_P1P2)
    algorithm, reference = _set_up(card, profile.MSE_PARTNER, profile.CRT_AUTHENTICATION)
    role, now = PARTNERS[reference], card.volatile
    now.status.partners.discard(role)
    certificate = now.verified.get(role)
    if certificate is None:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    challenge, now.challenge = now.challenge, b""  # one answer each
    if len(challenge) < profile.LEAST_CHALLENGE:
        raise Refused(StatusWord.CONDITIONS)
    if usage_problem(certificate, "tls-client") is not None:
        raise Refused(StatusWord.VERIFICATION_FAILED)
    try:
        check(certificate.public_key(), Algorithm(algorithm), command.data, proof(challenge))
    except InvalidSignature:
        raise Refused(StatusWord.VERIFICATION_FAILED) from None
    now.status.partners.add(role)
    return b""


# ---- key pairs ---------------------------------------------------------------


def generate(card: SoftwareCard, command: CommandApdu) -> bytes:
    """GENERATE ASYMMETRIC KEY PAIR: makes one (P1 80) or reads the public key (P1 81); the answer
    is 7F49 {81 modulus, 82 exponent} or 7F49 {86 point}."""
    fresh = command.p1 == profile.GENERATE_NEW
    if command.p1 not in (profile.GENERATE_NEW, profile.GENERATE_READ) or command.p2:
        raise Refused(StatusWord.WRONG_P1P2)
    _in_application(card)
    outer = _fields(command.data)
    if len(outer) != 1:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    ((template, inner),) = outer.items()
    found = _fields(inner)
    wanted = {profile.TAG_KEY, profile.TAG_ALGORITHM} if fresh else {profile.TAG_KEY}
    if set(found) != wanted or any(len(value) != 1 for value in found.values()):
        raise Refused(StatusWord.WRONG_PARAMETERS)
    slot = _slot(found[profile.TAG_KEY][0])
    if template != slot.template:
        raise Refused(StatusWord.WRONG_PARAMETERS)
    if fresh:
        _new_pair(card, slot, found[profile.TAG_ALGORITHM][0])
    card.need(slot.public_file, Operation.READ)
    if slot not in card.data.keys:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    return tlv.encode(0x7F49, _public(card.private_key(slot).public_key()))


def _new_pair(card: SoftwareCard, slot: Slot, kind: int) -> None:
    card.need(f"EF.PRK.{slot}", Operation.GENERATE)
    if kind not in set(KeyKind):
        raise Refused(StatusWord.WRONG_PARAMETERS)
    key = _MAKERS[KeyKind(kind)]()
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )  # fmt: skip
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    card.volatile.environment = {}  # it may have chosen the old key, of another kind
    card.commit(
        keys={**card.data.keys, slot: StoredKey(KeyKind(kind), der)},
        files={**card.data.files, slot.public_file: public},
    )


def _public(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        size = key.key_size // 8
        return (tlv.encode(0x81, numbers.n.to_bytes(size, "big"))
                + tlv.encode(0x82, numbers.e.to_bytes(3, "big")))  # fmt: skip
    return tlv.encode(0x86, key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    ))  # fmt: skip
