"""Trust centres: certificates and revocation lists in LDAP directories.

Several directories are asked side by side, each with a time-out, all with a deadline. Each gives
an `Answer`, which says in a sentence what became of it; priorities decide whose certificates
count. Set up in the configuration (docs/directories.md):

    [directories.hospital]
    url = "ldaps://ldap.hospital.example"
    base = "dc=hospital,dc=example"
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DirectoryError, UsageError
from ..regular import others_may
from . import directory_queries as queries
from . import ldap_client as ldap
from .directory_asking import Answer, Check, judge, run
from .directory_cache import Cache, cache_path

if TYPE_CHECKING:
    import ssl

    from cryptography import x509

SECTION = "directories"
DEADLINE = 10.0  # seconds for all of them together
_MOST = 32
_KEYS: dict[str, type | tuple[type, ...]] = {
    "url": str, "base": str, "ca": str, "priority": int, "timeout": (int, float),
    "start_tls": bool, "bind_dn": str, "password_file": str, "attribute_certificates": str,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Directory:
    """One directory. Raises UsageError for settings that cannot be meant.

    priority: the lowest number wins; timeout: seconds; ca: a file of CA certificates in PEM for
    its TLS, instead of the system's; bind_dn and password_file: a log-in, over TLS only;
    attribute_certificates: the attribute that holds them.
    """

    name: str
    url: str
    base: str
    ca: str | None = None
    priority: int = 10
    timeout: float = 5.0
    start_tls: bool = False
    bind_dn: str | None = None
    password_file: str | None = None
    attribute_certificates: str = "dicomcryptAttributeCertificate"

    def __post_init__(self) -> None:
        scheme, _, _ = ldap.split_url(self.url)
        if not self.base:
            raise UsageError(f"directory {self.name!r}: give the base, such as dc=example,dc=org")
        if scheme == "ldaps" and self.start_tls:
            raise UsageError(f"directory {self.name!r}: ldaps:// is TLS already, without start_tls")
        if not 0 < self.timeout <= 300:
            raise UsageError(f"directory {self.name!r}: the time-out is between 0 and 300 seconds")
        if self.bind_dn and not self.secure:
            raise UsageError(
                f"directory {self.name!r}: a password goes over TLS only: give ldaps:// or "
                "start_tls"
            )
        if bool(self.bind_dn) != bool(self.password_file):
            raise UsageError(f"directory {self.name!r}: bind_dn and password_file go together")

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.start_tls or self.url.startswith("ldaps:")

    @property
    def settings(self) -> str:
        """What answers depend on; they are kept under it."""
        return repr((self.url, self.base, self.ca, self.start_tls, self.bind_dn))

    def context(self) -> ssl.SSLContext | None:
        """What checks its TLS certificate; raises UsageError for an unreadable CA bundle."""
        return ldap.tls_context(self.ca) if self.secure else None

    def password(self) -> str:
        """The first line of the password file; raises UsageError, also where others may read it."""
        if others_may(self.password_file or "", 0o077):
            raise UsageError(f"password file {self.password_file!r} may be read or written by "
                             "others: take that right away with chmod 600")
        try:
            with open(self.password_file or "", encoding="utf-8-sig") as file:
                line = file.readline(1025).rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"directory {self.name!r}: cannot read password file {self.password_file!r}"
            ) from None
        if not line or len(line) > 1024:
            raise UsageError(f"password file {self.password_file!r}: no password in its first line")
        return line

    def connect(
        self, deadline: float, limit: int, context: ssl.SSLContext | None
    ) -> ldap.Connection:
        """Connect, and log in if there is a log-in; raises LdapFailure."""
        connection = ldap.Connection(self.url, start_tls=self.start_tls, context=context,
                                     deadline=deadline, limit=limit)
        try:
            if self.bind_dn:
                connection.bind(self.bind_dn, self.password())
        except BaseException:
            connection.close()
            raise
        return connection


@dataclasses.dataclass
class Scan:
    """The answers of all directories, by priority and name."""

    query: queries.Query
    answers: list[Answer]

    @property
    def found(self) -> list[Any]:
        """What the directories of the best priority that have something gave, each once."""
        winners = [a for a in self.answers if a.found]
        best = [a for a in winners if a.directory.priority == winners[0].directory.priority]
        return _each_once(value for answer in best for value in answer.found)

    @property
    def all(self) -> list[Any]:
        """What all directories gave, each once."""
        return _each_once(value for answer in self.answers for value in answer.found)

    def require(self) -> Scan:
        """Raise DirectoryError naming what each directory said if nothing was found."""
        if not any(answer.found for answer in self.answers):
            said = "; ".join(f"{a.directory.name}: {a.sentence}" for a in self.answers)
            raise DirectoryError(f"no {self.query.what} in any directory: {said}")
        return self


class Directories:
    """Several directories, asked side by side.

    deadline: seconds until all of them have answered or are left; cache: where answers are kept.
    Raises UsageError if there is none.
    """

    def __init__(
        self, directories: Iterable[Directory], *, deadline: float = DEADLINE,
        cache: Cache | None = None,
    ) -> None:
        self.directories = sorted(directories, key=lambda d: (d.priority, d.name))
        if not self.directories:
            raise UsageError(
                f"no directory: give --directory and --base, or [{SECTION}.NAME] in the "
                "configuration"
            )
        if len(self.directories) > _MOST:
            raise UsageError(f"more than {_MOST} directories")
        if len({d.name for d in self.directories}) < len(self.directories):
            raise UsageError("two directories have one name")
        self.deadline, self.cache = deadline, cache or Cache(None)

    def named(self, name: str) -> Directory:
        """Return a directory by its name; raises UsageError naming those there are."""
        for directory in self.directories:
            if directory.name == name:
                return directory
        known = ", ".join(d.name for d in self.directories)
        raise UsageError(f"no directory named {name!r}; there are: {known}")

    def scan(
        self, query: queries.Query | Callable[[Directory], queries.Query], *,
        check: Check | None = None, allow_stale: bool = False,
    ) -> Scan:
        """Ask all of them, and return what each said within the deadline.

        check: raises DicomcryptError for a certificate that is not wanted, which then counts as
        not there. allow_stale: use what was kept when a directory does not answer, however old,
        and revocation lists after their next update.
        """
        ask = query if callable(query) else lambda directory: query
        asked = {directory: ask(directory) for directory in self.directories}
        contexts = {directory: directory.context() for directory in self.directories}
        answers: dict[Directory, Answer] = {}
        results: queue.SimpleQueue[tuple[Directory, Any]] = queue.SimpleQueue()
        waiting = set()
        end = time.monotonic() + self.deadline
        for directory, wanted in asked.items():
            kept = self.cache.get(directory.settings, wanted.key)
            if kept is not None:
                answers[directory], _ = judge(directory, wanted, kept[0], check, allow_stale,
                                                age=kept[1])
                continue
            waiting.add(directory)
            # A thread that does not come back must not keep the program from ending.
            threading.Thread(
                target=run, daemon=True,
                args=(results, directory, wanted, contexts[directory], check, allow_stale,
                      min(end, time.monotonic() + directory.timeout)),
            ).start()
        while waiting:
            try:
                directory, result = results.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            waiting.discard(directory)
            if isinstance(result, Exception):
                raise result
            answers[directory], values = result
            if answers[directory].state == "nothing" or values:
                self.cache.put(directory.settings, asked[directory].key, values,
                               _expiry(answers[directory].found))
        for directory in waiting:
            answers[directory] = Answer(
                directory, "slow", f"does not answer within {self.deadline:g} s", self.deadline
            )
        if allow_stale:
            for directory, answer in list(answers.items()):
                if not answer.answered:
                    answers[directory] = self._stale(answer, asked[directory], check)
        first = asked[self.directories[0]]
        return Scan(first, [answers[directory] for directory in self.directories])

    def _stale(self, answer: Answer, query: queries.Query, check: Check | None) -> Answer:
        kept = self.cache.get(answer.directory.settings, query.key, stale=True)
        if kept is None or not kept[0]:
            return answer
        old, _ = judge(answer.directory, query, kept[0], check, True, age=kept[1])
        old.sentence = f"{answer.sentence}; {old.sentence}"
        return old

    # ---- what is looked for -------------------------------------------------

    def find_by_email(self, address: str, check: Check | None = None) -> Scan:
        return self.scan(queries.by_email(address), check=check)

    def find_by_name(self, name: str, check: Check | None = None) -> Scan:
        return self.scan(queries.by_name(name), check=check)

    def find_by_serial(
        self, issuer: x509.Name, serial: int, check: Check | None = None
    ) -> Scan:
        return self.scan(queries.by_serial(issuer, serial), check=check)

    def find_by_key_identifier(self, identifier: bytes, check: Check | None = None) -> Scan:
        return self.scan(queries.by_key_identifier(identifier), check=check)

    def find_attribute_certificates(self, holder: x509.Certificate) -> Scan:
        """Values are asn1crypto's AttributeCertificateV2, their signatures unchecked."""
        return self.scan(
            lambda d: queries.attribute_certificates(holder, d.attribute_certificates)
        )

    def fetch_authorities(self) -> Scan:
        return self.scan(queries.authorities())

    def fetch_crls(self, issuer: x509.Name | None = None, *, allow_stale: bool = False) -> Scan:
        """Take `all` of them, not `found`: which of several lists of an issuer is the newest
        genuine one shows when their signatures are checked, and not by priority."""
        return self.scan(queries.revocation_lists(issuer), allow_stale=allow_stale)

    def identify_sender(
        self, issuer: x509.Name, serial: int, check: Check | None = None
    ) -> tuple[x509.Certificate, Directory]:
        """Find the certificate that a signed message names by issuer and serial (RFC 5652
        10.2.4), and the directory that has it.

        Raises DirectoryError if none has it, or if there are different ones: then `check`,
        which follows the chain, has to tell the forged one.
        """
        scan = self.find_by_serial(issuer, serial, check).require()
        if len(scan.all) > 1:
            said = ", ".join(a.directory.name for a in scan.answers if a.found)
            raise DirectoryError(
                f"different certificates {serial:x} of one issuer in {said}: one is forged"
            )
        answer = next(a for a in scan.answers if a.found)
        return answer.found[0], answer.directory


