/* A fuzzer for the scanner that needs nothing but a compiler:
 *
 *     fuzz_scan ITERATIONS SEED [FILE ...]
 *
 * Every input lies in a buffer of exactly its length, so that a sanitizer sees
 * the first byte read outside. It is scanned whole and through random windows;
 * a difference between the two aborts, as does a broken promise of the header.
 * The inputs are mutations of the files and of a few built in here; the same
 * arguments give the same inputs. With DCX_LIBFUZZER defined, libFuzzer's
 * entry point takes the place of main. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dicomcrypt_scan.h"

#define MAX_INPUT 8192u /* of a file, from its start: where the structure is */
#define MAX_SEEDS 512

static uint64_t state = 1;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t n) { return n == 0 ? 0 : (size_t)(next_random() % n); }

static void check(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "fuzz_scan: %s\n", what);
        abort();
    }
}

/* A copy of bytes [from, to) that ends where its allocation ends. */
static uint8_t *exact(const uint8_t *data, size_t from, size_t to) {
    uint8_t *copy = malloc(to > from ? to - from : 1);

    check(copy != NULL, "out of memory");
    if (to > from) memcpy(copy, data + from, to - from);
    return copy;
}

static void same(const dcx_scan *a, const dcx_scan *b) {
    size_t i;

    check(a->status == b->status, "status depends on the windows");
    check(a->pos == b->pos, "position depends on the windows");
    check(a->has_preamble == b->has_preamble && a->has_meta == b->has_meta &&
              a->implicit_vr == b->implicit_vr && a->big_endian == b->big_endian &&
              a->dataset == b->dataset,
          "encoding depends on the windows");
    check(a->pixel_tag == b->pixel_tag && a->pixel_element == b->pixel_element &&
              a->pixel_value == b->pixel_value && a->pixel_length == b->pixel_length &&
              memcmp(a->pixel_vr, b->pixel_vr, 2) == 0,
          "pixel data depends on the windows");
    check(a->rows == b->rows && a->columns == b->columns && a->samples == b->samples &&
              a->bits_allocated == b->bits_allocated && a->bits_stored == b->bits_stored &&
              a->high_bit == b->high_bit && a->planar == b->planar &&
              a->pixel_representation == b->pixel_representation && a->frames == b->frames,
          "numbers depend on the windows");
    for (i = 0; i < DCX_SCAN_ATTRIBUTES; i++)
        check(a->attributes[i].present == b->attributes[i].present &&
                  a->attributes[i].tag == b->attributes[i].tag &&
                  a->attributes[i].offset == b->attributes[i].offset &&
                  a->attributes[i].length == b->attributes[i].length &&
                  memcmp(a->attributes[i].vr, b->attributes[i].vr, 2) == 0,
              "attributes depend on the windows");
}

static void promises(const dcx_scan *s, size_t size) {
    size_t count, i;
    const uint32_t *tags = dcx_scan_tags(&count);

    check(s->status != DCX_SCAN_NEED, "more wanted at the end of the file");
    check(s->frames > 0, "no frames");
    if (s->status == DCX_SCAN_PIXELS) {
        check(s->pixel_value <= size, "pixel data header outside the file");
        check(s->pixel_value - s->pixel_element == (s->pixel_vr[0] == 0 ? 8u : 12u) ||
                  s->pixel_value - s->pixel_element == 8u,
              "impossible pixel data header");
        check(s->dataset <= s->pixel_element, "pixel data before the data set");
    }
    for (i = 0; i < count; i++)
        if (s->attributes[i].present) {
            check(s->attributes[i].tag == tags[i], "attribute at another tag's place");
            check(s->attributes[i].offset <= size, "attribute header outside the file");
        }
}

static void through_windows(const uint8_t *data, size_t size, dcx_scan *s) {
    unsigned calls = 0;

    dcx_scan_init(s);
    for (;;) {
        uint64_t need = s->need < size ? s->need : size;
        size_t from = (size_t)(s->pos < size ? s->pos : size);
        size_t back = below(16) == 0 ? below(from + 1) : 0;
        size_t to = (size_t)need;
        uint8_t *window;
        int last, status;

        check(s->need > s->pos && s->need - s->pos <= 4096, "impossible need");
        if (below(2)) to += below(size - to + 1);
        from -= back;
        window = exact(data, from, to);
        last = to == size && (s->need > size || below(2));
        status = dcx_scan_feed(s, window, from, to - from, last);
        free(window);
        check(status == s->status, "status not left in the scan");
        check(++calls < 4 * MAX_INPUT + 16, "no progress");
        if (status != DCX_SCAN_NEED) return;
        check(!last, "more wanted at the end of the file");
    }
}

