/* Put before every source of the constant-time check with the compiler's -include: marks
 * bytes as secret, and takes the mark off where the specification lets the order of reads or
 * the running time depend on a secret (docs/spec/block-layer-v1.md section 5). */
#ifndef DICOMCRYPT_CONSTANT_TIME_H
#define DICOMCRYPT_CONSTANT_TIME_H

#include "common/bytes.h"

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define DCX_MSAN 1
#endif
#endif

#if defined(DCX_MSAN)
#include <sanitizer/msan_interface.h>
#define DCX_SECRET(p, n) __msan_poison(p, n)
#define DCX_PUBLIC(p, n) __msan_unpoison(p, n)
/* How many of n bytes at p depend on a secret. */
static inline size_t dcx_secret_bytes(const void *p, size_t n) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += __msan_test_shadow((const char *)p + i, 1) == 0;
    return found;
}
#else
#include <valgrind/memcheck.h>
#define DCX_SECRET(p, n) ((void)VALGRIND_MAKE_MEM_UNDEFINED(p, n))
#define DCX_PUBLIC(p, n) ((void)VALGRIND_MAKE_MEM_DEFINED(p, n))
static inline size_t dcx_secret_bytes(const void *p, size_t n) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char bits = 0;
        (void)VALGRIND_GET_VBITS((const char *)p + i, &bits, 1);
        found += bits != 0;
    }
    return found;
}
#endif

/* The kernels read nothing but a tile's rotation with this function: the order of the cells
 * may depend on it. Named once more below, it does not expand again. */
static inline uint32_t dcx_public_load16le(const uint8_t *p) {
    uint32_t value = dcx_load16le(p);
    DCX_PUBLIC(&value, sizeof value);
    return value;
}
#define dcx_load16le dcx_public_load16le

#endif
