"""What `dicomcrypt bench`, bench/ and bench/compare.py measure: inputs, work that checks its
answers, yardsticks and the clock.

Only the least time of many counts: everything that disturbs a measurement makes it longer. A
yardstick is timed in turns with each figure, so that it meets every state of the machine; ratios
are to its best.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .. import api
from ..ciphers.transform import METHODS, Run, cipher, transform_into
from ..container.header import BatchKeyCache
from ..errors import KernelError, UsageError
from ..keys.hybrid import HybridIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    Buffer = bytes | bytearray | memoryview
    Work = Callable[[], object]

PIECE = 64 * 1024
MIB = 1 << 20
METHOD_NAMES = tuple(name for name, number in METHODS.items() if number is not None)
_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.2"


class WrongAnswer(KernelError):
    """What was measured gave a wrong result: the figure means nothing, and nor does the build."""


def check(condition: bool, what: str) -> None:
    """Raise WrongAnswer unless the condition holds."""
    if not condition:
        raise WrongAnswer(f"{what} gave a wrong answer: do not use this build")


# ---- the clock -------------------------------------------------------------


def best(work: Callable[[], object], rounds: int = 1, seconds: float = 0.0) -> float:
    """Return the least time of `work` in seconds: at least `rounds` times, and `seconds` long."""
    least, done, end = math.inf, 0, perf_counter() + seconds
    while True:
        start = perf_counter()
        work()
        now = perf_counter()
        least, done = min(least, now - start), done + 1
        if done >= rounds and now >= end:
            return least


def best_in_turns(
    works: list[Callable[[], object]], seconds: float, rounds: int = 5
) -> list[float]:
    """Return the least time of each, a short while each in turns until `seconds` are over."""
    least = [math.inf] * len(works)
    end = perf_counter() + seconds
    slice_seconds = min(0.02, seconds / (4 * len(works)))
    while True:
        for n, work in enumerate(works):
            least[n] = min(least[n], best(work, rounds=1, seconds=slice_seconds))
        rounds -= 1
        if rounds <= 0 and perf_counter() >= end:
            return least


# ---- inputs ----------------------------------------------------------------


def _element(group: int, number: int, vr: str, value: bytes) -> bytes:
    value += (b"\0" if vr in ("UI", "OB", "OW") else b" ") * (len(value) % 2)
    if vr in ("OB", "OW"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def ct_pixels(rows: int = 512, columns: int = 512) -> bytes:
    """A round body on a zero background, 12 bits of 16: tissue, texture and noise."""
    import numpy

    y, x = numpy.mgrid[:rows, :columns]
    radius = numpy.hypot((x - columns / 2) / columns, (y - rows / 2) / rows)
    noise = numpy.random.default_rng(79).normal(0, 12, (rows, columns))
    body = 1040 + 90 * numpy.sin(x / 11) * numpy.cos(y / 17) + 400 * (radius > 0.36) + noise
    return numpy.where(radius < 0.4, body, 0).astype("<u2").tobytes()


def ct_file(rows: int = 512, columns: int = 512, elements: int = 79) -> bytes:
    """A CT image as a scanner writes it: explicit VR little endian, so many data elements."""
    uid = f"1.2.826.0.1.3680043.8.498.{rows}.{columns}".encode()
    meta = b"".join([
        _element(2, 1, "OB", b"\0\1"), _element(2, 2, "UI", _SOP_CLASS.encode()),
        _element(2, 3, "UI", uid), _element(2, 16, "UI", b"1.2.840.10008.1.2.1"),
        _element(2, 18, "UI", b"1.2.826.0.1.3680043.8.498.1"),
    ])  # fmt: skip
    found = [
        _element(8, 0x0005, "CS", b"ISO_IR 100"), _element(8, 0x0008, "CS", b"ORIGINAL\\PRIMARY"),
        _element(8, 0x0016, "UI", _SOP_CLASS.encode()), _element(8, 0x0018, "UI", uid),
        _element(8, 0x0020, "DA", b"20240229"), _element(8, 0x0030, "TM", b"101112.131415"),
        _element(8, 0x0060, "CS", b"CT"), _element(8, 0x0080, "LO", b"General Hospital"),
        _element(0x10, 0x10, "PN", b"Doe^Jane"), _element(0x10, 0x20, "LO", b"4711"),
        _element(0x10, 0x30, "DA", b"19700101"), _element(0x10, 0x40, "CS", b"F"),
    ]  # fmt: skip
    image = [
        (2, "US", struct.pack("<H", 1)), (4, "CS", b"MONOCHROME2"),
        (0x10, "US", struct.pack("<H", rows)), (0x11, "US", struct.pack("<H", columns)),
        (0x30, "DS", b"0.9765625\\0.9765625"), (0x100, "US", struct.pack("<H", 16)),
        (0x101, "US", struct.pack("<H", 12)), (0x102, "US", struct.pack("<H", 11)),
        (0x103, "US", struct.pack("<H", 0)), (0x1052, "DS", b"-1024"), (0x1053, "DS", b"1"),
    ]  # fmt: skip
    private = elements - 6 - len(found) - len(image) - 1
    found.append(_element(0x19, 0x10, "LO", b"MEASURED"))
    found += [
        _element(0x19, 0x1000 + n, "LO", b"acquisition %d" % n) for n in range(private - 1)
    ]
    found += [_element(0x28, number, vr, value) for number, vr, value in image]
    found.append(_element(0x7FE0, 0x10, "OW", ct_pixels(rows, columns)))
    head = b"\0" * 128 + b"DICM" + _element(2, 0, "UL", struct.pack("<I", len(meta)))
    return head + meta + b"".join(found)


def small_file() -> bytes:
    """A DICOM file of about 4 KB."""
    return ct_file(24, 36)


def mixed_buffer(size: int = 16 * MIB) -> bytearray:
    """Random bytes, not DICOM, whose blocks choose the three methods in turn."""
    data = bytearray(os.urandom(MIB) * (size // MIB))
    for n in range(size // MIB):  # a linear unit of 4 MiB has four blocks of 1 MiB
        data[n * MIB] = n % 3
    return data


def method_mix(data: Buffer, geometry: Sequence[tuple[int, ...]]) -> tuple[int, int, int]:
    """How many blocks go through each of the three methods."""
    packed = transform_into(bytearray(len(data)), data, bytes(range(64)), geometry)
    chosen = [pair >> shift & 3 for pair in packed for shift in (0, 2, 4, 6)]
    return chosen.count(0), chosen.count(1), chosen.count(2)


# ---- yardsticks ------------------------------------------------------------


def memory_copy(size: int) -> Callable[[], None]:
    """Copy a buffer of this size."""
    source = memoryview(os.urandom(min(size, MIB)) * -(-size // MIB))[:size]
    view = memoryview(bytearray(size))

    def work() -> None:
        view[:] = source

    return work


def aes_gcm(data: Buffer | None = None, out: bytearray | None = None) -> Work:
    """AES-256-GCM `encrypt_into`: over the given buffers, or 64 KiB that stay in the L2 cache."""
    plain = os.urandom(PIECE) if data is None else data
    sealed = memoryview(bytearray(len(plain) + 16) if out is None else out)[: len(plain) + 16]
    key, nonce = AESGCM(bytes(32)), bytes(12)
    return lambda: key.encrypt_into(nonce, plain, None, sealed)


# ---- work ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure: it processes `size` bytes, `yardstick` `yardstick_size` bytes."""

    name: str
    size: int
    work: Callable[[], object]
    yardstick: Callable[[], object]
    yardstick_size: int
    note: str = ""


