"""Attribute confidentiality (PS3.15 E): identifying elements go into the Encrypted Attributes
Sequence, and what others may see stays.

The first item is for every reader of the standard. Where putting its elements back would not give
the file back byte for byte, a second one holds the bytes of the file's head, in a private element.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from .._version import __version__
from ..errors import NotMeantError, PolicyError
from .cleaning import Cleaner
from .cms_envelope import GCM, Recipient, seal
from .dicomfile import MEDIA_INSTANCE, PREAMBLE, DicomFile, meta_bytes, uid_text, write_all
from .elements import LITTLE, Element, dictionary_vr, element_at, encode, sequence
from .encodings import convert
from .profile import (
    ENCRYPTED_ATTRIBUTES,
    IDENTITY_REMOVED,
    METHOD,
    METHOD_CODES,
    TEMPORAL,
    Profile,
)
from .uids import UidMap

SOP_INSTANCE, STUDY_INSTANCE, CHARACTER_SET = 0x00080018, 0x0020000D, 0x00080005
BURNED_IN = 0x00280301
ENCRYPTED_SYNTAX, ENCRYPTED_CONTENT, MODIFIED = 0x04000510, 0x04000520, 0x04000550
#: The private block of the second item.
CREATOR_TAG, CREATOR, RECORD_TAG = 0x00990010, b"DICOMCRYPT", 0x00991001
RECORD_HEAD = struct.Struct("<B32sQQ")
RECORD_VERSION = 1
#: The most that a record holds; of what is larger, elements come back, not bytes.
MAX_RECORD = 256 << 20
EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1"
#: The file meta that stays; the rest names applications and their addresses, or is private.
_META_KEPT = frozenset(0x00020000 | n for n in (0x00, 0x01, 0x02, 0x03, 0x10, 0x12, 0x13))


class Protected(NamedTuple):
    """A protected file before it is written: what comes before and behind the pixel data."""

    head: bytes
    tail: bytes
    instance: str
    study: str


def dataset_digest(transfer_syntax: str, parts: Sequence[bytes]) -> bytes:
    """SHA-256 of what is not encrypted of a protected data set, by which it is known to be as it
    was made."""
    digest = hashlib.sha256(transfer_syntax.encode() + b"\0")
    for part in parts:
        digest.update(part)
    return digest.digest()


class Protector:
    """Protects files for the same recipients, with the same profile and UIDs.

    burned_in: whether images that say of themselves that identifying text is in their pixels are
    taken. Raises PolicyError for a cipher that is not permitted."""

    def __init__(
        self, profile: Profile, uids: UidMap, recipients: Sequence[Recipient], cipher: str = GCM, *,
        burned_in: bool = False,
    ) -> None:
        self._profile, self._uids = profile, uids
        self._recipients, self._cipher, self._burned_in = tuple(recipients), cipher, burned_in
        dictionary_vr(CHARACTER_SET)  # loads the dictionary before there are workers

    def __reduce__(self) -> tuple[object, ...]:
        return _protector_again, (self._profile, self._uids, self._recipients, self._cipher,
                                  self._burned_in)

    def protect(self, file: DicomFile) -> Protected:
        """Return what takes the place of a file's head and tail.

        Raises NotMeantError for a file that is protected already or is a DICOMDIR, PolicyError for
        one with identifying text in its pixels, DamagedError."""
        self._check(file)
        cleaner = Cleaner(self._profile, self._uids)
        parts, moved = self._clean(file, cleaner)
        if "descriptors" in self._profile.options or any(map(cleaner.met_in, parts)):
            parts, moved = self._clean(file, cleaner.again())
        syntax = file.syntax
        found = [e for data, e in moved if e.tag & 0xFFFF]
        originals = [convert(data, e, syntax, LITTLE) for data, e in moved if e.tag & 0xFFFF]
        exact = len(found) == len(moved) and self._same_again(file, found, originals)
        charset = next((e for e in file.before if e.tag == CHARACTER_SET), None)
        if charset is not None and charset not in found:
            at = sum(e.tag < CHARACTER_SET for e in found)
            originals.insert(at, convert(file.head, charset, syntax, LITTLE))
        prefix, plain = self._prefix(file)
        contents = [originals]
        if not (exact and plain) and len(file.head) + len(file.tail) <= MAX_RECORD:
            contents.append(self._record(file, parts))
        body = [self._item(file, content) for content in contents]
        encrypted = sequence(ENCRYPTED_ATTRIBUTES, body, syntax)
        before = b"".join((*parts[:3], encrypted, parts[3]))
        tail = parts[4]
        if file.deflated:
            before = deflate(before)
        return Protected(prefix + before, tail, *map(uid_text, (
            self._new_uid(_value(file, SOP_INSTANCE)), self._new_uid(_value(file, STUDY_INSTANCE)),
        )))  # fmt: skip

    def _new_uid(self, value: bytes) -> bytes:
        return self._uids.new(value) if self._profile.action(SOP_INSTANCE) == "U" else value

    def _check(self, file: DicomFile) -> None:
        if file.is_directory:
            raise NotMeantError(f"{file.shown!r} is a DICOMDIR: it names what is protected; make a "
                             "new one of the protected files")
        for element in file.before:
            if element.tag == ENCRYPTED_ATTRIBUTES:
                raise NotMeantError(f"{file.shown!r} is protected already")
            if element.tag == BURNED_IN and not self._burned_in:
                value = file.head[element.start : element.stop].strip(b" \0")
                if value.upper() == b"YES":
                    raise PolicyError(
                        f"{file.shown!r} has text in its pixels that may identify the patient "
                        "(0028,0301), which is not encrypted here: give --burned-in to take it "
                        "as it is, or encrypt the whole file"
                    )

    def _clean(
        self, file: DicomFile, cleaner: Cleaner
    ) -> tuple[list[bytes], list[tuple[bytes, Element]]]:
        """The data set in five parts, between which the encrypted attributes and the pixel data
        stand; and the elements that were changed, each with the bytes it lies in."""
        marks = {METHOD_CODES: self._marks(file), TEMPORAL: self._temporal(file),
                 ENCRYPTED_ATTRIBUTES: b""}  # fmt: skip
        parts, moved, rest = [], [], file.before
        for last, mark in marks.items():
            at = next((n for n, e in enumerate(rest) if e.tag > last), len(rest))
            pieces, found = cleaner.dataset(file.head, rest[:at], file.syntax)
            moved += [(file.head, e) for e in found]
            parts.append(b"".join((*pieces, mark)))
            rest = rest[at:]
        for data, found in ((file.head, rest), (file.tail, file.after)):
            pieces, changed = cleaner.dataset(data, found, file.syntax)
            moved += [(data, e) for e in changed]
            parts.append(b"".join(pieces))
        return parts, moved

    def _marks(self, file: DicomFile) -> bytes:
        syntax = file.syntax
        codes = [
            encode(0x00080100, b"SH", value.encode(), syntax)
            + encode(0x00080102, b"SH", b"DCM", syntax)
            + encode(0x00080104, b"LO", meaning.encode(), syntax)
            for value, meaning in self._profile.codes
        ]  # fmt: skip
        method = f"dicomcrypt {__version__}, PS3.15 E.1, E.2".encode()[:64]
        return b"".join((
            encode(IDENTITY_REMOVED, b"CS", b"YES", syntax), encode(METHOD, b"LO", method, syntax),
            sequence(METHOD_CODES, codes, syntax),
        ))  # fmt: skip

    def _temporal(self, file: DicomFile) -> bytes:
        said = b"UNMODIFIED" if "dates" in self._profile.options else b"REMOVED"
        return encode(TEMPORAL, b"CS", said, file.syntax)

    def _prefix(self, file: DicomFile) -> tuple[bytes, bool]:
        """Preamble and file meta, and whether the old ones follow from the new ones."""
        changes: dict[int, bytes | None] = {
            e.tag: None for e in file.meta if e.tag not in _META_KEPT
        }
        plain = not changes and not any(file.head[:PREAMBLE])
        for element in file.meta:
            if element.tag == MEDIA_INSTANCE:
                value = file.head[element.start : element.stop]
                changes[MEDIA_INSTANCE] = self._new_uid(value)
                plain = plain and value == _value(file, SOP_INSTANCE)
        whole = meta_bytes(file.head, file.meta, {})
        plain = plain and whole == file.head[PREAMBLE + 4 : file.dataset]
        return bytes(PREAMBLE) + b"DICM" + meta_bytes(file.head, file.meta, changes), plain

    def _same_again(self, file: DicomFile, found: list[Element], originals: list[bytes]) -> bool:
        """Whether putting the originals back gives the same bytes."""
        tags = [e.tag for e in (*file.before, *file.after)]
        if file.rest or any(a >= b for a, b in itertools.pairwise(tags)):
            return False
        if tags and tags[0] >> 16 <= 2:  # would become file meta, or come before it
            return False
        if file.syntax == LITTLE:
            return True
        place = {e.tag: (data, e) for data, listed in ((file.head, file.before),
                                                       (file.tail, file.after)) for e in listed}
        for element, original in zip(found, originals, strict=True):
            again = convert(original, element_at(original, 0, len(original), LITTLE), LITTLE,
                            file.syntax)
            data, old = place[element.tag]
            if again != data[old.begin : old.end]:
                return False
        return True

    def _record(self, file: DicomFile, parts: list[bytes]) -> list[bytes]:
        """The private elements that hold a file's head and tail as they are."""
        head = file.head
        tail = file.tail + bytes(file.rest)
        digest = dataset_digest(file.transfer_syntax, parts)
        value = RECORD_HEAD.pack(RECORD_VERSION, digest, len(head), len(tail))
        value += zlib.compress(head + tail, 1)
        return [encode(CREATOR_TAG, b"LO", CREATOR, LITTLE),
                encode(RECORD_TAG, b"OB", value, LITTLE)]

    def _item(self, file: DicomFile, content: list[bytes]) -> bytes:
        """An item of the Encrypted Attributes Sequence."""
        plain = sequence(MODIFIED, [b"".join(content)], LITTLE)
        sealed = seal(plain, self._recipients, self._cipher)
        return encode(ENCRYPTED_SYNTAX, b"UI", EXPLICIT_LITTLE, file.syntax) + encode(
            ENCRYPTED_CONTENT, b"OB", sealed, file.syntax)


def deflate(data: bytes) -> bytes:
    """A data set deflated, of even length (PS3.5 A.5)."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    found = compressor.compress(data) + compressor.flush()
    return found + b"\0" * (len(found) & 1)


def _protector_again(
    profile: Profile, uids: UidMap, recipients: Sequence[Recipient], cipher: str, burned_in: bool
) -> Protector:
    return Protector(profile, uids, recipients, cipher, burned_in=burned_in)


def _value(file: DicomFile, tag: int) -> bytes:
    """The value of an element before the pixel data; b"" if it is not there."""
    for element in file.before:
        if element.tag == tag:
            return file.head[element.start : element.stop]
    return b""


def write(file: DicomFile, made: Protected, target: int) -> int:
    """Write a protected file to a descriptor; return its size. Raises SourceChangedError."""
    write_all(target, made.head)
    pixels = file.copy_pixels(target)
    write_all(target, made.tail)
    file.check_unchanged()
    return len(made.head) + pixels + len(made.tail)
