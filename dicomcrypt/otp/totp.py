"""Codes of an authenticator (RFC 6238), beside those that are sent: nothing has to arrive."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import OutputExistsError, UsageError
from .code import DIGITS, digits_of, hotp
from .context import Context
from .limits import take
from .links import Subject
from .persons import Persons
from .store import Transaction
from .tables import sa, totp

STEP = 30
#: Clocks of telephones may be off by one step.
WINDOW = (-1, 0, 1)
_LABEL = "totp"


def code_at(key: bytes, seconds: int, digits: int = DIGITS, digest: str = "sha1") -> str:
    """Return the code of RFC 6238 at a Unix time, with steps of 30 s from 0."""
    return hotp(key, seconds // STEP, digits, digest)


@dataclass(repr=False)
class Attempt:
    """One paid try. step: the one whose code was right, set by `judge`."""

    person: str
    key: bytes
    last: int
    now: int
    real: bool
    step: int = -1


class TotpFactor:
    """Secrets of 20 bytes (RFC 4226 section 4, R6), encrypted in the database; HMAC-SHA-1, six
    digits and 30 s, as all authenticators take them. A step is good once, and none before it."""

    name = "totp"

    def __init__(self, context: Context, persons: Persons) -> None:
        self._context, self._persons = context, persons
        self._decoy = context.secret.seal(_LABEL, "", os.urandom(20))

    def enroll(self, name: str, *, issuer: str = "dicomcrypt", replace: bool = False) -> str:
        """Make a person's secret; return the otpauth: URI, which is nowhere else.

        Raises UsageError for who is not registered or an issuer that cannot be shown,
        OutputExistsError if there is one and it is not to be replaced."""
        if not issuer.isprintable():
            raise UsageError("an issuer is shown by authenticators: printable characters alone")
        key = os.urandom(20)
        with self._context.store.transaction() as tx:
            person = self._persons.registered(tx, name)
            if tx.first(sa.select(totp.c.step).where(totp.c.person == person)) is not None:
                if not replace:
                    raise OutputExistsError("this person has an authenticator already: --force "
                                            "replaces it")
                tx.execute(totp.delete().where(totp.c.person == person))
            tx.execute(totp.insert().values(
                person=person, step=-1, created=tx.now,
                sealed=self._context.secret.seal(_LABEL, person, key)))
        self._context.note("otp.enroll", person=person)
        query = urlencode({"secret": base64.b32encode(key).decode(), "issuer": issuer,
                           "algorithm": "SHA1", "digits": DIGITS, "period": STEP}, quote_via=quote)
        return f"otpauth://totp/{quote(issuer)}:{quote(name)}?{query}"

    def begin(self, subject: Subject, purpose: str = "open", **options: Any) -> dict[str, Any]:
        return {}

    def spend(self, tx: Transaction, subject: Subject, purpose: str = "open") -> Attempt:
        limits, secret = self._context.limits, self._context.secret
        other = secret.pseudonym("totp", subject.link.encode(), subject.person.encode())
        take(tx, "totp.try", subject.person if subject.genuine else other, limits.totp_tries,
             limits.try_waits)
        row = tx.first(sa.select(totp).where(totp.c.person == subject.person))
        real = row is not None and subject.genuine
        owner, sealed = (row.person, row.sealed) if real else ("", self._decoy)
        return Attempt(subject.person, secret.open(_LABEL, owner, sealed), row.step if real else -1,
                       tx.now, real)

    def read(self, answer: Mapping[str, str]) -> bytes:
        """answer: `code`."""
        return digits_of(answer.get("code", "")).encode()

    def judge(self, attempt: Attempt, answer: bytes) -> bool:
        for shift in WINDOW:
            step = attempt.now // 1000 // STEP + shift
            right = code_at(attempt.key, max(step, 0) * STEP).encode()
            if hmac.compare_digest(right, answer) and step > attempt.last:
                attempt.step = step
        return attempt.real and attempt.step >= 0

    def use(self, tx: Transaction, attempt: Attempt) -> bool:
        return tx.changed(totp.update().where(
            totp.c.person == attempt.person, totp.c.step < attempt.step
        ).values(step=attempt.step))
