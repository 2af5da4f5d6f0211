"""The block layer on the caller's memory, whole runs or band by band.

Chooses the kernel, gives the portable one its keystream, and knows the methods by
name. The kernels themselves are in `csrc/block`, their specification is
docs/spec/block-layer-v1.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ..errors import KernelError, UsageError
from ..native._block import LINEAR_UNIT, RANDOMIZED, Run, StreamCipher, kernels, lookup

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LINEAR_UNIT", "METHODS", "METHOD_NAMES", "Run", "StreamCipher", "active_kernel",
           "cipher", "inverse_run", "kernels", "method_number", "transform_into", "unit_count",
           "unit_size"]

#: The methods by the names that the paper and the command line give them; `none`
#: leaves the block layer out.
METHODS: dict[str, int | None] = {"randomized": RANDOMIZED, "aes-transposition": 0, "vigenere": 1,
                                  "multilevel": 2, "none": None}
METHOD_NAMES = ("aes-transposition", "vigenere", "multilevel")


def method_number(name: str) -> int | None:
    """Return a method's number, -1 for randomized, None for none.

    Raises UsageError for an unknown name.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise UsageError(f"unknown method {name!r}: use one of {', '.join(METHODS)}") from None


@cache
def _kernel(demand: str | None) -> int:
    if not demand:
        usable = [name for name, verdict in kernels().items() if verdict == "ok"]
        for name in ("vaes512", "vaes256", "aesni", "neon", "portable"):
            if name in usable:
                return lookup(name)[0]
    number, verdict = lookup(demand or "portable")
    if verdict != "ok":
        raise KernelError(f"DICOMCRYPT_KERNEL={demand}: this kernel is {verdict}; "
                          f"unset it, or use one of "
                          f"{', '.join(n for n, v in kernels().items() if v == 'ok')}")
    return number


def active_kernel() -> str:
    """Return the name of the kernel in use; `DICOMCRYPT_KERNEL` demands one.

    Raises KernelError if the demand cannot be met.
    """
    return list(kernels())[demanded_kernel()]


def demanded_kernel() -> int:
    """Return the id of the kernel in use. Raises KernelError."""
    return _kernel(os.environ.get("DICOMCRYPT_KERNEL"))


_ZEROS = bytes(8 * 16384)


def _keystream(key: bytes) -> Callable[[bytes, bytearray | memoryview], None]:
    """AES-256-CTR keystream of OpenSSL, for the portable kernel."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = memoryview(_ZEROS)

    def fill(counter: bytes, buffer: bytearray | memoryview) -> None:
        encryptor.reset_nonce(counter)  # a fifth of the cost of a new encryptor
        encryptor.update_into(zeros[: len(buffer)], buffer)

    return fill


def cipher(key: Buffer, kernel: int | None = None) -> StreamCipher:
    """Return the block layer of one stream for its 64-byte key.

    kernel: an id from `demanded_kernel`, to ask for it once for several streams."""
    return StreamCipher(key, demanded_kernel() if kernel is None else kernel, _keystream)


def unit_size(run: Sequence[int]) -> int:
    """Return the bytes of a run's units; the last one may be shorter."""
    return run[2] * run[3] if len(run) == 5 else LINEAR_UNIT


def unit_count(run: Sequence[int]) -> int:
    """Return how many units a run has."""
    return -(-run[1] // unit_size(run))


def inverse_run(
    stream: StreamCipher, run: Sequence[int], first_unit: int, methods: bytes,
    offset: int, length: int,
) -> Run:  # fmt: skip
    """Return what decrypts `length` bytes of a run from `offset` on, which are whole units.

    first_unit: the number of the first of them in the stream; methods: theirs, one byte a unit."""
    rows, row_bytes, split = run[2:] if len(run) == 5 else (0, 0, 0)
    return Run(
        stream, offset, length, rows=rows, row_bytes=row_bytes, split=split,
        first_unit=first_unit, inverse=True, methods=methods,
    )  # fmt: skip


def transform_into(
    dst: Buffer,
    src: Buffer,
    key: Buffer,
    geometry: Iterable[Sequence[int]],
    methods: str | bytes = "randomized",
    *,
    sample_bytes: int = 1,
    inverse: bool = False,
) -> bytes:
    """Run the block layer alone from one buffer into another, without copies.

    dst, src: contiguous buffers of one size that do not overlap. key: 64 bytes, never
    used for two streams. geometry: runs `(offset, length)` or `(offset, length, R, W,
    split)` in bytes; what lies outside them is copied. methods: a method's name, or with
    `inverse` the bytes that encryption returned. sample_bytes: BitsAllocated/8 in frame runs.

    Returns the methods, one byte a unit. Raises UsageError for runs that break
    docs/spec/block-layer-v1.md section 1. This layer alone authenticates nothing.
    """
    source, target = memoryview(src).cast("B"), memoryview(dst).cast("B")
    if len(source) != len(target):
        raise UsageError("source and target must have the same size")
    number, known = RANDOMIZED, b""
    if inverse:
        if not isinstance(methods, bytes):
            raise UsageError("decryption takes the methods' bytes that encryption returned")
        known = methods
    else:
        if not isinstance(methods, str):
            raise UsageError("encryption takes a method's name")
        named = method_number(methods)
        if named is None:
            target[:] = source
            return b""
        number = named
    stream = cipher(key)
    done, unit, made = 0, 0, bytearray()
    for run in geometry:
        if len(run) not in (2, 5) or (len(run) == 5 and run[2] < 1):
            raise UsageError(f"{list(run)} is no run")
        offset, length = run[0], run[1]
        if offset < done or length < 1 or offset + length > len(source):
            raise UsageError(f"the run {list(run)} does not fit a stream of {len(source)} bytes")
        target[done:offset] = source[done:offset]
        rows, row_bytes, split = run[2:] if len(run) == 5 else (0, 0, 0)
        try:
            work = Run(
                stream, offset, length, rows=rows, row_bytes=row_bytes, split=split,
                first_unit=unit, method=number, sample_bytes=sample_bytes if rows else 1,
                inverse=inverse,
                methods=known[unit : unit + unit_count(run)] if inverse else None,
            )
            work.advance(target, 0, source, 0)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"the run {list(run)} cannot be transformed: {error}") from None
        made += work.methods
        unit += len(work.methods)
        done = offset + length
    if inverse and len(known) != unit:
        raise UsageError("the methods do not fit the runs")
    target[done:] = source[done:]
    return bytes(made)
