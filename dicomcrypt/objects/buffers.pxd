# Fields and methods that compiled code reaches directly.

cdef class MemorySink:
    cdef object _out
    cdef long long _size
    cdef public long long position
    cpdef reserve(self, long long size)
    cpdef commit(self, long long size)
    cpdef wipe(self)

cdef class FileSink:
    cdef object _write, _buffer, _view
    cdef bint _raw, _lend
    cdef long long _fill
    cdef public long long position
    cpdef reserve(self, long long size)
    cpdef commit(self, long long size)
    cpdef flush(self)

cdef class GrowingSink:
    cdef object _buffer
    cdef public long long position
    cpdef reserve(self, long long size)
    cpdef commit(self, long long size)
