/* Every kernel that is built and runs on this processor, against the naive reference:
 *
 *     harness [RANDOM_CASES [SEED [STEP]]]
 *
 * Sources and targets have exactly the size that the contract of dcx_transform allows, so
 * that a sanitizer sees the first byte read or written outside. Exits with 1 at the first
 * difference and names its case. STEP > 1 takes only every STEP-th case of the grids, for
 * emulators. With DCX_VECTORS the name of a file that tests/kernels/test_harness.py makes from
 * tests/vectors/block-layer-v1.json, those vectors are checked as well. */
#include "naive.h"

#include "block/kernel.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 0xA5

static test_kernels kernels;
static unsigned long cases, step = 1, grid;

/* What a failure is reported with. */
static struct {
    const char *kernel;
    naive_unit unit;
    unsigned block;
    uint64_t number, tile, count, src_offset, dst_offset;
    int method, inverse;
} now;

static void fail(const char *what) {
    fprintf(stderr,
            "harness: %s: kernel %s, unit %llu of %llu bytes (rows %llu x %llu, split %llu), block "
            "%u, method %d, inverse %d, tiles %llu + %llu, src_offset %llu, dst_offset %llu\n",
            what, now.kernel ? now.kernel : "-", (unsigned long long)now.number,
            (unsigned long long)now.unit.length, (unsigned long long)now.unit.rows,
            (unsigned long long)now.unit.row_bytes, (unsigned long long)now.unit.split, now.block,
            now.method, now.inverse, (unsigned long long)now.tile, (unsigned long long)now.count,
            (unsigned long long)now.src_offset, (unsigned long long)now.dst_offset);
    exit(1);
}

