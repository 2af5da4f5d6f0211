"""Key types of third parties: the entry point group `dicomcrypt.keys`.

An entry point loads an object with

    load_recipient(reference: str) -> list[Recipient] | None
    load_identity(reference: str) -> list[Identity] | None

which is asked for references `scheme:...` that are not known here; None means that it does not know
them either. The one whose name is the scheme is asked first. Stanza types 128 to 255 are theirs
(docs/spec/dcmx-v1.md section 4.2); recipients of the types here may be given back too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..container.stanza import FOREIGN
from ..errors import DicomcryptError, UsageError
from .keypair import PrivateHalf, PublicHalf

GROUP = "dicomcrypt.keys"


def recipients_of(reference: str) -> list[Any]:
    """Return the recipients of a third party's reference; raises UsageError."""
    return _ask(reference, "load_recipient", "wrap")


def identities_of(reference: str) -> list[Any]:
    """Return the identities of a third party's reference; raises UsageError."""
    return _ask(reference, "load_identity", "unwrap")


def _loaders(scheme: str) -> Iterator[tuple[str, Any]]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name != scheme, p.name)):
        try:
            yield point.name, point.load()
        except Exception as error:
            if point.name == scheme:
                raise UsageError(
                    f"the plug-in {scheme!r} does not load: {type(error).__name__}"
                ) from None


def _ask(reference: str, method: str, needed: str) -> list[Any]:
    scheme = reference.partition(":")[0]
    for name, loader in _loaders(scheme):
        ask = getattr(loader, method, None)
        if ask is None:
            continue
        try:
            found = ask(reference)
        except DicomcryptError:
            raise
        except Exception as error:  # its text may hold anything
            raise UsageError(f"the plug-in {name!r} failed: {type(error).__name__}") from None
        if found is not None:
            return [_checked(one, name, needed) for one in found]
    raise UsageError(f"{reference!r} is no file, and no plug-in knows the scheme {scheme!r}")


def _checked(found: Any, name: str, needed: str) -> Any:
    """Refuse what is no recipient or identity, or takes a stanza type that is not a third
    party's."""
    if isinstance(found, PublicHalf if needed == "wrap" else PrivateHalf):
        return found
    kind, hint = getattr(found, "stanza_type", None), getattr(found, "hint", None)
    if not callable(getattr(found, needed, None)) or type(kind) is not int or \
            not isinstance(hint, bytes) or len(hint) != 8:
        raise UsageError(f"the plug-in {name!r} gave something that cannot {needed}")
    if not FOREIGN <= kind <= 255:
        raise UsageError(f"the plug-in {name!r} uses stanza type {kind}: {FOREIGN} to 255 are for "
                         "third parties")
    return found
