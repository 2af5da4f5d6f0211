"""Digital signatures in DICOM files: making them (PS3.15 sections C.1 and C.2)."""

from __future__ import annotations

import datetime
import hashlib
import uuid
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import NotMeantError, UsageError
from . import mac
from .elements import ITEM, LITTLE, Syntax, encode, header
from .layout import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    DataSet,
    Element,
    keyword,
    read_file,
    tag_text,
)
from .signatures import (
    CERTIFICATE_TYPE,
    HASHES,
    MAC_ALGORITHM,
    MAC_ID,
    MAC_SYNTAX,
    MOMENT,
    SIGNED_TAGS,
    UID,
    X509,
)

PROFILES = ("creator", "base")
#: What an archive may correct in an object's life, and so the creator does not sign: patient,
#: study and order (PS3.4 section B.4.1.1 of coercion), and the trail of such corrections. C.2
#: demands none of it; everything else is signed, which is more than C.2 demands.
_CORRECTED_GROUPS = frozenset({0x0010, 0x0012, 0x0032, 0x0038})
_CORRECTED = frozenset({
    0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080090, 0x00080092, 0x00080094,
    0x00080096, 0x0008009C, 0x0008009D, 0x00081030, 0x00081032, 0x00081048, 0x00081049,
    0x00081060, 0x00081062, 0x00081080, 0x00081084, 0x00081110, 0x00081120, 0x00200010,
    0x00400244, 0x00400245, 0x00400250, 0x00400251, 0x00400253, 0x00400254, 0x00400260,
    0x00400275, 0x00400280, 0x00401001, 0x00401002, 0x00401003, 0x00402016, 0x00402017,
    0x04000561,
})  # fmt: skip
_MOST_TAGS = 0xFFFC // 4


def sign(
    source: BinaryIO, target: BinaryIO, signer: Any, *, profile: str = "creator",
    tags: Iterable[int] = (), algorithm: str = "SHA256",
) -> list[int]:
    """Write a signed copy of a DICOM file and return the tags that the signature is of.

    Everything else stays byte for byte, but for deflated data sets, which are deflated again.
    signer: a `keys.signing.Signer` with an RSA or elliptic-curve key. profile: "creator" signs
    all but what archives correct, "base" everything that can be signed, or, of the data set, only
    `tags`. Raises NotMeantError for what is no DICOM file, or has nothing that can be signed,
    DamagedError, UsageError."""
    if profile not in PROFILES or algorithm not in HASHES:
        raise UsageError(f"{profile!r} and {algorithm!r}: the profiles are {', '.join(PROFILES)}, "
                         f"the MAC algorithms {', '.join(HASHES)}")
    data = read_file(source)
    chosen = list(_chosen(data, profile, list(tags)))
    if not chosen:
        raise NotMeantError("nothing in it can be signed")
    if len(chosen) > _MOST_TAGS:
        raise UsageError(f"it has more than {_MOST_TAGS} elements to sign: name them by --tag")
    number = _free_number(data)
    syntax = EXPLICIT if data.syntax in (IMPLICIT, BIG_ENDIAN) else data.syntax
    if data.data is not source:  # deflated: what is signed is what it inflates to
        syntax = EXPLICIT
    now = datetime.datetime.now(datetime.UTC)
    own = [
        (MAC_ID, b"US", number),
        (UID, b"UI", f"2.25.{uuid.uuid4().int}"),
        (MOMENT, b"DT", f"{now:%Y%m%d%H%M%S.%f}+0000"),
        (CERTIFICATE_TYPE, b"CS", X509),
    ]
    digest = hashlib.new(algorithm.lower())
    for element in chosen:
        mac.feed(data, element, digest.update)
    digest.update(_item(own, LITTLE))
    made = signer.sign_digest(digest.digest(), HASHES[algorithm])
    certificate = signer.certificate.public_bytes(Encoding.DER)
    own += [(mac.CERTIFICATE, b"OB", certificate), (mac.SIGNATURE, b"OB", made)]
    parameters = [
        (MAC_ID, b"US", number), (MAC_SYNTAX, b"UI", syntax), (MAC_ALGORITHM, b"CS", algorithm),
        (SIGNED_TAGS, b"AT", [element.tag for element in chosen]),
    ]  # fmt: skip
    _write(data, target, {mac.MAC_PARAMETERS: _item(parameters, data.encoding),
                          mac.SIGNATURES: _item(own, data.encoding)},
           deflate=data.data is not source)  # fmt: skip
    return [element.tag for element in chosen]


