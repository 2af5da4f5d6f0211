# Fields and methods that compiled code reaches directly.

cdef class ContainerWriter:
    cdef object _sink
    cdef long long _start
    cdef readonly object keys
    cdef readonly dict streams
    cpdef begin(self, sid)
    cpdef end(self, sid, sealer)
    cpdef close(self)
