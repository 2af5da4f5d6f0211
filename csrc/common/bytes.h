/* Byte order, the same on every machine. */
#ifndef DICOMCRYPT_BYTES_H
#define DICOMCRYPT_BYTES_H

#include <stdint.h>

static inline uint32_t dcx_load16le(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t dcx_load32le(const uint8_t *p) {
    return dcx_load16le(p) | dcx_load16le(p + 2) << 16;
}

#endif
