# cython: language_level=3
"""Deterministic CBOR for indexes (RFC 8949 section 4.2.1; docs/spec/dcmx-v1.md section 6)."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t

DEEPEST = 16


def bounded(const unsigned char[::1] data not None, uint64_t arrays, uint64_t items) -> bool:
    """Whether data is one map of at most so many arrays and items in all, of the types that an
    index has, before anything is allocated for them.

    Looks at the heads only; what else is wrong is found by decoding.
    """
    cdef uint64_t at = 0, size = data.shape[0], number
    cdef int major, info, width, i
    while at < size:
        major = data[at] >> 5
        info = data[at] & 31
        if major > 5 or (major == 5) != (at == 0) or info > 27:
            return False
        at += 1
        number = info
        if info >= 24:
            width = 1 << (info - 24)
            if size - at < <uint64_t>width:
                return False
            number = 0
            for i in range(width):
                number = number << 8 | data[at + i]
            at += width
        if major == 2 or major == 3:
            if number > size - at:
                return False
            at += number
        elif major == 4:
            if number > size or arrays == 0:
                return False
            arrays -= 1
        if items == 0:
            return False
        items -= 1
    return size > 0


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
    """Encode a map of unsigned keys; values are int, bytes, str, list or tuple. Keys whose value
    is None are left out.

    Raises TypeError for other values, ValueError for arrays nested more than 16 deep,
    OverflowError for numbers beyond 64 bits.
    """
    cdef bytearray out = bytearray()
    cdef list keys = [key for key, value in entries.items() if value is not None]
    keys.sort()
    head(out, 5, len(keys))
    for key in keys:
        head(out, 0, key)
        put(out, entries[key], DEEPEST)
    return bytes(out)


cdef struct Cursor:
    const unsigned char *data
    uint64_t at
    uint64_t size


cdef int read_head(Cursor *c, uint64_t *number) except -1:
    """Read one head in its shortest form; return its major type."""
    cdef int major, info, width, i
    if c.at >= c.size:
        raise ValueError("cut off")
    major, info = c.data[c.at] >> 5, c.data[c.at] & 31
    c.at += 1
    number[0] = info
    if info >= 24:
        if info > 27:
            raise ValueError("an indefinite length or a reserved head")
        width = 1 << (info - 24)
        if c.size - c.at < <uint64_t>width:
            raise ValueError("cut off")
        number[0] = 0
        for i in range(width):
            number[0] = number[0] << 8 | c.data[c.at + i]
        c.at += width
        if number[0] < 24 or (width > 1 and number[0] >> (4 * width) == 0):
            raise ValueError("not the shortest form")
    return major


cdef object read_value(Cursor *c, int depth):
    cdef uint64_t number, i
    cdef int major = read_head(c, &number)
    cdef const char *start
    cdef list entries
    if depth == 0:
        raise ValueError("nested too deeply")
    if major == 0:
        return number
    if major == 1:
        return -1 - <object>number
    if major == 2 or major == 3:
        if number > c.size - c.at:
            raise ValueError("cut off")
        start = <const char *>c.data + c.at
        c.at += number
        if major == 2:
            return PyBytes_FromStringAndSize(start, <Py_ssize_t>number)
        return PyUnicode_DecodeUTF8(start, <Py_ssize_t>number, "strict")
    if major != 4:
        raise ValueError("a type that an index does not have")
    entries = []
    for i in range(number):
        entries.append(read_value(c, depth - 1))
    return entries


def decode_map(const unsigned char[::1] data not None) -> dict:
    """Decode what `encode_map` encodes, to the byte; lists stand for arrays.

    Raises ValueError for everything else: other types, other forms, keys that do not ascend,
    bytes that are left over. What is allocated grows with what was read, and `bounded` says how
    far; a length that is declared allocates nothing.
    """
    cdef Cursor c
    cdef uint64_t count, key, before = 0, i
    cdef dict entries = {}
    if data.shape[0] == 0:
        raise ValueError("cut off")
    c.data, c.at, c.size = &data[0], 0, data.shape[0]
    if read_head(&c, &count) != 5:
        raise ValueError("not a map")
    for i in range(count):
        if read_head(&c, &key) != 0 or (i and key <= before):
            raise ValueError("keys that are not unsigned and ascending")
        entries[key] = read_value(&c, DEEPEST)
        before = key
    if c.at != c.size:
        raise ValueError("something follows the map")
    return entries
