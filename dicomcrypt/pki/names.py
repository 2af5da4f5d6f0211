"""What a certificate says of its holder, and where it stands: the table of docs/pki.md.

Two extensions are our own, both non-critical: the date of construction and the role. Their object
identifiers lie below 2.25.UUID (ITU-T X.667), which anyone may make without registration.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..errors import UsageError
from ..keys.extensions import extension, is_authority

#: Of the UUID a485e1d9-0c0b-40c6-9cc4-5547b9860342.
ARC = "2.25.218688547529310846649103939357639050050"
CONSTRUCTED = x509.ObjectIdentifier(f"{ARC}.1")
ROLE = x509.ObjectIdentifier(f"{ARC}.2")
#: Attribute of an attribute certificate: actions that the holder may do.
PERMISSIONS = x509.ObjectIdentifier(f"{ARC}.3")
#: Extended key usage: whoever has it may issue attribute certificates.
ATTRIBUTE_AUTHORITY = x509.ObjectIdentifier(f"{ARC}.4")

_YEARS = "dates of certificates are of the years 1950 to 9999"
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253})")


class Role(StrEnum):
    """What a holder is."""

    PHYSICIAN = "physician"
    PHARMACIST = "pharmacist"
    PATIENT = "patient"
    HOSPITAL = "hospital"
    INSURANCE = "insurance"
    APPLICATION = "application"


#: Roles whose holders are persons, with a surname and a given name.
PERSONS = frozenset({Role.PHYSICIAN, Role.PHARMACIST, Role.PATIENT})
#: Profession identifiers of the extension Admission, as German health cards carry them.
PROFESSIONS = {
    "1.2.276.0.76.4.30": Role.PHYSICIAN,
    "1.2.276.0.76.4.32": Role.PHARMACIST,
    "1.2.276.0.76.4.49": Role.PATIENT,
    "1.2.276.0.76.4.53": Role.HOSPITAL,
    "1.2.276.0.76.4.59": Role.INSURANCE,
}


def utc(moment: datetime.datetime) -> datetime.datetime:
    """Return a moment in UTC, to the second; one without a zone is meant in UTC."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    try:
        return zoned.astimezone(datetime.UTC).replace(microsecond=0)
    except OverflowError:
        raise UsageError(_YEARS) from None


def period(
    begin: datetime.datetime | None, end: datetime.datetime | None, days: int
) -> tuple[datetime.datetime, datetime.datetime]:
    """Return when a validity begins, by default now, and ends, by default after so many days.

    Raises UsageError for years that a certificate cannot state, and if it ends first."""
    begin = utc(begin) if begin is not None else now()
    try:
        end = utc(end) if end is not None else begin + datetime.timedelta(days=days)
    except OverflowError:
        raise UsageError(_YEARS) from None
    if min(begin.year, end.year) < 1950:
        raise UsageError(_YEARS)
    if not begin < end:
        raise UsageError("a validity must begin before it ends")
    return begin, end


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _checked(what: str, text: str, most: int = 64) -> str:
    text = unicodedata.normalize("NFC", text.strip())
    if any(unicodedata.category(ch) in ("Cc", "Cf", "Cs", "Zl", "Zp") for ch in text):
        raise UsageError(f"the {what} has characters that cannot be printed")
    # RFC 5280 counts characters; the library that writes certificates counts bytes.
    if len(text.encode()) > most:
        raise UsageError(f"the {what} is longer than {most} bytes (letters with accents have two, "
                         "others up to four)")
    return text


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for. Texts of up to 64 bytes; raises UsageError for others."""

    name: str
    first_name: str = ""
    organisation: str = ""
    department: str = ""
    email: str = ""
    role: Role | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        for what in ("name", "first_name", "organisation", "department"):
            put(self, what, _checked(what.replace("_", " "), getattr(self, what)))
        put(self, "email", self.email.strip())
        if not self.name:
            raise UsageError("a certificate needs a name")
        if self.email and not _EMAIL.fullmatch(self.email):
            raise UsageError("the e-mail address is none, or not ASCII: write a domain as xn--...")
        if self.role is not None:
            put(self, "role", parse_role(self.role))
        if self.first_name and self.role is not None and self.role not in PERSONS:
            raise UsageError(f"a certificate of role {self.role} has no first name")
        _checked("name", self.common_name)

    @property
    def person(self) -> bool:
        return bool(self.first_name) or self.role in PERSONS

    @property
    def common_name(self) -> str:
        return f"{self.first_name} {self.name}".strip()

    def x509_name(self) -> x509.Name:
        """Return the distinguished name."""
        parts = [(NameOID.ORGANIZATION_NAME, self.organisation),
                 (NameOID.ORGANIZATIONAL_UNIT_NAME, self.department)]
        if self.person:
            parts += [(NameOID.SURNAME, self.name), (NameOID.GIVEN_NAME, self.first_name)]
        parts.append((NameOID.COMMON_NAME, self.common_name))
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text])


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says, for people and for JSON."""

    name: str
    first_name: str
    organisation: str
    department: str
    email: str
    role: Role | None
    begin: datetime.datetime
    end: datetime.datetime
    constructed: datetime.datetime | None
    serial: int
    subject: str
    issuer: str
    key: str
    authority: bool
    usage: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what `show --json` prints; moments in ISO 8601, the serial in hexadecimal."""
        shown = dict(self.__dict__)
        for what in ("begin", "end", "constructed"):
            shown[what] = shown[what] and shown[what].strftime("%Y-%m-%dT%H:%M:%SZ")
        return {**shown, "serial": f"{self.serial:x}", "role": self.role and str(self.role)}

    def as_subject(self) -> Subject:
        """Return whom it is for, to make another certificate for the same holder."""
        return Subject(self.name, self.first_name, self.organisation, self.department,
                       self.email, self.role)


def parse_role(text: str) -> Role:
    """Return a role by its name; UsageError for anything else."""
    try:
        return Role(text)
    except ValueError:
        raise UsageError(f"{text!r} is no role; there are {', '.join(Role)}") from None


# ---- our two extensions ------------------------------------------------------


def role_extension(role: Role) -> x509.UnrecognizedExtension:
    """UTF8String with the role's name."""
    text = str(role).encode()
    return x509.UnrecognizedExtension(ROLE, bytes([0x0C, len(text)]) + text)


