/* The portable kernel: no AES of its own, the keystream is handed in. A tile is
 * gathered from its rows, transformed, and scattered to its rows; a block whose
 * tile lies in one piece is worked on in place. */
#include "block/kernel.h"
#include "block/rows.h"
#include "common/bytes.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define SHIFT(b) (56 - 8 * (b))
#else
#define SHIFT(b) (8 * (b))
#endif

/* Eight bytes of a cell as one word in memory order: one store, not eight (1.7 to 2.8 GB/s). */
static uint64_t pick(const uint8_t *cell, const uint8_t *mask) {
    uint64_t word = 0;
    for (unsigned b = 0; b < 8; b++) word |= (uint64_t)cell[mask[b]] << SHIFT(b);
    return word;
}

/* X after the mask, and the mask after X. */
static void pick_xor(uint8_t *to, const uint8_t *cell, const uint8_t *mask, const uint8_t *k) {
    uint64_t word[2], key[2];
    memcpy(key, k, 16);
    word[0] = pick(cell, mask) ^ key[0];
    word[1] = pick(cell, mask + 8) ^ key[1];
    memcpy(to, word, 16);
}

static void xor_pick(uint8_t *to, const uint8_t *cell, const uint8_t *mask, const uint8_t *k) {
    uint64_t word[2], key[2];
    uint8_t plain[16];
    memcpy(word, cell, 16);
    memcpy(key, k, 16);
    word[0] ^= key[0], word[1] ^= key[1];
    memcpy(plain, word, 16);
    word[0] = pick(plain, mask);
    word[1] = pick(plain, mask + 8);
    memcpy(to, word, 16);
}

/* T and X. */
static void transpose(const dcx_job *job, uint8_t *to, const uint8_t *from, unsigned n,
                      unsigned rotation, const uint8_t *k) {
    const dcx_tables *tables = job->tables;
    uint16_t room[2 * DCX_CELLS];
    const uint16_t *order = dcx_cell_order(job, n, rotation, room);
    unsigned cells = n / 16, rest = n % 16, at = 16 * cells;
    for (unsigned j = 0; j < cells; j++)
        pick_xor(to + 16 * j, from + 16 * order[j], tables->mask[j % 16], k + 16 * j);
    for (unsigned b = 0; b < 16; b++) {
        unsigned source = tables->mask[0][b];
        if (source < rest) to[at] = from[16 * cells + source] ^ k[at], at++;
    }
}

static void untranspose(const dcx_job *job, uint8_t *to, const uint8_t *from, unsigned n,
                        unsigned rotation, const uint8_t *k) {
    const dcx_tables *tables = job->tables;
    uint16_t room[2 * DCX_CELLS];
    const uint16_t *order = dcx_cell_order(job, n, rotation, room);
    unsigned cells = n / 16, rest = n % 16, at = 16 * cells;
    for (unsigned j = 0; j < cells; j++)
        xor_pick(to + 16 * order[j], from + 16 * j, tables->inverse[j % 16], k + 16 * j);
    for (unsigned b = 0; b < 16; b++) {
        unsigned source = tables->mask[0][b];
        if (source < rest) to[16 * cells + source] = from[at] ^ k[at], at++;
    }
}

/* V: c = p + k; V': k' = max(k, 1), c = p + k' or, rows reversed, k' - p. */
static void vigenere(uint8_t *to, const uint8_t *from, unsigned n, const uint8_t *k, int inverse) {
    if (inverse)
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] - k[i]);
    else
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] + k[i]);
}

static uint8_t row(uint8_t k) { return k > 1 ? k : 1; }

static void advanced(uint8_t *to, const uint8_t *from, unsigned n, const uint8_t *k, int odd,
                     int inverse) {
    if (odd) /* its own inverse */
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(row(k[i]) - from[i]);
    else if (inverse)
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] - row(k[i]));
    else
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] + row(k[i]));
}

static void one_tile(const dcx_job *job, uint8_t *to, const uint8_t *from, unsigned n,
                     const uint8_t *x, const uint8_t *v, const uint8_t *rotation) {
    int odd = (int)(job->unit & 1);
    uint8_t middle[DCX_TILE];
    if (job->method == DCX_VIGENERE) {
        vigenere(to, from, n, v, job->inverse);
        return;
    }
    unsigned rot = dcx_load16le(rotation);
    if (job->method == DCX_AES_TRANSPOSITION) {
        (job->inverse ? untranspose : transpose)(job, to, from, n, rot, x);
    } else if (job->inverse) {
        advanced(middle, from, n, v, odd, 1);
        untranspose(job, to, middle, n, rot, x);
        dcx_wipe(middle, n);
    } else {
        transpose(job, middle, from, n, rot, x);
        advanced(to, middle, n, v, odd, 0);
    }
}

static void transform(const dcx_job *job, const dcx_block *block, uint64_t tile, uint64_t count,
                      uint8_t *dst, uint64_t dst_offset, const uint8_t *src, uint64_t src_offset,
                      const dcx_keystream *keystream) {
    uint8_t gathered[DCX_TILE], scattered[DCX_TILE];
    const uint8_t *x = keystream->xor_stream, *v = keystream->vigenere_stream;
    const uint8_t *rotation = keystream->rotations;
    int used = 0;
    for (; count > 0; count--, tile++) {
        uint64_t index = tile * DCX_TILE, left = block->length - index;
        unsigned n = left < DCX_TILE ? (unsigned)left : DCX_TILE;
        if (block->width - index % block->width >= n) {
            uint64_t at = dcx_block_offset(block, index);
            one_tile(job, dst + (at - dst_offset), src + (at - src_offset), n, x, v, rotation);
        } else {
            dcx_gather(gathered, block, index, n, src, src_offset);
            one_tile(job, scattered, gathered, n, x, v, rotation);
            dcx_scatter(scattered, block, index, n, dst, dst_offset);
            used = 1;
        }
        if (x) x += n;
        if (v) v += n;
        if (rotation) rotation += 2;
    }
    if (used) {
        dcx_wipe(gathered, sizeof gathered);
        dcx_wipe(scattered, sizeof scattered);
    }
}

const dcx_kernel_table dcx_portable = {NULL, NULL, transform};
