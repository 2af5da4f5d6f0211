"""Earlier prescriptions and their receipts: whatever of a folder a key opens."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DicomcryptError, NoIdentityError, PolicyError, TokenError, UsageError
from . import envelope, signed
from .holders import Holder
from .opening import Opened, Sources, check_document
from .receipts import RECEIPT, OpenedReceipt, require_of, verify_receipt
from .signed import MAX_MESSAGE

_MOST = 10_000


@dataclass
class Past:
    """An earlier prescription, and its receipt if there is one."""

    path: str
    opened: Opened
    receipt: OpenedReceipt | None = None

    def as_json(self) -> dict[str, Any]:
        prescription = self.opened.prescription
        return {
            "file": self.path, "serial": prescription.serial,
            "signed": self.opened.moment.isoformat(), "doctor": prescription.doctor.name,
            "expires": prescription.expires.isoformat(),
            "medications": [m.text for m in prescription.medications],
            "dispensed": self.receipt.receipt.dispensed if self.receipt else None,
        }  # fmt: skip


@dataclass
class History:
    """What a folder holds: by date; files for others; files that do not pass, with the reason."""

    found: list[Past]
    others: int
    refused: list[tuple[str, str]]


def read(folder: str | os.PathLike[str], holder: Holder, sources: Sources) -> History:
    """Open what a key opens of a folder, each prescription judged as of its signing.

    Raises UsageError for what is no folder."""
    if not os.path.isdir(folder):
        raise UsageError(f"{os.fspath(folder)!r} is no folder")
    history = History([], 0, [])
    receipts: dict[str, list[tuple[str, OpenedReceipt]]] = {}
    pasts: dict[bytes, Past] = {}
    paths = sorted(p for p in Path(folder).iterdir()
                   if p.suffix in (".p7m", ".p7s") and p.is_file())
    for path in paths[:_MOST]:
        try:
            inner = _inner(_bounded(path), holder)
            if signed.parse(inner).kind == RECEIPT:
                told = verify_receipt(inner, sources)
                receipts.setdefault(told.receipt.digest, []).append((path.name, told))
            else:
                past = Past(path.name, check_document(inner, sources))
                pasts.setdefault(past.opened.digest, past)
        except NoIdentityError:
            history.others += 1
        except TokenError:  # the card is gone, or does not take the PIN: no file's fault
            raise
        except DicomcryptError as error:
            history.refused.append((path.name, str(error)))
    for past in pasts.values():
        for name, told in receipts.get(past.opened.digest.hex(), ()):
            try:
                require_of(told, past.opened)
                past.receipt = told
            except PolicyError as error:
                history.refused.append((name, str(error)))
    history.found = sorted(pasts.values(), key=lambda p: p.opened.moment)
    return history


def _bounded(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_MESSAGE + 1)


def _inner(data: bytes, holder: Holder) -> bytes:
    """The signed document or receipt in a file: as it stands, or enciphered."""
    if signed.is_signed(data):
        outer = signed.parse(data)
        return envelope.open_envelope(outer.content, holder) \
            if envelope.is_envelope(outer.content) else data
    return envelope.open_envelope(data, holder)