def constructed_extension(moment: datetime.datetime) -> x509.UnrecognizedExtension:
    """GeneralizedTime YYYYMMDDHHMMSSZ (RFC 5280 section 4.1.2.5.2)."""
    text = utc(moment).strftime("%Y%m%d%H%M%SZ").encode()
    return x509.UnrecognizedExtension(CONSTRUCTED, bytes([0x18, len(text)]) + text)


def _own(extensions: x509.Extensions, oid: x509.ObjectIdentifier, tag: int) -> str | None:
    try:
        value = extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    der = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    if len(der) < 2 or der[0] != tag or der[1] > 127 or len(der) != 2 + der[1]:
        raise ValueError(f"extension {oid.dotted_string} is not encoded as it should be")
    return der[2:].decode()


def role_of(extensions: x509.Extensions) -> Role | None:
    """Return the role that extensions state, ours or a profession of `Admission`.

    Raises ValueError for a role that there is not, and for one that is not encoded as it should.
    """
    text = _own(extensions, ROLE, 0x0C)
    if text is not None:
        return Role(text)
    found = {
        PROFESSIONS[oid.dotted_string]
        for admission in extension(extensions, x509.Admissions) or ()
        for info in admission.profession_infos
        for oid in info.profession_oids or ()
        if oid.dotted_string in PROFESSIONS
    }
    return found.pop() if len(found) == 1 else None


def constructed_of(extensions: x509.Extensions) -> datetime.datetime | None:
    """Return the date of construction; ValueError if it is not encoded as it should be."""
    text = _own(extensions, CONSTRUCTED, 0x18)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{14}Z", text):
        raise ValueError("the date of construction is not encoded as it should be")
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)


# ---- from a certificate or a request -----------------------------------------


def _text(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(oid)
    value = found[0].value if found else ""
    return value if isinstance(value, str) else value.hex()


def email_of(name: x509.Name, extensions: x509.Extensions) -> str:
    """The first address of the alternative names, or of the distinguished name."""
    other = extension(extensions, x509.SubjectAlternativeName)
    found = other.get_values_for_type(x509.RFC822Name) if other is not None else []
    return found[0] if found else _text(name, NameOID.EMAIL_ADDRESS)


def holder_fields(name: x509.Name, extensions: x509.Extensions) -> dict[str, Any]:
    """Return the fields of `Subject` as a certificate or a request states them, unchecked."""
    return {
        "name": _text(name, NameOID.SURNAME) or _text(name, NameOID.COMMON_NAME),
        "first_name": _text(name, NameOID.GIVEN_NAME),
        "organisation": _text(name, NameOID.ORGANIZATION_NAME),
        "department": _text(name, NameOID.ORGANIZATIONAL_UNIT_NAME),
        "email": email_of(name, extensions),
        "role": role_of(extensions),
    }


def facts(certificate: x509.Certificate) -> CertificateFacts:
    """Return what a certificate says. Raises ValueError for fields that are not as they should."""
    from .profiles import key_name, usage_names

    extensions = certificate.extensions
    return CertificateFacts(
        **holder_fields(certificate.subject, extensions),
        begin=certificate.not_valid_before_utc, end=certificate.not_valid_after_utc,
        constructed=constructed_of(extensions), serial=certificate.serial_number,
        subject=certificate.subject.rfc4514_string(), issuer=certificate.issuer.rfc4514_string(),
        key=key_name(certificate.public_key()), authority=is_authority(extensions),
        usage=usage_names(extensions),
    )  # fmt: skip


def label(certificate: x509.Certificate) -> str:
    """Return whom a message may call a certificate's holder: patients are not named."""
    serial = f"{certificate.serial_number:x}"
    try:
        if role_of(certificate.extensions) is Role.PATIENT:
            return f"of a patient (serial {serial})"
        text = _text(certificate.subject, NameOID.COMMON_NAME)
        text = text or certificate.subject.rfc4514_string()
    except ValueError:
        text = ""
    return f"of {text[:64]!r} (serial {serial})" if text else f"with serial {serial}"


def name_text(name: x509.Name) -> str:
    """A distinguished name for a message, cut to what a line holds."""
    return repr((_text(name, NameOID.COMMON_NAME) or name.rfc4514_string())[:64])


def request_builder(subject: Subject) -> x509.CertificateSigningRequestBuilder:
    """Return a certificate request for a holder, to be signed: name, e-mail address, role."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject.x509_name())
    if subject.email:
        other = x509.SubjectAlternativeName([x509.RFC822Name(subject.email)])
        builder = builder.add_extension(other, False)
    if subject.role is not None:
        builder = builder.add_extension(role_extension(subject.role), False)
    return builder
