# cython: language_level=3
"""The block layer's kernels (docs/spec/block-layer-v1.md) on the caller's memory."""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "dicomcrypt.h" nogil:
    enum:
        DCX_TILE
        DCX_LINEAR_UNIT
        DCX_TABLE_WORDS
        DCX_KERNELS
        DCX_AES_TRANSPOSITION
        DCX_VIGENERE
    ctypedef struct dcx_tables:
        pass
    struct dcx_order:
        uint32_t cells
    ctypedef struct dcx_orders:
        dcx_order block[4]
    ctypedef struct dcx_block:
        uint64_t start
        uint64_t width
        uint64_t pitch
        uint64_t length
    ctypedef struct dcx_keystream:
        const uint8_t *xor_stream
        const uint8_t *vigenere_stream
        const uint8_t *rotations
    ctypedef struct dcx_job:
        const dcx_tables *tables
        dcx_orders *orders
        uint64_t unit
        unsigned block
        int method
        int inverse
    const char *dcx_kernel_name(int kernel)
    int dcx_kernel_lookup(const char *name, int *kernel)
    int dcx_kernel_has_aes(int kernel)
    void dcx_tables_init(int kernel, dcx_tables *tables, const uint8_t *key,
                         const uint8_t *keystream)
    void dcx_wipe(void *p, size_t n)
    void dcx_unit_blocks(uint64_t rows, uint64_t row_bytes, uint64_t split, uint64_t length,
                         dcx_block *blocks)
    uint64_t dcx_block_tiles(const dcx_block *block)
    uint64_t dcx_block_offset(const dcx_block *block, uint64_t index)
    uint64_t dcx_block_ready(const dcx_block *block, uint64_t tile, uint64_t end)
    int dcx_block_method(const dcx_block *block, unsigned sample_bytes, const uint8_t *src,
                         uint64_t src_offset)
    int dcx_transform(int kernel, const dcx_job *job, const dcx_block *block, uint64_t tile,
                      uint64_t count, uint8_t *dst, uint64_t dst_offset, const uint8_t *src,
                      uint64_t src_offset, const dcx_keystream *keystream)

TILE = DCX_TILE
LINEAR_UNIT = DCX_LINEAR_UNIT
RANDOMIZED = -1

# Tiles whose keystream the portable kernel gets at a time: 128 KiB, which stays in L2.
cdef enum:
    PORTABLE_TILES = 8

_VERDICTS = ("ok", "unknown", "not built", "not supported by this processor")


def kernels() -> dict[str, str]:
    """Return every kernel's name with the verdict on it: "ok", "not built" or
    "not supported by this processor"."""
    cdef int kernel
    return {
        dcx_kernel_name(i).decode(): _VERDICTS[dcx_kernel_lookup(dcx_kernel_name(i), &kernel)]
        for i in range(DCX_KERNELS)
    }


def lookup(str name not None) -> tuple[int, str]:
    """Return a kernel's id (-1 if there is none of this name) and the verdict on it."""
    cdef int kernel = -1
    encoded = name.encode("utf-8", "replace")
    verdict = dcx_kernel_lookup(encoded, &kernel)
    return kernel, _VERDICTS[verdict]


def unit_size(run not None) -> int:
    """Return the bytes of a run's units; the last one may be shorter.

    run: (offset, length) or (offset, length, rows, row bytes, split)."""
    return run[2] * run[3] if len(run) == 5 else LINEAR_UNIT


