"""The one place that answers "may this certificate do that"."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509

from ..errors import CertificateRefusedError, UsageError
from ..keys.extensions import extension, is_authority
from . import names
from .attributes import AttributeCertificate, check
from .checking import Trust, check_certificate
from .names import Role

#: Each action: the purpose that the certificate must be for.
ACTIONS = {
    "encrypt-to": "encrypt", "decrypt": "decrypt", "sign": "sign", "prescribe": "sign",
    "dispense": "sign", "serve": "tls-server", "issue": "any",
}  # fmt: skip
_COMMON = frozenset({"encrypt-to", "decrypt", "sign"})
#: What each role may do; None is a certificate that states no role. `issue` is of no role: it
#: wants an authority's certificate.
RIGHTS: dict[Role | None, frozenset[str]] = {
    Role.PHYSICIAN: _COMMON | {"prescribe"},
    Role.PHARMACIST: _COMMON | {"dispense"},
    Role.PATIENT: _COMMON,
    Role.HOSPITAL: _COMMON | {"serve"},
    Role.INSURANCE: _COMMON,
    Role.APPLICATION: _COMMON | {"serve"},
    None: _COMMON | {"serve"},
}


_WORDS = {"encrypt-to": "be encrypted to", "serve": "serve over TLS"}


@dataclass(frozen=True)
class Decision:
    """An answer: true or false, with the sentence that says why."""

    allowed: bool
    sentence: str
    reason: str = ""
    roles: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.allowed


def may(
    certificate: x509.Certificate,
    action: str,
    *,
    trust: Trust,
    attribute_certificates: Iterable[AttributeCertificate] = (),
    moment: datetime.datetime | None = None,
    intermediates: Iterable[x509.Certificate] = (),
) -> Decision:
    """Whether a certificate's holder may do something.

    The certificate must be taken for it, and its role, or an attribute certificate that is taken
    too, must have the right. An attribute certificate adds rights and takes none away; one that is
    refused adds none, and a remark says so. Raises UsageError for an unknown action."""
    purpose = ACTIONS.get(action)
    if purpose is None:
        raise UsageError(f"{action!r} is no action; there are {', '.join(ACTIONS)}")
    given = list(intermediates)
    try:
        checked = check_certificate(
            certificate, trust, purpose=purpose, moment=moment, intermediates=given
        )
    except CertificateRefusedError as error:
        return Decision(False, str(error), error.reason)
    what, remarks = f"certificate {names.label(certificate)}", list(checked.remarks)
    if action == "issue":
        usage = extension(certificate.extensions, x509.KeyUsage)
        if is_authority(certificate.extensions) and usage is not None and usage.key_cert_sign:
            return Decision(True, f"{what} may issue certificates", remarks=remarks)
        return Decision(False, f"{what} is not an authority's: it may not issue", "not-a-ca")
    roles: list[Role | None] = [checked.role]
    permitted: set[str] = set()
    for attribute in attribute_certificates:
        try:
            told = check(attribute, certificate, trust, moment=moment, intermediates=given)
        except CertificateRefusedError as error:
            remarks.append(str(error))
            continue
        remarks += told.remarks
        roles += [Role(role) for role in attribute.roles if role in list(Role)]
        permitted |= set(attribute.permissions)
    words = _WORDS.get(action, action)
    known = tuple(str(role) for role in roles if role is not None)
    if action in permitted or any(action in RIGHTS[role] for role in roles):
        how = f"as {', '.join(known)}" if known else "without a role"
        if action in permitted:
            how = "by an attribute certificate"
        return Decision(True, f"{what} may {words} {how}", "", known, list(dict.fromkeys(remarks)))
    said = f"is of role {', '.join(known)}" if known else "states no role"
    need = ", ".join(str(role) for role, rights in RIGHTS.items() if role and action in rights)
    return Decision(
        False, f"{what} {said} and may not {words}: that is for {need}, or for whoever has an "
        "attribute certificate for it", "role", known, remarks,
    )  # fmt: skip


def require(
    certificate: x509.Certificate, action: str, *, trust: Trust,
    attribute_certificates: Iterable[AttributeCertificate] = (),
    moment: datetime.datetime | None = None, intermediates: Iterable[x509.Certificate] = (),
) -> Decision:
    """`may`, raising CertificateRefusedError with the sentence for a no."""
    decision = may(
        certificate, action, trust=trust, attribute_certificates=attribute_certificates,
        moment=moment, intermediates=intermediates,
    )  # fmt: skip
    if not decision:
        raise CertificateRefusedError(decision.sentence, decision.reason)
    return decision
