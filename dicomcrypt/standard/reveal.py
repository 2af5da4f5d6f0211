"""Puts encrypted attributes back (PS3.15 E.1.2): ours, and those of any other program."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..errors import NoIdentityError, NotMeantError
from .cms_envelope import Opening, open_sealed
from .dicomfile import (
    MAGIC,
    MEDIA_INSTANCE,
    PIXELS,
    PREAMBLE,
    TRANSFER_SYNTAX,
    DicomFile,
    meta_bytes,
    uid_text,
)
from .elements import LITTLE, Element, damaged, element_at, elements, items
from .encodings import convert
from .profile import ENCRYPTED_ATTRIBUTES, MARKS
from .protect import (
    CREATOR,
    CREATOR_TAG,
    ENCRYPTED_CONTENT,
    ENCRYPTED_SYNTAX,
    EXPLICIT_LITTLE,
    MAX_RECORD,
    MODIFIED,
    RECORD_HEAD,
    RECORD_TAG,
    RECORD_VERSION,
    SOP_INSTANCE,
    Protected,
    dataset_digest,
    deflate,
)

MAX_ITEMS = 16
#: How a Modified Attributes Sequence begins, or a group length before it.
BEGINS = b"\x00\x04"
#: Groups of commands, of file meta, and of items' marks: no attributes of a data set.
_NEVER = frozenset((0x0000, 0x0002, 0xFFFE))
#: Elements from here on stand behind the pixel data.
PIXELS_FROM = 0x7FE00008


def reveal(file: DicomFile, opening: Opening) -> Protected:
    """Return what takes the place of a protected file's head and tail: the original's.

    The attributes of all items that open are put back, the first item's before the others'. If
    the rest of the data set is as `protect` made it, the file is what it was, byte for byte, but
    for what was deflated. Whoever has a recipient's certificate can make an item: none replaces
    pixel data, or how the data set is encoded.

    Raises NotMeantError for a file without encrypted attributes, NoIdentityError if no item opens,
    DamagedError, PolicyError."""
    sealed = next((e for e in file.before if e.tag == ENCRYPTED_ATTRIBUTES), None)
    if sealed is None:
        raise NotMeantError(f"{file.shown!r} has no encrypted attributes (0400,0500)")
    originals: dict[int, bytes] = {}
    refusal, opened, record = None, 0, b""
    for content in _contents(file, sealed):
        try:
            plain = open_sealed(content, opening, begins=BEGINS)
        except NoIdentityError as error:
            refusal = error
            continue
        opened += 1
        found = {e.tag: e for e in _modified(plain)}
        creator = found.get(CREATOR_TAG)
        own = creator is not None and plain[creator.start : creator.stop].strip() == CREATOR
        if own and RECORD_TAG in found:
            record = plain[found[RECORD_TAG].start : found[RECORD_TAG].stop]
            continue
        for tag, element in found.items():
            if tag not in originals:
                originals[tag] = convert(plain, element, LITTLE, file.syntax)
    if not opened:
        raise refusal or damaged("its encrypted attributes are empty")
    same = _from_record(file, sealed, record) if record else None
    return same or _put_back(file, originals)


def _contents(file: DicomFile, sealed: Element) -> Iterator[bytes]:
    """The CMS messages of the Encrypted Attributes Sequence."""
    data, syntax = file.head, file.syntax
    end = sealed.end if sealed.undefined else sealed.stop
    for number, (begin, start, stop) in enumerate(
        items(data, sealed.start, end, syntax, delimited=sealed.undefined)
    ):
        if begin == start:
            return
        if number >= MAX_ITEMS:
            raise damaged("it has too many encrypted attributes")
        found = {e.tag: data[e.start : e.stop] for e in elements(data, start, stop, syntax, 1)}
        if ENCRYPTED_CONTENT not in found:
            raise damaged("an item of its encrypted attributes has no content")
        if found.get(ENCRYPTED_SYNTAX, b"").rstrip(b"\0 ") != EXPLICIT_LITTLE:
            raise damaged("its encrypted attributes are not in Explicit VR Little Endian")
        yield found[ENCRYPTED_CONTENT]


def _modified(plain: bytes) -> list[Element]:
    """The elements of the one item of the Modified Attributes Sequence."""
    for element in elements(plain, 0, len(plain), LITTLE):
        if element.tag == MODIFIED and element.vr == b"SQ":
            end = element.end if element.undefined else element.stop
            for begin, start, stop in items(plain, element.start, end, LITTLE,
                                            delimited=element.undefined):
                if begin != start:
                    return elements(plain, start, stop, LITTLE, 1)
    raise damaged("its encrypted attributes hold no modified attributes (0400,0550)")


def _from_record(file: DicomFile, sealed: Element, record: bytes) -> Protected | None:
    """The original's head and tail as `protect` recorded them; None if the data set was changed
    since, or the record is of another version."""
    if len(record) < RECORD_HEAD.size or record[0] != RECORD_VERSION:
        return None
    _, digest, head_size, tail_size = RECORD_HEAD.unpack_from(record)
    before = file.head[file.dataset : sealed.begin], file.head[sealed.end :]
    if digest != dataset_digest(file.transfer_syntax, (*before, file.tail)):
        return None
    if head_size + tail_size > MAX_RECORD:
        raise damaged("its record of the original is too large")
    try:
        whole = zlib.decompressobj().decompress(record[RECORD_HEAD.size :],
                                                head_size + tail_size + 1)
    except zlib.error:
        whole = b""
    if len(whole) != head_size + tail_size:
        raise damaged("its record of the original is damaged")
    head, tail = whole[:head_size], whole[head_size:]
    at = _check_record(file, head, tail)
    if file.deflated:
        head = head[:at] + deflate(head[at:])
    return Protected(head, tail, "", "")


def _check_record(file: DicomFile, head: bytes, tail: bytes) -> int:
    """Return where the data set of a record begins; raises DamagedError for one that would make
    other pixels or another transfer syntax of the file."""
    at = PREAMBLE + 4
    syntax = None
    while head[at : at + 2] == b"\x02\0":
        element = element_at(head, at, len(head), LITTLE)
        if element.tag == TRANSFER_SYNTAX:
            syntax = uid_text(head[element.start : element.stop])
        at = element.end
    pixels, behind = [], b""
    for data, place in ((head, at), (tail, 0)):
        while any(data[place : place + 8]):
            element = element_at(data, place, len(data), file.syntax)
            if element.tag in PIXELS:
                pixels.append(data[place : element.end])
            place = element.end
        behind += data[place:].strip(b"\0")
    own = [file.head[e.begin : e.end] for e in file.before if e.tag in PIXELS]
    sound = head[PREAMBLE : PREAMBLE + 4] == MAGIC and syntax == file.transfer_syntax
    if not sound or behind or pixels != own:
        raise damaged("its record is of another original")
    return at


def _put_back(file: DicomFile, originals: dict[int, bytes]) -> Protected:
    """What the standard says: attributes take their places, in the order of their tags; the marks
    go."""
    if any(tag >> 16 in _NEVER or tag in PIXELS or tag == ENCRYPTED_ATTRIBUTES
           for tag in originals):
        raise damaged("its encrypted attributes replace what they may not")
    parts = []
    for data, found, first, last in (
        (file.head, file.before, 0, PIXELS_FROM), (file.tail, file.after, PIXELS_FROM, 1 << 32)
    ):
        kept = {e.tag: data[e.begin : e.end] for e in found if e.tag not in MARKS}
        if file.pixels is None and first == 0:
            last = 1 << 32
        elif file.pixels is None:
            first = last
        kept |= {tag: value for tag, value in originals.items() if first <= tag < last}
        parts.append(b"".join(kept[tag] for tag in sorted(kept)))
    whole, tail = parts
    changes: dict[int, bytes | None] = {}
    if SOP_INSTANCE in originals:
        element = element_at(originals[SOP_INSTANCE], 0, len(originals[SOP_INSTANCE]), file.syntax)
        changes[MEDIA_INSTANCE] = originals[SOP_INSTANCE][element.start : element.stop]
    prefix = file.head[: PREAMBLE + 4] + meta_bytes(file.head, file.meta, changes)
    return Protected(prefix + (deflate(whole) if file.deflated else whole), tail, "", "")
