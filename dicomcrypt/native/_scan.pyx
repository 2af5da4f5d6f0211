"""Find the pixel data of a DICOM file without copying it: the native scanner.

Encoding: DICOM PS3.5 section 7 and annex A; file format: PS3.10 section 7. The
contract of the C functions stands in csrc/include/dicomcrypt_scan.h. Offsets
and lengths are bytes, offsets count from the start of the file.
"""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "dicomcrypt_scan.h" nogil:
    const uint64_t DCX_SCAN_UNDEFINED
    int DCX_SCAN_NEED, DCX_SCAN_PIXELS, DCX_SCAN_END
    int DCX_SCAN_DEFLATED, DCX_SCAN_FOREIGN, DCX_SCAN_BROKEN
    int DCX_ITEMS_NEED, DCX_ITEMS_FULL, DCX_ITEMS_DELIMITER, DCX_ITEMS_IRREGULAR

    ctypedef struct dcx_scan_attribute:
        uint64_t offset
        uint64_t length
        uint32_t tag
        uint8_t vr[2]
        uint8_t present

    ctypedef struct dcx_scan:
        uint64_t pos, need
        int32_t status
        uint8_t has_preamble, has_meta, implicit_vr, big_endian
        uint64_t dataset
        uint32_t pixel_tag
        uint8_t pixel_vr[2]
        uint64_t pixel_element, pixel_value, pixel_length
        uint32_t rows, columns, samples, bits_allocated, bits_stored, high_bit
        uint32_t pixel_representation, planar
        uint64_t frames
        dcx_scan_attribute attributes[48]

    ctypedef struct dcx_scan_item:
        uint64_t offset
        uint64_t length

    const uint32_t *dcx_scan_tags(size_t *count)
    void dcx_scan_init(dcx_scan *s)
    int dcx_scan_feed(dcx_scan *s, const uint8_t *buf, uint64_t base, size_t len, int last)
    int dcx_scan_items(const uint8_t *buf, uint64_t base, size_t len, int last, int big_endian,
                       uint64_t *next, dcx_scan_item *items, size_t capacity, size_t *count)


NEED = DCX_SCAN_NEED
PIXELS = DCX_SCAN_PIXELS
END = DCX_SCAN_END
DEFLATED = DCX_SCAN_DEFLATED
FOREIGN = DCX_SCAN_FOREIGN
BROKEN = DCX_SCAN_BROKEN
ITEMS_NEED = DCX_ITEMS_NEED
ITEMS_FULL = DCX_ITEMS_FULL
ITEMS_DELIMITER = DCX_ITEMS_DELIMITER
ITEMS_IRREGULAR = DCX_ITEMS_IRREGULAR

cdef enum:
    # Windows above this are scanned without the interpreter lock; below it,
    # giving the lock away costs more than the scan.
    UNLOCK_BYTES = 65536
    STACK_ITEMS = 256

cdef size_t TAG_COUNT = 0
cdef const uint32_t *TAGS = dcx_scan_tags(&TAG_COUNT)


cdef int view_of(object buffer, Py_buffer *view) except -1:
    try:
        PyObject_GetBuffer(buffer, view, PyBUF_SIMPLE)
    except BufferError as error:
        raise ValueError(f"the buffer is not contiguous: {error}") from None
    return 0


cdef inline bytes vr_of(const uint8_t *vr):
    return (<const char *>vr)[:2] if vr[0] else b""


cdef inline object length_of(uint64_t length):
    return None if length == DCX_SCAN_UNDEFINED else length


cdef inline tuple place_of(const dcx_scan_attribute *a):
    return (vr_of(a.vr), a.offset, length_of(a.length))


