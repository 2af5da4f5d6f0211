# Fields that compiled code reaches directly.

from ..container.streams cimport StreamSealer
from ..container.writer cimport ContainerWriter

cdef class _Stream:
    cdef readonly int sid
    cdef readonly long long start
    cdef readonly StreamSealer sealer
    cdef public list runs
    cdef public bytearray methods
    cdef public object cipher

cdef class Encoder:
    cdef long long _base, _end, _pos, _item_next, _value_end
    cdef bint _last, _run_open, _items_done, _table_seen, _tags_begun, _layered
    cdef int _items_status, _kernel, _method
    cdef _Stream _stream, _tags
    cdef ContainerWriter _writer
    cdef dict _lengths
    cdef object _run, _items, _basic, _extended, _fragments, _fragment, _syntax, _photometric
    cdef object _meta, _opaque_allowed, _scratch, _scan, _window, _step
    cdef object _geometry, _frame_bits
    cdef readonly long long size, wanted
