"""Who is registered: a name to be known by, e-mail and mobile, encrypted in the database."""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from .context import Context
from .store import Transaction
from .tables import codes, grants, links, persons, requests, sa, totp

LANGUAGES = ("de", "en")
_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
_MOBILE = re.compile(r"\+[1-9][0-9]{6,14}")  # E.164
_LONGEST = 128


@dataclass(frozen=True, repr=False)
class Person:
    """id: random, for the audit log. mobile: E.164, or empty. language: of messages."""

    id: str
    name: str
    email: str
    mobile: str = ""
    language: str = "de"

    def __repr__(self) -> str:
        return f"Person({self.id})"


def normal(name: str) -> bytes:
    """Return a name as it is looked up: NFC, without case, UTF-8. Raises UsageError."""
    try:
        found = unicodedata.normalize("NFC", name.strip().casefold()).encode()
    except UnicodeEncodeError:
        found = b""
    if not 0 < len(found) <= _LONGEST or any(
        unicodedata.category(ch).startswith("C") for ch in found.decode()
    ):
        raise UsageError(f"a name is 1 to {_LONGEST} bytes long, without control characters")
    return found


class Persons:
    def __init__(self, context: Context) -> None:
        self._context = context

    def add(self, name: str, email: str, mobile: str = "", language: str = "de") -> str:
        """Register a person; return the id. Raises UsageError for what cannot be, and for a name
        that is taken."""
        found = normal(name)
        if not _EMAIL.fullmatch(email) or len(email) > 254:
            raise UsageError("that is no e-mail address")
        if mobile and not _MOBILE.fullmatch(mobile):
            raise UsageError("a mobile number is international, such as +491701234567")
        if language not in LANGUAGES:
            raise UsageError(f"messages are written in {' or '.join(LANGUAGES)}")
        person = Person(secrets.token_hex(16), name.strip(), email, mobile, language)
        secret = self._context.secret
        sealed = secret.seal("person", person.id, json.dumps(asdict(person)).encode())
        with self._context.store.transaction() as tx:
            mac = secret.mac("name", found).hex()
            if tx.first(sa.select(persons.c.id).where(persons.c.name_mac == mac)) is not None:
                raise UsageError("a person of this name is registered already")
            tx.execute(persons.insert().values(id=person.id, name_mac=mac, sealed=sealed,
                                               created=tx.now))
        self._context.note("otp.person", person=person.id)
        return person.id

    def find(self, tx: Transaction, name: str) -> tuple[str, bool]:
        """Return a person's id and whether it is registered; otherwise the id is a pseudonym."""
        secret, found = self._context.secret, normal(name)
        mac = secret.mac("name", found).hex()
        other = secret.pseudonym("nobody", found)
        row = tx.first(sa.select(persons.c.id).where(persons.c.name_mac == mac))
        return (other, False) if row is None else (row.id, True)

    def registered(self, tx: Transaction, name: str) -> str:
        """Return the id of somebody who must be registered, for who administers."""
        person, known = self.find(tx, name)
        if not known:
            raise UsageError("no person of this name is registered: see `otp person list`")
        return person

    def contact(self, tx: Transaction, person: str) -> Person | None:
        """Return a person by the id; None if it is not registered. Raises DamagedError."""
        row = tx.first(sa.select(persons).where(persons.c.id == person))
        return None if row is None else self._opened(row)

    def all(self) -> Iterator[Person]:
        with self._context.store.transaction() as tx:
            rows = tx.execute(sa.select(persons).order_by(persons.c.created)).all()
        return map(self._opened, rows)

    def remove(self, name: str) -> str:
        """Forget a person with its requests, and revoke the links for it; return the id."""
        with self._context.store.transaction() as tx:
            person = self.registered(tx, name)
            own = sa.select(grants.c.id).where(grants.c.person == person)
            tx.execute(links.update().where(
                (links.c.person == person) | links.c.grant.in_(own), links.c.revoked.is_(None)
            ).values(revoked=tx.now))
            tx.execute(codes.update().where(codes.c.person == person).values(state="void"))
            tx.execute(requests.delete().where(requests.c.person == person))
            tx.execute(totp.delete().where(totp.c.person == person))
            tx.execute(persons.delete().where(persons.c.id == person))
        self._context.note("otp.forget", person=person)
        return person

    def _opened(self, row: sa.Row[Any]) -> Person:
        return Person(**json.loads(self._context.secret.open("person", row.id, row.sealed)))