static uint64_t walk(const uint8_t *data, size_t size, uint64_t start, int big, int windows,
                     int *status, uint64_t *items) {
    dcx_scan_item found[5];
    uint64_t next = start;
    size_t count, i;

    *items = 0;
    for (;;) {
        size_t from = windows ? (size_t)(next < size ? next : size) : 0;
        size_t to = windows ? from + 8 + below(64) : size;
        size_t capacity = 1 + below(5);
        uint64_t before = next;
        uint8_t *window;

        if (to > size) to = size;
        window = exact(data, from, to);
        *status = dcx_scan_items(window, from, to - from, to == size, big, &next, found, capacity,
                                 &count);
        free(window);
        check(count <= capacity, "more items than room");
        check(next >= before, "items go backwards");
        for (i = 0; i < count; i++)
            check(found[i].offset >= before && found[i].offset + 8 + found[i].length <= next,
                  "an item outside what was walked");
        *items += count;
        if (*status == DCX_ITEMS_NEED)
            check(to < size, "items wanted at the end of the file");
        else if (*status != DCX_ITEMS_FULL)
            return next;
    }
}

static void one_input(const uint8_t *data, size_t size) {
    dcx_scan whole, parts;
    uint8_t *copy = exact(data, 0, size);
    uint64_t start, items[2], next[2];
    int big, status[2];

    dcx_scan_init(&whole);
    dcx_scan_feed(&whole, copy, 0, size, 1);
    free(copy);
    promises(&whole, size);
    through_windows(data, size, &parts);
    same(&whole, &parts);

    start = whole.status == DCX_SCAN_PIXELS ? whole.pixel_value : below(size + 1);
    big = whole.big_endian;
    next[0] = walk(data, size, start, big, 0, &status[0], &items[0]);
    next[1] = walk(data, size, start, big, 1, &status[1], &items[1]);
    check(status[0] == status[1], "the end of the items depends on the windows");
    if (next[1] <= size) /* else the last item was let pass before the end was in sight */
        check(next[0] == next[1] && items[0] == items[1], "items depend on the windows");
}

#ifdef DCX_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t i;

    state = 0x9E3779B97F4A7C15u; /* windows depend on the input alone */
    for (i = 0; i < size && i < 64; i++) state = (state ^ data[i]) * 0x100000001B3u | 1;
    if (size <= MAX_INPUT) one_input(data, size);
    return 0;
}

#else

struct seed {
    uint8_t *data;
    size_t size;
};

static struct seed seeds[MAX_SEEDS];
static size_t seed_count;

static void add_seed(const uint8_t *data, size_t size) {
    if (seed_count == MAX_SEEDS) return;
    seeds[seed_count].data = exact(data, 0, size);
    seeds[seed_count++].size = size;
}

static size_t put(uint8_t *at, size_t n, const char *bytes, size_t size) {
    memcpy(at + n, bytes, size);
    return n + size;
}

#define PUT(text) n = put(file, n, text, sizeof(text) - 1)

