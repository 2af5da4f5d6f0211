"""DICOM files (PS3.10 section 7): their file meta, their elements, and where the pixel data lies,
which is never held in memory unless the file is deflated."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

from ..errors import NotMeantError, SourceChangedError, UsageError
from ..objects.buffers import patiently
from ..regular import open_regular
from .elements import (
    IMPLICIT,
    LITTLE,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    ShortError,
    Syntax,
    damaged,
    element_at,
    encode,
)

PREAMBLE = 128
MAGIC = b"DICM"
#: The most that is held of a file: what is not pixel data, or all of it if it is deflated.
MAX_HEAD, FIRST_READ = 1 << 30, 64 << 10
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_IMPLICIT_LITTLE, _EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_ELSEWHERE = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (95, 205))  # deflated, pixels by JPIP
#: What to do about a file that is not held.
_WHOLE = "encrypt the whole file instead (`dicomcrypt encrypt`, `standard wrap`)"
_DEFLATE_TAIL = 9  # padding, or the sums that gzip has behind its data: they get lost
_DIRECTORY = b"1.2.840.10008.1.3.10"
MEDIA_CLASS, MEDIA_INSTANCE, TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010
META_LENGTH = 0x00020000


def uid_text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


class DicomFile:
    """A DICOM file that is read; a context manager.

    head: everything before the pixel data, or all of a deflated file, inflated. meta: elements of
    group 2. dataset: where in `head` the data set begins. before, after: its elements before and
    behind the pixel data, the latter in `tail`. pixels: (begin, end) of the pixel data in the file;
    None without, and in a deflated file. rest: zero bytes behind all elements.

    Raises UsageError for a file that is not DICOM, DamagedError for one that is not whole or not as
    PS3.5 and PS3.10 say, SourceChangedError, OSError.
    """

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        self.shown = os.fsdecode(path)
        self.descriptor = open_regular(path)
        try:
            self.status = os.fstat(self.descriptor)
            self.size = self.status.st_size
            self.head, self.deflated = self._pread(min(self.size, FIRST_READ), 0), False
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DicomFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def _pread(self, size: int, offset: int) -> bytes:
        if size > MAX_HEAD:
            raise UsageError(f"{self.shown!r} has over {MAX_HEAD >> 20} MiB beside its pixel data: "
                             f"{_WHOLE}")
        parts = []
        while size:
            part: bytes = patiently(lambda: os.pread(self.descriptor, size, offset))  # noqa: B023
            if not part:
                raise SourceChangedError(f"{self.shown!r} changed while it was read")
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _more(self) -> None:
        """Read four times as much of the file."""
        self.head = self._pread(min(self.size, 4 * len(self.head)), 0)

    def _read(self) -> None:
        if self.head[PREAMBLE : PREAMBLE + 4] != MAGIC:
            raise NotMeantError(f"{self.shown!r} is not a DICOM file (PS3.10)")
        self.meta: list[Element] = []
        at = PREAMBLE + 4
        while self.head[at : at + 2] == b"\x02\0":
            self.meta.append(self._element(at, LITTLE))
            at = self.meta[-1].end
        self.dataset = at
        values = {e.tag: self.head[e.start : e.stop] for e in self.meta}
        if TRANSFER_SYNTAX not in values:
            raise damaged("the file meta names no transfer syntax")
        self.transfer_syntax = uid_text(values[TRANSFER_SYNTAX])
        self.is_directory = values.get(MEDIA_CLASS, b"").rstrip(b"\0 ") == _DIRECTORY
        self.syntax = self._syntax()
        self.deflated = self.transfer_syntax == _DEFLATED
        if self.deflated:
            self._inflate()
        self.pixels: tuple[int, int] | None = None
        self.before, at = self._elements(at)
        self.tail = b""
        self.after: list[Element] = []
        self.rest: int
        if self.pixels is not None:
            self.tail = self._pread(self.size - self.pixels[1], self.pixels[1])
            self.head = self.head[: self.pixels[0]]
            tail_at = 0
            while not _zeros(self.tail, tail_at):
                self.after.append(element_at(self.tail, tail_at, len(self.tail), self.syntax))
                tail_at = self.after[-1].end
            self.rest = len(self.tail) - tail_at
            self.tail = self.tail[:tail_at]
        else:
            self.rest = len(self.head) - at
            self.head = self.head[:at]

    def _syntax(self) -> Syntax:
        if self.transfer_syntax == _IMPLICIT_LITTLE:
            return IMPLICIT
        if self.transfer_syntax == _EXPLICIT_BIG:
            return Syntax(big=True)
        known = self.transfer_syntax.startswith("1.2.840.10008.1.2.")
        if not known or self.transfer_syntax in _ELSEWHERE:
            raise UsageError(f"{self.shown!r} has a transfer syntax that is not known here")
        return LITTLE

    def _inflate(self) -> None:
        compressed = self.head[self.dataset :] + self._pread(
            self.size - len(self.head), len(self.head))
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = decompressor.decompress(compressed, MAX_HEAD)
        except zlib.error:
            raise damaged("it cannot be inflated") from None
        if decompressor.unconsumed_tail:
            raise UsageError(f"{self.shown!r} inflates to over {MAX_HEAD >> 20} MiB: {_WHOLE}")
        if not decompressor.eof or len(decompressor.unused_data) > _DEFLATE_TAIL:
            raise damaged("it cannot be inflated whole")
        self.head = self.head[: self.dataset] + data

    def _element(self, at: int, syntax: Syntax) -> Element:
        while True:
            try:
                return element_at(self.head, at, len(self.head), syntax)
            except ShortError:
                if self._whole:
                    raise
                self._more()

    @property
    def _whole(self) -> bool:
        return self.deflated or len(self.head) == self.size

    def _elements(self, at: int) -> tuple[list[Element], int]:
        """The elements up to the pixel data, and where they end."""
        found: list[Element] = []
        little = not self.syntax.big
        order = struct.Struct("<HH" if little else ">HH")
        while True:
            head = self.head
            left = len(head) - at
            if left < 16 and not self._whole:
                self._more()
                continue
            tag = 0
            if left >= 8:
                group, number = order.unpack_from(head, at)
                tag = group << 16 | number
                if tag in PIXELS and not self.deflated:
                    self.pixels = at, self._end_of_pixels(at)
                    return found, at
            if not tag and _zeros(self._all(), at):
                return found, at
            found.append(self._element(at, self.syntax))
            at = found[-1].end

    def _all(self) -> bytes:
        while not self._whole:
            self._more()
        return self.head

    def _end_of_pixels(self, at: int) -> int:
        big = ">" if self.syntax.big else "<"
        start = at + (8 if self.syntax.implicit else 12)
        if len(self.head) < start:
            raise damaged("it is cut short")
        length: int
        (length,) = struct.unpack_from(big + "I", self.head, start - 4)
        if not self.syntax.implicit and self.head[at + 4 : at + 6] not in (
            b"OB", b"OW", b"OF", b"OD", b"OV", b"UN"
        ):  # fmt: skip
            raise damaged("its pixel data has a VR that it cannot have")
        if length != UNDEFINED:
            if start + length > self.size:
                raise damaged("its pixel data is cut short")
            return start + length
        place = start
        item = struct.Struct(big + "HHI")
        while True:
            if place + 8 > self.size:
                raise damaged("its pixel data is cut short")
            piece = self.head[place : place + 8] if place + 8 <= len(self.head) else (
                self._pread(8, place))
            group, number, length = item.unpack(piece)
            place += 8
            if group << 16 | number == SEQUENCE_END:
                return place
            if (group, number) != (0xFFFE, 0xE000) or place + length > self.size:
                raise damaged("its pixel data is cut short, or not in fragments")
            place += length

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if the file was written to meanwhile."""
        after = os.fstat(self.descriptor)
        if (after.st_size, after.st_mtime_ns) != (self.size, self.status.st_mtime_ns):
            raise SourceChangedError(f"{self.shown!r} changed while it was read")

    def copy_pixels(self, target: int) -> int:
        """Copy the pixel data to a descriptor, by the system alone if it can; return the bytes."""
        if self.pixels is None:
            return 0
        at, end = self.pixels
        try:
            while at < end and (done := os.copy_file_range(self.descriptor, target, end - at, at)):
                at += done
        except (AttributeError, OSError):
            pass  # other file systems, other systems: by hand from here
        while at < end:
            part = self._pread(min(end - at, 1 << 20), at)
            write_all(target, part)
            at += len(part)
        return self.pixels[1] - self.pixels[0]


def write_all(descriptor: int, data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _zeros(data: bytes, at: int) -> bool:
    """Whether nothing but zero bytes is left."""
    return not any(data[at : at + 8]) and not data[at:].strip(b"\0")


def meta_bytes(
    head: bytes, found: list[Element], changes: dict[int, bytes | None]
) -> bytes:
    """File meta with changed values (None: left out), its length made right."""
    parts: list[bytes] = []
    length_at = None
    for element in found:
        if element.tag == META_LENGTH:
            length_at = len(parts)
            parts.append(b"")
        elif element.tag not in changes:
            parts.append(head[element.begin : element.end])
        elif (value := changes[element.tag]) is not None:
            parts.append(encode(element.tag, element.vr, value, LITTLE))
    if length_at is not None:
        size = sum(map(len, parts[length_at + 1 :]))
        parts[length_at] = encode(META_LENGTH, b"UL", struct.pack("<I", size), LITTLE)
    return b"".join(parts)