def unit_count(run not None) -> int:
    """Return how many units a run has."""
    return -(-run[1] // unit_size(run))


def overlaps(a, b) -> bool:
    """Whether two contiguous buffers share memory."""
    cdef const uint8_t[::1] first = a
    cdef const uint8_t[::1] second = b
    if first.shape[0] == 0 or second.shape[0] == 0:
        return False
    return (&first[0] < &second[0] + second.shape[0]) and (&second[0] < &first[0] + first.shape[0])


@cython.final
cdef class StreamCipher:
    """Keys and tables of the block layer for one stream.

    key: 64 bytes. kernel: an id from `lookup`. keystream: for kernels that have no AES of
    their own, `keystream(key32)` returns `fill(counter_block16, buffer)`, which overwrites the
    buffer with AES-256-CTR keystream. Not for several threads at once.
    """

    cdef dcx_tables tables
    cdef dcx_orders *orders
    cdef readonly int kernel
    cdef bint has_aes
    cdef object fill
    cdef bytearray xor_stream, vigenere_stream, rotations

    def __cinit__(self):
        cdef int k
        # Apart from the object, whose memory is zeroed as a whole when it is made.
        self.orders = <dcx_orders *>PyMem_Malloc(sizeof(dcx_orders))
        if self.orders == NULL:
            raise MemoryError()
        for k in range(4):
            self.orders.block[k].cells = 0

    def __init__(self, key, int kernel, keystream):
        if len(key) != 64:
            raise ValueError("a stream's block-layer key is 64 bytes long")
        if not 0 <= kernel < DCX_KERNELS:
            raise ValueError("no such kernel")
        self.kernel = kernel
        self.has_aes = dcx_kernel_has_aes(kernel)
        cdef const uint8_t[::1] given = key
        if self.has_aes:
            dcx_tables_init(kernel, &self.tables, &given[0], NULL)
            return
        cdef bytearray table_stream = bytearray(DCX_TABLE_WORDS * 4)
        cdef const uint8_t[::1] made = table_stream
        keystream(bytes(given[32:]))(bytes(16), table_stream)
        dcx_tables_init(kernel, &self.tables, &given[0], &made[0])
        self.fill = keystream(bytes(given[:32]))
        self.xor_stream = bytearray(PORTABLE_TILES * DCX_TILE)
        self.vigenere_stream = bytearray(PORTABLE_TILES * DCX_TILE)
        self.rotations = bytearray(48)

    def __dealloc__(self):
        cdef int k
        dcx_wipe(&self.tables, sizeof(self.tables))
        if self.orders == NULL:
            return
        for k in range(4):
            if self.orders.block[k].cells:
                dcx_wipe(&self.orders.block[k], sizeof(self.orders.block[k]))
        PyMem_Free(self.orders)

    cdef const uint8_t *stage(self, bytearray room, uint64_t unit, unsigned block,
                              unsigned stage, uint64_t counter, uint64_t length) except NULL:
        cdef uint8_t[::1] view = room
        cdef uint8_t start[16]
        cdef int i
        for i in range(6):
            start[i] = <uint8_t>(unit >> (8 * (5 - i)))
        start[6] = <uint8_t>block
        start[7] = <uint8_t>stage
        for i in range(8):
            start[8 + i] = <uint8_t>(counter >> (8 * (7 - i)))
        self.fill(start[:16], view[:length])
        return &view[0]

    cdef int tiles(self, dcx_job *job, const dcx_block *block, uint64_t tile, uint64_t count,
                   uint8_t *dst, uint64_t dst_offset, const uint8_t *src,
                   uint64_t src_offset) except -1:
        """Transform `count` tiles; the portable kernel a few at a time."""
        cdef dcx_keystream stream
        cdef uint64_t piece, length, skip
        cdef int failed
        memset(&stream, 0, sizeof(stream))
        job.tables = &self.tables
        job.orders = self.orders
        while count > 0:
            piece = count
            if not self.has_aes:
                piece = min(count, <uint64_t>PORTABLE_TILES)
                length = min(piece * DCX_TILE, block.length - tile * DCX_TILE)
                if job.method != DCX_VIGENERE:
                    stream.xor_stream = self.stage(self.xor_stream, job.unit, job.block, 1,
                                                   tile * (DCX_TILE // 16), length)
                    skip = 2 * tile % 16
                    stream.rotations = skip + self.stage(self.rotations, job.unit, job.block, 3,
                                                         2 * tile // 16, skip + 2 * piece)
                if job.method != DCX_AES_TRANSPOSITION:
                    stream.vigenere_stream = self.stage(
                        self.vigenere_stream, job.unit, job.block, 2, tile * (DCX_TILE // 16),
                        length)
            with nogil:
                failed = dcx_transform(self.kernel, job, block, tile, piece, dst, dst_offset,
                                       src, src_offset, &stream)
            if failed:
                raise ValueError("this kernel is not in this build")
            tile += piece
            count -= piece
        return 0


@cython.final
cdef class Run:
    """Transform one run of a stream as its bytes become available.

    offset, length: the run in its stream, bytes. rows, row_bytes, split: a frame
    run's geometry, rows = 0 for a linear run. first_unit: number of the run's first unit.
    method: 0 to 2, or RANDOMIZED; sample_bytes: size of the first sample. inverse:
    decrypt, with `methods` the run's part of the stream's methods, one byte a unit.

    Raises ValueError for a geometry outside docs/spec/block-layer-v1.md section 1.
    """

    cdef StreamCipher cipher
    cdef uint64_t unit_bytes, unit_start, end, rows, row_bytes, split, unit, first_unit
    cdef uint64_t next[4]
    cdef dcx_block blocks[4]
    cdef int chosen[4]
    cdef int method
    cdef unsigned sample_bytes
    cdef bint inverse
    cdef bytes given
    cdef bytearray collected

    def __init__(self, StreamCipher cipher not None, uint64_t offset, uint64_t length, *,
                 uint64_t rows=0, uint64_t row_bytes=0, uint64_t split=0, uint64_t first_unit=0,
                 int method=-1, unsigned sample_bytes=1, bint inverse=False, bytes methods=None):
        if rows:
            if rows >> 32 or not 1 <= row_bytes <= 1 << 20:
                raise ValueError("the frame geometry is out of range")
            if split > row_bytes or 2 * split < row_bytes or (
                    split != row_bytes and 3 * (row_bytes - split) < row_bytes):
                raise ValueError("the frame is divided too unevenly")
            self.unit_bytes = rows * row_bytes
            if self.unit_bytes >> 48:
                raise ValueError("the frame is too large")
        else:
            self.unit_bytes = DCX_LINEAR_UNIT
        if length == 0 or length >> 62 or offset >> 62:
            raise ValueError("the run is empty or too long")
        units = (length - 1) // self.unit_bytes + 1
        if units > 1 << 26 or first_unit > 1 << 26:
            raise ValueError("too many units in a stream")
        if not -1 <= method <= 2 or not 1 <= sample_bytes <= 8:
            raise ValueError("no such method or sample size")
        if inverse:
            if methods is None or len(methods) != units:
                raise ValueError("the methods do not fit the run")
            for pair in methods:
                if pair & (pair >> 1) & 0x55:
                    raise ValueError("a block has no method of this number")
        self.cipher = cipher
        self.unit_start, self.end = offset, offset + length
        self.rows, self.row_bytes, self.split = rows, row_bytes, split
        self.unit = self.first_unit = first_unit
        self.method, self.sample_bytes, self.inverse = method, sample_bytes, inverse
        self.given, self.collected = methods, bytearray()
        self.begin()

    cdef uint64_t unit_length(self):
        return min(self.unit_bytes, self.end - self.unit_start)

    cdef void begin(self):
        cdef int k
        cdef int packed
        dcx_unit_blocks(self.rows, self.row_bytes, self.split, self.unit_length(), self.blocks)
        for k in range(4):
            self.next[k] = 0
            self.chosen[k] = 0 if self.method < 0 else self.method
        if self.inverse and self.unit_start < self.end:
            packed = self.given[<Py_ssize_t>(self.unit - self.first_unit)]
            for k in range(4):
                self.chosen[k] = packed >> (2 * k) & 3

    cdef uint64_t complete(self):
        cdef uint64_t low = self.unit_length(), at
        cdef int k
        for k in range(4):
            if self.next[k] * DCX_TILE < self.blocks[k].length:
                at = dcx_block_offset(&self.blocks[k], self.next[k] * DCX_TILE)
                if at < low:
                    low = at
        return self.unit_start + low

    @property
    def finished(self) -> bool:
        """Whether the run is done to its end."""
        return self.unit_start >= self.end

    @property
    def methods(self) -> bytes:
        """The methods of the finished units, one byte a unit."""
        return bytes(self.collected)

    @property
    def wanted(self) -> int:
        """Stream offset to which the source must reach for the next tile."""
        cdef uint64_t low = self.unit_length(), last, at
        cdef int k
        for k in range(4):
            if self.next[k] * DCX_TILE < self.blocks[k].length:
                last = min((self.next[k] + 1) * DCX_TILE, self.blocks[k].length) - 1
                at = dcx_block_offset(&self.blocks[k], last) + 1
                if at < low:
                    low = at
        return self.unit_start + low

    def cut(self, uint64_t end):
        """Let the run end at stream offset `end`, because its source does.

        No byte behind `end` may have been given to `advance`."""
        cdef uint64_t tiles[4]
        cdef int k, chosen[4]
        if end >= self.end:
            return
        self.end = max(end, self.unit_start)
        for k in range(4):
            tiles[k], chosen[k] = self.next[k], self.chosen[k]
        self.begin()
        for k in range(4):
            self.next[k], self.chosen[k] = tiles[k], chosen[k]
        self.close_units()

    cdef bint close_units(self):
        """Pass to the next unit if this one is done; whether it was."""
        cdef int k
        for k in range(4):
            if self.next[k] * DCX_TILE < self.blocks[k].length:
                return False
        if self.unit_start >= self.end:
            return False
        self.collected.append(self.chosen[0] | self.chosen[1] << 2 | self.chosen[2] << 4
                              | self.chosen[3] << 6)
        self.unit_start += self.unit_length()
        self.unit += 1
        self.begin()
        return True

    def advance(self, dst, uint64_t dst_offset, src, uint64_t src_offset) -> int:
        """Transform every tile of the run that lies wholly in both windows.

        src and dst are contiguous buffers that hold the stream's bytes from
        src_offset and dst_offset on; they must not overlap. Returns the stream offset
        up to which dst is complete; both windows of the next call must begin there or before.
        """
        cdef const uint8_t[::1] source = src
        cdef uint8_t[::1] target = dst
        cdef uint64_t source_size = source.shape[0], target_size = target.shape[0]
        cdef const uint8_t *s
        cdef uint8_t *d
        cdef uint64_t limit, count, from_source, from_target
        cdef dcx_job job
        cdef int k
        cdef uint64_t done = self.complete()
        if source_size == 0 or target_size == 0:
            return done
        if src_offset > done or dst_offset > done:
            raise ValueError("a window begins behind the first byte that is not done")
        if (&source[0] < &target[0] + target_size) and (&target[0] < &source[0] + source_size):
            raise ValueError("source and target must not overlap")
        limit = min(src_offset + source_size, dst_offset + target_size)
        job.inverse = self.inverse
        while self.unit_start < self.end and limit > self.unit_start:
            s, d = &source[0], &target[0]
            if src_offset < self.unit_start:
                s += self.unit_start - src_offset
                from_source = 0
            else:
                from_source = src_offset - self.unit_start
            if dst_offset < self.unit_start:
                d += self.unit_start - dst_offset
                from_target = 0
            else:
                from_target = dst_offset - self.unit_start
            job.unit = self.unit
            for k in range(4):
                count = dcx_block_ready(&self.blocks[k], self.next[k], limit - self.unit_start)
                if count == 0:
                    continue
                if self.next[k] == 0 and self.method < 0 and not self.inverse:
                    self.chosen[k] = dcx_block_method(&self.blocks[k], self.sample_bytes, s,
                                                      from_source)
                job.block, job.method = k, self.chosen[k]
                self.cipher.tiles(&job, &self.blocks[k], self.next[k], count, d, from_target,
                                  s, from_source)
                self.next[k] += count
            if not self.close_units():
                break
        return self.complete()
