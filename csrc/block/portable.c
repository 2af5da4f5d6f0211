/* The portable kernel: no AES of its own, the keystream is handed in. A tile is
 * gathered from its rows, transformed, and scattered to its rows; a block whose
 * tile lies in one piece is worked on in place. */
#include "block/kernel.h"
#include "block/rows.h"
#include "common/bytes.h"

/* T and X. */
static void transpose(const dcx_tables *tables, uint8_t *to, const uint8_t *from, unsigned n,
                      unsigned rotation, const uint8_t *k) {
    uint16_t room[2 * DCX_CELLS];
    const uint16_t *order = dcx_cell_order(tables, n, rotation, room);
    unsigned cells = n / 16, rest = n % 16, at = 16 * cells;
    for (unsigned j = 0; j < cells; j++) {
        const uint8_t *cell = from + 16 * order[j], *mask = tables->mask[j % 16];
        for (unsigned b = 0; b < 16; b++) to[16 * j + b] = cell[mask[b]] ^ k[16 * j + b];
    }
    for (unsigned b = 0; b < 16; b++) {
        unsigned source = tables->mask[0][b];
        if (source < rest) to[at] = from[16 * cells + source] ^ k[at], at++;
    }
}

static void untranspose(const dcx_tables *tables, uint8_t *to, const uint8_t *from, unsigned n,
                        unsigned rotation, const uint8_t *k) {
    uint16_t room[2 * DCX_CELLS];
    const uint16_t *order = dcx_cell_order(tables, n, rotation, room);
    unsigned cells = n / 16, rest = n % 16, at = 16 * cells;
    for (unsigned j = 0; j < cells; j++) {
        uint8_t *cell = to + 16 * order[j];
        const uint8_t *inverse = tables->inverse[j % 16], *c = from + 16 * j, *key = k + 16 * j;
        for (unsigned b = 0; b < 16; b++) cell[b] = c[inverse[b]] ^ key[inverse[b]];
    }
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

static void advanced(uint8_t *to, const uint8_t *from, unsigned n, const uint8_t *k, int odd,
                     int inverse) {
    if (odd) /* its own inverse */
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)((k[i] | (k[i] == 0)) - from[i]);
    else if (inverse)
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] - (k[i] | (k[i] == 0)));
    else
        for (unsigned i = 0; i < n; i++) to[i] = (uint8_t)(from[i] + (k[i] | (k[i] == 0)));
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
        (job->inverse ? untranspose : transpose)(job->tables, to, from, n, rot, x);
    } else if (job->inverse) {
        advanced(middle, from, n, v, odd, 1);
        untranspose(job->tables, to, middle, n, rot, x);
        dcx_wipe(middle, n);
    } else {
        transpose(job->tables, middle, from, n, rot, x);
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
