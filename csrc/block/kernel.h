/* What a kernel is to the dispatcher. Each instruction set has one file with
 * one function of this type; absent ones are NULL in kernels.c. */
#ifndef DICOMCRYPT_KERNEL_H
#define DICOMCRYPT_KERNEL_H

#include "dicomcrypt.h"

typedef void dcx_kernel_fn(const dcx_job *job, const dcx_block *block, uint64_t tile,
                           uint64_t count, uint8_t *dst, uint64_t dst_offset,
                           const uint8_t *src, uint64_t src_offset,
                           const dcx_keystream *keystream);

dcx_kernel_fn dcx_portable_transform;

/* The cells of a tile of n bytes in their order for this tile: order[j] =
 * pi_L[(j + rot) mod L], L = n / 16. */
static inline unsigned dcx_cell_order(const dcx_tables *tables, unsigned n, unsigned rotation,
                                      uint16_t order[DCX_CELLS]) {
    unsigned cells = n / 16, at;
    if (cells == 0) return 0;
    at = cells - rotation % cells; /* where pi_L[0] comes to stand */
    for (unsigned i = 0; i < DCX_CELLS; i++) {
        if (tables->pi[i] >= cells) continue;
        if (at == cells) at = 0;
        order[at++] = tables->pi[i];
    }
    return cells;
}

#endif
