"""Makes archives to measure on: `python bench/corpus.py FOLDER [--kind archive|small]`.

archive: 1,200 CT files of 0.5 MB in 12 series and three multi-frame files of 126 MB, 1.0 GB.
small: 100,000 files of 4 KB in 100 folders. Every file differs from every other.
"""

from __future__ import annotations

import argparse
import pathlib
import struct

from dicomcrypt.cli.measure import ct_file, ct_pixels, small_file

FRAMES, SIDE = 240, 512
#: Of the pixels, 16 bits each, that a file has to itself.
STEP = 4099


def _own(data: bytearray, number: int) -> bytes:
    """Give a file a number and pixels of its own."""
    data[24:32] = struct.pack("<Q", number)
    first = len(data) - 2 * SIDE * SIDE
    for at in range(max(first, 1024) + 2 * (number % STEP), len(data) - 1, 2 * STEP):
        data[at] ^= number & 15
    return bytes(data)


def archive(root: pathlib.Path, slices: int = 1200, large: int = 3) -> int:
    """Write the archive; return its bytes."""
    ct, total = bytearray(ct_file()), 0
    for number in range(slices):
        folder = root / f"study{number // 400}" / f"series{number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        total += (folder / f"ct{number:05}.dcm").write_bytes(_own(ct[:], number))
    frame = ct_pixels(SIDE, SIDE)
    for number in range(large):
        path = root / "enhanced" / f"us{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            total += file.write(multi_frame_head(FRAMES, number))
            for n in range(FRAMES):
                pixels = bytearray(frame)
                pixels[SIDE * SIDE + 2 * n :: 2 * STEP] = bytes(
                    len(pixels[SIDE * SIDE + 2 * n :: 2 * STEP])
                )
                total += file.write(pixels)
    return total


def multi_frame_head(frames: int, number: int) -> bytes:
    """The bytes in front of the pixel data value of an image of so many frames."""
    ct = ct_file()
    head = bytearray(ct[: len(ct) - 2 * SIDE * SIDE])
    head[24:32] = struct.pack("<Q", number)
    head[-4:] = struct.pack("<I", frames * 2 * SIDE * SIDE)
    text = b"%d " % frames if len(str(frames)) % 2 else b"%d" % frames
    element = struct.pack("<HH2sH", 0x28, 8, b"IS", len(text)) + text
    rows = head.index(struct.pack("<HH2s", 0x28, 0x10, b"US"))
    return bytes(head[:rows] + element + head[rows:])


def small(root: pathlib.Path, files: int = 100_000) -> int:
    """Write many files of 4 KB; return their bytes."""
    data, total = bytearray(small_file()), 0
    for number in range(files):
        folder = root / f"{number // 1000:03}"
        if number % 1000 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        data[24:32] = struct.pack("<Q", number)
        total += (folder / f"{number % 1000:03}.dcm").write_bytes(data)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kind", choices=["archive", "small"], default="archive")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True)
    made = {"archive": archive, "small": small}[asked.kind](asked.folder)
    print(f"{made} bytes in {asked.folder}")
