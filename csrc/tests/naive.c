#include "naive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void permutation(unsigned *entries, unsigned n, const uint8_t **stream) {
    for (unsigned i = 0; i < n; i++) entries[i] = i;
    for (unsigned i = n - 1; i >= 1; i--) {
        uint64_t w = 0;
        for (int b = 3; b >= 0; b--) w = w << 8 | (*stream)[b];
        *stream += 4;
        unsigned j = (unsigned)((w * (i + 1)) >> 32), swap = entries[i];
        entries[i] = entries[j];
        entries[j] = swap;
    }
}

void naive_key_init(naive_key *key, const uint8_t bytes[64]) {
    const uint8_t zero[16] = {0}, *stream = key->table_stream;
    test_aes_key(&key->k, bytes);
    test_aes_key(&key->kt, bytes + 32);
    test_aes_keystream(&key->kt, zero, key->table_stream, sizeof key->table_stream);
    permutation(key->pi, 1024, &stream);
    for (int m = 0; m < 16; m++) permutation(key->mask[m], 16, &stream);
}

static void stage(const naive_key *key, uint64_t unit, unsigned block, unsigned number,
                  uint64_t counter, uint8_t *out, size_t n) {
    uint8_t start[16];
    for (int i = 5; i >= 0; i--, unit >>= 8) start[i] = (uint8_t)unit;
    start[6] = (uint8_t)block;
    start[7] = (uint8_t)number;
    for (int i = 15; i >= 8; i--, counter >>= 8) start[i] = (uint8_t)counter;
    test_aes_keystream(&key->k, start, out, n);
}

void naive_streams_make(naive_streams *streams, const naive_key *key, uint64_t unit, unsigned block,
                        uint64_t first_tile, size_t bytes) {
    size_t tiles = (bytes + 16383) / 16384, skip = (size_t)(first_tile % 8 * 2);
    uint8_t *rotations = test_alloc(skip + 2 * tiles);
    streams->x = test_alloc(bytes);
    streams->v = test_alloc(bytes);
    streams->rotations = test_alloc(2 * tiles);
    stage(key, unit, block, 1, first_tile * 1024, streams->x, bytes);
    stage(key, unit, block, 2, first_tile * 1024, streams->v, bytes);
    stage(key, unit, block, 3, first_tile / 8, rotations, skip + 2 * tiles);
    memcpy(streams->rotations, rotations + skip, 2 * tiles);
    free(rotations);
}

void naive_streams_free(naive_streams *streams) {
    free(streams->x);
    free(streams->v);
    free(streams->rotations);
}

/* T: for each byte of a tile's output, where in its input it stands. */
static void sources(const naive_key *key, unsigned n, unsigned rotation, unsigned *source) {
    unsigned order[1024], cells = 0, at = 0, all = n / 16, rest = n % 16;
    for (unsigned i = 0; i < 1024; i++)
        if (key->pi[i] < all) order[cells++] = key->pi[i];
    for (unsigned j = 0; j < all; j++)
        for (unsigned b = 0; b < 16; b++)
            source[at++] = 16 * order[(j + rotation % all) % all] + key->mask[j % 16][b];
    for (unsigned b = 0; b < 16; b++)
        if (key->mask[0][b] < rest) source[at++] = 16 * all + key->mask[0][b];
}

void naive_transform(const naive_key *key, const naive_streams *streams, uint64_t unit, int method,
                     int inverse, const uint8_t *in, uint8_t *out, size_t n) {
    unsigned source[DCX_TILE];
    for (size_t start = 0; start < n; start += DCX_TILE) {
        unsigned size = n - start < DCX_TILE ? (unsigned)(n - start) : DCX_TILE;
        const uint8_t *r = streams->rotations + start / DCX_TILE * 2;
        sources(key, size, r[0] | (unsigned)r[1] << 8, source);
        for (unsigned i = 0; i < size; i++) {
            unsigned k = streams->v[start + i], x = streams->x[start + i], advanced = k ? k : 1;
            if (method == 1) {
                out[start + i] = (uint8_t)(inverse ? in[start + i] - k : in[start + i] + k);
            } else if (!inverse) {
                unsigned c = in[start + source[i]] ^ x;
                if (method == 2) c = unit % 2 ? advanced - c : c + advanced;
                out[start + i] = (uint8_t)c;
            } else {
                unsigned p = in[start + i];
                if (method == 2) p = unit % 2 ? advanced - p : p - advanced;
                out[start + source[i]] = (uint8_t)(p ^ x);
            }
        }
    }
}

