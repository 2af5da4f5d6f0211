"""What can be said of an object: without a key, and with one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ..ciphers.transform import METHOD_NAMES
from ..container.header import MACS_SIZE, Slot
from ..container.layout import (
    FLAG_MIXED_PASSPHRASE,
    OPAQUE,
    PIXELS,
    STREAM_NAMES,
    STREAM_ORDER,
    SUITE,
    TAGS,
    VERSION,
)
from ..container.reader import Container
from ..container.stanza import NO_HINT, SCOPE_NAMES, Identity
from ..container.streams import plain_size
from ..dicom.attributes import values
from ..errors import DicomcryptError, FrameError
from ..native import _scan
from .buffers import FileSource
from .decoder import stream_runs
from .opened import OpenedObject
from .signing import NO_DEMANDS, SignaturePolicy, unlock

if TYPE_CHECKING:
    from pydicom import Dataset
    from typing_extensions import Buffer

MAP_LIMIT = 4096  # units whose methods are listed one by one


def _recipients(slot: Slot) -> list[dict[str, Any]]:
    return [
        {
            "type": s.type_name,
            "scope": SCOPE_NAMES.get(s.scope, str(s.scope)),
            "hint": None if s.hint == NO_HINT else s.hint.hex(),
        }
        for s in slot.stanzas
    ]


def describe_container(container: Container) -> dict[str, Any]:
    """Return what the public parts say. Nothing of it is authenticated yet."""
    slot = container.slots[0]
    return {
        "version": VERSION,
        "suite": SUITE,
        "suite_name": "AES-256-GCM, SHA-512, chunks of 16 KiB",
        "object_id": container.prefix.object_id.hex(),
        "size": container.size,
        "generation": slot.generation,
        "slot_capacity": container.prefix.capacity,
        "slot_used": len(slot.signed) - 72 + MACS_SIZE,
        "passphrase_beside_recipients": bool(container.prefix.flags & FLAG_MIXED_PASSPHRASE),
        "recipients": _recipients(slot),
        "streams": {
            STREAM_NAMES[sid]: {"sealed": container.streams[sid][1],
                                "plain": plain_size(container.streams[sid][1])}
            for sid in STREAM_ORDER
            if sid in container.streams
        },
        "signed": container.signatures is not None,
    }  # fmt: skip


def _method_map(obj: OpenedObject, sid: int) -> dict[str, Any] | None:
    runs, methods = stream_runs(obj.container, sid)
    if not runs:
        return None
    counts = Counter(pair >> shift & 3 for pair in methods for shift in (0, 2, 4, 6))
    frame_run = next((run for run in runs if len(run) == 5), None)
    return {
        "units": len(methods),
        "unit": f"frame of {frame_run[2]} rows, {frame_run[3]} bytes" if frame_run else "linear",
        "blocks": {METHOD_NAMES[m]: n for m, n in sorted(counts.items())},
        "map": [[pair >> shift & 3 for shift in (0, 2, 4, 6)] for pair in methods[:MAP_LIMIT]],
    }


def describe_opened(obj: OpenedObject) -> dict[str, Any]:
    """Return what an opened object says, as far as its scope reaches; all authenticated."""
    opened = obj.container
    keys = opened.keys
    result: dict[str, Any] = {
        "scopes": [SCOPE_NAMES[s] for s in sorted(keys.scopes)],
        "payload": {
            STREAM_NAMES[sid]: opened.payload_size(sid)
            for sid in STREAM_ORDER
            if sid in opened.streams and (sid == TAGS or keys.opens(sid))
        },
    }
    if keys.opens(opened.closing_stream):
        closing = opened.closing_index()
        meta = closing.meta
        result["original_size"] = closing.size
        result["name"] = None if meta.name is None else os.fsdecode(meta.name)
        result["mode"] = None if meta.mode is None else f"{meta.mode:04o}"
        result["mtime_ns"] = meta.mtime_ns
        if meta.link is not None:
            result["link"] = os.fsdecode(meta.link)
        result["dicom"] = TAGS in opened.streams
    if TAGS in opened.streams and keys.opens(TAGS):
        scan = _scan.Scan()
        scan.feed(obj.tags, 0, True)
        result["attributes"] = values(scan, obj.tags)
    if PIXELS in opened.streams and keys.opens(PIXELS):
        geometry = obj.geometry
        result["image"] = {
            "rows": geometry.rows, "columns": geometry.columns, "samples": geometry.samples,
            "bits_allocated": geometry.bits_allocated, "bits_stored": geometry.bits_stored,
            "frames": geometry.frames, "photometric": geometry.photometric,
            "transfer_syntax": obj.transfer_syntax,
            "frames_readable_alone": obj.frame_count,
        }  # fmt: skip
    result["methods"] = {
        STREAM_NAMES[sid]: _method_map(obj, sid)
        for sid in (TAGS, PIXELS, OPAQUE)
        if sid in opened.streams and keys.opens(sid)
    }
    return result


def inspect_path(
    path: str | os.PathLike[str], identities: Sequence[Identity],
    policy: SignaturePolicy = NO_DEMANDS,
) -> dict[str, Any]:
    """Return a description of the object in a file; see `dicomcrypt.inspect`."""
    source = FileSource(path)
    try:
        container = Container(source)
        result = describe_container(container)
        if identities:
            opened = unlock(container, identities, policy=policy)
            result["opened"] = describe_opened(OpenedObject(opened))
            result["opened"]["signature"] = policy.facts(opened)
        return result
    finally:
        source.close()


def why_opaque(data: Buffer) -> str:
    """Return what a file is that the scanner cannot follow, as words behind "bytes of "."""
    scan = _scan.Scan()
    status = scan.feed(data, 0, True)
    if status == _scan.DEFLATED:
        return "a deflated DICOM file"
    if status == _scan.FOREIGN:
        return "a file that is not DICOM"
    if scan.need > memoryview(data).nbytes:
        return "a DICOM file that ends within its tags"
    return "a DICOM file whose tags cannot be followed"


def listed_dataset(obj: OpenedObject) -> Dataset:
    """Return the data set of an opened object for showing its elements one by one.

    That is `OpenedObject.dataset`, or, where pydicom cannot read the elements that say how to read
    the others, what stands in the file as the scanner followed it. Of either, asking for one
    element may raise what pydicom raises. Raises FrameError where there is nothing to show.
    """
    try:
        return obj.dataset
    except DicomcryptError:
        raise
    except Exception:  # whatever pydicom makes of an element that is not as it should be
        return _as_scanned(obj)


def _as_scanned(obj: OpenedObject) -> Dataset:
    from pydicom import Dataset
    from pydicom.charset import convert_encodings, default_encoding
    from pydicom.filereader import data_element_generator

    data, scan = obj._without_pixels()
    implicit, little = scan.implicit_vr, not scan.big_endian
    encodings: str | list[str] = default_encoding
    try:
        elements = data_element_generator(BytesIO(data[scan.dataset :]), implicit, little)
        found = Dataset({element.tag: element for element in elements})
        if (named := values(scan, data).get("SpecificCharacterSet")) is not None:
            encodings = convert_encodings(named.split("\\"))
    except Exception:
        raise FrameError("the object's data elements cannot be listed: decrypt it, and look at "
                         "the file") from None
    found.set_original_encoding(implicit, little, encodings)
    return found
