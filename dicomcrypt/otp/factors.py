"""What proves who somebody is, and the factor of the source paper: the code."""

from __future__ import annotations

import hmac
import math
import os
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import ThrottledError, UsageError
from .code import Code, CodeKey, entered
from .context import Context
from .limits import VALID_MS, address_of, forget, take
from .links import Subject
from .secret import Secret
from .store import Transaction
from .tables import codes, deliveries, sa

WRONG = "the code is wrong, was used, or is not valid any more: ask for another one"


class Factor(Protocol):
    """One way to prove who somebody is. A passkey would keep its challenge in `begin`, take it in
    `spend`, verify the assertion in `judge`, and step its counter in `use`.

    Whoever is not known goes through the same calls, which do the same work and refuse."""

    name: str

    def begin(
        self, subject: Subject, purpose: str, *_: Any, **options: Any
    ) -> Mapping[str, Any]:
        """Begin; return what the person's side needs, such as a challenge."""

    def spend(self, tx: Transaction, subject: Subject, purpose: str) -> Any:
        """Pay for one try before anything is compared, in a transaction that is then committed;
        return what `judge` needs. Raises ThrottledError."""

    def read(self, answer: Mapping[str, str]) -> Any:
        """Return an answer that has the form of one; raises UsageError, before a try is paid."""

    def judge(self, attempt: Any, answer: Any) -> bool:
        """Whether what `read` gave is right; outside of transactions, as it may take long."""

    def use(self, tx: Transaction, attempt: Any) -> bool:
        """Use it up, in the transaction in which its success takes effect; False if another was
        quicker."""