unsigned naive_block_of(const naive_unit *unit, uint64_t offset) {
    if (unit->rows == 0) {
        unsigned k = 0;
        while (offset >= unit->length * (k + 1) / 4) k++;
        return k;
    }
    uint64_t row = offset / unit->row_bytes, column = offset % unit->row_bytes;
    return 2 * (row >= (unit->rows + 1) / 2) + (column >= unit->split);
}

size_t naive_places(const naive_unit *unit, unsigned block, uint64_t *places) {
    size_t found = 0;
    for (uint64_t offset = 0; offset < unit->length; offset++)
        if (naive_block_of(unit, offset) == block) places[found++] = offset;
    return found;
}

static uint64_t state = 1;

void test_seed(uint64_t seed) { state = seed * 0x9E3779B97F4A7C15u | 1; }

uint64_t test_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t test_below(uint64_t n) { return n == 0 ? 0 : test_random() % n; }

void *test_alloc(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return p;
}

static const char *check_tables(const test_kernels *kernels, int kernel) {
    const dcx_tables *tables = kernels->tables[kernel];
    const naive_key *naive = &kernels->naive;
    for (unsigned i = 0; i < 2048; i++)
        if (tables->pi[i] != naive->pi[i % 1024]) return "pi";
    for (unsigned i = 0; i < 256; i++) {
        unsigned m = i / 16, b = i % 16;
        if (tables->mask[m][b] != naive->mask[m][b]) return "mask";
        if (tables->inverse[m][naive->mask[m][b]] != b) return "inverse of the mask";
    }
    for (unsigned i = 0; i < 240 && dcx_kernel_has_aes(kernel); i++)
        if (tables->round_keys[i / 16][i % 16] !=
            (naive->k.word[i / 4] >> (24 - 8 * (i % 4)) & 255))
            return "round keys";
    return NULL;
}

const char *test_kernels_init(test_kernels *kernels, const uint8_t bytes[64]) {
    naive_key_init(&kernels->naive, bytes);
    for (int i = 0; i < DCX_KERNELS; i++) {
        const char *wrong;
        uint8_t *key, *stream;
        int id = -1;
        kernels->tables[i] = NULL;
        kernels->orders[i] = NULL;
        if (dcx_kernel_lookup(dcx_kernel_name(i), &id) != DCX_KERNEL_OK) continue;
        key = test_alloc(64);
        stream = test_alloc(sizeof kernels->naive.table_stream);
        memcpy(key, bytes, 64);
        memcpy(stream, kernels->naive.table_stream, sizeof kernels->naive.table_stream);
        kernels->tables[i] = test_alloc(sizeof *kernels->tables[i]);
        kernels->orders[i] = test_alloc(sizeof *kernels->orders[i]);
        memset(kernels->orders[i], 0, sizeof *kernels->orders[i]);
        memset(kernels->tables[i], 0xEE, sizeof *kernels->tables[i]);
        dcx_tables_init(i, kernels->tables[i], key, dcx_kernel_has_aes(i) ? NULL : stream);
        free(key);
        free(stream);
        if ((wrong = check_tables(kernels, i)) != NULL) return wrong;
    }
    return NULL;
}

void test_kernels_free(test_kernels *kernels) {
    for (int i = 0; i < DCX_KERNELS; i++) {
        free(kernels->tables[i]);
        free(kernels->orders[i]);
    }
}
