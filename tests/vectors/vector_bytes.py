"""Constants, bytes and CBOR of the vectors; the block layer forwards, as B writes it."""

import hashlib

import dcmx_rescue as rescue

TAGS, PIXELS, TAIL, OPAQUE = 1, 2, 3, 4
METHOD_NAMES = ("aes-transposition", "vigenere", "multilevel")
ORIGIN = "synthetic; made by tests/vectors/make_vectors.py"


def rand(name, size):
    """Bytes for `name`: SHAKE256 of it."""
    return hashlib.shake_256(b"dcmx vectors 1: " + name.encode()).digest(size)


def period(size):
    return bytes(i % 251 for i in range(size))


def cbor_encode(value):
    """Deterministic encoding (RFC 8949 section 4.2.1) of the types that an index may hold."""

    def head(major, number):
        if number < 24:
            return bytes([major << 5 | number])
        size = next(s for s in (1, 2, 4, 8) if number < 1 << 8 * s)
        return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")

    if type(value) is int:
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if type(value) is bytes:
        return head(2, len(value)) + value
    if type(value) is str:
        raw = value.encode("utf-8")
        return head(3, len(raw)) + raw
    if type(value) is list:
        return head(4, len(value)) + b"".join([cbor_encode(v) for v in value])
    pairs = [cbor_encode(k) + cbor_encode(value[k]) for k in sorted(value)]
    return head(5, len(value)) + b"".join(pairs)


class Forward:
    def __init__(self, key):
        self.layer = rescue.BlockLayer(key)  # for its tables and keystreams

    def transpose(self, unit, block, data):
        layer, out = self.layer, bytearray(len(data))
        rotations = layer.keystream(unit, block, 3, 2 * (len(data) // 16384 + 1))
        for t, start in enumerate(range(0, len(data), 16384)):
            tile = data[start : start + 16384]
            cells, rest = len(tile) // 16, len(tile) % 16
            pi = [v for v in layer.pi if v < cells]
            m0 = [v for v in layer.mask[0] if v < rest]
            rot = int.from_bytes(rotations[2 * t : 2 * t + 2], "little") % cells if cells else 0
            for j in range(cells):
                source = start + 16 * pi[(j + rot) % cells]
                for b, m in enumerate(layer.mask[j % 16]):
                    out[start + 16 * j + b] = data[source + m]
            for b in range(rest):
                out[start + 16 * cells + b] = data[start + 16 * cells + m0[b]]
        return bytes(out)

    def block(self, unit, number, method, data):
        if not data:
            return data
        keystream = self.layer.keystream
        if method == 1:
            shift = keystream(unit, number, 2, len(data))
            return bytes((p + k) & 255 for p, k in zip(data, shift, strict=True))
        data = self.transpose(unit, number, data)
        mask = keystream(unit, number, 1, len(data))
        data = bytes(p ^ k for p, k in zip(data, mask, strict=True))
        if method == 0:
            return data
        shift = [max(k, 1) for k in keystream(unit, number, 2, len(data))]
        if unit % 2:
            return bytes((k - p) & 255 for p, k in zip(data, shift, strict=True))
        return bytes((p + k) & 255 for p, k in zip(data, shift, strict=True))


def frame_positions(size, rows, width, split):
    """B 1: positions of the four blocks of a frame unit that is cut to `size` bytes."""
    blocks = [[], [], [], []]
    for at in range(size):
        row, column = divmod(at, width)
        blocks[2 * (row >= (rows + 1) // 2) + (column >= split)].append(at)
    return blocks


def transform(key, payload, runs, forced=None, sample=1):
    """The transformed payload and the methods. `forced` is None (randomized), one method, or a
    byte of four methods as B 2 packs them, for all units."""
    forward, out, methods, number = Forward(key), bytearray(payload), [], 0
    for run in runs:
        step = 4 << 20 if len(run) == 2 else run[2] * run[3]
        for start in range(run[0], run[0] + run[1], step):
            size = min(step, run[0] + run[1] - start)
            if len(run) == 2:
                blocks = [range(size * k // 4, size * (k + 1) // 4) for k in range(4)]
            else:
                blocks = frame_positions(size, *run[2:])
            packed = 0
            for k, positions in enumerate(blocks):
                data = bytes([payload[start + i] for i in positions])
                first = data[: 1 if len(run) == 2 else sample]
                method = sum(first) % 3
                if forced is not None:
                    method = forced[1] >> 2 * k & 3 if isinstance(forced, tuple) else forced
                packed |= method << 2 * k
                for i, value in zip(positions, forward.block(number, k, method, data), strict=True):
                    out[start + i] = value
            methods.append(packed)
            number += 1
    return bytes(out), bytes(methods)
