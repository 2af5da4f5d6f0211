"""Where a signed policy is kept, and how it is changed.

A store keeps named documents: beside the configuration, or in the key table's database. What is in
it is verified whenever it is loaded; what does not verify stops everything that asks (exit 4 or 5),
it never falls back to a preset.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import DamagedError, PolicyError, UsageError
from ..regular import open_regular
from . import document as documents
from .document import Document, canonical, parse_json
from .rules import Policy
from .signing import Verifier

DOCUMENT_NAME = "policy"
_FIELDS = {"dcmx-policy-store", "document", "key", "signature", "signers"}
_LIMIT = 1 << 19


class PolicyStore(Protocol):
    """Something that keeps documents by name: a folder, or a key table's database."""

    def get_document(self, name: str) -> bytes | None:
        """Return a document, None if there is none."""

    def put_document(self, name: str, data: bytes) -> None:
        """Replace a document as one step."""


class FileStore:
    """A store in one file of mode 0600.

    Its signature guards the policy in it against everybody without the signer's key, except
    that who may write the file may also remove it, or put another whole store in its place:
    name the signer in the configuration, or keep it in a key table."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def get_document(self, name: str) -> bytes | None:
        try:
            with open(open_regular(self.path), "rb") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o022:
                    raise PolicyError(f"policy {str(self.path)!r} may be written by others: "
                                      "take that right away with chmod 600")
                data = file.read(_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PolicyError(
                f"cannot read policy {str(self.path)!r}: {(error.strerror or '').lower()}"
            ) from None
        if len(data) > _LIMIT:
            raise DamagedError(f"policy {str(self.path)!r} is too large")
        return data

    def put_document(self, name: str, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.urandom(6).hex()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


class Installed(NamedTuple):
    """What a store holds, verified."""

    document: Document
    signer: Verifier
    signers: tuple[str, ...]

    def policy(self, origin: str) -> Policy:
        return self.document.policy(f"{origin}, sequence {self.document.sequence}")


def load(store: PolicyStore) -> Installed | None:
    """Return what a store holds, None if it holds nothing.

    Raises DamagedError for a store that was changed, PolicyError for a signer that is not
    pinned, or before the policy's time."""
    data = store.get_document(DOCUMENT_NAME)
    if data is None:
        return None
    try:
        found = parse_json(data, "policy store")
        if set(found) != _FIELDS or found["dcmx-policy-store"] != 1:
            raise UsageError("the policy store has other fields than it should")
        key = base64.b64decode(found["key"], validate=True)
        signature = base64.b64decode(found["signature"], validate=True)
        signers = tuple(found["signers"])
        if not isinstance(found["document"], dict):
            raise UsageError("the policy store holds no document")
        document = documents.check(found["document"])
        verifier = Verifier.from_bytes(key)
    except (UsageError, PolicyError, binascii.Error, ValueError, TypeError) as error:
        raise DamagedError(f"policy {str(store)!r} is damaged or forged: {error}") from None
    documents.check_signature(document, signature, verifier)
    if document.signers and document.signers != signers:
        raise DamagedError(f"policy {str(store)!r} is damaged or forged: its signers were changed")
    if verifier.key_id not in signers:
        raise PolicyError(f"policy {str(store)!r} is signed by a key that it does not trust")
    documents.check_time(document)
    return Installed(document, verifier, signers)


def install(
    store: PolicyStore, document: Document, signature: bytes, signer: Verifier, *,
    trust_signer: bool = False, only: Sequence[str] = (),
) -> Installed:
    """Put a signed policy in the place of a store's.

    trust_signer: pin this signer, where none is pinned yet. only: signers that the
    configuration demands. Raises DamagedError for a wrong signature, PolicyError for a signer
    that is not trusted, a sequence number that is not higher, or before the policy's time.
    """
    documents.check_signature(document, signature, signer)
    if only and signer.key_id not in only:
        raise PolicyError(f"the configuration wants another signer of policies than "
                          f"{signer.key_id[:16]}")
    before = load(store)
    if before is None:
        if not trust_signer and not only:
            raise PolicyError(f"no signer of policies is trusted yet: compare {signer.key_id} with "
                              "what its owner says, then give --trust-signer")
        pinned: tuple[str, ...] = (signer.key_id,)
    else:
        pinned = before.signers
        if signer.key_id not in pinned:
            raise PolicyError(f"policies signed by {signer.key_id[:16]} are not trusted here: the "
                              "present signer must name it in a policy's signers first")
        if document.sequence <= before.document.sequence:
            raise PolicyError(
                f"policy {document.name!r} has sequence {document.sequence}, and "
                f"{before.document.sequence} is in force: an older policy is not taken back"
            )
    documents.check_time(document)
    if document.signers and signer.key_id not in document.signers:
        raise PolicyError("a policy's signers must have its own signer among them: leave it out "
                          "in the policy after, which the other one signs")
    pinned = document.signers or pinned
    store.put_document(DOCUMENT_NAME, canonical({
        "dcmx-policy-store": 1,
        "document": document.data,
        "key": base64.b64encode(signer.public_bytes).decode(),
        "signature": base64.b64encode(signature).decode(),
        "signers": list(pinned),
    }) + b"\n")
    return Installed(document, signer, pinned)
