"""The user's configuration: a TOML file of defaults.

It lies where the system keeps such files (`~/.config/dicomcrypt/config.toml` on Linux), or where
the environment variable DICOMCRYPT_CONFIG says; an empty DICOMCRYPT_CONFIG means none. It holds
no secrets. Relative file names in it are relative to its folder. A section or key that it does not
know is refused: whoever wrote it meant something that would not happen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import UsageError
from .regular import open_regular

_LIMIT = 1 << 20
#: All sections and their keys; None: names are free. Third parties have [plugins.NAME]; the keys of
#: [directories.NAME] are those of `pki.directory.Directory`.
SECTIONS: dict[str, frozenset[str] | None] = {
    "audit": frozenset({"log", "key", "heads", "sync"}),
    "directories": None,
    "directory_cache": frozenset({"path"}),
    "groups": None,
    "otp": frozenset({"folder"}),
    "pkcs11": frozenset({"module"}),
    "plugins": None,
    "policy": frozenset({"file", "preset", "signer"}),
    "recipients": frozenset({"default", "recovery", "warn_recovery"}),
    "trust": frozenset({"roots", "intermediates", "crls", "require_crl"}),
}


def config_path() -> Path | None:
    """Where the configuration is, or would be; None if the environment says that there is none."""
    told = os.environ.get("DICOMCRYPT_CONFIG")
    if told is not None:
        return Path(told) if told else None
    import click

    return Path(click.get_app_dir("dicomcrypt")) / "config.toml"


def section(name: str) -> dict[str, Any]:
    """Return a section of the configuration; empty if there is none.

    Raises UsageError naming the file for what cannot be read or understood, and for any section or
    key that is not known.
    """
    path = config_path()
    if path is None:
        return {}
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError:
        if os.environ.get("DICOMCRYPT_CONFIG"):
            raise UsageError(f"DICOMCRYPT_CONFIG names {str(path)!r}, which is not there") from None
        return {}
    except OSError as error:
        raise UsageError(f"cannot read configuration {str(path)!r}: {error.strerror}") from None
    if len(data) > _LIMIT:
        raise UsageError(f"configuration {str(path)!r} is too large")
    import tomllib

    try:
        whole = tomllib.loads(data.decode())
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError and numbers without end
        raise UsageError(f"configuration {str(path)!r}: {error}") from None
    except RecursionError:
        raise UsageError(f"configuration {str(path)!r} is nested too deeply") from None
    _check(whole, f"configuration {str(path)!r}")
    found: dict[str, Any] = whole.get(name, {})
    return found


def _check(whole: dict[str, Any], where: str) -> None:
    for name, found in whole.items():
        if name not in SECTIONS:
            raise UsageError(f"{where} has an unknown section or key {name[:64]!r}; there are the "
                             f"sections {', '.join(SECTIONS)}")
        if not isinstance(found, dict):
            raise UsageError(f"{where}: {name!r} is not a section")
        known = SECTIONS[name]
        if known is not None and (unknown := set(found) - known):
            raise UsageError(f"{where}: [{name}] has no {min(unknown)[:64]!r}; there are "
                             f"{', '.join(sorted(known))}")


def names(section_name: str, key: str) -> list[str]:
    """Return the texts of a key (a text or a list of them) as they stand there; empty if it is
    not there. Raises UsageError for anything else."""
    value = section(section_name).get(key, [])
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(n, str) and n for n in found):
        raise UsageError(
            f"configuration {str(config_path())!r}: [{section_name}] {key} is no list of files"
        )
    return found


def beside(name: str) -> str:
    """Make a file name of the configuration absolute by its folder."""
    path = config_path()
    return str((path.parent if path is not None else Path()) / os.path.expanduser(name))


def files(section_name: str, key: str) -> list[str]:
    """Return the file names of a key, made absolute by the configuration's folder; as `names`."""
    return [beside(name) for name in names(section_name, key)]


def flag(section_name: str, key: str, default: bool) -> bool:
    """Return a key that is true or false; raises UsageError for anything else."""
    value = section(section_name).get(key, default)
    if not isinstance(value, bool):
        raise UsageError(
            f"configuration {str(config_path())!r}: [{section_name}] {key} is true or false"
        )
    return value
