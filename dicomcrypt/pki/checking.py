"""Whether a certificate is taken, and in a sentence why not (RFC 5280, section 6).

Every reason is worked out here, and then `cryptography.x509.verification` judges the same chain:
what it refuses is never taken. It knows no revocation and no roles, and its reasons are its own.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptography import x509

from ..errors import CertificateRefusedError, UsageError
from ..keys.extensions import extension, is_authority
from . import files, names
from .paths import MAX_CHAIN, Pool, Search
from .profiles import PURPOSES, extended_fits, usage_problem, weakness
from .revocation import Lists, Problem, day
from .signatures import algorithm_name, is_taken

#: What does not keep a key's holder from what was encrypted to it once: it is said, not refused.
OLD_DATA = frozenset({
    "expired", "not-yet-valid", "revoked", "no-crl", "crl-expired", "crl-not-yet-valid",
    "crl-signature", "crl-unsupported", "crl-conflict", "weak-key", "algorithm", "usage",
})  # fmt: skip
#: The most certificates that come with a message and are looked at.
MAX_INTERMEDIATES = 64
_UNDERSTOOD = {
    x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid, x509.NameConstraints.oid,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trust:
    """Whom one trusts: roots, what may lie between, and lists of what was revoked."""

    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    require_crl: bool = False

    def __post_init__(self) -> None:
        for what in ("roots", "intermediates", "crls"):
            object.__setattr__(self, what, tuple(getattr(self, what)))

    @functools.cached_property
    def root_pool(self) -> Pool:
        return Pool(self.roots)

    @functools.cached_property
    def pool(self) -> Pool:
        return Pool(self.intermediates)

    @functools.cached_property
    def lists(self) -> Lists:
        return Lists(self.crls)

    @classmethod
    def from_files(
        cls, roots: Iterable[str], intermediates: Iterable[str] = (), crls: Iterable[str] = (),
        *, require_crl: bool = False,
    ) -> Trust:
        """Read it from files of PEM or DER; errors as of `files`."""
        return cls(
            tuple(c for path in roots for c in files.load_certificates(path)),
            tuple(c for path in intermediates for c in files.load_certificates(path)),
            tuple(c for path in crls for c in files.load_crls(path)), require_crl,
        )  # fmt: skip

    @classmethod
    def from_config(cls) -> Trust:
        """Read it from the files that section [trust] of the configuration names.

        Raises UsageError if that is not understood. Without roots nothing is trusted."""
        from .. import config

        require = config.section("trust").get("require_crl", False)
        if not isinstance(require, bool):
            raise UsageError("configuration: [trust] require_crl is neither true nor false")
        named = (config.files("trust", key) for key in ("roots", "intermediates", "crls"))
        return cls.from_files(*named, require_crl=require)


@dataclass(frozen=True)
class CheckedCertificate:
    """A certificate that was taken: how, for what, and what should be said of it."""

    certificate: x509.Certificate
    path: tuple[x509.Certificate, ...]
    purpose: str
    moment: datetime.datetime
    role: names.Role | None
    remarks: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """One line for people."""
        purpose = "" if self.purpose == "any" else f" for {self.purpose}"
        above = [names.name_text(c.subject) for c in self.path[1:]]
        by = f", issued by {', '.join(above)}" if above else ", itself a trusted root"
        end = self.certificate.not_valid_after_utc
        until = "valid until" if end >= self.moment else "though it expired on"
        return (
            f"certificate {names.label(self.certificate)} is taken{purpose}{by}, "
            f"{until} {day(end)}"
        )


def check_certificate(
    certificate: x509.Certificate,
    trust: Trust,
    *,
    purpose: str,
    role: str | None = None,
    moment: datetime.datetime | None = None,
    intermediates: Iterable[x509.Certificate] = (),
) -> CheckedCertificate:
    """Follow chain, dates, usage, issuer, revocation and role; return how it was taken.

    purpose: encrypt, decrypt, sign, verify-signature, tls-server, tls-client or any. For `decrypt`
    the reasons of `OLD_DATA` become remarks. role: one that the certificate must state. moment: at
    which it must hold, by default now. intermediates: what came with it, untrusted.

    Raises CertificateRefusedError with a `reason` of docs/pki.md, UsageError for other purposes.
    """
    if purpose not in PURPOSES:
        raise UsageError(f"{purpose!r} is no purpose; there are {', '.join(PURPOSES)}")
    wanted = names.parse_role(role) if role is not None else None
    moment = names.utc(moment) if moment is not None else names.now()
    files.examine(certificate)
    given = list(intermediates)
    if len(given) > MAX_INTERMEDIATES:
        raise CertificateRefusedError(
            f"certificate {names.label(certificate)} comes with {len(given)} others, where "
            f"{MAX_INTERMEDIATES} are the most: ask for it alone", "chain-too-long",
        )  # fmt: skip
    for one in given:
        files.examine(one, "a certificate that came with it")
    search = Search(trust.root_pool, [trust.pool, Pool(given)])
    spared = OLD_DATA if purpose == "decrypt" else frozenset()
    worst: list[Problem] | None = None
    for path in search.paths(certificate):
        remarks: list[str] = []
        found = list(_problems(path, trust, purpose, wanted, moment, remarks))
        refused = [p for p in found if p.reason not in spared]
        if not refused:
            remarks = [p.sentence.rpartition(": ")[0] for p in found] + remarks  # without advice
            stated = names.role_of(certificate.extensions)
            return CheckedCertificate(
                certificate, tuple(path), purpose, moment, stated, remarks
            )
        if worst is None or len(refused) < len(worst):
            worst = refused
    first = worst[0] if worst else search.problem(certificate)
    raise CertificateRefusedError(first.sentence, first.reason)


def _problems(
    path: list[x509.Certificate], trust: Trust, purpose: str, role: names.Role | None,
    moment: datetime.datetime, remarks: list[str],
) -> Iterator[Problem]:
    """Yield what is wrong with a way to a root, the most telling first."""
    leaf = path[0]
    what = f"certificate {names.label(leaf)}"
    whats = [what] + [
        f"{what} cannot be used: the certificate {names.label(c)} above it" for c in path[1:]
    ]
    fit = True  # for the library to judge
    for one, words in zip(path, whats, strict=True):
        for found in one.extensions:
            if found.critical and found.oid not in _UNDERSTOOD:
                fit = False
                yield Problem(
                    "unknown-critical-extension",
                    f"{words} has the critical extension {found.oid.dotted_string}, which is "
                    "not understood here: ask for one without it",
                )
        weak = weakness(one.public_key())
        if weak is not None:
            fit = False
            yield Problem(weak[0], f"{words} is for {weak[1]}: ask for one with a stronger key")
        if one is not path[-1] and not is_taken(one):
            fit = False
            yield Problem(
                "algorithm",
                f"{words} is signed with {algorithm_name(one)}, which is not taken: ask for one "
                "signed with RSA or ECDSA and SHA-256, or with ML-DSA",
            )
    for problem in _authorities(path, whats):
        fit = False
        yield problem
    yield from _dates(path, whats, moment)
    for number, one in enumerate(path[:-1]):
        yield from trust.lists.problems(
            one.serial_number, whats[number], path[number + 1], moment,
            authority=number > 0 or is_authority(one.extensions), required=trust.require_crl,
            points=extension(one.extensions, x509.CRLDistributionPoints), remarks=remarks,
        )  # fmt: skip
    usage = usage_problem(leaf, purpose, pinned=len(path) == 1)
    if usage is not None:
        yield Problem("usage", f"{what} {usage}: ask for one that is made for it")
    for one, words in zip(path[1:-1], whats[1:-1], strict=True):
        if not extended_fits(one.extensions, purpose):
            yield Problem("usage", f"{words} vouches for other uses alone: ask for one of the "
                          "right authority")
    stated = names.role_of(leaf.extensions)
    if role is not None and stated is not role:
        said = f"of role {stated}" if stated else "without a role"
        yield Problem("role", f"{what} is {said}, where {role} is needed: use one of that role")
    if fit:
        yield from _library(path, what, moment, old=purpose == "decrypt")



def _authorities(path: list[x509.Certificate], whats: list[str]) -> Iterator[Problem]:
    """Yield whoever in a way is no authority, or one of fewer steps (RFC 5280, 6.1.4 k to n)."""
    below = 0
    for one, words in zip(path[1:], whats[1:], strict=True):
        usage = extension(one.extensions, x509.KeyUsage)
        basic = extension(one.extensions, x509.BasicConstraints)
        limit = None if basic is None else basic.path_length
        if not is_authority(one.extensions) or (usage is not None and not usage.key_cert_sign):
            yield Problem("not-a-ca", f"{words} is not an authority's, so that nothing it signs "
                          "counts: do not use it")
        if limit is not None and below > limit:
            yield Problem("chain-too-long", f"{words} allows {limit} authorities below it, where "
                          f"{below} are: ask for a certificate of a shorter chain")
        below += one.subject != one.issuer


def _dates(
    path: list[x509.Certificate], whats: list[str], moment: datetime.datetime
) -> Iterator[Problem]:
    for one, words in zip(path, whats, strict=True):
        if moment > one.not_valid_after_utc:
            yield Problem("expired", f"{words} expired on {day(one.not_valid_after_utc)}: "
                          "ask for the renewed one")
        elif moment < one.not_valid_before_utc:
            yield Problem("not-yet-valid", f"{words} is valid only from "
                          f"{day(one.not_valid_before_utc)}: wait until then, or check this "
                          "machine's clock")


def _library(
    path: list[x509.Certificate], what: str, moment: datetime.datetime, *, old: bool
) -> Iterator[Problem]:
    """Yield the library's refusal of a way. old: judge at a moment when all of it held."""
    from cryptography.x509.verification import (
        Criticality,
        ExtensionPolicy,
        PolicyBuilder,
        Store,
        VerificationError,
    )

    begin = max(c.not_valid_before_utc for c in path)
    end = min(c.not_valid_after_utc for c in path)
    if not begin <= moment <= end:
        if not old or begin > end:
            return  # the dates were refused above, or never fitted together
        moment = end if moment > end else begin
    authorities = ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, Criticality.AGNOSTIC, None
    )
    verifier = (
        PolicyBuilder()
        .store(Store([path[-1]]))
        .time(moment)
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        with files.quiet():
            verifier.verify(path[0], path[1:-1])
    except VerificationError as error:
        text = str(error).replace("validation failed: ", "").replace("candidates exhausted: ", "")
        text = text.partition(" (encountered")[0].partition(" AlgorithmIdentifier")[0][:120]
        if "constraint" in text and "path length" not in text:
            yield Problem("name-constraints", f"{what} has names that an authority above it may "
                          f"not vouch for ({text}): ask for one of the right authority")
        else:
            yield Problem("not-conforming", f"{what} is not as RFC 5280 wants it ({text}): "
                          "ask for another")
    except files.PARSE_ERRORS:
        raise files.malformed(what) from None
