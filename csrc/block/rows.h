/* Bytes of a block between the rows of its unit and a contiguous buffer. */
#ifndef DICOMCRYPT_ROWS_H
#define DICOMCRYPT_ROWS_H

#include "dicomcrypt.h"

#include <string.h>

/* Copy n bytes of a block, from block byte `index` on, out of their rows. */
static inline void dcx_gather(uint8_t *to, const dcx_block *block, uint64_t index, unsigned n,
                              const uint8_t *src, uint64_t src_offset) {
    uint64_t column = index % block->width;
    const uint8_t *from = src + (dcx_block_offset(block, index) - src_offset);
    while (n > 0) {
        uint64_t left = block->width - column;
        unsigned piece = left < n ? (unsigned)left : n;
        memcpy(to, from, piece);
        to += piece, n -= piece;
        if (n > 0) from += piece + block->pitch - block->width;
        column = 0;
    }
}

/* The same into their rows. */
static inline void dcx_scatter(const uint8_t *from, const dcx_block *block, uint64_t index,
                               unsigned n, uint8_t *dst, uint64_t dst_offset) {
    uint64_t column = index % block->width;
    uint8_t *to = dst + (dcx_block_offset(block, index) - dst_offset);
    while (n > 0) {
        uint64_t left = block->width - column;
        unsigned piece = left < n ? (unsigned)left : n;
        memcpy(to, from, piece);
        from += piece, n -= piece;
        if (n > 0) to += piece + block->pitch - block->width;
        column = 0;
    }
}

#endif
