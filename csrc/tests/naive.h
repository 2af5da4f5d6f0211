/* The block layer once more, from docs/spec/block-layer-v1.md alone: a byte at a time,
 * sharing no code with csrc/block. What the kernels are compared with. */
#ifndef DICOMCRYPT_NAIVE_H
#define DICOMCRYPT_NAIVE_H

#include "dicomcrypt.h"
#include "test_aes.h"

typedef struct {
    test_aes k, kt;
    uint8_t table_stream[4 * DCX_TABLE_WORDS];
    unsigned pi[1024], mask[16][16];
} naive_key;

void naive_key_init(naive_key *key, const uint8_t bytes[64]);

/* The keystreams of consecutive tiles of a block, each in a buffer of its exact size. */
typedef struct {
    uint8_t *x, *v, *rotations;
} naive_streams;

void naive_streams_make(naive_streams *streams, const naive_key *key, uint64_t unit, unsigned block,
                        uint64_t first_tile, size_t bytes);
void naive_streams_free(naive_streams *streams);

/* n bytes of a block's sequence, from a tile's first byte on, by the streams made for them. */
void naive_transform(const naive_key *key, const naive_streams *streams, uint64_t unit, int method,
                     int inverse, const uint8_t *in, uint8_t *out, size_t n);

/* Frame and cut of a unit; rows == 0: a linear one. */
typedef struct {
    uint64_t rows, row_bytes, split, length;
} naive_unit;

/* Which block the byte at an offset of the unit belongs to. */
unsigned naive_block_of(const naive_unit *unit, uint64_t offset);

/* The offsets of a block's bytes in order; returns how many, room for unit->length. */
size_t naive_places(const naive_unit *unit, unsigned block, uint64_t *places);

/* ---- what every test program needs ---- */

void test_seed(uint64_t seed);
uint64_t test_random(void);
uint64_t test_below(uint64_t n);
void *test_alloc(size_t n); /* exactly n bytes, so that a sanitizer sees the next one */

/* Every kernel with its tables for one key. */
typedef struct {
    naive_key naive;
    dcx_tables *tables[DCX_KERNELS]; /* NULL: the kernel does not run here */
    dcx_orders *orders[DCX_KERNELS];
} test_kernels;

/* Make the tables; returns NULL, or what is wrong with them. */
const char *test_kernels_init(test_kernels *kernels, const uint8_t key[64]);
void test_kernels_free(test_kernels *kernels);

#endif