def _each_once(values: Iterable[Any]) -> list[Any]:
    return list({queries.encode(value): value for value in values}.values())


def _expiry(found: Sequence[Any]) -> float | None:
    """When a kept answer ends at the latest: with its first revocation list."""
    ends = [value.next_update_utc for value in found if hasattr(value, "next_update_utc")]
    return min((end.timestamp() for end in ends if end is not None), default=None)


# ---- by the configuration ---------------------------------------------------


def configured(*, use_cache: bool = True, deadline: float = DEADLINE) -> Directories:
    """Return the directories of the configuration; raises UsageError if there is none, naming
    what is wrong with one."""
    from .. import config

    path = config.config_path()
    folder = path.parent if path is not None else Path()
    found = []
    for name, table in config.section(SECTION).items():
        where = f"configuration: [{SECTION}.{name}]"
        if not isinstance(table, dict):
            raise UsageError(f"{where} is not a section")
        for key, value in table.items():
            if key not in _KEYS:
                raise UsageError(f"{where} has no {key!r}; there are: {', '.join(_KEYS)}")
            if not isinstance(value, _KEYS[key]) or (
                isinstance(value, bool) and _KEYS[key] is not bool
            ):
                raise UsageError(f"{where} {key} is of the wrong type")
        if not {"url", "base"} <= set(table):
            raise UsageError(f"{where} needs url and base")
        settings = dict(table)
        for key in ("ca", "password_file"):
            if key in settings:
                settings[key] = str(folder / os.path.expanduser(settings[key]))
        found.append(Directory(name, **settings))
    cache = Cache(cache_path()) if use_cache and found else None
    return Directories(found, deadline=deadline, cache=cache)


def find_by_email(address: str, *, check: Check | None = None) -> list[x509.Certificate]:
    """Return the certificates of an e-mail address by the configured directories.

    Raises UsageError if there is no directory, DirectoryError naming what each of them said if
    none has one. The certificates are not trusted for being there: check their chains, or have
    it done by `check`, so that the next directory counts where the first has none that passes.
    """
    return configured().find_by_email(address, check).require().found


def identify_sender(
    issuer: x509.Name, serial: int, *, check: Check | None = None
) -> tuple[x509.Certificate, Directory]:
    """`Directories.identify_sender` by the configured directories."""
    return configured().identify_sender(issuer, serial, check)