@cython.final
cdef class Scan:
    """Scan one file, window by window.

    Feed windows until the status is no longer NEED. The image attributes are
    zero while unknown or absent, ``frames`` is 1. One scan belongs to one
    thread at a time; different scans may run in parallel.
    """

    cdef dcx_scan scan

    def __cinit__(self):
        dcx_scan_init(&self.scan)

    def feed(self, buffer, int64_t base=0, bint last=True):
        """Go on with the bytes of the file that start at offset ``base``.

        ``buffer`` is any contiguous buffer and is not copied; ``last`` says
        that the file ends with it. Returns the status. NEED asks for the bytes
        ``[pos, need)`` in one window, at most 4096 of them; it is never
        returned when ``last`` is set. At the end of the file an empty buffer
        with ``base`` = file size will do, even if ``pos`` lies beyond.

        Raises ValueError for a negative ``base`` or a buffer that is not
        contiguous. Source: PS3.5 section 7, PS3.10 section 7.
        """
        cdef Py_buffer view
        cdef dcx_scan work
        cdef int status
        if base < 0:
            raise ValueError("base is negative")
        view_of(buffer, &view)
        try:
            if view.len > UNLOCK_BYTES:
                # On a copy, so that a second thread sees no half-done scan.
                with cython.critical_section(self):
                    work = self.scan
                with nogil:
                    status = dcx_scan_feed(&work, <const uint8_t *>view.buf, <uint64_t>base,
                                           <size_t>view.len, last)
                with cython.critical_section(self):
                    self.scan = work
            else:
                with cython.critical_section(self):
                    status = dcx_scan_feed(&self.scan, <const uint8_t *>view.buf,
                                           <uint64_t>base, <size_t>view.len, last)
        finally:
            PyBuffer_Release(&view)
        return status

    @property
    def status(self):
        """Return the status that ``feed`` returned last."""
        return self.scan.status

    @property
    def pos(self):
        """Return the file offset the scanner looks at next."""
        return self.scan.pos

    @property
    def need(self):
        """Return the end of the bytes it wants, with status NEED."""
        return self.scan.need

    @property
    def has_preamble(self):
        """Return whether the file begins with 128 bytes and DICM."""
        return bool(self.scan.has_preamble)

    @property
    def has_meta(self):
        """Return whether there is a file meta group."""
        return bool(self.scan.has_meta)

    @property
    def implicit_vr(self):
        """Return whether the data set is in implicit VR, as encoded, not as declared."""
        return bool(self.scan.implicit_vr)

    @property
    def big_endian(self):
        """Return whether the data set is big endian."""
        return bool(self.scan.big_endian)

    @property
    def dataset(self):
        """Return the offset at which the data set begins."""
        return self.scan.dataset

    @property
    def pixel_tag(self):
        """Return 0x7FE00010, 0x7FE00008 (Float) or 0x7FE00009 (Double); 0 without pixel data."""
        return self.scan.pixel_tag

    @property
    def pixel_vr(self):
        """Return the VR of the pixel data, two bytes; empty in implicit VR."""
        return vr_of(self.scan.pixel_vr)

    @property
    def pixel_element(self):
        """Return the offset of the pixel data element's tag."""
        return self.scan.pixel_element

    @property
    def pixel_value(self):
        """Return the offset of the pixel data element's value."""
        return self.scan.pixel_value

    @property
    def pixel_length(self):
        """Return the declared length in bytes, or None if undefined: encapsulated."""
        return length_of(self.scan.pixel_length)

    @property
    def rows(self):
        """Return Rows (0028,0010)."""
        return self.scan.rows

    @property
    def columns(self):
        """Return Columns (0028,0011)."""
        return self.scan.columns

    @property
    def samples(self):
        """Return Samples per Pixel (0028,0002)."""
        return self.scan.samples

    @property
    def bits_allocated(self):
        """Return Bits Allocated (0028,0100)."""
        return self.scan.bits_allocated

    @property
    def bits_stored(self):
        """Return Bits Stored (0028,0101)."""
        return self.scan.bits_stored

    @property
    def high_bit(self):
        """Return High Bit (0028,0102)."""
        return self.scan.high_bit

    @property
    def pixel_representation(self):
        """Return Pixel Representation (0028,0103): 0 unsigned, 1 signed."""
        return self.scan.pixel_representation

    @property
    def planar(self):
        """Return Planar Configuration (0028,0006)."""
        return self.scan.planar

    @property
    def frames(self):
        """Return Number of Frames (0028,0008); 1 if absent or not a number above zero."""
        return self.scan.frames

    @property
    def attributes(self):
        """Return a dict of tag to (VR, offset, length) of the elements found.

        The VR is two bytes, empty in implicit VR; the offset is that of the
        value; the length is None if undefined. Only the tags of the scanner's
        table, at the top level of the data set or in the file meta group.
        """
        cdef size_t i
        cdef dict found = {}
        for i in range(TAG_COUNT):
            if self.scan.attributes[i].present:
                found[TAGS[i]] = place_of(&self.scan.attributes[i])
        return found

    def attribute(self, uint32_t tag):
        """Return (VR, offset, length) of one element, or None if it was not found.

        As in ``attributes``; a tag outside the scanner's table is not found.
        """
        cdef size_t low = 0, high = TAG_COUNT, middle
        while low < high:
            middle = (low + high) // 2
            if TAGS[middle] < tag:
                low = middle + 1
            else:
                high = middle
        if low < TAG_COUNT and TAGS[low] == tag and self.scan.attributes[low].present:
            return place_of(&self.scan.attributes[low])
        return None


def items(buffer, int64_t base, int64_t next, bint last, bint big_endian=False,
          Py_ssize_t capacity=STACK_ITEMS):
    """Walk the items of encapsulated pixel data (PS3.5 A.4).

    ``buffer`` holds the bytes of the file from offset ``base``, ``next`` is the
    offset of the next item's header, ``last`` says that the file ends with the
    buffer. Returns (status, next, [(offset of the header, length of the value),
    ...]) with at most ``capacity`` items, the Basic Offset Table among them.

    ITEMS_NEED: go on with a window that holds 8 bytes from ``next``.
    ITEMS_FULL: call again. ITEMS_DELIMITER: the end, ``next`` lies behind the
    delimiter, which is no item. ITEMS_IRREGULAR: something else stands at
    ``next``, or the file ends. Raises ValueError for negative numbers or a
    buffer that is not contiguous.
    """
    cdef Py_buffer view
    cdef dcx_scan_item local[STACK_ITEMS]
    cdef dcx_scan_item *found = local
    cdef uint64_t position
    cdef size_t count = 0, i
    cdef int status
    cdef list places
    if base < 0 or next < 0 or capacity < 0:
        raise ValueError("base, next or capacity is negative")
    position = <uint64_t>next
    view_of(buffer, &view)
    try:
        # No more items than headers fit, whatever the caller has room for.
        capacity = min(capacity, view.len // 8 + 1)
        if capacity > STACK_ITEMS:
            found = <dcx_scan_item *>PyMem_Malloc(<size_t>capacity * sizeof(dcx_scan_item))
            if found == NULL:
                raise MemoryError()
        if view.len > UNLOCK_BYTES:
            with nogil:
                status = dcx_scan_items(<const uint8_t *>view.buf, <uint64_t>base,
                                        <size_t>view.len, last, big_endian, &position, found,
                                        <size_t>capacity, &count)
        else:
            status = dcx_scan_items(<const uint8_t *>view.buf, <uint64_t>base,
                                    <size_t>view.len, last, big_endian, &position, found,
                                    <size_t>capacity, &count)
        places = [(found[i].offset, found[i].length) for i in range(count)]
    finally:
        PyBuffer_Release(&view)
        if found != local:
            PyMem_Free(found)
    return status, position, places
