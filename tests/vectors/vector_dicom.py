"""Made DICOM files and texts, with the runs that divide them."""

import struct

from vector_bytes import OPAQUE, PIXELS, TAGS, TAIL, rand
from vector_writer import Part, linear


def element(group, number, vr, value):
    if vr in ("OB", "OW", "SQ", "UN"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    value += b" " * (len(value) % 2) if vr not in ("UI",) else b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def dicom_tags(
    syntax, rows, columns, bits, samples=1, planar=0, frames=1, photometric="MONOCHROME2"
):
    meta = element(2, 0x10, "UI", syntax.encode())
    head = bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    number = lambda n, v: element(0x28, n, "US", struct.pack("<H", v))  # noqa: E731
    head += element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.7")
    head += element(8, 0x18, "UI", b"2.25.1234567890")
    head += element(0x10, 0x10, "PN", b"Vector^Test")
    head += number(2, samples) + element(0x28, 4, "CS", photometric.encode())
    head += number(6, planar) if samples > 1 else b""
    head += element(0x28, 8, "IS", str(frames).encode()) if frames > 1 else b""
    head += number(0x10, rows) + number(0x11, columns) + number(0x100, bits)
    return head + number(0x101, bits) + number(0x102, bits - 1) + number(0x103, 0)


EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
TRAILING = element(0xFFFC, 0xFFFC, "OB", bytes(10))


def native(name, rows, columns, bits=8, samples=1, planar=0, frames=1, method=None, pad=0, cut=0):
    """TAGS, PIXELS and TAIL of an uncompressed image; `cut` bytes are missing at its end."""
    width = bits // 8
    plane = rows * columns * width * samples
    value = rand(name + " pixels", plane * frames) + bytes(pad)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    tags = dicom_tags(EXPLICIT, rows, columns, bits, samples, planar, frames, photometric)
    tags += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW" if bits > 8 else b"OB", 0, len(value))
    value = value[: len(value) - cut]
    unit_rows = rows * samples if planar else rows
    bytes_per_pixel = width if planar else width * samples
    run = [
        0,
        min(plane * frames, len(value)),
        unit_rows,
        columns * bytes_per_pixel,
        (columns + 1) // 2 * bytes_per_pixel,
    ]
    facts = [rows, columns, samples, bits, bits, bits - 1, 0, planar, frames, photometric]
    pixels = Part(
        value,
        None if method == "none" else [run],
        method,
        width,
        k5=EXPLICIT,
        k6=[*facts, 0x7FE00010, 0],
        k14=plane * 8,
    )
    tail = b"" if cut else TRAILING
    simple = "none" if method == "none" else None
    return {TAGS: linear(tags, simple), PIXELS: pixels, TAIL: linear(tail, simple)}


def encapsulated(name, sizes, method=None, per_frame=1):
    """JPEG-like fragments (random bytes) with an empty offset table and a frame table."""
    tags = dicom_tags(JPEG, 16, 16, 8, frames=len(sizes) // per_frame)
    tags += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    value, runs, items = struct.pack("<HHI", 0xFFFE, 0xE000, 0), [], []
    for i, size in enumerate(sizes):
        items.append((len(value), len(value) + 8 + size))
        runs += [[len(value) + 8, size]] if size else []
        value += struct.pack("<HHI", 0xFFFE, 0xE000, size) + rand(f"{name} fragment {i}", size)
    value += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    frames = b""
    for i in range(0, len(items), per_frame):
        start, end = items[i][0], items[i + per_frame - 1][1]
        frames += struct.pack("<QQ", start, end - start)
    facts = [16, 16, 1, 8, 8, 7, 0, 0, len(sizes) // per_frame, "MONOCHROME2", 0x7FE00010, 0]
    pixels = Part(value, runs, method, k4=frames, k5=JPEG, k6=facts)
    return {TAGS: linear(tags), PIXELS: pixels, TAIL: linear(TRAILING)}


def text(size=100, method=None):
    line = b"This is not DICOM, and comes back all the same.\n"
    return {OPAQUE: linear((line * (size // len(line) + 1))[:size], method)}
