"""How often something may happen, counted in the database; and what is left for who guesses."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from fractions import Fraction

from ..errors import ThrottledError, UsageError
from .code import DIGITS
from .secret import Secret
from .store import Transaction
from .tables import codes, deliveries, events, sa

#: A code is valid for exactly so long from its stored issue time.
VALID_MS = 300_000
#: What counts as a day: longer by a code's life, so that all tries within any 24 hours are at the
#: codes of one such day.
DAY_MS = 86_400_000 + VALID_MS
#: More than this is not to be had: the chance of who guesses follows from it.
MOST = {"tries": 5, "codes": 10, "totp_tries": 10}


@dataclass(frozen=True)
class Limits:
    """Numbers a day unless they say otherwise; waits in seconds.

    tries: a code. codes: for a link and person. totp_tries: a person's. resends: of a code.
    code_waits: after the first, second... code; try_waits: after the first, second... wrong try."""

    tries: int = 5
    codes: int = 10
    totp_tries: int = 10
    resends: int = 3
    asks: int = 10
    person_codes: int = 30
    person_checks: int = 150
    address_codes: int = 200
    address_checks: int = 1000
    code_waits: tuple[int, ...] = (15, 30, 60, 120, 240, 480, 960, 1920, 3600)
    try_waits: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= 1 << 20
                   for n in numbers):
                raise UsageError(f"the limit {name!r} is no number of 0 to {1 << 20}")
            if name in MOST and value > MOST[name]:
                raise UsageError(f"the limit {name!r} is {MOST[name]} at most: guessing would pay")


def take(tx: Transaction, kind: str, subject: str, most: int, waits: tuple[int, ...] = ()) -> None:
    """Count an event of a subject, or raise ThrottledError if it must wait.

    A clock that was put back frees nothing: what is stored as later counts as well."""
    times = events.c.at
    count, first, last = tx.execute(
        sa.select(sa.func.count(), sa.func.min(times), sa.func.max(times)).where(
            events.c.kind == kind, events.c.subject == subject, times > tx.now - DAY_MS
        )
    ).one()
    ready = 0
    if count >= most:
        ready = (first or tx.now) + DAY_MS
    elif count and waits:
        ready = last + 1000 * waits[min(count, len(waits)) - 1]
    if ready > tx.now:
        seconds = math.ceil((ready - tx.now) / 1000)
        raise ThrottledError(f"too often: wait {seconds} s and try again", seconds)
    tx.execute(events.insert().values(kind=kind, subject=subject, at=tx.now))


def forget(tx: Transaction) -> None:
    """Remove what counts no more: events, codes and their deliveries."""
    before = tx.now - DAY_MS
    tx.execute(events.delete().where(events.c.at <= before))
    old = sa.select(codes.c.id).where(codes.c.issued <= before)
    tx.execute(deliveries.delete().where(deliveries.c.code.in_(old)))
    tx.execute(codes.delete().where(codes.c.issued <= before))


def address_of(secret: Secret, address: str | None) -> str | None:
    """Return the pseudonym of a network address, by which it is counted; of IPv6 its /64, as a
    subscriber has all of it. None for who is not counted, such as an administrator."""
    if address is None:
        return None
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        text = address[:256]
    else:
        mapped = getattr(found, "ipv4_mapped", None) or found
        text = str(ipaddress.ip_network((mapped, 64 if mapped.version == 6 else 32), strict=False))
    return secret.pseudonym("address", text.encode())


def likeliest(digits: int = DIGITS) -> Fraction:
    """The chance of the likeliest code: 2^31 values do not spread evenly over 10^digits."""
    return Fraction(-(-(1 << 31) // 10**digits), 1 << 31)


def guessing_chance(limits: Limits, digits: int = DIGITS) -> Fraction:
    """The chance to guess a code of one link within any 24 hours, who tries all he may."""
    return 1 - (1 - limits.tries * likeliest(digits)) ** limits.codes


def totp_chance(limits: Limits, steps: int = 3, digits: int = DIGITS) -> Fraction:
    """The same for the codes of an authenticator, of which `steps` are valid at a time."""
    return 1 - (1 - steps * likeliest(digits)) ** limits.totp_tries
