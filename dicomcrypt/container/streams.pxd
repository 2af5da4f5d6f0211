# Fields and methods that compiled code reaches directly.

cdef class StreamSealer:
    cdef object _update, _finalize, _sink
    cdef long long _head, _pending
    cdef readonly long long offset
    cpdef write(self, data)
    cpdef finish(self)
