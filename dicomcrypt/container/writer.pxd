# Fields and methods that compiled code reaches directly.

cdef class ContainerWriter:
    cdef object _sink, _sign, _hashing
    cdef long long _start
    cdef readonly object keys
    cdef readonly dict streams
    cdef dict _leaves
    cpdef begin(self, sid)
    cpdef end(self, sid, sealer)
    cpdef close(self)
    cdef _write_signatures(self, sign)
