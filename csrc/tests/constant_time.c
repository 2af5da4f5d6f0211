/* Whether a kernel branches on a secret or addresses memory by one:
 *
 *     constant_time KERNEL [branch | index | output]
 *
 * Keys, round keys, keystreams and plaintexts are marked as undefined, then the kernel runs
 * over all methods both ways and all ways a tile can lie; whatever depends on an undefined
 * value is reported by valgrind's memcheck or by clang's MemorySanitizer, of which one must
 * watch. Not marked are the exceptions that the specification makes: pi, the masks and the
 * rotations (the order in which cells are read) and the method of a block.
 *
 * The second argument is the positive control: it makes the program leak, and the check must
 * fail. `branch` and `index` leak a secret themselves; `output` branches on a byte that the
 * kernel wrote, so that a tool which lost track inside the kernel would be found out. Every
 * run ends with a count of output bytes that are still marked, which must be all of them: by
 * the keys alone with a public input, and by the input alone with public keys.
 *
 * Covered:
 *   memcheck: portable and aesni, with the key expansion. It knows AES-NI and SSSE3, but
 *     neither VAES nor AVX-512. An output of an AES instruction counts as secret if any byte
 *     of its operands does.
 *   MemorySanitizer (clang 14): portable, aesni, vaes256 and vaes512. It has no rules of its
 *     own for aesenc, aesenclast (128, 256, 512 bits) and pshufb (all widths); byte i of the
 *     result counts as secret if byte i of an operand does. That is enough here, where whole
 *     vectors are secret. Shuffles by a secret are not reported by either tool, and take the
 *     same time.
 * Not covered:
 *   the key expansion under MemorySanitizer, which takes every secret operand of
 *     aeskeygenassist for a leak; its source (x86.inc) is that which memcheck sees in aesni;
 *   dcx_make_permutations, which swaps entries by secret indices: tables are an exception;
 *   neon: neither tool runs under the emulator. Its source is the template of the others. */
#include "naive.h"

#include "block/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 1, INPUT = 2 };

static const dcx_kernel_table *const table_of[DCX_KERNELS] = {
    [DCX_KERNEL_PORTABLE] = &dcx_portable,
#if defined(DCX_BUILT_X86)
    [DCX_KERNEL_AESNI] = &dcx_aesni,       [DCX_KERNEL_VAES256] = &dcx_vaes256,
    [DCX_KERNEL_VAES512] = &dcx_vaes512,
#endif
#if defined(DCX_BUILT_NEON)
    [DCX_KERNEL_NEON] = &dcx_neon,
#endif
};

static test_kernels kernels;
static unsigned long runs;
static volatile int sink;

static void lost(const char *what, size_t found, size_t wanted) {
    if (found == wanted) return;
    fprintf(stderr, "constant_time: %s: %lu of %lu bytes are marked\n", what, (unsigned long)found,
            (unsigned long)wanted);
    exit(3);
}

static size_t marked(const dcx_block *block, const uint8_t *at) {
    size_t found = 0;
    for (uint64_t i = 0; i < block->length; i++)
        found += dcx_secret_bytes(at + dcx_block_offset(block, i), 1);
    return found;
}

