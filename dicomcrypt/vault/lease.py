"""Who may write to a vault: a lease in its key table (docs/spec/vault-v1.md, 5)."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import Any, NamedTuple

from ..errors import JobBusyError
from .keys import VaultKeys

DOCUMENT, WRITER = "leases", 1
#: Seconds that a lease is valid after it was renewed, and after which it is renewed.
VALID, RENEW = 600.0, 60.0


def _started(process: int) -> int:
    """When a process of this system began, in its own units; 0 if it is gone or not known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def _gone(host: str, process: int, started: int) -> bool:
    """Whether it is certain that a lease's holder does not run any more."""
    if host != platform.node():
        return False
    if started:
        return _started(process) != started
    if os.name != "posix":  # there a signal would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


class Holder(NamedTuple):
    """Who holds the lease, until when (ns since 1970); gone: certainly does not run any more."""

    purpose: str
    until: int
    gone: bool


def held(keys: VaultKeys) -> Holder | None:
    """Return who holds the writers' lease, or has not given it back; None if nobody does."""
    found = (keys.document(DOCUMENT) or {}).get(WRITER)
    if not isinstance(found, list) or len(found) != 6:
        return None
    _, host, process, started, until, purpose = found
    return Holder(purpose, until, _gone(host, process, started))


class Lease:
    """The writers' lease; a context manager. Raises JobBusyError if somebody else holds it.

    purpose: what it is for, for those who are refused. A holder that is known to be gone, or that
    has not renewed it in time, is not waited for."""

    def __init__(self, keys: VaultKeys, purpose: str) -> None:
        self._keys, self._purpose, self._token = keys, purpose, os.urandom(16)
        self._renewed = 0.0
        #: Whether an earlier holder did not give it back.
        self.taken_over = False

    def __enter__(self) -> Lease:
        with self._keys.transaction():
            held = self._entry()
            self.taken_over = held is not None
            if held is not None:
                _, host, process, started, until, purpose = held
                if until > time.time_ns() and not _gone(host, process, started):
                    left = max((until - time.time_ns()) // 10**9, 1)
                    raise JobBusyError(
                        f"another job writes to this vault ({purpose}, process {process} on "
                        f"{host}): wait until it ends; if it was lost, its lease ends in {left} s"
                    )
            self._write()
        return self

    def _entry(self) -> list[Any] | None:
        found = (self._keys.document(DOCUMENT) or {}).get(WRITER)
        return found if isinstance(found, list) and len(found) == 6 else None

    def _write(self) -> None:
        until = time.time_ns() + int(VALID * 10**9)
        document = self._keys.document(DOCUMENT) or {}
        process = os.getpid()
        document[WRITER] = [self._token, platform.node(), process, _started(process), until,
                            self._purpose]
        self._keys.put_document(DOCUMENT, document)
        self._renewed = time.monotonic()

    def moved(self, keys: VaultKeys) -> None:
        """The key table was replaced by another one with the same documents."""
        self._keys = keys

    def check(self) -> None:
        """Raise JobBusyError if somebody else has taken the lease over."""
        held = self._entry()
        if held is None or held[0] != self._token:
            raise JobBusyError(
                "another job has taken the vault over, since this one did not answer for long: "
                "give the same command again"
            )

    def renew(self) -> None:
        """Say that the job goes on; does something once a minute only. Errors as of `check`."""
        if time.monotonic() - self._renewed >= RENEW:
            with self._keys.transaction():
                self.check()
                self._write()

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(Exception), self._keys.transaction():
            # Whoever cannot say that he ends is found to be gone, or not to renew.
            self.check()
            document = self._keys.document(DOCUMENT) or {}
            del document[WRITER]
            self._keys.put_document(DOCUMENT, document)
