"""Files that commands write, beside objects and trees; and those that they must not."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import OutputExistsError, UsageError
from ..regular import check_not_kept, keep, keeping

if TYPE_CHECKING:
    from .trust import Decorated

#: Parameters that say what a command writes; whatever else is a file is read.
WRITTEN = frozenset({"output", "plot", "signature_out", "manifest_out", "keep", "receipt", "html",
                     "bundle", "document", "requests", "journal", "to"})
#: By one of these in its metavar, or as its name, a parameter is a file.
FILES = frozenset({"FILE", "IDENTITY", "SHARE", "REQUEST", "CERT", "CRL", "LOG"})
#: Parameters that are keys.
_KEYS = frozenset({"identity_files", "identity", "key", "recipients", "recipient_files", "tags_to",
                   "pixels_to", "recovery", "card_file", "patient_card_file", "sign_with",
                   "uid_key", "dask_key", "tls_identity", "keys_path"})
_CONFIGURED = (("audit", "log"), ("audit", "key"), ("trust", "roots"), ("trust", "intermediates"),
               ("trust", "crls"))
_AUTHORITIES = frozenset({"root.crt", "issuing.crt", "attribute.crt"})


def spare_inputs(function: Decorated, /) -> Decorated:
    """Let a command's --force overwrite no file that the command reads: neither the inputs, nor
    keys, passphrases and certificates, under whatever name. For a function that is to be a
    command; `options.force` brings it along."""

    @functools.wraps(function)
    def command(*args: Any, **values: Any) -> Any:
        if not values.get("force"):
            return function(*args, **values)
        with keeping():
            _keep_inputs(click.get_current_context(), values)
            return function(*args, **values)

    return cast("Decorated", command)


def _keep_inputs(context: click.Context, values: Mapping[str, Any]) -> None:
    """Have the files kept that a command's parameters name, and refuse outputs among them."""
    written: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        found = values.get(name, ())
        if name not in values:  # `options.kept_option`, `trust.option`
            found = next((v for k, v in context.meta.items() if k.endswith(f".{name}")), ())
        paths = [found] if isinstance(found, str) else found
        paths = [p for p in paths if isinstance(p, str)] if isinstance(paths, tuple | list) else []
        if name in WRITTEN:
            written += paths
        elif name == "folder":
            for path in paths:
                keep_read(_own(path), f"a file of the folder {path!r}")
        elif FILES & set(re.findall("[A-Z]+", parameter.metavar or name.upper())):
            keep_read(paths, "input" if isinstance(parameter, click.Argument) else
                      f"the {'key ' if name in _KEYS else ''}file of {_long(parameter)}")
    _keep_configuration()
    for path in written:
        check_not_kept(path)


def _own(folder: str) -> list[str]:
    """The files of an authority's or another folder that nothing else may take the place of."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name in _AUTHORITIES
            or name.endswith((".key", ".sqlite", ".db"))]


def _keep_configuration() -> None:
    from .. import config

    with contextlib.suppress(UsageError):  # whoever needs the configuration says what is wrong
        if (path := config.config_path()) is not None:
            keep_read([str(path)], "the configuration")
        for section, key in _CONFIGURED:
            keep_read(config.files(section, key), f"{key} of [{section}] in the configuration")


def _long(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len)


def keep_read(references: Iterable[str], what: str) -> None:
    """Have files kept that a command with --force reads; FILE#GROUP is a file too."""
    said = ("is input and output: originals are never overwritten" if what == "input" else
            f"is output and {what}, which this command uses: give another name")
    for reference in references:
        keep(reference, said)
        keep(reference.rpartition("#")[0] or reference, said)


def write_public(path: str | os.PathLike[str], data: bytes, *, force: bool) -> None:
    """Write a file that everyone may read."""
    from ..objects.atomic import AtomicFile, default_mode

    with AtomicFile(path, force=force) as file:
        file.raw.write(data)
        file.commit(mode=default_mode())


def not_there(path: str, force: bool) -> None:
    """Refuse an output that exists before something is made for nothing."""
    from ..objects.atomic import exists_error

    if os.path.lexists(path) and not force:
        raise exists_error(path)


def free(path: str | None) -> None:
    """Refuse a file that is there, where it cannot be overwritten: what is made would be lost."""
    if path is not None and os.path.lexists(path):
        raise OutputExistsError(f"{path!r} exists: choose another name")
