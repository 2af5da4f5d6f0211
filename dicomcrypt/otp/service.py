"""What a portal calls: links are opened, and bound to persons, after a factor. `web` puts it
behind paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import NoIdentityError, PolicyError, ThrottledError, UsageError
from .context import Context
from .factors import WRONG, CodeFactor, Factor, count_check
from .limits import VALID_MS
from .links import Access, Links, Subject
from .store import Transaction

#: Purpose and channel of the two codes of a registration.
_PROOFS = (("email", "email"), ("mobile", "mobile"))


class LinkService:
    """codes: the factor by which persons are bound to links; others: further ones to open with."""

    def __init__(
        self, context: Context, links: Links, codes: CodeFactor, others: Iterable[Factor] = ()
    ) -> None:
        self._context, self._links, self._codes = context, links, codes
        self._factors: dict[str, Factor] = {factor.name: factor for factor in (codes, *others)}

    # Each takes `token=` as who has the link, or `link=`, its id, as who administers.

    def request_code(
        self, name: str, *, channel: str = "email", address: str | None = None, **where: str
    ) -> dict[str, Any]:
        """Make a code for who opens a link; it is delivered if link and person are right.

        The answer is the same if they are not. Raises ThrottledError."""
        subject = self._subject("open", name, where)
        self._codes.begin(subject, "open", channel=channel, address=address)
        return {"seconds": VALID_MS // 1000}

    def open(
        self, name: str, answer: Mapping[str, str], *, factor: str = "code",
        address: str | None = None, **where: str,
    ) -> Access:
        """Open a link by a factor, and use it up once. Raises UsageError, NoIdentityError,
        ThrottledError, PolicyError."""
        proof = self._factor(factor)
        given = proof.read(answer)
        with self._spending("otp.open", "open", name, address, where) as (tx, subject):
            attempt = proof.spend(tx, subject, "open")
        if not proof.judge(attempt, given):
            raise self._refused("otp.open", subject)
        try:
            with self._context.store.transaction() as tx:
                first = proof.use(tx, attempt)
                access = self._links.use(tx, subject) if first else None
        except PolicyError:
            self._context.note("otp.open", "refused", link=subject.link, person=subject.person)
            raise
        if access is None:
            raise self._refused("otp.open", subject)
        self._context.note("otp.open", link=subject.link, person=subject.person)
        return access

    def register(self, name: str, *, address: str | None = None, **where: str) -> dict[str, Any]:
        """Begin to bind a link to a registered person: codes go to the e-mail and the mobile.

        The answer is the same for who is not registered. Raises ThrottledError."""
        for purpose, channel in _PROOFS:
            subject = self._subject(purpose, name, where)
            self._codes.begin(subject, purpose, channel=channel, address=address)
        return {"seconds": VALID_MS // 1000}

    def prove(
        self, name: str, answers: Mapping[str, Mapping[str, str]], *, address: str | None = None,
        **where: str,
    ) -> None:
        """Bind a link to the person who has both codes, and is the first. answers: `email` and
        `mobile`, each `code` and `sum`. Each costs a try, whichever is wrong."""
        given = [self._codes.read(answers.get(purpose, {})) for purpose, _ in _PROOFS]
        with self._spending("otp.register", "email", name, address, where) as (tx, subject):
            attempts = [self._codes.spend(tx, subject, purpose) for purpose, _ in _PROOFS]
        right = [self._codes.judge(a, g) for a, g in zip(attempts, given, strict=True)]
        if not all(right) or not subject.genuine:  # it may have been revoked meanwhile
            raise self._refused("otp.register", subject)
        with self._context.store.transaction() as tx:
            first = all([self._codes.use(tx, attempt) for attempt in attempts])
            bound = first and self._links.bind(tx, subject)
        if not bound:
            raise self._refused("otp.register", subject)
        self._context.note("otp.register", link=subject.link, person=subject.person)

    def check(self, subject: Subject, answer: Mapping[str, str], *, factor: str) -> None:
        """Check a factor without a link, as somebody tries out an authenticator."""
        proof = self._factor(factor)
        given = proof.read(answer)
        with self._context.store.transaction() as tx:
            attempt = proof.spend(tx, subject, "open")
        right = proof.judge(attempt, given)
        with self._context.store.transaction() as tx:
            first = right and proof.use(tx, attempt)
        if not first:
            raise self._refused("otp.check", subject)
        self._context.note("otp.check", person=subject.person)

    # ---- parts of them -------------------------------------------------------

    def _factor(self, name: str) -> Factor:
        if name not in self._factors:
            raise UsageError(f"a factor is one of {', '.join(self._factors)}")
        return self._factors[name]

    def _subject(self, purpose: str, name: str, where: Mapping[str, str]) -> Subject:
        with self._context.store.transaction() as tx:
            return self._links.subject(tx, purpose, name, **where)

    @contextmanager
    def _spending(
        self, action: str, purpose: str, name: str, address: str | None, where: Mapping[str, str]
    ) -> Iterator[tuple[Transaction, Subject]]:
        """The transaction in which a check is counted and a try is paid for."""
        subject = None
        try:
            with self._context.store.transaction() as tx:
                subject = self._links.subject(tx, purpose, name, **where)
                count_check(tx, self._context, subject, address)
                yield tx, subject
        except ThrottledError:
            if subject is not None:
                self._context.note(action, "refused", link=subject.link, person=subject.person,
                                   reason="too-many")
            raise

    def _refused(self, action: str, subject: Subject) -> NoIdentityError:
        """Put a wrong answer into the audit log; return the one error for all reasons."""
        self._context.note(action, "no-identity", link=subject.link, person=subject.person,
                           reason="wrong-code")
        return NoIdentityError(WRONG)
