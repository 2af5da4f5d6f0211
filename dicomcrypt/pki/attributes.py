"""Attribute certificates (RFC 5755): roles and permissions beside a certificate, and shorter-lived.

The holder is named by issuer and serial of its certificate, the role by the attribute `role`
(2.5.4.72) with the URI `urn:dicomcrypt:role:NAME`, permissions by an attribute of our own with one
UTF8String for each action. asn1crypto (extra `pki`) reads and writes the structure; signatures are
those of `signatures`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from ..errors import CertificateRefusedError, MissingExtraError, UsageError
from ..keys.extensions import extension
from . import files, names
from .checking import CheckedCertificate, Trust, check_certificate
from .revocation import day
from .signatures import issuing_key, sign, verify

ROLE_URI = "urn:dicomcrypt:role:"
_ROLE, _PERMISSIONS = "2.5.4.72", names.PERMISSIONS.dotted_string
_NO_REVOCATION = "2.5.29.56"  # noRevAvail, the one extension that matters here
_BEGIN, _END = b"-----BEGIN ATTRIBUTE CERTIFICATE-----", b"-----END ATTRIBUTE CERTIFICATE-----"
#: What asn1crypto raises for bytes that are none.
_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError)


def _asn1() -> Any:
    try:
        from asn1crypto import cms, core
        from asn1crypto import x509 as ax509
    except ImportError:
        raise MissingExtraError(
            "attribute certificates need asn1crypto: pip install 'dicomcrypt[pki]'"
        ) from None
    return cms, core, ax509


@dataclass(frozen=True)
class AttributeCertificate:
    """What an attribute certificate states, and what its signature is over."""

    serial: int
    holder_issuer: bytes  # DER of a Name, as `issuer`
    holder_serial: int
    issuer: bytes
    begin: datetime.datetime
    end: datetime.datetime
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    critical: tuple[str, ...]
    algorithm: str
    signature: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    der: bytes = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "serial": f"{self.serial:x}", "issuer": name_text(self.issuer),
            "holder_issuer": name_text(self.holder_issuer),
            "holder_serial": f"{self.holder_serial:x}",
            "begin": self.begin.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "end": self.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "roles": list(self.roles), "permissions": list(self.permissions),
        }  # fmt: skip

    def pem(self) -> bytes:
        text = base64.b64encode(self.der)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return b"\n".join([_BEGIN, *lines, _END]) + b"\n"


def name_text(der: bytes) -> str:
    """A distinguished name for people."""
    text: str = _asn1()[2].Name.load(der).human_friendly
    return text


# ---- issuing -----------------------------------------------------------------


def issue(
    holder: x509.Certificate, authority: x509.Certificate, key: Any, *, serial: int,
    roles: Sequence[str] = (), permissions: Sequence[str] = (),
    begin: datetime.datetime | None = None, end: datetime.datetime | None = None,
) -> AttributeCertificate:
    """Sign an attribute certificate for the holder of a certificate; by default for a year.

    Raises UsageError for roles and permissions that there are not, and for none at all."""
    from .rights import ACTIONS

    cms, core, ax509 = _asn1()
    for role in roles:
        names.parse_role(role)
    for action in permissions:
        if action not in ACTIONS:
            raise UsageError(f"{action!r} is no action; there are {', '.join(ACTIONS)}")
    if not roles and not permissions:
        raise UsageError("an attribute certificate needs a role or a permission")
    last, given = min(holder.not_valid_after_utc, authority.not_valid_after_utc), end is not None
    begin, end = names.period(begin, end, 365)
    if given and end > last:
        raise UsageError("the attribute certificate would outlive its holder's certificate or its "
                         f"issuer's, which ends on {last:%Y-%m-%d}: give an earlier end")
    end = min(end, last)
    if not begin < end:
        raise UsageError("an attribute certificate's validity must begin before it ends, and its "
                         f"holder's or issuer's certificate ends on {last:%Y-%m-%d}")
    attributes = []
    if roles:
        values = [
            cms.RoleSyntax({"role_name": ax509.GeneralName(
                name="uniform_resource_identifier", value=f"{ROLE_URI}{role}")})
            for role in roles
        ]  # fmt: skip
        attributes.append({"type": "role", "values": values})
    if permissions:
        values = [core.Any(core.UTF8String(action)) for action in permissions]
        attributes.append(cms.AttCertAttribute({"type": _PERMISSIONS, "values": values}))

    def directory(name: x509.Name) -> Any:
        return [ax509.GeneralName(name="directory_name",
                                  value=ax509.Name.load(name.public_bytes()))]  # fmt: skip

    # The algorithm is part of what is signed: sign once to learn it.
    algorithm = {"algorithm": sign(key, b"")[0]}
    if algorithm["algorithm"].startswith("1.2.840.113549"):
        algorithm = {**algorithm, "parameters": core.Null()}
    info = cms.AttributeCertificateInfoV2({
        "version": "v2",
        "holder": {"base_certificate_id": {
            "issuer": directory(holder.issuer), "serial": holder.serial_number}},
        "issuer": cms.AttCertIssuer(
            name="v2_form", value=cms.V2Form({"issuer_name": directory(authority.subject)})),
        "signature": algorithm,
        "serial_number": serial,
        "att_cert_validity_period": {"not_before_time": begin, "not_after_time": end},
        "attributes": attributes,
    })  # fmt: skip
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key(authority))
    info["extensions"] = [{"extn_id": "authority_key_identifier", "critical": False,
                           "extn_value": core.ParsableOctetString(identifier.public_bytes())}]
    signed = info.dump()
    whole = cms.AttributeCertificateV2({
        "ac_info": info, "signature_algorithm": algorithm, "signature": sign(key, signed)[1],
    })  # fmt: skip
    return parse(whole.dump(), "the new attribute certificate")


# ---- reading -----------------------------------------------------------------


def load(path: str) -> AttributeCertificate:
    """Read the attribute certificate of a file, PEM or DER; errors as of `parse`."""
    data = files.read(path, "attribute certificate", files.MAX_CERTIFICATE * 2)
    where = f"attribute certificate {path!r}"
    if _BEGIN in data:
        body = data.partition(_BEGIN)[2].partition(_END)[0]
        try:
            data = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            raise files.malformed(where) from None
    elif data[:1] != b"\x30":
        raise UsageError(f"{where} holds none: neither PEM nor DER")
    return parse(data, where)


def parse(der: bytes, where: str = "the attribute certificate") -> AttributeCertificate:
    """Parse DER. Raises CertificateRefusedError with reason `malformed`."""
    cms, _, _ = _asn1()
    if len(der) > files.MAX_CERTIFICATE:
        raise files.malformed(where, "it is too large")
    try:
        with files.quiet():
            whole = cms.AttributeCertificateV2.load(der, strict=True)
            found = _take(whole, der)
            _ = name_text(found.issuer), name_text(found.holder_issuer)
            return found
    except (*_ERRORS, *files.PARSE_ERRORS):
        raise files.malformed(where) from None


def _take(whole: Any, der: bytes) -> AttributeCertificate:
    info = whole["ac_info"]
    if info["version"].native != "v2":
        raise ValueError("not of version 2")
    if info["signature"].dump() != whole["signature_algorithm"].dump():
        raise ValueError("it names two algorithms")
    base = info["holder"]["base_certificate_id"]
    if not base.contents or info["holder"]["object_digest_info"].contents:
        raise ValueError("its holder is not named by issuer and serial alone")
    if info["issuer"].name != "v2_form":
        raise ValueError("its issuer is not named in the form of version 2")
    roles, permissions = [], []
    for attribute in info["attributes"]:
        kind = attribute["type"].dotted
        for value in attribute["values"]:
            if kind == _ROLE:
                name = value["role_name"]
                text = name.native if name.name == "uniform_resource_identifier" else ""
                if text.startswith(ROLE_URI):
                    roles.append(text.removeprefix(ROLE_URI))
            elif kind == _PERMISSIONS:
                permissions.append(_utf8(value.dump()))
    critical, seen = [], set()
    for found in info["extensions"]:
        oid = found["extn_id"].dotted
        if oid in seen:
            raise ValueError("an extension twice")
        seen.add(oid)
        if found["critical"].native:
            critical.append(oid)
    from asn1crypto import core, parser

    signature = whole["signature"].native
    parts = (info, whole["signature_algorithm"], core.OctetBitString(signature))
    # What is not signed has one form alone: unused bits, lengths.
    if parser.emit(0, 1, 16, b"".join(part.dump() for part in parts)) != der:
        raise ValueError("not in DER")
    period, serial = info["att_cert_validity_period"], info["serial_number"].native
    if not 0 < serial < 1 << 160:
        raise ValueError("its serial number is not one of 1 to 160 bits")
    return AttributeCertificate(
        serial=serial, holder_issuer=_directory(base["issuer"]),
        holder_serial=base["serial"].native,
        issuer=_directory(info["issuer"].chosen["issuer_name"]),
        begin=names.utc(period["not_before_time"].native),
        end=names.utc(period["not_after_time"].native),
        roles=tuple(sorted(roles)), permissions=tuple(sorted(permissions)),
        critical=tuple(critical),
        algorithm=whole["signature_algorithm"]["algorithm"].dotted,
        signature=signature, signed=info.dump(), der=der,
    )  # fmt: skip


def _directory(general_names: Any) -> bytes:
    if len(general_names) != 1 or general_names[0].name != "directory_name":
        raise ValueError("a name that is no distinguished name")
    der: bytes = general_names[0].chosen.untag().dump()
    return der


def _utf8(der: bytes) -> str:
    if len(der) < 2 or der[0] != 0x0C or der[1] > 127 or len(der) != 2 + der[1]:
        raise ValueError("a permission that is no UTF8String")
    return der[2:].decode()


# ---- verifying ---------------------------------------------------------------


def check(
    attribute: AttributeCertificate, holder: x509.Certificate, trust: Trust, *,
    moment: datetime.datetime | None = None, intermediates: Iterable[x509.Certificate] = (),
) -> CheckedCertificate:
    """Verify an attribute certificate for the holder of a certificate; return its issuer's check.

    The issuer is looked for among `trust.intermediates` and `intermediates`, must lead to a trusted
    root and carry the extended key usage of attribute authorities. Targeting and any other
    critical extension is refused. Raises CertificateRefusedError."""
    moment = names.utc(moment) if moment is not None else names.now()
    what = f"attribute certificate {attribute.serial:x}"
    given = list(intermediates)

    def refuse(reason: str, text: str) -> CertificateRefusedError:
        return CertificateRefusedError(f"{what} {text}", reason)

    if (holder.issuer.public_bytes(), holder.serial_number) != (
        attribute.holder_issuer, attribute.holder_serial
    ):  # fmt: skip
        raise refuse("holder", f"is not for certificate {names.label(holder)}: use the one that "
                     f"was made for serial {attribute.holder_serial:x}")
    if attribute.critical:
        raise refuse("unknown-critical-extension", "has the critical extension "
                     f"{attribute.critical[0]}, which is not understood here: ask for one "
                     "without it")
    known = (*trust.intermediates, *given)
    candidates = [c for c in known if c.subject.public_bytes() == attribute.issuer]
    issuer = repr(name_text(attribute.issuer)[:80])
    if not candidates:
        raise refuse("wrong-issuer", f"was issued by {issuer}, whose certificate is not at hand: "
                     "name it with the intermediates")
    right = None
    for candidate in candidates[:8]:
        verdict = verify(candidate.public_key(), attribute.algorithm, attribute.signature,
                         attribute.signed)
        if verdict is None:
            raise refuse("algorithm", f"is signed with {attribute.algorithm}, which is not taken")
        if verdict:
            right = candidate
            break
    if right is None:
        raise refuse("bad-signature", f"is not signed by {issuer} as it says: it was changed or "
                     "forged, do not use it")
    checked = check_certificate(right, trust, purpose="any", moment=moment, intermediates=given)
    usage = extension(right.extensions, x509.ExtendedKeyUsage)
    if usage is None or names.ATTRIBUTE_AUTHORITY not in usage:
        raise refuse("not-an-attribute-authority", f"was issued by {issuer}, which may issue none: "
                     "do not use it")
    if moment > attribute.end:
        raise refuse("expired", f"expired on {day(attribute.end)}: ask for the renewed one")
    if moment < attribute.begin:
        raise refuse("not-yet-valid", f"is valid only from {day(attribute.begin)}: wait until "
                     "then, or check this machine's clock")
    remarks: list[str] = []
    for problem in trust.lists.problems(
        attribute.serial, what, right, moment, required=trust.require_crl, attribute=True,
        remarks=remarks,
    ):  # fmt: skip
        raise CertificateRefusedError(problem.sentence, problem.reason)
    checked.remarks.extend(remarks)
    return checked



def of_authority(
    authority: Any, holder: x509.Certificate, passphrase: Any, *,
    deliver: Callable[[AttributeCertificate], None] | None = None,
    intermediates: Iterable[x509.Certificate] = (), **options: Any,
) -> AttributeCertificate:
    """Issue by an `Authority`'s attribute authority, and note it in its database.

    The holder's certificate must be taken: by the authority's own root, or one of section [trust]
    of the configuration; with intermediates if it came with some. deliver: as of `Authority.issue`.
    Raises PolicyError (also CertificateRefusedError) for a holder or authority that was revoked,
    and for a key that is no longer secret."""
    from .authority import new_serial
    from .database import stamp

    authority.standing("attribute")
    authority.standing("issuing")
    _check_holder(authority, holder, intermediates)
    key = authority.unlock("attribute", passphrase)
    made = issue(holder, authority.certificate("attribute"), key, serial=new_serial(), **options)
    facts = names.facts(holder)
    with authority.database.change():
        authority.database.add(
            serial=f"{made.serial:x}", issuer="attribute", kind="attributes",
            subject=facts.subject, email=facts.email, role=made.roles[0] if made.roles else None,
            uses=" ".join(made.permissions), begin=stamp(made.begin), end=stamp(made.end),
            issued=stamp(names.now()), der=made.der,
        )  # fmt: skip
        if deliver is not None:
            deliver(made)
    return made


def _check_holder(
    authority: Any, holder: x509.Certificate, intermediates: Iterable[x509.Certificate]
) -> None:
    """Raise PolicyError unless a certificate is one that an authority may speak about."""
    told = Trust.from_config()
    trust = Trust(
        (authority.certificate("root"), *told.roots),
        (authority.certificate("issuing"), *told.intermediates), told.crls,
    )
    check_certificate(holder, trust, purpose="any", intermediates=intermediates,
                      moment=max(names.now(), holder.not_valid_before_utc))
    if holder.issuer == authority.certificate("issuing").subject:
        authority.stands(holder.serial_number, "the holder's certificate")
    authority.require_unbroken(holder.public_key())