static void check(int condition, const char *what) {
    if (!condition) fail(what);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Bytes of a block with their places; from `first_tile` on, whose index is 0 here. */
typedef struct {
    dcx_block block;
    uint64_t first_tile;
    const uint64_t *places;
    size_t n;
} piece;

/* Windows reach by this much over the tiles, where the unit has as much. */
typedef struct {
    uint64_t src_before, src_after, dst_before, dst_after;
} margins;

/* Tiles [tile, tile + count), counted from the piece's first, on every kernel. */
static void run_kernels(const piece *p, uint64_t tile, uint64_t count, const margins *slack,
                        const naive_streams *streams, const uint8_t *expected) {
    size_t from = (size_t)tile * DCX_TILE, to = (size_t)least(p->n, from + count * DCX_TILE);
    uint64_t low = p->places[from], high = p->places[to - 1] + 1;
    uint64_t src_from = low - least(low, slack->src_before);
    uint64_t src_to = least(now.unit.length, high + slack->src_after);
    uint64_t dst_from = low - least(low, slack->dst_before);
    size_t dst_size = (size_t)(least(now.unit.length, high + slack->dst_after) - dst_from);
    uint8_t *src = test_alloc((size_t)(src_to - src_from)), *dst = test_alloc(dst_size);
    uint8_t *want = test_alloc(dst_size);

    for (uint64_t o = src_from; o < src_to; o++) src[o - src_from] = (uint8_t)(o % 251);
    memset(want, GUARD, dst_size);
    for (size_t i = from; i < to; i++) want[p->places[i] - dst_from] = expected[i];
    now.tile = p->first_tile + tile, now.count = count;
    now.src_offset = src_from, now.dst_offset = dst_from;
    for (int id = 0; id < DCX_KERNELS; id++) {
        /* what the method does not need is not there, and kernels with AES need nothing */
        dcx_keystream stream = {now.method == DCX_VIGENERE ? NULL : streams->x + from,
                                now.method == DCX_AES_TRANSPOSITION ? NULL : streams->v + from,
                                now.method == DCX_VIGENERE ? NULL : streams->rotations + 2 * tile};
        /* every other time with the orders of whatever unit came before */
        dcx_job job = {.tables = kernels.tables[id],
                       .unit = now.number,
                       .block = now.block,
                       .method = now.method,
                       .inverse = now.inverse,
                       .orders = test_below(2) ? kernels.orders[id] : NULL};
        if (!kernels.tables[id]) continue;
        now.kernel = dcx_kernel_name(id);
        memset(dst, GUARD, dst_size);
        check(dcx_transform(id, &job, &p->block, p->first_tile + tile, count, dst, dst_from, src,
                            src_from, dcx_kernel_has_aes(id) ? NULL : &stream) == 0,
              "dcx_transform refused");
        check(memcmp(dst, want, dst_size) == 0, "wrong bytes");
        cases++;
    }
    now.kernel = NULL;
    free(src);
    free(dst);
    free(want);
}

/* All methods both ways on a piece, whole and from a tile in the middle. */
static void run_piece(const piece *p, const margins *slack) {
    uint64_t tiles = (p->n + DCX_TILE - 1) / DCX_TILE;
    uint8_t *in = test_alloc(p->n), *out = test_alloc(p->n), *back = test_alloc(p->n);
    naive_streams streams;

    for (size_t i = 0; i < p->n; i++) in[i] = (uint8_t)(p->places[i] % 251);
    naive_streams_make(&streams, &kernels.naive, now.number, now.block, p->first_tile, p->n);
    for (int variant = 0; variant < 6; variant++) {
        now.method = variant / 2, now.inverse = variant % 2;
        naive_transform(&kernels.naive, &streams, now.number, now.method, now.inverse, in, out,
                        p->n);
        naive_transform(&kernels.naive, &streams, now.number, now.method, !now.inverse, out, back,
                        p->n);
        check(memcmp(in, back, p->n) == 0, "the reference is not its own inverse");
        run_kernels(p, 0, tiles, slack, &streams, out);
        if (tiles > 1) {
            uint64_t tile = 1 + test_below(tiles - 1);
            run_kernels(p, tile, 1 + test_below(tiles - tile), slack, &streams, out);
            run_kernels(p, 0, tiles - 1, slack, &streams, out);
        }
    }
    naive_streams_free(&streams);
    free(in);
    free(out);
    free(back);
}

/* dcx_block_ready by counting. */
static uint64_t ready(const uint64_t *places, size_t n, uint64_t tile, uint64_t end) {
    uint64_t found = 0;
    for (uint64_t t = tile; t * DCX_TILE < n; t++)
        found += places[least(n, (t + 1) * DCX_TILE) - 1] < end;
    return found;
}

static void check_geometry(const dcx_block *block, const uint64_t *places, size_t n) {
    uint64_t tiles = (n + DCX_TILE - 1) / DCX_TILE;
    unsigned sum = 0, size = 1 + (unsigned)test_below(8);
    check(block->length == n, "length of a block");
    check(dcx_block_tiles(block) == tiles, "number of tiles");
    for (size_t i = 0; i < n; i++)
        check(dcx_block_offset(block, i) == places[i], "offset of a block's byte");
    for (int i = 0; i < 8; i++) {
        uint64_t tile = test_below(tiles + 1), end = test_below(now.unit.length + 1);
        if (i < 4 && n > 0) /* around the end of a tile */
            end = places[least(n, (tile + 1) * DCX_TILE) - 1] + (uint64_t)(i % 2);
        if (i == 4) end = now.unit.length;
        check(dcx_block_ready(block, tile, end) == ready(places, n, tile, end), "ready tiles");
    }
    if (n > 0) {
        uint64_t last = places[least(n, DCX_TILE) - 1], from = test_below(places[0] + 1);
        uint8_t *src = test_alloc((size_t)(last + 1 - from));
        for (uint64_t o = from; o <= last; o++) src[o - from] = (uint8_t)(o % 251);
        for (unsigned i = 0; i < size && i < n; i++) sum += (unsigned)(places[i] % 251);
        check(dcx_block_method(block, size, src, from) == (int)(sum % 3), "method of a block");
        free(src);
    }
}

/* The blocks of a unit, or one of them. `number` and the number behind it are tried. */
static void run_unit(naive_unit unit, int only, uint64_t number, margins slack) {
    dcx_block blocks[4];
    uint64_t *places = test_alloc((size_t)unit.length * sizeof *places);
    memset(&now, 0, sizeof now);
    now.unit = unit;
    dcx_unit_blocks(unit.rows, unit.row_bytes, unit.split, unit.length, blocks);
    for (unsigned k = 0; k < 4; k++) {
        piece p = {blocks[k], 0, places, 0};
        if (only >= 0 && k != (unsigned)only) continue;
        now.block = k;
        p.n = naive_places(&unit, k, places);
        check_geometry(&p.block, places, p.n);
        for (int odd = 0; odd < 2 && p.n > 0; odd++) {
            now.number = number + (uint64_t)odd;
            run_piece(&p, &slack);
        }
    }
    free(places);
}

static const margins exact = {0, 0, 0, 0};

static int taken(void) { return grid++ % step == 0; }

/* A block that lies in one piece: all of a frame of one row that is not divided. */
static void contiguous(uint64_t n, uint64_t number) {
    if (taken()) run_unit((naive_unit){1, n, n, n}, 0, number, exact);
}

static void contiguous_grid(void) {
    static const int around[] = {-257, -256, -255, -129, -128, -127, -65, -64, -63, -33, -17,
                                 -16,  -15,  -1,   0,    1,    15,   16,  17,  33,  63,  64,
                                 65,   127,  128,  129,  255,  256,  257, 511, 512, 513};
    for (uint64_t n = 1; n <= 600; n++) contiguous(n, 2 * n);
    for (uint64_t k = 1; k <= 3; k++)
        for (size_t i = 0; i < sizeof around / sizeof *around; i++)
            contiguous(k * DCX_TILE + (uint64_t)(int64_t)around[i], 1000 + k);
    for (uint64_t n = 0; n <= 40; n++) run_unit((naive_unit){0, 0, 0, n}, -1, n, exact);
    run_unit((naive_unit){0, 0, 0, 65541}, -1, 0xFFFFFFFFFFFEu, exact); /* u48 unit numbers */
}

/* A block whose rows are `width` bytes long, in units of the given row length. */
static void strided(uint64_t width, uint64_t row_bytes, int right, uint64_t size) {
    uint64_t rows = 2 * (size / width + 1) - test_below(2), bottom = 2 * test_below(2);
    naive_unit unit = {rows, row_bytes, right ? row_bytes - width : width, 0};
    if (!taken()) return;
    unit.length = rows * row_bytes;
    run_unit(unit, (int)bottom + right, test_below(1 << 26), exact);
    unit.length -= 1 + test_below(unit.length / 2); /* cut off in a lower block or just above */
    run_unit(unit, 2 + right, test_below(1 << 26), exact);
    unit.length = 1 + test_below(rows / 2 * row_bytes);
    run_unit(unit, right, test_below(1 << 26), exact);
}

static void strided_grid(void) {
    static const uint64_t wide[] = {144, 160, 192,  224,  256,  320,  384,  448,   512,  576,
                                    640, 768, 1000, 1024, 2048, 4096, 8192, 16384, 20000};
    for (size_t i = 1; i <= 130 + sizeof wide / sizeof *wide; i++) {
        uint64_t w = i <= 130 ? i : wide[i - 131], size = 700 + test_below(300);
        /* section 1: 2 * split >= W, and split = W or 3 * (W - split) >= W */
        strided(w, 2 * w, 0, size);
        strided(w, 2 * w - test_below(w / 2 + 1), 0, size);
        strided(w, 2 * w, 1, size);
        strided(w, 2 * w + test_below(w + 1), 1, size);
        if (i % 16 == 0 || i > 130 || i % 11 == 0) {
            strided(w, 2 * w - test_below(w / 2 + 1), 0, DCX_TILE + 1 + test_below(DCX_TILE));
            strided(w, 2 * w + test_below(w + 1), 1, 2 * DCX_TILE + test_below(1000));
        }
    }
}

static void random_case(void) {
    uint64_t width = 1 + test_below(test_below(4) ? 300 : 40000), kind = test_below(8);
    uint64_t right = width - test_below(width / 2 + 1); /* <= split, >= split / 2 */
    naive_unit unit = {1 + test_below(3 * DCX_TILE / width + 4), width + right, width, 0};
    margins slack = {test_below(100), test_below(100), test_below(100), test_below(100)};
    if (test_below(2)) width = (width + 15) / 16 * 16, right = (right + 15) / 16 * 16;
    unit.row_bytes = width + right, unit.split = width;
    if (kind == 0) unit.row_bytes = width; /* not divided */
    unit.length = unit.rows * unit.row_bytes;
    if (kind > 4) unit.length = 1 + test_below(unit.length);
    if (kind == 1) unit = (naive_unit){0, 0, 0, 1 + test_below(6 * DCX_TILE)};
    run_unit(unit, (int)test_below(4), test_below(UINT64_C(1) << 48), slack);
}

/* Tiles behind 4 GiB and far behind 2^32 cells, through windows over nothing else. */
static void far_away(void) {
    static const uint64_t splits[] = {1u << 19, (1u << 19) + 17, (1u << 19) + 16};
    for (uint64_t i = 0; i < 9; i++) {
        naive_unit unit = {UINT64_C(1) << 27, 1u << 20, splits[i % 3], UINT64_C(1) << 47};
        uint64_t places[2 * DCX_TILE];
        dcx_block blocks[4];
        memset(&now, 0, sizeof now);
        now.unit = unit, now.block = (unsigned)test_below(4), now.number = i;
        dcx_unit_blocks(unit.rows, unit.row_bytes, unit.split, unit.length, blocks);
        uint64_t column = now.block & 1 ? unit.split : 0;
        uint64_t width = now.block & 1 ? unit.row_bytes - unit.split : unit.split;
        piece p = {blocks[now.block], 0, places, 2 * DCX_TILE};
        p.first_tile = (UINT64_C(1) << (22 + i)) - 1 + test_below(1000);
        for (uint64_t n = 0; n < p.n; n++) {
            uint64_t index = p.first_tile * DCX_TILE + n;
            uint64_t row = index / width + (now.block & 2 ? unit.rows / 2 : 0);
            places[n] = row * unit.row_bytes + column + index % width;
            check(naive_block_of(&unit, places[n]) == now.block, "the case is wrong");
        }
        run_piece(&p, &exact);
    }
}

#include "harness_names.inc"

int main(int argc, char **argv) {
    unsigned long iterations = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    const char *wrong = test_aes_check();
    uint8_t key[64];

    test_seed(argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    step = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    check(wrong == NULL, wrong);
    check(step > 0, "STEP must not be 0");
    for (unsigned round = 0; round < 2; round++) {
        for (int i = 0; i < 64; i++) key[i] = (uint8_t)(round == 0 ? i : (int)test_below(256));
        wrong = test_kernels_init(&kernels, key);
        check(wrong == NULL, wrong);
        if (round == 0) {
            names();
            subsets();
            far_away();
            contiguous_grid();
            strided_grid();
        }
        for (unsigned long i = 0; i < (iterations + round) / 2; i++) random_case();
        test_kernels_free(&kernels);
    }
    vectors();
    summary();
    printf("%lu cases ok\n", cases);
    return 0;
}
