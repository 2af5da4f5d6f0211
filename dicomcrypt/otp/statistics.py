"""What can be counted without knowing anybody."""

from __future__ import annotations

from typing import Any

from .context import Context
from .limits import VALID_MS, guessing_chance, totp_chance
from .tables import codes, deliveries, grants, links, persons, requests, sa, totp


def statistics(context: Context) -> dict[str, Any]:
    """Return numbers of what the database holds, and the chances of who guesses.

    Codes are those of about a day; those for nobody are among them, as nothing marks them."""
    with context.store.transaction() as tx:
        def count(*where: Any) -> int:
            number: int = tx.execute(sa.select(sa.func.count()).where(*where)).scalar_one()
            return number

        def states(column: Any) -> dict[str, int]:
            rows = tx.execute(sa.select(column, sa.func.count()).group_by(column))
            return {state: number for state, number in rows}

        found = {
            "persons": count(persons.c.id.is_not(None)),
            "authenticators": count(totp.c.person.is_not(None)),
            "links": count(links.c.id.is_not(None)),
            "links_alive": tx.execute(
                sa.select(sa.func.count()).select_from(links)
                .join(grants, grants.c.id == links.c.grant)
                .where(links.c.revoked.is_(None), grants.c.revoked.is_(None), grants.c.left > 0,
                       grants.c.until > tx.now, links.c.expires > tx.now)).scalar_one(),
            "codes": states(codes.c.state),
            "codes_valid": count(codes.c.state == "live", codes.c.tries > 0,
                                 codes.c.issued > tx.now - VALID_MS),
            "deliveries": states(deliveries.c.state),
            "requests": states(requests.c.state),
        }  # fmt: skip
    limits = context.limits
    found["chance_of_a_guess_a_link_and_day"] = float(guessing_chance(limits))
    found["with_an_authenticator"] = float(1 - (1 - guessing_chance(limits))
                                           * (1 - totp_chance(limits)))
    return found
