# cython: language_level=3
"""System calls that the standard library does not have."""

import os

cdef extern from *:
    """
    #if defined(__linux__) && !defined(_GNU_SOURCE)
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #if defined(__linux__)
    #include <fcntl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static int dcx_sync_filesystem(int fd) { return (int)syscall(SYS_syncfs, fd); }
    static void dcx_start_writing(int fd) {
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    static int dcx_rename_new(const char *from, const char *to) {
        return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1u /* NOREPLACE */);
    }
    #elif defined(__APPLE__)
    #include <stdio.h>
    #include <unistd.h>
    static int dcx_sync_filesystem(int fd) { (void)fd; sync(); return 0; }
    static void dcx_start_writing(int fd) { (void)fd; }
    static int dcx_rename_new(const char *from, const char *to) {
        return renamex_np(from, to, RENAME_EXCL);
    }
    #else
    static int dcx_sync_filesystem(int fd) { (void)fd; errno = ENOSYS; return -1; }
    static void dcx_start_writing(int fd) { (void)fd; }
    static int dcx_rename_new(const char *from, const char *to) {
        (void)from; (void)to; errno = ENOSYS; return -1;
    }
    #endif
    """
    int dcx_sync_filesystem(int fd) nogil
    void dcx_start_writing(int fd) nogil
    int dcx_rename_new(const char *source, const char *target) nogil

from libc.errno cimport EINVAL, ENOSYS, errno

cdef extern from "errno.h":
    int ENOTSUP


def sync_filesystem(int descriptor) -> bool:
    """Let everything written to the file system of an open file reach the medium.

    False where there is no such call. Raises OSError, for errors of earlier writes too."""
    cdef int failed, code
    with nogil:
        failed = dcx_sync_filesystem(descriptor)
        code = errno
    if not failed:
        return True
    if code == ENOSYS:
        return False
    raise OSError(code, os.strerror(code))


def start_writing(int descriptor) -> None:
    """Let what was written to a file begin its way to the medium, without waiting for it."""
    with nogil:
        dcx_start_writing(descriptor)


def rename_new(bytes source not None, bytes target not None) -> bool:
    """Rename unless the target exists, as one step; False where there is no such call.

    Raises FileExistsError, OSError."""
    cdef const char *old = source
    cdef const char *new = target
    cdef int failed, code
    if b"\0" in source or b"\0" in target:
        raise ValueError("a path holds no NUL byte")
    with nogil:
        failed = dcx_rename_new(old, new)
        code = errno
    if not failed:
        return True
    if code == ENOSYS or code == EINVAL or code == ENOTSUP:
        return False
    raise OSError(code, os.strerror(code), os.fsdecode(target))
