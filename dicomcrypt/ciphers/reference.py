"""The block layer in plain NumPy: the executable form of docs/spec/block-layer-v1.md.

Written to be read beside the specification, one function a section, with no
regard for speed. The kernels are tested against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TILE = 16384
LINEAR_UNIT = 4194304
METHODS = {"aes-transposition": 0, "vigenere": 1, "multilevel": 2}


def keystream(key: bytes, counter: bytes, length: int) -> np.ndarray:
    """Return `length` bytes of AES-256-CTR keystream from a counter block on."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    return np.frombuffer(encryptor.update(bytes(length)), np.uint8)


def stage_keystream(key: bytes, unit: int, block: int, stage: int, length: int) -> np.ndarray:
    """Section 3: the keystream of a (unit, block, stage)."""
    counter = unit.to_bytes(6, "big") + bytes([block, stage]) + bytes(8)
    return keystream(key[:32], counter, length)


def permutations(key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Section 3.1: pi (1024) and the masks (16 x 16)."""
    words = iter(keystream(key[32:], bytes(16), 5052).view("<u4").tolist())

    def permutation(n: int) -> list[int]:
        entries = list(range(n))
        for i in range(n - 1, 0, -1):
            j = next(words) * (i + 1) >> 32
            entries[i], entries[j] = entries[j], entries[i]
        return entries

    pi = permutation(1024)
    return np.array(pi), np.array([permutation(16) for _ in range(16)])


def tile_sources(pi: np.ndarray, masks: np.ndarray, n: int, rotation: int) -> np.ndarray:
    """Section 4, T: for each output byte of a tile of n bytes, its source."""
    cells, rest = divmod(n, 16)
    order = np.roll(pi[pi < cells], -(rotation % cells)) if cells else np.zeros(0, int)
    body = 16 * order[:, None] + masks[np.arange(cells) % 16]
    tail = 16 * cells + masks[0][masks[0] < rest]
    return np.concatenate([body.ravel(), tail])


def transposition_sources(key: bytes, unit: int, block: int, length: int) -> np.ndarray:
    """Section 4, T, over all tiles of a block."""
    pi, masks = permutations(key)
    tiles = -(-length // TILE)
    rotations = stage_keystream(key, unit, block, 3, 2 * tiles).view("<u2")
    return np.concatenate(
        [
            t * TILE + tile_sources(pi, masks, min(TILE, length - t * TILE), int(rotations[t]))
            for t in range(tiles)
        ]
        or [np.zeros(0, int)]
    )


def transform_block(
    data: np.ndarray, key: bytes, unit: int, block: int, method: int, inverse: bool
) -> np.ndarray:
    """Section 2: one block's bytes through its method."""
    n = len(data)
    x = stage_keystream(key, unit, block, 1, n)
    v = stage_keystream(key, unit, block, 2, n)
    advanced = np.maximum(v, 1)
    if method == 1:
        shifted: np.ndarray = data - v if inverse else data + v
        return shifted
    sources = transposition_sources(key, unit, block, n)
    if not inverse:
        data = data[sources] ^ x
        if method == 2:
            data = advanced - data if unit % 2 else data + advanced
        return data
    if method == 2:
        data = advanced - data if unit % 2 else data - advanced
    plain = np.empty(n, np.uint8)
    plain[sources] = data ^ x
    return plain


def unit_blocks(n: int, rows: int = 0, row_bytes: int = 0, split: int = 0) -> list[np.ndarray]:
    """Section 1: the offsets in a unit of n bytes that make up its four blocks."""
    offsets = np.arange(n)
    if rows == 0:
        return [offsets[n * k // 4 : n * (k + 1) // 4] for k in range(4)]
    lower = offsets // row_bytes >= -(-rows // 2)
    right = offsets % row_bytes >= split
    return [offsets[(lower == bool(k & 2)) & (right == bool(k & 1))] for k in range(4)]


def transform(
    data: bytes,
    key: bytes,
    runs: Sequence[Sequence[int]],
    methods: str | bytes = "randomized",
    *,
    sample_bytes: int = 1,
    inverse: bool = False,
) -> tuple[bytes, bytes]:
    """Transform a stream's payload; return it and the methods, one byte a unit.

    runs: `[offset, length]` or `[offset, length, R, W, split]`, bytes. methods: a name to
    encrypt with, or the methods' bytes. sample_bytes: BitsAllocated/8 in frame runs.
    """
    out = np.frombuffer(data, np.uint8).copy()
    made = bytearray()
    for offset, length, *frame in runs:
        size = frame[0] * frame[1] if frame else LINEAR_UNIT
        for start in range(offset, offset + length, size):
            unit = out[start : min(start + size, offset + length)]
            number, packed = len(made), 0
            for k, places in enumerate(unit_blocks(len(unit), *frame)):
                block = unit[places]
                if isinstance(methods, bytes):
                    method = methods[number] >> 2 * k & 3
                elif methods == "randomized":
                    method = int(block[: sample_bytes if frame else 1].sum(dtype=int)) % 3
                else:
                    method = METHODS[methods]
                unit[places] = transform_block(block, key, number, k, method, inverse)
                packed |= method << 2 * k
            made.append(packed)
    return out.tobytes(), bytes(made)
