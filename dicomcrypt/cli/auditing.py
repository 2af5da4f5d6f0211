"""What a command writes into the audit log, if the configuration names one: a record when a job
begins and one when it ends, and a signed head. Nothing of it is imported otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import config
from ..errors import DiskFullError, UsageError

if TYPE_CHECKING:
    from ..audit import AuditLog

#: Jobs of more files than this tell how many; up to it also which objects.
MOST_OBJECTS = 16
_OUTCOMES = {0: "ok", 1: "failed", 2: "usage", 3: "no-identity", 4: "damaged", 5: "refused",
             6: "token", 130: "interrupted"}


def configured() -> dict[str, Any]:
    """Return the configuration's section, checked; empty if no log is wanted."""
    settings = config.section("audit")
    if not settings:
        return {}
    where = repr(str(config.config_path()))
    if not isinstance(settings.get("sync", True), bool):
        raise UsageError(f"configuration {where}: [audit] sync is neither true nor false")
    found = {}
    for key in ("log", "key", "heads"):
        names = config.files("audit", key)
        if len(names) > 1:
            raise UsageError(f"configuration {where}: [audit] {key} is one file")
        found[key] = names[0] if names else None
    if found["log"] is None:
        raise UsageError(f"configuration {where}: [audit] names no log")
    return {**found, "sync": settings.get("sync", True)}


def open_log(settings: dict[str, Any]) -> AuditLog:
    """Open the configured log, with its signer."""
    from ..audit import AuditLog

    signer = None
    if settings["key"] is not None:
        from ..policy.signing import load_signer

        with contextlib.suppress(OSError):  # what cannot be read is told as it is loaded
            if os.name == "posix" and os.stat(settings["key"]).st_mode & 0o077:
                raise UsageError(f"the audit log's key {settings['key']!r} may be read by others: "
                                 "take that right away with chmod 600")
        signer = load_signer(settings["key"])
    return AuditLog.open(settings["log"], signer, heads=settings["heads"], sync=settings["sync"])


#: Commands that keep records, by their words; the others have nothing to refuse unrecorded.
_RECORDED = {"encrypt": "encrypt", "decrypt": "decrypt", "verify": "verify", "rewrap": "rewrap",
             "frame": "frame", "policy set": "policy.set", "standard protect": "protect",
             "standard reveal": "reveal", "standard wrap": "encrypt",
             "standard unwrap": "decrypt", "standard sign": "sign", "standard verify": "verify",
             **{f"prescription {word}": f"prescription.{word}" for word in
                ("sign", "send", "fetch", "open", "dispense", "cancel")}}
#: Whether this command has begun a job, which tells how it ended.
begun = False


class Job:
    """A job's two records. Raises whatever keeps the log from being written: then the job does
    not begin."""

    def __init__(self, action: str, settings: dict[str, Any], **about: str) -> None:
        global begun
        from ..audit import present_actor

        self._action, self._actor = action, present_actor()
        self._about = {"job": os.urandom(16).hex(), **about}
        self._log = open_log(settings)
        self.paths: list[str] = []
        self._log.record(action, actor=self._actor, outcome="started", details=self._about)
        begun = True

    def saw(self, path: str | None) -> None:
        """Remember an object; only its random id gets into the log."""
        if path is not None and len(self.paths) <= MOST_OBJECTS:
            self.paths.append(path)

    def end(
        self, status: int, *, ids: Iterable[str] = (), details: Mapping[str, Any] | None = None
    ) -> None:
        """Record how it ended. ids: of what is not a file that `saw` was told of."""
        details = details or {}
        outcome = _OUTCOMES.get(status, "failed")
        if outcome == "failed" and details.get("done"):
            outcome = "partial"
        objects = self.paths if len(self.paths) <= MOST_OBJECTS else ()
        try:
            self._log.record(self._action, actor=self._actor, outcome=outcome,
                             objects=dict.fromkeys([*object_ids(objects), *ids]),
                             details={**self._about, **details})
            self._log.close()
        except DiskFullError as error:
            raise DiskFullError(f"{error}; the job was begun, and how it ended ({outcome}) is not "
                                "in the log or its heads") from None


def status_of(error: BaseException | None) -> int:
    """The exit status with which a command ends for this error."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return getattr(error, "exit_status", 1)


def begin(action: str, **about: str) -> Job | None:
    """Begin a job's records; None if no log is configured. about: details of both."""
    settings = configured()
    return Job(action, settings, **about) if settings else None


def refused(words: list[str]) -> None:
    """Record what the policy refused a command (its first words) before its job began."""
    action = _RECORDED.get(" ".join(words[:2])) or _RECORDED.get("".join(words[:1]))
    if action is None or begun or not (settings := configured()):
        return
    from ..audit import present_actor

    with open_log(settings) as log:
        log.record(action, actor=present_actor(), outcome="refused")


@contextlib.contextmanager
def job(action: str, *paths: str, **about: str) -> Iterator[dict[str, Any]]:
    """Record what runs inside, with the ids of these objects.

    Yields a dictionary for what the record of its end has besides: `objects`, ids of others, and
    details."""
    found = begin(action, **about)
    facts: dict[str, Any] = {}
    error: BaseException | None = None
    try:
        yield facts
    except BaseException as caught:
        error = caught
        raise
    finally:
        if found is not None:
            for path in paths:
                found.saw(path)
            found.end(status_of(error), ids=facts.pop("objects", ()), details=facts)


def object_ids(paths: Iterable[str]) -> Iterator[str]:
    """Yield the random ids of those files that are objects."""
    from ..container.layout import PREFIX_SIZE, parse_prefix
    from ..errors import DamagedError

    for path in paths:
        with contextlib.suppress(OSError, DamagedError), open(path, "rb") as file:
            yield parse_prefix(file.read(PREFIX_SIZE)).object_id.hex()