def archives_correct(tag: int) -> bool:
    """Whether an element is one that the creator leaves to archives."""
    return tag >> 16 in _CORRECTED_GROUPS or tag in _CORRECTED


def _chosen(data: DataSet, profile: str, tags: list[int]) -> Iterator[Element]:
    present = {element.tag: element for element in data.elements}
    for tag in tags:
        if tag not in present:
            raise UsageError(f"it has no {tag_text(tag)} to sign")
        if not mac.can_be_signed(present[tag]):
            raise UsageError(f"{tag_text(tag)} cannot be signed (PS3.3 section C.12.1.1.3.1.1)")
    for element in data.elements:
        if tags:
            wanted = element.tag in tags
        else:
            wanted = profile == "base" or not archives_correct(element.tag)
        if wanted and mac.can_be_signed(element):
            yield element


def _free_number(data: DataSet) -> int:
    """Return a MAC ID that no signature of the data set has."""
    taken = set()
    for element in data.elements:
        if element.tag in (mac.MAC_PARAMETERS, mac.SIGNATURES):
            for item in element.items or ():
                for inner in item.elements:
                    if inner.tag == MAC_ID:
                        taken.add(int.from_bytes(data.read(inner), data.encoding.order))
    return next(n for n in range(0x10000) if n not in taken)


def _item(values: list[tuple[int, bytes, Any]], encoding: Syntax) -> bytes:
    """Return the elements of an item, in the order of their tags."""
    order, found = encoding.order, b""
    for tag, vr, value in values:
        if isinstance(value, int):
            value = value.to_bytes(2, order)
        elif isinstance(value, list):
            value = b"".join(half.to_bytes(2, order) for one in value
                             for half in (one >> 16, one & 0xFFFF))
        elif isinstance(value, str):
            value = value.encode()
        found += encode(tag, vr, value, encoding)
    return found


def _write(data: DataSet, target: BinaryIO, added: dict[int, bytes], *, deflate: bool) -> None:
    """Write the file with one more item in each of these sequences."""
    target.write(data.head)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if deflate else None

    def put(chunk: bytes) -> None:
        target.write(chunk if deflater is None else deflater.compress(chunk))

    waiting = sorted(added.items(), reverse=True)
    groups = {tag & 0xFFFF0000 for tag in added}
    done = data.elements[0].start  # up to where it was written
    for element in data.elements:
        # The length of those two groups is another now; PS3.5 section 7.2 retired it.
        gone = element.tag in groups
        if gone or (waiting and waiting[-1][0] <= element.tag):
            mac.copy(data.data, done, element.start - done, put)
            done = element.end if gone else element.start
        while waiting and waiting[-1][0] <= element.tag:
            tag, item = waiting.pop()
            old = element if tag == element.tag else None
            _sequence(data, old, tag, item, put)
            done = element.end if old is not None else done
    mac.copy(data.data, done, data.elements[-1].end - done, put)
    while waiting:
        tag, item = waiting.pop()
        _sequence(data, None, tag, item, put)
    if deflater is not None:
        rest = deflater.flush()
        target.write(rest)
        written = target.tell() - len(data.head)
        target.write(b"\0" * (written % 2))  # PS3.5 section A.5


def _sequence(data: DataSet, old: Element | None, tag: int, item: bytes, put: mac.Sink) -> None:
    """Put a sequence: the items that it had, and one more."""
    kept = 0
    if old is not None:
        if old.vr != b"SQ":
            raise UsageError(f"its {keyword(tag)} is no sequence: sign a copy without it")
        kept = old.end - old.value - (8 if old.length is None else 0)
    put(header(tag, b"SQ", kept + 8 + len(item), data.encoding))
    if old is not None:
        mac.copy(data.data, old.value, kept, put)
    put(header(ITEM, b"", len(item), Syntax(True, data.encoding.big)) + item)
