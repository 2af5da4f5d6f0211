# cython: language_level=3
"""Deterministic CBOR for indexes (RFC 8949 section 4.2.1; docs/spec/dcmx-v1.md section 6)."""

DEEPEST = 16


cdef int head(bytearray out, int major, unsigned long long number) except -1:
    cdef int size, i
    if number < 24:
        out.append(major << 5 | <int>number)
        return 0
    size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4 if number < 1ULL << 32 else 8
    out.append(major << 5 | (24 if size == 1 else 25 if size == 2 else 26 if size == 4 else 27))
    for i in range(size - 1, -1, -1):
        out.append(<int>(number >> (8 * i) & 255))
    return 0


cdef int put(bytearray out, value, int depth) except -1:
    kind = type(value)
    if depth == 0:
        raise ValueError("nested too deeply")
    if kind is int:
        if value >= 0:
            head(out, 0, value)
        else:
            head(out, 1, -1 - value)
    elif kind is bytes:
        head(out, 2, len(value))
        out += value
    elif kind is str:
        data = (<str>value).encode("utf-8", "surrogatepass")
        head(out, 3, len(data))
        out += data
    elif kind is list or kind is tuple:
        head(out, 4, len(value))
        for entry in value:
            put(out, entry, depth - 1)
    else:
        raise TypeError(f"an index holds no {kind.__name__}")
    return 0


def encode_map(dict entries not None) -> bytes:
    """Encode a map of unsigned keys; values are int, bytes, str, list or tuple.

    Raises TypeError for other values, ValueError for arrays nested more than 16 deep,
    OverflowError for numbers beyond 64 bits.
    """
    cdef bytearray out = bytearray()
    head(out, 5, len(entries))
    for key in sorted(entries):
        head(out, 0, key)
        put(out, entries[key], DEEPEST)
    return bytes(out)