class CodeFactor:
    """Codes after `code.CodeKey`, sent to a registered address."""

    name = "code"

    def __init__(self, context: Context, key: CodeKey) -> None:
        self._context, self._key = context, key

    def begin(
        self, subject: Subject, purpose: str = "open", *, channel: str = "email",
        address: str | None = None,
    ) -> dict[str, Any]:
        """Make a code, void the one before, and put it down for delivery; return its id.

        The code itself is not returned: `outbox` computes it again. Raises ThrottledError."""
        context, limits, secret = self._context, self._context.limits, self._context.secret
        if channel not in ("email", "mobile", "console"):
            raise UsageError("a code goes by email, mobile or console")
        code_id, nonce = secrets.token_hex(16), os.urandom(16)
        where = address_of(secret, address)
        pair = secret.pseudonym("pair", subject.link.encode(), subject.person.encode())
        try:
            with context.store.transaction() as tx:
                if where is not None:
                    take(tx, "code.address", where, limits.address_codes)
                take(tx, "code.person", _counted(secret, subject), limits.person_codes)
                # the two codes of a registration are asked for at a time
                waits = limits.code_waits if purpose != "mobile" else ()
                take(tx, "code.pair", pair, limits.codes, waits)
                forget(tx)
                tx.execute(codes.update().where(*_of(subject, purpose), _alive())
                           .values(state="void"))
                tx.execute(codes.insert().values(
                    id=code_id, purpose=purpose, link=subject.link, person=subject.person,
                    nonce=nonce, issued=tx.now, tries=limits.tries, ready=tx.now, state="making",
                    verifier=os.urandom(32)))
                issued = tx.now
        except ThrottledError:
            context.note("otp.issue", "refused", link=subject.link, person=subject.person,
                         reason="too-many")
            raise
        # A token or card takes its time to sign, and nobody waits for it with a lock.
        code = self._key.code(purpose, subject.link, subject.person, nonce, issued)
        verifier = self._verifier(code_id, code)
        nobody = os.urandom(32)  # which no code fits
        with context.store.transaction() as tx:
            tx.execute(codes.update().where(codes.c.id == code_id, codes.c.state == "making")
                       .values(state="live", verifier=verifier if subject.genuine else nobody))
            tx.execute(deliveries.insert().values(code=code_id, channel=channel, state="waiting",
                                                  round=0, at=tx.now))
        context.note("otp.issue", link=subject.link, person=subject.person)
        return {"code": code_id, "seconds": VALID_MS // 1000}

    def spend(self, tx: Transaction, subject: Subject, purpose: str = "open") -> Any:
        """Take one try off the newest code, in one update that finds it valid; None if there is
        none. Raises ThrottledError while a wrong try is paid for by waiting."""
        newest = tx.first(
            sa.select(codes.c.ready, codes.c.state, codes.c.tries, codes.c.issued)
            .where(*_of(subject, purpose)).order_by(codes.c.issued.desc()).limit(1)
        )
        tries, waits = self._context.limits.tries, self._context.limits.try_waits
        spent = tries - codes.c.tries
        steps = [(spent == n, tx.now + 1000 * wait) for n, wait in enumerate(waits)]
        row = tx.first(
            codes.update().where(
                *_of(subject, purpose), codes.c.state == "live", codes.c.tries > 0,
                codes.c.issued <= tx.now, codes.c.issued > tx.now - VALID_MS,
                codes.c.ready <= tx.now,
            ).values(
                tries=codes.c.tries - 1,
                ready=sa.case(*steps, else_=tx.now) if steps else tx.now,
            ).returning(codes)
        )  # fmt: skip
        if row is None and newest is not None and newest.state == "live" and newest.tries and \
                tx.now < newest.ready and tx.now - newest.issued < VALID_MS:
            seconds = math.ceil((newest.ready - tx.now) / 1000)
            raise ThrottledError(f"too quick: wait {seconds} s and try again", seconds)
        return row

    def read(self, answer: Mapping[str, str]) -> Code:
        """answer: `code` and `sum`, the sum of its digits."""
        return entered(answer.get("code", ""), answer.get("sum", ""))

    def judge(self, attempt: Any, answer: Code) -> bool:
        """Whether the code is right. Without an attempt the same is computed, for nothing.

        Both must say yes: the keyed hash that was stored, and the key of the codes."""
        about = ("open", "", "", bytes(16), 0) if attempt is None else (
            attempt.purpose, attempt.link, attempt.person, bytes(attempt.nonce), attempt.issued)
        code_id = "" if attempt is None else attempt.id
        stored = bytes(32) if attempt is None else bytes(attempt.verifier)
        right = self._verifier(code_id, self._key.code(*about))
        found = self._verifier(code_id, answer)
        same = hmac.compare_digest(found, stored) & hmac.compare_digest(found, right)
        return same and attempt is not None

    def use(self, tx: Transaction, attempt: Any) -> bool:
        return tx.changed(codes.update().where(codes.c.id == attempt.id, codes.c.state == "live")
                          .values(state="used"))

    def again(self, row: Any) -> Code | None:
        """Return the code of a row, computed anew; None for one that was made for nobody."""
        code = self._key.code(row.purpose, row.link, row.person, bytes(row.nonce), row.issued)
        fits = hmac.compare_digest(self._verifier(row.id, code), bytes(row.verifier))
        return code if fits else None

    def _verifier(self, code_id: str, code: Code) -> bytes:
        return self._context.secret.mac("code", code_id.encode(), code.packed())


def _of(subject: Subject, purpose: str) -> tuple[Any, ...]:
    return (codes.c.link == subject.link, codes.c.person == subject.person,
            codes.c.purpose == purpose)


def _alive() -> Any:
    return codes.c.state.in_(("making", "live"))


def _counted(secret: Secret, subject: Subject) -> str:
    """By whom to count over all links: somebody without a link of a person must not be able to use
    up what that person may do."""
    other = secret.pseudonym("counted", subject.link.encode(), subject.person.encode())
    return subject.person if subject.genuine else other


def count_check(tx: Transaction, context: Context, subject: Subject, address: str | None) -> None:
    """Count a check by person and address; raises ThrottledError."""
    where = address_of(context.secret, address)
    if where is not None:
        take(tx, "check.address", where, context.limits.address_checks)
    take(tx, "check.person", _counted(context.secret, subject), context.limits.person_checks)
