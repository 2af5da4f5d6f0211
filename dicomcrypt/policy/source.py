"""Which policy is in force.

In this order: what `use` was told (a service's, from its key table); the signed policy beside the
configuration; the configuration's preset; the shipped default. Looked up once, and again when one
of the two files has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import config
from ..errors import PolicyError, UsageError
from .rules import Policy, preset

FILE_NAME = "policy.json"

_told: Policy | None = None
_found: tuple[tuple[Any, ...], Policy] | None = None
_listener: tuple[int, Callable[[str], None]] | None = None
_said: set[str] = set()


def use(policy: Policy | None) -> None:
    """Let this policy be in force in this process, and in those forked from it; None: what the
    configuration says."""
    global _told, _found
    _told, _found = policy, None


def _settings() -> dict[str, str]:
    settings = config.section("policy")
    for key, value in settings.items():
        if not isinstance(value, str):
            raise UsageError(f"configuration {str(config.config_path())!r}: [policy] {key} is no "
                             "text")
    return settings


def store_path() -> Path | None:
    """Where the signed policy is, or would be: the configuration's `file`, or beside it."""
    path = config.config_path()
    if path is None:
        return None
    named = config.files("policy", "file")
    return Path(named[0]) if named else path.parent / FILE_NAME


def demanded_signers() -> tuple[str, ...]:
    """The signer that the configuration demands, if it does."""
    signer = _settings().get("signer")
    if signer is None:
        return ()
    if not re.fullmatch("[0-9a-f]{64}", signer):
        raise UsageError("[policy] signer is no SHA-256 of a public key, in hexadecimal")
    return (signer,)


def _mark(path: str | None) -> object:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


def current() -> Policy:
    """Return the policy in force.

    Raises DamagedError, PolicyError or UsageError where there is one that cannot be used: there
    is no way back to a weaker one."""
    global _found
    if _told is not None:
        return _told
    where = os.environ.get("DICOMCRYPT_CONFIG"), os.environ.get("HOME")
    if _found is not None and _found[0][0] == where:
        (_, path, before, store, then), policy = _found
        if _mark(path) == before and _mark(store) == then:
            return policy
    path = config.config_path()
    file = None if path is None else str(path)
    before = _mark(file)
    store = store_path()
    place = None if store is None else str(store)
    then = _mark(place)
    policy = _read(store)
    _found = (where, file, before, place, then), policy
    return policy


def _read(path: Path | None) -> Policy:
    settings = _settings()
    chosen = preset(settings.get("preset", "default"))
    only = demanded_signers()
    if path is not None and (os.path.lexists(path) or "file" in settings or only):
        from .store import FileStore, load

        installed = load(FileStore(path))
        if installed is None:
            raise PolicyError(f"the configuration wants a signed policy, and {str(path)!r} is not "
                              "there: give it with `dicomcrypt policy set`")
        if only and installed.signer.key_id not in only:
            raise PolicyError(f"policy {str(path)!r} is signed by {installed.signer.key_id[:16]}, "
                              "and the configuration wants another signer")
        return installed.policy(str(path))
    if "preset" in settings:
        return Policy(chosen.name, f"preset, {config.config_path()}", dict(chosen), chosen.other,
                      note=chosen.note, sources=chosen.sources)
    return chosen


def listen(listener: Callable[[str], None] | None) -> None:
    """Say who hears remarks; in processes forked from this one nobody does."""
    global _listener
    _listener = None if listener is None else (os.getpid(), listener)
    _said.clear()


def tell(remark: str | None) -> None:
    """Give a remark to who listens, each once."""
    if remark is None or _listener is None or remark in _said or _listener[0] != os.getpid():
        return
    _said.add(remark)
    _listener[1](remark)
