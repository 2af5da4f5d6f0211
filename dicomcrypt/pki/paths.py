"""The ways from a certificate to a trusted root: bounded, without circles (RFC 5280, 6.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryptography import x509

from ..keys.extensions import extension, key_identifier
from ..keys.spki import public_der
from . import names
from .revocation import Problem
from .signatures import signed_by

#: The most authorities above a certificate, signatures verified, and complete ways looked at.
MAX_CHAIN, MAX_SIGNATURES, MAX_PATHS = 8, 64, 8


class Pool:
    """Certificates by the name of their holder."""

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self._by_subject: dict[x509.Name, list[x509.Certificate]] = {}
        for certificate in dict.fromkeys(certificates):
            self._by_subject.setdefault(certificate.subject, []).append(certificate)

    def named(self, name: x509.Name) -> list[x509.Certificate]:
        return self._by_subject.get(name, [])


class Search:
    """Finds the ways from a certificate to the roots, and why there is none."""

    def __init__(self, roots: Pool, pools: Iterable[Pool]) -> None:
        self._roots, self._pools = roots, list(pools)
        self._left = MAX_SIGNATURES
        self._too_long = False
        self._stranger = False  # an issuer of this name, but of another key
        self._forged: x509.Certificate | None = None
        self._last: tuple[int, x509.Certificate] | None = None

    def paths(self, certificate: x509.Certificate) -> Iterator[list[x509.Certificate]]:
        """Yield ways, each from the certificate up to and with a root."""
        for number, path in enumerate(self._walk([certificate]), 1):
            yield path
            if number == MAX_PATHS:
                return

    def _walk(self, path: list[x509.Certificate]) -> Iterator[list[x509.Certificate]]:
        top = path[-1]
        if top in self._roots.named(top.subject):
            yield path
            return
        candidates = self._candidates(top, path)
        if self._last is None or len(path) > self._last[0]:
            self._last = len(path), top
        if candidates and len(path) > MAX_CHAIN:
            self._too_long = True
            return
        for fits, candidate in candidates:
            if self._left <= 0:
                self._too_long = True
                return
            self._left -= 1
            if signed_by(top, candidate) is False:  # None: the algorithm, which is told later
                if fits:
                    self._forged = top
                else:
                    self._stranger = True
                continue
            yield from self._walk([*path, candidate])

    def _candidates(
        self, top: x509.Certificate, path: list[x509.Certificate]
    ) -> list[tuple[bool, x509.Certificate]]:
        """Issuers by name, those first whose key identifier fits too."""
        passed = {(c.subject, public_der(c.public_key())) for c in path}
        above = extension(top.extensions, x509.AuthorityKeyIdentifier)
        wanted = None if above is None else above.key_identifier
        found = []
        for pool in (self._roots, *self._pools):
            for candidate in pool.named(top.issuer):
                if (candidate.subject, public_der(candidate.public_key())) in passed:
                    continue
                own = key_identifier(candidate.extensions)
                found.append((wanted is None or own is None or wanted == own, candidate))
        return sorted(found, key=lambda pair: not pair[0])

    def problem(self, certificate: x509.Certificate) -> Problem:
        """Why `paths` found none."""
        what = f"certificate {names.label(certificate)}"
        if self._too_long:
            return Problem(
                "chain-too-long",
                f"{what} leads over more than {MAX_CHAIN} authorities, or too many ways: "
                "ask its authority for a shorter chain",
            )
        if self._forged is not None:
            issuer = names.name_text(self._forged.issuer)
            link = what if self._forged == certificate else (
                f"{what} cannot be trusted: the certificate {names.label(self._forged)} above it"
            )
            return Problem(
                "bad-signature",
                f"{link} is not signed by {issuer} as it says: it was changed or forged, "
                "do not use it",
            )
        last = self._last[1] if self._last is not None else certificate
        issuer = names.name_text(last.issuer)
        if last.subject == last.issuer:
            how = f"leads to {issuer}, which vouches only for itself and is no trusted root"
        elif self._stranger:
            how = f"was issued by another {issuer} than the trusted one: the name is the same, " \
                  "the key is not"
        elif last == certificate:
            how = f"was issued by {issuer}, for whom no trusted root vouches"
        else:
            how = f"leads to {issuer}, for whom no trusted root vouches"
        return Problem(
            "wrong-issuer",
            f"{what} {how}: name its root or the certificates between, if you trust them",
        )
