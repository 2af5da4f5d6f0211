"""A gateway that uses the public API, for type checkers: `test_types.py` runs mypy on it.

Nothing of it is run. `assert_type` says what a call gives; a line that must be refused says so by
an ignored error, and mypy complains of ignores that nothing needs.
"""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, assert_type

import numpy
import pydicom

import dicomcrypt as dc
from dicomcrypt.container.streams import Source
from dicomcrypt.trees.pool import Outcome
from dicomcrypt.trees.tree import EncryptOptions, encrypt_tree


class Upload:
    """A sink that is no file: its bytes may be kept."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(data)
        return len(data)


class FarAway:
    """A source: two methods."""

    def size(self) -> int:
        return 0

    def read_range(self, offset: int, length: int) -> bytes:
        return bytes(length)


def keys(folder: pathlib.Path) -> tuple[list[dc.Recipient], list[dc.AnyIdentity]]:
    own = dc.Identity.generate()
    assert_type(own, dc.HybridIdentity)
    recipients: list[dc.Recipient] = [own.recipient, dc.Passphrase("long enough, we hope")]
    assert_type(dc.load_recipients(folder / "doctor.pub"), list[dc.Recipient])
    recipients += dc.load_recipients(folder / "doctor.pub")
    identities: list[dc.AnyIdentity] = [own, dc.X25519Identity.generate()]
    assert_type(dc.load_identities(folder / "own.key"), list[dc.AnyIdentity])
    identities += dc.load_identities(folder / "own.key")
    return recipients, identities


def in_memory(
    data: bytes, recipients: Sequence[dc.Recipient], identities: Sequence[dc.AnyIdentity]
) -> None:
    blob = dc.encrypt(data, recipients, method="multilevel", allow_mixed=True)
    assert_type(blob, bytes)
    assert_type(dc.decrypt(memoryview(blob), identities, part="tags"), bytes)
    room = bytearray(dc.encrypted_size(len(data)))
    assert_type(dc.encrypt_into(data, room, recipients), int)
    assert_type(dc.decrypt_into(room, bytearray(len(data)), identities), int)
    dc.encrypt(data, recipients, methods="none")  # type: ignore[call-arg]
    dc.encrypt("text", recipients)  # type: ignore[arg-type]
    dc.encrypt(data, ["doctor.pub"])  # type: ignore[list-item]
    dc.encript(data, recipients)  # type: ignore[attr-defined]


def on_files(
    folder: pathlib.Path, recipients: list[dc.Recipient], who: list[dc.AnyIdentity]
) -> None:
    assert_type(dc.encrypt_file(folder / "a.dcm", folder / "a.dcmx", recipients, force=True), int)
    assert_type(dc.decrypt_file(folder / "a.dcmx", str(folder / "b.dcm"), who), int)
    assert_type(dc.inspect(folder / "a.dcmx", who), dict[str, Any])
    assert_type(dc.rewrap(folder / "a.dcmx", who, add=recipients, remove=[b"8 bytes."]),
                dict[str, Any])
    assert_type(dc.salvage(folder / "a.dcmx", folder / "c.dcm", who), dict[str, Any])
    try:
        dc.decrypt_file(folder / "a.dcmx", folder / "b.dcm", who, require_signature=True,
                        signers=dc.load_signer_keys(folder / "signer.crt"))
    except (dc.DamagedError, dc.NoIdentityError) as error:
        assert_type(error.exit_status, int)


def received(pieces: Iterator[memoryview], batch: dc.Batch, sink: io.BufferedWriter) -> int:
    with dc.ObjectWriter(sink, batch=batch) as writer:
        for piece in pieces:
            writer.write(piece)
    dc.ObjectWriter(Upload(), batch=batch).close()
    dc.ObjectWriter(object(), batch=batch)  # type: ignore[arg-type]
    return writer.close()


def shown(place: pathlib.Path | Source | io.BytesIO, who: list[dc.AnyIdentity]) -> numpy.ndarray:
    cache = dc.BatchKeyCache()
    with dc.open(place, who, cache=cache) as found:
        assert_type(found.dataset, pydicom.Dataset)
        assert_type(found.frames[0], bytes)
        assert_type(found.frames[:2], list[bytes])
        return found.frame_array(0)


def tree(
    source: str, target: str, recipients: Sequence[dc.Recipient], who: list[dc.AnyIdentity]
) -> int:
    from dicomcrypt.keys.batch import Envelope, scoped_recipients

    envelope = Envelope(scoped_recipients(recipients), batch=True)
    outcomes = encrypt_tree(source, target, envelope, EncryptOptions(verify=True), jobs=2)
    assert_type(outcomes, Iterator[Outcome])
    shown(FarAway(), who)
    return sum(outcome.bytes_out for outcome in outcomes)


def alone(data: bytearray, key: bytes) -> bytes:
    out = bytearray(len(data))
    methods = dc.ciphers.transform_into(out, data, key, [(0, len(data))])
    return dc.ciphers.transform_into(data, out, key, [(0, len(data))], methods, inverse=True)
