"""Constants of the card profile HPJC, version 1 (docs/spec/hpjc-v1.md).

Card and host share this module: files, key references, algorithms, instructions, and the forms of
what is written to files. Numbers follow ISO/IEC 7816-4:2013 and -8:2016; algorithm identifiers are
those of the German health cards.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ..errors import UsageError
from ..pki.names import Role
from . import tlv


class CardRole(StrEnum):
    """Which of the two tables of access rules a card follows."""

    PROFESSIONAL = "professional"
    PATIENT = "patient"

    @property
    def number(self) -> int:
        """The last of the historical bytes."""
        return list(CardRole).index(self) + 1


def atr(role: CardRole) -> bytes:
    """Return the answer to reset: T=1, IFSC 254, "HPJC", version 1 and the role."""
    body = bytes.fromhex("868131FE45") + b"HPJC" + bytes((1, role.number))
    check = 0
    for byte in body:
        check ^= byte
    return b"\x3b" + body + bytes((check,))


class Ins(IntEnum):
    """Instructions."""

    ERASE_BINARY = 0x0E
    VERIFY = 0x20
    MSE = 0x22
    CHANGE_REFERENCE_DATA = 0x24
    PSO = 0x2A
    RESET_RETRY_COUNTER = 0x2C
    ACTIVATE = 0x44  # ends the initialisation
    GENERATE = 0x47
    EXTERNAL_AUTHENTICATE = 0x82
    GET_CHALLENGE = 0x84
    INTERNAL_AUTHENTICATE = 0x88
    SELECT = 0xA4
    READ_BINARY = 0xB0
    GET_RESPONSE = 0xC0
    UPDATE_BINARY = 0xD6


#: P1 and P2 of PERFORM SECURITY OPERATION.
PSO_SIGN, PSO_DECIPHER, PSO_HASH, PSO_VERIFY_CERTIFICATE = 0x9E9A, 0x8086, 0x9080, 0x00BE
#: P1 of MANAGE SECURITY ENVIRONMENT: for the card's own keys, and for a partner's.
MSE_OWN, MSE_PARTNER = 0x41, 0x81
#: P2 of it, and the tags of its templates.
CRT_AUTHENTICATION, CRT_HASH, CRT_SIGNATURE, CRT_CONFIDENTIALITY = 0xA4, 0xAA, 0xB6, 0xB8
TAG_ALGORITHM, TAG_PARTNER, TAG_KEY = 0x80, 0x83, 0x84
#: P1 of GENERATE ASYMMETRIC KEY PAIR.
GENERATE_NEW, GENERATE_READ = 0x80, 0x81

# ---- PIN and PUK -------------------------------------------------------------

PIN, PUK = 0x01, 0x02
PIN_TRIES, PUK_USES = 3, 10
_DIGITS = {PIN: range(6, 13), PUK: range(8, 13)}
#: Reference data always are of this length: digits in ASCII, filled with FF.
REFERENCE_LENGTH = 12


def reference_block(digits: str, reference: int = PIN) -> bytes:
    """Return the 12 bytes of a PIN or PUK; UsageError if it has not as many digits as it must."""
    allowed = _DIGITS[reference]
    if len(digits) not in allowed or not (digits.isascii() and digits.isdigit()):
        what = "PIN" if reference == PIN else "PUK"
        raise UsageError(f"a {what} has {allowed[0]} to {allowed[-1]} digits")
    return digits.encode().ljust(REFERENCE_LENGTH, b"\xff")


def is_reference_block(block: bytes, reference: int = PIN) -> bool:
    """Whether these bytes are a PIN or PUK as `reference_block` makes them."""
    digits = block.rstrip(b"\xff")
    right = len(block) == REFERENCE_LENGTH and len(digits) in _DIGITS[reference]
    return right and all(0x30 <= byte <= 0x39 for byte in digits)


# ---- keys and algorithms -----------------------------------------------------


class Slot(StrEnum):
    """The three key pairs."""

    SIG = "SIG"
    DEC = "DEC"
    AUT = "AUT"

    @property
    def reference(self) -> int:
        """The key reference: 81, 82, 83."""
        return 0x81 + list(Slot).index(self)

    @property
    def template(self) -> int:
        """The control reference template that the key is chosen with."""
        return (CRT_SIGNATURE, CRT_CONFIDENTIALITY, CRT_AUTHENTICATION)[list(Slot).index(self)]

    @property
    def public_file(self) -> str:
        return f"EF.PUB.{self}"

    @property
    def certificate_file(self) -> str:
        return f"EF.CERT.{self}"

    @classmethod
    def of(cls, reference: int) -> Slot:
        """Return the slot of a key reference; KeyError if there is none."""
        return {slot.reference: slot for slot in cls}[reference]


class KeyKind(IntEnum):
    """Kinds of key pairs, as GENERATE names them."""

    RSA_3072 = 1
    P256 = 2


class Algorithm(IntEnum):
    """Algorithm identifiers of MSE. All of them are of SHA-256."""

    ECDSA = 0x00  # answer: r and s, 32 bytes each (BSI TR-03111 section 5.2.1, plain format)
    RSA_PKCS1 = 0x02  # RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2)
    RSA_PSS = 0x05  # salt of 32 bytes, MGF1 with SHA-256 (RFC 8017 section 8.1)
    ECDH = 0x0B  # answer: the x coordinate of the shared point, 32 bytes
    RSA_OAEP = 0x85  # MGF1 with SHA-256, empty label (RFC 8017 section 7.1)


#: What INTERNAL AUTHENTICATE puts before the challenge, and EXTERNAL AUTHENTICATE checks: a
#: signature of the authentication key is of nothing else.
AUTHENTICATION_PREFIX = b"HPJC/1 authenticate\0"
#: The bytes of a challenge to be signed, and the least for EXTERNAL AUTHENTICATE.
CHALLENGE = range(8, 65)
LEAST_CHALLENGE = 16
#: MSE's reference (tag 83) of each partner: the low byte of the file of its certificate.
PARTNERS = {
    0x10: Role.INSURANCE, 0x20: Role.PHARMACIST, 0x30: Role.PHYSICIAN, 0x40: Role.HOSPITAL,
    0x50: Role.PATIENT,
}  # fmt: skip

# ---- files -------------------------------------------------------------------

MF = "MF"
DF_HPJC, DF_NOTE = "DF.HPJC", "DF.NOTE"


@dataclass(frozen=True)
class File:
    """A file. sfi: its short identifier, 0 for none. most: bytes it can hold. secret: it holds what
    only the card itself uses. aid: the name of an application."""

    name: str
    fid: int
    parent: str = MF
    sfi: int = 0
    most: int = 0
    secret: bool = False
    aid: bytes = b""

    @property
    def is_folder(self) -> bool:
        return not self.most and not self.secret


def _certificate(name: str, fid: int, sfi: int) -> File:
    return File(name, fid, DF_HPJC, sfi, 8192)


AID_HPJC, AID_NOTE = bytes.fromhex("F048504A430001"), bytes.fromhex("F048504A430002")
FILES = {file.name: file for file in (
    File(MF, 0x3F00, ""),
    File("EF.DIR", 0x2F00, MF, 0x1E, 256),
    File("EF.ATR", 0x2F01, MF, 0x1D, 64),
    File("EF.GDO", 0x2F02, MF, 0x02, 128),
    File("EF.PIN", 0x0010, MF, secret=True),
    File("EF.PUK", 0x0011, MF, secret=True),
    File(DF_HPJC, 0xD001, aid=AID_HPJC),
    File("EF.PRK.SIG", 0x1001, DF_HPJC, secret=True),
    File("EF.PRK.DEC", 0x1002, DF_HPJC, secret=True),
    File("EF.PRK.AUT", 0x1003, DF_HPJC, secret=True),
    File("EF.PUB.SIG", 0x2001, DF_HPJC, 0x01, 1024),
    File("EF.PUB.DEC", 0x2002, DF_HPJC, 0x02, 1024),
    File("EF.PUB.AUT", 0x2003, DF_HPJC, 0x03, 1024),
    File("EF.HASH", 0x2010, DF_HPJC, 0x04, 128),
    _certificate("EF.CERT.AUTHORISATION", 0xC000, 0x05),
    _certificate("EF.CERT.SIG", 0xC001, 0x06),
    _certificate("EF.CERT.DEC", 0xC002, 0x07),
    _certificate("EF.CERT.AUT", 0xC003, 0x08),
    _certificate("EF.CERT.CA", 0xC00F, 0x09),
    _certificate("EF.PUBLIC.CERT.INSU", 0xC010, 0x0A),
    _certificate("EF.PUBLIC.CERT.PHAR", 0xC020, 0x0B),
    _certificate("EF.PUBLIC.CERT.DOC", 0xC030, 0x0C),
    _certificate("EF.PUBLIC.CERT.HOSP", 0xC040, 0x0D),
    File("EF.PATIENT", 0xE001, DF_HPJC, 0x0E, 16384),
    File(DF_NOTE, 0xD002, aid=AID_NOTE),
    File("EF.NOTE", 0xE011, DF_NOTE, 0x01, 4096),
)}  # fmt: skip
#: The file of each partner's certificate.
PARTNER_FILES = {
    role: file.name for reference, role in PARTNERS.items() for file in FILES.values()
    if file.fid == 0xC000 | reference
}  # fmt: skip

# ---- what files hold ---------------------------------------------------------

TAG_ICCSN, TAG_HOLDER = 0x5A, 0x5F20
#: The card's serial number: 20 decimal digits in 10 bytes.
ICCSN_DIGITS = 20
TAG_HASH = 0x90
#: Hash algorithms of EF.HASH (tag 80): SHA-1 is read from old cards, and never written.
HASHES = {0x01: "sha1", 0x02: "sha256"}
_HASH_LENGTHS = {0x01: 20, 0x02: 32}


def gdo(iccsn: str, holder: str) -> bytes:
    """Return the content of EF.GDO. iccsn: 20 digits; holder: UTF-8 of up to 64 bytes.

    Raises UsageError for others."""
    name = holder.encode()
    if len(iccsn) != ICCSN_DIGITS or not (iccsn.isascii() and iccsn.isdigit()):
        raise UsageError("a card's serial number (ICCSN) has 20 digits")
    if not 1 <= len(name) <= 64:
        raise UsageError("a cardholder's name has 1 to 64 bytes")
    return tlv.encode(TAG_ICCSN, bytes.fromhex(iccsn)) + tlv.encode(TAG_HOLDER, name)


def parse_gdo(content: bytes) -> tuple[str, str]:
    """Return (ICCSN, cardholder's name) of EF.GDO; DamagedError if it has another form."""
    found = tlv.fields(content)
    iccsn, name = found.get(TAG_ICCSN, b""), found.get(TAG_HOLDER, b"")
    if len(iccsn) * 2 != ICCSN_DIGITS or not iccsn.hex().isdigit() or not 1 <= len(name) <= 64:
        raise tlv.damaged("EF.GDO")
    try:
        return iccsn.hex(), name.decode()
    except UnicodeDecodeError:
        raise tlv.damaged("EF.GDO") from None


def hash_content(digest: bytes) -> bytes:
    """Return the content of EF.HASH for a SHA-256 digest; UsageError for another length."""
    if len(digest) != 32:
        raise UsageError("EF.HASH takes a SHA-256 digest of 32 bytes")
    return tlv.encode(TAG_ALGORITHM, b"\x02") + tlv.encode(TAG_HASH, digest)


def parse_hash(content: bytes) -> tuple[str, bytes]:
    """Return (`hashlib` name, digest) of EF.HASH; DamagedError if it has another form."""
    found = tlv.fields(content)
    algorithm, digest = found.get(TAG_ALGORITHM, b""), found.get(TAG_HASH, b"")
    if len(algorithm) != 1 or _HASH_LENGTHS.get(algorithm[0]) != len(digest):
        raise tlv.damaged("EF.HASH")
    return HASHES[algorithm[0]], digest
