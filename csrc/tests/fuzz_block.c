/* A fuzzer for the geometry and the transform of the block layer:
 *
 *     fuzz_block ITERATIONS SEED
 *
 * Reads arguments within the ranges of dicomcrypt.h out of bytes, so that libFuzzer
 * (DCX_LIBFUZZER) can take the place of main. Every kernel must give what the portable one
 * gives, decryption must give the input back, and neither may leave its buffers, which have
 * exactly the size of their tiles. */
#include "naive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static test_kernels kernels;

static void check(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "fuzz_block: %s\n", what);
        abort();
    }
}

typedef struct {
    const uint8_t *data;
    size_t size;
} bytes;

static uint64_t take(bytes *input, unsigned n) {
    uint64_t value = 0;
    for (; n > 0 && input->size > 0; n--, input->data++, input->size--)
        value = value << 8 | *input->data;
    return value;
}

/* 1 to `most`, small numbers and multiples of 16 as often as large ones. */
static uint64_t number(bytes *input, uint64_t most) {
    uint64_t kind = take(input, 1), value = take(input, kind & 1 ? 1 : kind & 2 ? 2 : 6);
    if (kind & 4) value *= 16;
    return 1 + value % most;
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* A unit that section 1 of the specification allows. */
static naive_unit any_unit(bytes *input) {
    naive_unit unit = {0, 0, 0, number(input, DCX_LINEAR_UNIT)};
    if (take(input, 1) % 8 == 0) return unit;
    unit.row_bytes = number(input, 1u << 20);
    unit.rows = number(input, least(UINT32_MAX, ((UINT64_C(1) << 48) - 1) / unit.row_bytes));
    uint64_t right = unit.row_bytes / 2, narrow = (unit.row_bytes + 2) / 3;
    if (right > narrow) right -= take(input, 3) % (right - narrow + 1);
    if (3 * right < unit.row_bytes || take(input, 1) % 8 == 0) right = 0;
    unit.split = unit.row_bytes - right;
    unit.length = unit.rows * unit.row_bytes;
    if (take(input, 1) & 1) unit.length = 1 + take(input, 6) % unit.length;
    return unit;
}

static void geometry(bytes *input, const naive_unit *unit, const dcx_block blocks[4]) {
    uint64_t all = 0;
    for (unsigned k = 0; k < 4; k++) {
        const dcx_block *block = &blocks[k];
        uint64_t tiles = dcx_block_tiles(block), n = block->length;
        all += n;
        check(tiles == (n + DCX_TILE - 1) / DCX_TILE, "number of tiles");
        if (n == 0) continue;
        check(block->width >= 1 && block->pitch >= block->width, "rows overlap");
        check(dcx_block_offset(block, n - 1) < unit->length, "a block leaves its unit");
        for (int i = 0; i < 4; i++) {
            uint64_t index = take(input, 6) % n, at = dcx_block_offset(block, index);
            check(naive_block_of(unit, at) == k, "a byte of another block");
            check(index == 0 || dcx_block_offset(block, index - 1) < at, "offsets go back");

            /* ready tiles lie below the end, the next does not */
            uint64_t end = take(input, 6) % (unit->length + 1), tile = take(input, 4) % (tiles + 1);
            if (i & 1) end = at + (i >> 1);
            uint64_t ready = dcx_block_ready(block, tile, end), next = tile + ready;
            check(ready <= tiles - tile, "more tiles ready than there are");
            if (ready > 0)
                check(dcx_block_offset(block, least(next * DCX_TILE, n) - 1) < end, "not ready");
            if (next < tiles)
                check(dcx_block_offset(block, least((next + 1) * DCX_TILE, n) - 1) >= end,
                      "more tiles are ready");
        }
    }
    check(all == unit->length, "the blocks are not the unit");
}

/* Windows over up to three tiles; dst may begin and end elsewhere than src. */
static void transform(bytes *input, const dcx_block *block, unsigned k, uint64_t unit_length) {
    uint64_t tiles = dcx_block_tiles(block), tile = take(input, 6) % tiles;
    uint64_t count = 1 + take(input, 1) % least(3, tiles - tile);
    uint64_t first = tile * DCX_TILE, last = least((tile + count) * DCX_TILE, block->length) - 1;
    uint64_t low = dcx_block_offset(block, first), high = dcx_block_offset(block, last) + 1;
    uint64_t src_from = low - least(low, take(input, 1) % 70);
    uint64_t dst_from = low - least(low, take(input, 1) % 70);
    size_t src_size = (size_t)(least(unit_length, high + take(input, 1) % 70) - src_from);
    size_t dst_size = (size_t)(least(unit_length, high + take(input, 1) % 70) - dst_from);
    uint64_t unit = take(input, 6), tested = take(input, 1);
    int method = (int)(tested % 3), inverse = (int)(tested / 3 % 2);
    uint8_t *src = test_alloc(src_size), *portable = test_alloc(dst_size);
    uint8_t *dst = test_alloc(dst_size), *back = test_alloc(src_size);
    naive_streams streams;

    check(high - low <= 9u * DCX_TILE + 4u * block->pitch, "section 1 bounds what a tile spans");
    for (size_t i = 0; i < src_size; i++) src[i] = (uint8_t)(i % 251 ^ tested);
    naive_streams_make(&streams, &kernels.naive, unit, k, tile, (size_t)(last + 1 - first));
    for (int id = 0; id < DCX_KERNELS; id++) {
        dcx_keystream stream = {streams.x, streams.v, streams.rotations};
        dcx_job job = {.tables = kernels.tables[id],
                       .unit = unit,
                       .block = k,
                       .method = method,
                       .inverse = inverse,
                       .orders = tested & 8 ? kernels.orders[id] : NULL};
        uint8_t *out = id == DCX_KERNEL_PORTABLE ? portable : dst;
        if (!kernels.tables[id]) continue;
        memset(out, 0x5A, dst_size);
        check(dcx_transform(id, &job, block, tile, count, out, dst_from, src, src_from,
                            dcx_kernel_has_aes(id) ? NULL : &stream) == 0,
              "dcx_transform refused");
        if (id != DCX_KERNEL_PORTABLE)
            check(memcmp(dst, portable, dst_size) == 0, dcx_kernel_name(id));
        job.inverse = !inverse;
        memcpy(back, src, src_size);
        for (uint64_t i = first; i <= last; i++)
            back[dcx_block_offset(block, i) - src_from] ^= 0xFF;
        check(dcx_transform(id, &job, block, tile, count, back, src_from, out, dst_from,
                            dcx_kernel_has_aes(id) ? NULL : &stream) == 0,
              "dcx_transform refused");
        check(memcmp(back, src, src_size) == 0, "decryption does not give the input back");
    }
    naive_streams_free(&streams);
    free(src);
    free(portable);
    free(dst);
    free(back);
}

static void one_input(const uint8_t *data, size_t size) {
    bytes input = {data, size};
    dcx_block blocks[4];
    naive_unit unit = any_unit(&input);
    unsigned k = (unsigned)take(&input, 1) % 4;
    dcx_unit_blocks(unit.rows, unit.row_bytes, unit.split, unit.length, blocks);
    geometry(&input, &unit, blocks);
    for (unsigned i = 0; i < 4 && blocks[k].length == 0; i++) k = (k + 1) % 4;
    transform(&input, &blocks[k], k, unit.length);
}

static void make_kernels(uint64_t seed) {
    uint8_t key[64];
    test_seed(seed);
    for (int i = 0; i < 64; i++) key[i] = (uint8_t)test_below(256);
    const char *wrong = test_kernels_init(&kernels, key);
    check(wrong == NULL, wrong);
}

#ifdef DCX_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!kernels.tables[0]) make_kernels(1);
    one_input(data, size);
    return 0;
}

#else

int main(int argc, char **argv) {
    uint8_t input[256];
    if (argc != 3) {
        fprintf(stderr, "usage: fuzz_block ITERATIONS SEED\n");
        return 2;
    }
    unsigned long iterations = strtoul(argv[1], NULL, 10);
    make_kernels(strtoull(argv[2], NULL, 10));
    for (unsigned long i = 0; i < iterations; i++) {
        for (size_t at = 0; at < sizeof input; at++) input[at] = (uint8_t)(test_random() >> 32);
        one_input(input, sizeof input);
    }
    test_kernels_free(&kernels);
    printf("%lu inputs\n", iterations);
    return 0;
}

#endif