@contextmanager
def kernel(name: str | None) -> Iterator[None]:
    """Demand a kernel for the block layer, as DICOMCRYPT_KERNEL does."""
    before = os.environ.get("DICOMCRYPT_KERNEL")
    if name is not None:
        os.environ["DICOMCRYPT_KERNEL"] = name
    try:
        yield
    finally:
        if name is not None:
            os.environ.pop("DICOMCRYPT_KERNEL")
            if before is not None:
                os.environ["DICOMCRYPT_KERNEL"] = before


#: Runs of half a megabyte, and the size of their samples: all tiles in one piece; block rows of
#: 512 bytes, 32 bytes, and of a length that no vector divides.
SHAPES = {
    "contiguous": ((0, 524288), 1),
    "512x512x16": ((0, 524288, 512, 1024, 512), 2),
    "64x64x8": ((0, 524288, 64, 64, 32), 1),
    "511x509x16": ((0, 511 * 1018, 511, 1018, 510), 2),
}


def block_work(
    shape: str, method: str, inverse: bool = False, name: str | None = None
) -> tuple[Work, int]:
    """Return (work, bytes) of one kernel, method, direction and shape, checked against
    the portable kernel and by the way back."""
    run, sample = SHAPES[shape]
    data, key = ct_pixels()[: run[1]], bytes(range(64))
    made, back, expected = bytearray(run[1]), bytearray(run[1]), bytearray(run[1])
    with kernel("portable"):
        methods = transform_into(expected, data, key, [run], method, sample_bytes=sample)
    rows, row_bytes, split = run[2:] or (0, 0, 0)
    number = METHODS[method]
    if number is None:
        raise UsageError(f"the method {method!r} runs no kernel")
    with kernel(name):
        stream = cipher(key)

    def forward() -> None:
        Run(stream, 0, run[1], rows=rows, row_bytes=row_bytes, split=split, method=number,
            sample_bytes=sample).advance(made, 0, data, 0)

    def backward() -> None:
        Run(stream, 0, run[1], rows=rows, row_bytes=row_bytes, split=split, inverse=True,
            methods=methods).advance(back, 0, expected, 0)

    forward()
    backward()
    check(made == expected and back == data, f"the kernel {name or 'in use'}, {method}, {shape}")
    return (backward if inverse else forward), run[1]


