/* What a kernel is to the dispatcher. Each instruction set has one file with one table
 * of this type; those that a build lacks are left out of kernels.c. */
#ifndef DICOMCRYPT_KERNEL_H
#define DICOMCRYPT_KERNEL_H

#include "common/cpu.h"
#include "dicomcrypt.h"

typedef struct {
    /* Expand a 32-byte key; NULL in a kernel that gets its keystream from outside. */
    void (*expand)(dcx_tables *tables, const uint8_t key[32]);
    /* AES-256-CTR keystream from counter block zero, n a multiple of 16. */
    void (*keystream)(const dcx_tables *tables, uint8_t *out, size_t n);
    void (*transform)(const dcx_job *job, const dcx_block *block, uint64_t tile, uint64_t count,
                      uint8_t *dst, uint64_t dst_offset, const uint8_t *src, uint64_t src_offset,
                      const dcx_keystream *keystream);
} dcx_kernel_table;

extern const dcx_kernel_table dcx_portable;
/* The 32-bit compiler of Microsoft passes too few vectors as arguments. */
#if defined(DCX_X86) && (defined(__GNUC__) || defined(__clang__) || defined(_M_X64))
#define DCX_BUILT_X86 1
extern const dcx_kernel_table dcx_aesni, dcx_vaes256, dcx_vaes512;
#endif
/* arm_neon.h of clang before 16 looks at the command line, not at the function's target. */
#if defined(__clang__) && __clang_major__ < 16 && !defined(__ARM_FEATURE_AES) && \
    !defined(__ARM_FEATURE_CRYPTO)
#define DCX_NEON_LACKS_AES 1
#endif
#if defined(DCX_ARM64) && defined(__GNUC__) && !defined(DCX_NEON_LACKS_AES)
#define DCX_BUILT_NEON 1
extern const dcx_kernel_table dcx_neon;
#endif

/* The cells of a tile of n bytes in their order for this tile, order[j] =
 * pi_L[(j + rot) mod L], L = n / 16. Returns a pointer to L entries: in the tables, in the
 * job's orders, or in `room`. */
static inline const uint16_t *dcx_cell_order(const dcx_job *job, unsigned n, unsigned rotation,
                                             uint16_t room[2 * DCX_CELLS]) {
    const uint16_t *pi = job->tables->pi;
    unsigned cells = n / 16, found = 0;
    if (cells == DCX_CELLS) return pi + rotation % DCX_CELLS; /* pi stands there twice */
    if (cells == 0) return room;
    if (job->orders) {
        room = job->orders->block[job->block].order;
        if (job->orders->block[job->block].cells == cells) return room + rotation % cells;
        job->orders->block[job->block].cells = cells;
    }
    /* Without branches: what is written too much is overwritten by the next. */
    for (unsigned i = 0; i < DCX_CELLS; i++) {
        room[found] = pi[i];
        found += pi[i] < cells;
    }
    for (unsigned i = 0; i < cells; i++) room[cells + i] = room[i];
    return room + rotation % cells;
}

#endif