static void built_in_seeds(void) {
    static uint8_t file[2048];
    size_t n = 0, depth;

    /* explicit VR, a sequence with an icon, encapsulated pixel data */
    memset(file, 0, 128);
    n = 128;
    PUT("DICM\2\0\0\0UL\4\0\x1c\0\0\0\2\0\x10\0UI\x14\0"
        "1.2.840.10008.1.2.1\0\0");
    PUT("\x08\0\x16\0UI\4\0"
        "1.2\0\x88\0\0\2SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff");
    PUT("\x28\0\x10\0US\2\0\1\0\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0");
    PUT("\xfe\xff\0\xe0\2\0\0\0ab\xfe\xff\xdd\xe0\0\0\0\0\xfe\xff\x0d\xe0\0\0\0\0");
    PUT("\xfe\xff\xdd\xe0\0\0\0\0\x28\0\x08\0IS\2\0"
        "12\x28\0\x10\0US\2\0\7\0");
    PUT("\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\4\0\0\0\0\0\0\0");
    PUT("\xfe\xff\0\xe0\2\0\0\0xy\xfe\xff\xdd\xe0\0\0\0\0");
    add_seed(file, n);

    /* implicit VR without preamble, a sequence with items of both kinds */
    n = 0;
    PUT("\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0\4\0\0\0"
        "1.2\0");
    PUT("\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\0\xe0\x0a\0\0\0\x08\0\x50\x11\2\0\0\0"
        "1\0");
    PUT("\xfe\xff\0\xe0\xff\xff\xff\xff\x08\0\x50\x11\2\0\0\0"
        "1\0\xfe\xff\x0d\xe0\0\0\0\0");
    PUT("\xfe\xff\xdd\xe0\0\0\0\0\x28\0\x10\0\2\0\0\0\1\0\xe0\x7f\x10\0\2\0\0\0ab");
    add_seed(file, n);

    /* big endian without preamble, an element with VR UN in little endian */
    n = 0;
    PUT("\0\x08\0\x05"
        "CS\0\x0a"
        "ISO_IR 100\0\x08\0\x16UI\0\4"
        "1.2\0");
    PUT("\0\x09\x10\1UN\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff");
    PUT("\x08\0\x50\x11\2\0\0\0"
        "1\0\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
    PUT("\0\x28\0\x10US\0\2\0\1\x7f\xe0\0\x10OW\0\0\0\0\0\2ab");
    add_seed(file, n);

    /* as deep as can be followed, nearly */
    n = 0;
    PUT("\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0\4\0\0\0"
        "1.2\0");
    for (depth = 0; depth < DCX_SCAN_DEPTH; depth++)
        PUT("\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff");
    add_seed(file, n);
}

/* Offsets that would wrap around are turned down. */
static void at_the_end_of_numbers(void) {
    static const uint8_t item[8] = {0xFE, 0xFF, 0x00, 0xE0, 0xFE, 0xFF, 0xFF, 0xFF};
    const uint64_t far = UINT64_MAX - 8;
    dcx_scan scan;
    dcx_scan_item found[2];
    uint64_t next = far;
    size_t count;

    dcx_scan_init(&scan);
    check(dcx_scan_feed(&scan, item, UINT64_MAX - 7, 8, 1) == DCX_SCAN_BROKEN, "base wraps around");
    check(dcx_scan_items(item, far + 1, 8, 1, 0, &next, found, 2, &count) == DCX_ITEMS_IRREGULAR,
          "base of the items wraps around");
    check(dcx_scan_items(item, far, 8, 0, 0, &next, found, 2, &count) == DCX_ITEMS_IRREGULAR &&
              next == far && count == 0,
          "an item wraps around");
    dcx_scan_init(&scan);
    scan.pos = far;
    scan.flags = 3 | 1 << 2 | 1 << 3; /* inside a data set in implicit VR */
    check(dcx_scan_feed(&scan, item, far, 8, 0) == DCX_SCAN_BROKEN, "a value wraps around");
}

/* Change the input in place; returns its new size. */
static size_t mutate(uint8_t *data, size_t size) {
    static const uint32_t extremes[] = {0,          1,          2,          7,          8,
                                        0xFFFF,     0x10000,    0x7FFFFFFF, 0x80000000, 0xFFFFFFF0,
                                        0xFFFFFFFE, 0xFFFFFFFF, 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE,
                                        0x00107FE0, 0x00100002, 0x00080028, 0x00004E55, 0x00005153};
    size_t i, at, from, n;
    uint32_t value;

    switch (below(6)) {
    case 0: /* flip bits */
        for (i = 1 + below(4); i > 0 && size > 0; i--)
            data[below(size)] ^= (uint8_t)(1u << below(8));
        break;
    case 1: /* a field with an extreme value */
        value = extremes[below(sizeof extremes / sizeof extremes[0])];
        for (i = 0, at = below(size); i < 4 && at + i < size; i++)
            data[at + i] = (uint8_t)(value >> 8 * i);
        break;
    case 2: /* cut off */ size = below(size + 1); break;
    case 3: /* splice in a piece of another input */
        if (seed_count > 0) {
            const struct seed *other = &seeds[below(seed_count)];
            from = below(other->size);
            at = below(size);
            n = below(other->size - from + 1);
            if (n > MAX_INPUT - at) n = MAX_INPUT - at;
            memcpy(data + at, other->data + from, n);
            if (at + n > size) size = at + n;
        }
        break;
    case 4: /* double a run */
        at = below(size);
        n = below((size - at < 256 ? size - at : 256) + 1);
        if (n > MAX_INPUT - size) n = MAX_INPUT - size;
        memmove(data + at + n, data + at, size - at);
        size += n;
        break;
    default: /* take a run out */
        at = below(size);
        n = below((size - at < 64 ? size - at : 64) + 1);
        memmove(data + at, data + at + n, size - at - n);
        size -= n;
        break;
    }
    return size;
}

int main(int argc, char **argv) {
    static uint8_t input[MAX_INPUT];
    unsigned long iterations, i;
    size_t size;
    int k;

    if (argc < 3) {
        fprintf(stderr, "usage: fuzz_scan ITERATIONS SEED [FILE ...]\n");
        return 2;
    }
    iterations = strtoul(argv[1], NULL, 10);
    state = strtoull(argv[2], NULL, 10) * 0x9E3779B97F4A7C15u | 1;
    at_the_end_of_numbers();
    built_in_seeds();
    for (k = 3; k < argc; k++) {
        FILE *file = fopen(argv[k], "rb");
        if (file == NULL) {
            perror(argv[k]);
            return 2;
        }
        size = fread(input, 1, sizeof input, file);
        fclose(file);
        add_seed(input, size);
    }
    for (i = 0; i < seed_count; i++) one_input(seeds[i].data, seeds[i].size);
    for (i = 0; i < iterations; i++) {
        const struct seed *seed = &seeds[below(seed_count)];
        size_t rounds = 1 + below(4);

        size = seed->size;
        memcpy(input, seed->data, size);
        while (rounds-- > 0) size = mutate(input, size);
        one_input(input, size);
    }
    printf("%lu inputs, %lu seeds\n", iterations, (unsigned long)seed_count);
    for (i = 0; i < seed_count; i++) free(seeds[i].data);
    return 0;
}

#endif