class ObjectWork:
    """One file through `Batch.encrypt_into` and `decrypt_into`, checked by the way back."""

    def __init__(self, data: bytes | bytearray, method: str = "randomized") -> None:
        self._identity = HybridIdentity.generate()
        self._batch = api.Batch([self._identity.recipient], method=method)
        self._cache = BatchKeyCache()  # a batch costs one private-key operation
        self.data = data
        self.sealed = bytearray(self._batch.encrypted_size(len(data)))
        self.back = bytearray(len(data))
        self.size = self.encrypt()
        self.blob = bytes(memoryview(self.sealed)[: self.size])
        self.decrypt()
        check(self.back == data, "encrypt_into and decrypt_into")

    def encrypt(self) -> int:
        return self._batch.encrypt_into(self.data, self.sealed)

    def decrypt(self) -> int:
        return api.decrypt_into(self.blob, self.back, [self._identity], cache=self._cache)

    def confirm(self) -> None:
        """What was written last, in both directions, is right."""
        self.back[:] = bytes(len(self.back))
        blob = memoryview(self.sealed)[: self.size]
        api.decrypt_into(blob, self.back, [self._identity])
        check(self.back == self.data, "encrypt_into and decrypt_into")


def object_cases(*, small: bool = True) -> Iterator[tuple[Case, ObjectWork]]:
    """CT, 4 KB object and 16 MiB buffer, in both directions."""
    files = {"ct": ct_file(), "4k": small_file()} if small else {"ct": ct_file()}
    gcm = aes_gcm()
    for name, data in files.items():
        objects = ObjectWork(data)
        yield Case(f"{name} encrypt", len(data), objects.encrypt, gcm, PIECE), objects
        yield Case(f"{name} decrypt", len(data), objects.decrypt, gcm, PIECE), objects
    mixed = mixed_buffer()
    size = len(mixed)
    mix = "method 0, 1, 2 in {}, {}, {} blocks".format(*method_mix(mixed, [(0, size)]))
    objects = ObjectWork(mixed)
    same = aes_gcm(mixed, objects.sealed)
    yield Case("16MiB encrypt", size, objects.encrypt, same, size, mix), objects
    objects.encrypt()
    same = aes_gcm(mixed, bytearray(objects.sealed))
    yield Case("16MiB decrypt", size, objects.decrypt, same, size, mix), objects


def suite(seconds: float = 10.0, *, small: bool = False) -> dict[str, dict[str, Any]]:
    """Measure this machine in about so many seconds: {name: {bytes, seconds, gb_per_s,
    yardstick_bytes, yardstick_gb_per_s, ratio, note}}.

    ratio: to AES-256-GCM, whose own ratio is 1. Raises WrongAnswer.
    """
    gcm, large = aes_gcm(), aes_gcm(bytearray(16 * MIB))
    cases = [
        Case("memory copy", 16 * MIB, memory_copy(16 * MIB), gcm, PIECE, "16 MiB"),
        Case("aes-256-gcm", PIECE, gcm, gcm, PIECE, "64 KiB in the L2 cache"),
        Case("aes-256-gcm 16MiB", 16 * MIB, large, large, 16 * MIB),
    ]
    for method in METHOD_NAMES:
        for inverse in (False, True):
            work, size = block_work("512x512x16", method, inverse)
            name = f"block {method} {'inverse' if inverse else 'forward'}"
            cases.append(Case(name, size, work, gcm, PIECE, "512*512*16 bit"))
    share = seconds / (len(cases) + (6 if small else 4) + 2)  # two for what is prepared
    found = {case.name: figure(case, share) for case in cases}
    for case, objects in object_cases(small=small):
        found[case.name] = figure(case, share)
        if case.name.endswith("encrypt"):
            if case.yardstick_size == case.size:  # the yardstick wrote over the object
                objects.encrypt()
            objects.confirm()
        else:
            check(objects.back == objects.data, "decrypt_into")
    return with_ratios(found)


def with_ratios(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add to figures their ratio to the best that their yardstick reached in the run.

    Not to what it reached beside the figure: a yardstick that was disturbed would flatter.
    """
    best_of: dict[int, float] = {}
    for entry in found.values():
        size = entry["yardstick_bytes"]
        best_of[size] = max(entry["yardstick_gb_per_s"], best_of.get(size, 0.0))
    return {
        name: {**entry, "ratio": entry["gb_per_s"] / best_of[entry["yardstick_bytes"]]}
        for name, entry in found.items()
    }


def figure(case: Case, seconds: float) -> dict[str, Any]:
    """Measure one case in turns with its yardstick."""
    works = [case.work] if case.work is case.yardstick else [case.work, case.yardstick]
    times = best_in_turns(works, seconds)
    took, yardstick = times[0], times[-1]
    rate, other = case.size / took, case.yardstick_size / yardstick
    return {
        "bytes": case.size, "seconds": took, "gb_per_s": rate / 1e9,
        "yardstick_bytes": case.yardstick_size, "yardstick_gb_per_s": other / 1e9,
        "note": case.note,
    }  # fmt: skip
