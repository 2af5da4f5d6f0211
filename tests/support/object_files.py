"""DICOM files for the tests of objects: builders of what the corpus lacks, and small helpers."""

import random
import struct

from dicomcrypt.container.reader import Container
from dicomcrypt.objects.buffers import GrowingSink, MemorySource
from dicomcrypt.objects.encoder import Encoder

LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UN", b"UT"}
EXPLICIT = b"1.2.840.10008.1.2.1"
RLE = b"1.2.840.10008.1.2.5"
JPEG = b"1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFFFFFF
ITEM, DELIMITER = 0xFFFEE000, 0xFFFEE0DD


def head(tag, size):
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, size)


def item(value=b""):
    return head(ITEM, len(value)) + value


def element(tag, vr, value, length=None):
    size = len(value) if length is None else length
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in LONG_VRS:
        return start + struct.pack("<HI", 0, size) + value
    return start + struct.pack("<H", size) + value


def us(tag, value):
    return element(tag, b"US", struct.pack("<H", value))


def text(tag, vr, value):
    return element(tag, vr, value.encode() + b" " * (len(value) % 2))


BEHIND = element(0xFFFCFFFC, b"OB", bytes(10))


def dicom(
    rows, columns, value, *, frames=1, samples=1, bits=8, planar=None, photometric=None,
    syntax=EXPLICIT, length=None, before=b"", behind=BEHIND,
    stored=None,
):  # fmt: skip
    """A file with pixel data `value`; `length`: what its element says instead of its size."""
    photometric = photometric or ("RGB" if samples == 3 else "MONOCHROME2")
    uid = syntax + b"\0" * (len(syntax) % 2)
    group = element(0x00020010, b"UI", uid)
    dataset = text(0x00100010, b"PN", "Nobody^Really") + before
    dataset += us(0x00280002, samples) + text(0x00280004, b"CS", photometric)
    if planar is not None:
        dataset += us(0x00280006, planar)
    dataset += text(0x00280008, b"IS", str(frames)) + us(0x00280010, rows) + us(0x00280011, columns)
    stored = stored or bits
    for tag, number in ((0x100, bits), (0x101, stored), (0x102, stored - 1), (0x103, 0)):
        dataset += us(0x00280000 | tag, number)
    if syntax != EXPLICIT:
        length = UNDEFINED if length is None else length
    vr = b"OW" if bits > 8 else b"OB"
    dataset += element(0x7FE00010, vr, value, length) + behind
    start = element(0x00020000, b"UL", struct.pack("<I", len(group))) + group
    return bytes(128) + b"DICM" + start + dataset


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def encapsulated(fragments, table=b""):
    return item(table) + b"".join(map(item, fragments)) + head(DELIMITER, 0)


def small_files():
    """{name: file} of the kinds that the corpus has not, a few hundred KB at most."""
    rgb = noise(31 * 33 * 3 * 2)
    multi = [noise(700, n) + b"\xff\xd9" for n in range(6)]
    irregular = item() + item(noise(500)) + b"\x12\x34\x56\x78" * 30
    native = dicom(100, 120, noise(100 * 120 * 2 * 4), frames=4, bits=16)
    return {
        "empty": b"",
        "one byte": b"x",
        "text": b"not DICOM at all, but bytes. " * 3000,
        "no pixel data": dicom(1, 1, b"")[:-40],
        "empty pixel data": dicom(4, 4, b""),
        "pad byte": dicom(3, 5, noise(3 * 5 * 3) + b"\0", frames=3),
        "two bytes too many": dicom(3, 5, noise(3 * 5 * 3 + 2), frames=3),
        "one bit": dicom(9, 7, noise(24), frames=3, bits=1),
        "colour by pixel": dicom(31, 33, rgb, frames=2, samples=3, planar=0),
        "colour by plane": dicom(31, 33, rgb, frames=2, samples=3, planar=1),
        "YBR_FULL_422": dicom(32, 32, noise(32 * 32 * 2 * 2), frames=2, samples=3, planar=0,
                              photometric="YBR_FULL_422"),
        "many frames": dicom(64, 65, noise(64 * 65 * 40), frames=40),
        "cut in a frame": native[: len(native) - 30000],
        "cut before a frame's first byte": native[: native.index(noise(100)) + 48000],
        "cut in the tags": native[:200],
        "cut in the pixel header": native[: native.index(noise(100)) - 2],
        "no pixels though promised": native[: native.index(noise(100))],
        "fragments": dicom(10, 10, encapsulated(multi), frames=3, syntax=JPEG),
        "fragment a frame": dicom(10, 10, encapsulated(multi), frames=6, syntax=RLE),
        "offset table": dicom(10, 10, encapsulated(multi, struct.pack("<3I", 0, 1420, 4260)),
                              frames=3, syntax=RLE),
        "empty fragments": dicom(10, 10, encapsulated([b"", noise(10), b""]), syntax=RLE),
        "no fragments": dicom(10, 10, encapsulated([]), syntax=RLE),
        "irregular items": dicom(10, 10, irregular, syntax=RLE, behind=b""),
        "cut in a fragment": dicom(10, 10, encapsulated(multi), frames=6, syntax=RLE)[:-2000],
        "cut in an item header": dicom(10, 10, item() + item(multi[0]) + b"\xfe\xff\0",
                                       frames=2, syntax=RLE, behind=b""),
    }  # fmt: skip


def large_files():
    """{name: file} that need more than one unit of the block layer."""
    many = element(0x00091010, b"OB", noise(5 << 20, 5))
    fragments = [noise((4 << 20) + 4098), noise(9000, 1), noise((4 << 20) - 2, 2)]
    wide = dicom(5, 65535, noise(5 * 65535 * 12), samples=3, bits=32, planar=0)
    return {
        "large tags": dicom(40, 50, noise(2000), before=many),
        "large fragments": dicom(10, 10, encapsulated(fragments), frames=3, syntax=RLE),
        "large linear pixels": dicom(2100, 1100, noise(2100 * 1100 * 2), bits=16, frames=2),
        "wide rows": wide,
        "large opaque": noise((4 << 20) + 77, 9),
    }


def encode_in_windows(data, material, windows, method=-1):
    """The object that an encoder makes of a file shown in windows.

    windows: (keep, wanted, size) -> (low, high, whether the end is told with the last bytes).
    """
    sink = GrowingSink()
    encoder = Encoder(sink, material, method)
    view, keep, last = memoryview(data), 0, False
    while not last:
        low, high, eager = windows(keep, min(encoder.wanted, len(data)), len(data))
        last = high == len(data) and (eager or encoder.wanted > high)
        keep = encoder.feed(view[low:high], low, last)
        assert last or encoder.wanted > high, "an encoder that asks for what it was shown"
    assert encoder.size == sink.position
    return sink.value()


class CountingSource:
    """An object in memory that counts what is read of it."""

    def __init__(self, blob):
        self._blob = blob
        self.bytes_read = 0

    def size(self):
        return len(self._blob)

    def read_range(self, offset, length):
        assert 0 <= offset <= offset + length <= len(self._blob)
        self.bytes_read += length
        return self._blob[offset : offset + length]


def unlocked(blob, identity):
    """The object's container, opened."""
    return Container(MemorySource(blob)).unlock([identity])