static void transform(int id, const dcx_block *block, uint64_t unit, int method, int inverse,
                      int secret, const char *leak) {
    size_t size = (size_t)dcx_block_offset(block, block->length - 1) + 1;
    size_t n = (size_t)block->length, tiles = (size_t)dcx_block_tiles(block);
    uint8_t *src = test_alloc(size), *dst = test_alloc(size);
    dcx_tables tables = *kernels.tables[id];
    naive_streams streams;

    for (size_t i = 0; i < size; i++) src[i] = (uint8_t)(i % 251), dst[i] = 0;
    naive_streams_make(&streams, &kernels.naive, unit, 0, 0, n);
    dcx_keystream stream = {streams.x, streams.v, streams.rotations};
    dcx_orders orders = {0};
    dcx_job job = {.tables = &tables,
                   .unit = unit,
                   .method = method,
                   .inverse = inverse,
                   .orders = unit & 1 ? &orders : NULL};
    if (secret & KEYS) {
        DCX_SECRET(tables.round_keys, sizeof tables.round_keys);
        DCX_SECRET(streams.x, n);
        DCX_SECRET(streams.v, n);
        DCX_SECRET(streams.rotations, 2 * tiles);
    }
    if (secret & INPUT) DCX_SECRET(src, size);
    if (dcx_transform(id, &job, block, 0, tiles, dst, 0, src, 0, &stream) != 0) exit(2);
    lost("output", marked(block, dst), n);
    if (leak && strcmp(leak, "output") == 0 && dst[dcx_block_offset(block, n / 2)] > 7) sink = 1;

    /* the method may show, once it is chosen */
    int chosen = dcx_block_method(block, 8, src, 0);
    lost("method", dcx_secret_bytes(&chosen, 1), (secret & INPUT) != 0);
    DCX_PUBLIC(&chosen, sizeof chosen);
    if (chosen < 0 || chosen > 2) exit(2);
    naive_streams_free(&streams);
    free(src);
    free(dst);
    runs++;
}

/* Key expansion and table keystream. */
static void keys(int id) {
    const dcx_kernel_table *table = table_of[id];
    dcx_tables tables = *kernels.tables[id];
    uint8_t key[32] = {1, 2, 3}, out[1024];
    if (!table || !table->expand) return;
#if !defined(DCX_MSAN)
    DCX_SECRET(key, sizeof key);
    table->expand(&tables, key);
    lost("round keys", dcx_secret_bytes(tables.round_keys, 240), 240);
#else
    (void)key;
#endif
    DCX_SECRET(tables.round_keys, sizeof tables.round_keys);
    memset(out, 0, sizeof out);
    table->keystream(&tables, out, sizeof out);
    lost("keystream of the tables", dcx_secret_bytes(out, sizeof out), sizeof out);
    runs++;
}

static void leaky(const char *leak) {
    static const uint8_t squares[16] = {0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144};
    uint8_t secret = 11;
    DCX_SECRET(&secret, 1);
    if (strcmp(leak, "index") == 0)
        sink = squares[secret & 15];
    else if (strcmp(leak, "branch") == 0 && secret > 7)
        sink = 1;
}

int main(int argc, char **argv) {
    /* in one piece; then in rows of any width, of cells, of vectors */
    static const dcx_block blocks[] = {
        {0, 1, 1, 1},          {0, 15, 15, 15},          {0, 16, 16, 16},     {3, 100, 100, 100},
        {0, 1000, 1000, 1000}, {0, 20000, 20000, 20000}, {5, 37, 80, 3000},   {0, 37, 74, 17000},
        {16, 48, 96, 3001},    {0, 48, 96, 20000},       {64, 64, 128, 3005}, {0, 128, 200, 20007}};
    const char *leak = argc > 2 ? argv[2] : NULL, *wrong;
    uint8_t key[64];
    int id = -1;

    if (argc < 2 || dcx_kernel_lookup(argv[1], &id) != DCX_KERNEL_OK) {
        printf("kernel %s: not on this processor\n", argc < 2 ? "-" : argv[1]);
        return 77;
    }
#if !defined(DCX_MSAN)
    if (!RUNNING_ON_VALGRIND) {
        fprintf(stderr, "constant_time: run it under valgrind\n");
        return 2;
    }
#endif
    for (int i = 0; i < 64; i++) key[i] = (uint8_t)(7 * i);
    if ((wrong = test_kernels_init(&kernels, key)) != NULL) return 2;
    if (leak) leaky(leak);
    keys(id);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        for (int variant = 0; variant < 12; variant++) {
            int method = variant % 3, inverse = variant / 3 % 2;
            for (int secret = KEYS; secret <= (KEYS | INPUT); secret++)
                transform(id, &blocks[i], 6 + (uint64_t)(variant / 6), method, inverse, secret,
                          leak);
        }
    test_kernels_free(&kernels);
    printf("kernel %s: %lu runs without a leak\n", argv[1], runs);
    return 0;
}
