/* The DICOM Part 10 scanner: where the pixel data of a file lies, without
 * copying, without allocating, and resumable, so that a file of any size is
 * scanned through a small window.
 *
 * Source: DICOM PS3.5 section 7 and annex A (encoding), PS3.10 section 7
 * (file format), PS3.3 C.7.6.3 (image pixel). Behaviour on files that break
 * the standard follows what pydicom reads, but for: a value, header or sequence
 * cut off by the end of the file (here broken, unless it is pixel data);
 * something other than an item inside a sequence of undefined length (broken;
 * pydicom takes it for an item, or searches for the next delimiter); files
 * without preamble that do not begin with group 0002, 0004 or 0008 (foreign).
 *
 * No function reads outside buf[0 .. len). No mutable globals; any number of
 * scans may run in parallel. */
#ifndef DICOMCRYPT_SCAN_H
#define DICOMCRYPT_SCAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DCX_SCAN_UNDEFINED UINT64_MAX /* a length given as FFFFFFFF */
#define DCX_SCAN_DEPTH 64             /* sequences of undefined length within each other */
#define DCX_SCAN_ATTRIBUTES 48        /* room for identifying elements */

enum dcx_scan_status {
    DCX_SCAN_NEED = 0,     /* wants bytes [pos, need) of the file: call again */
    DCX_SCAN_PIXELS = 1,   /* found pixel data; the results are complete */
    DCX_SCAN_END = 2,      /* the data set ended at end of file, no pixel data; up to
                              seven zero bytes behind the last element are padding */
    DCX_SCAN_DEFLATED = 3, /* deflated transfer syntax: cannot be followed */
    DCX_SCAN_FOREIGN = 4,  /* not DICOM as far as can be told */
    DCX_SCAN_BROKEN = 5    /* DICOM at first, then impossible to follow */
};

/* An element found at the top level of the data set or in the file meta
 * group. `length` is DCX_SCAN_UNDEFINED for undefined length. */
typedef struct {
    uint64_t offset; /* of the value, from the start of the file */
    uint64_t length;
    uint32_t tag;  /* group << 16 | element */
    uint8_t vr[2]; /* as in the file; zeros in implicit VR */
    uint8_t present;
    uint8_t reserved;
} dcx_scan_attribute;

typedef struct {
    /* progress: owned by the scanner, readable by the caller */
    uint64_t pos;  /* the file offset it looks at next */
    uint64_t need; /* with DCX_SCAN_NEED: end of the bytes it wants */
    int32_t status;

    /* results */
    uint8_t has_preamble; /* 128 bytes and DICM */
    uint8_t has_meta;     /* a file meta group */
    uint8_t implicit_vr;  /* of the data set as it is encoded, not as declared */
    uint8_t big_endian;
    uint64_t dataset;       /* where the data set begins */
    uint32_t pixel_tag;     /* 7FE00010, 7FE00008 (Float) or 7FE00009 (Double) */
    uint8_t pixel_vr[2];    /* zeros in implicit VR */
    uint64_t pixel_element; /* offset of the pixel data element's tag */
    uint64_t pixel_value;   /* offset of its value */
    uint64_t pixel_length;  /* DCX_SCAN_UNDEFINED: encapsulated */

    /* the image pixel module, as far as it is at top level; zero if absent */
    uint32_t rows, columns, samples, bits_allocated, bits_stored, high_bit;
    uint32_t pixel_representation, planar;
    uint64_t frames; /* Number of Frames (IS); 1 if absent or not a number above zero */

    dcx_scan_attribute attributes[DCX_SCAN_ATTRIBUTES]; /* see dcx_scan_tags */

    /* private */
    uint32_t depth;
    uint32_t flags;
    uint8_t kind[DCX_SCAN_DEPTH]; /* of the sequences of undefined length now open */
} dcx_scan;

/* The tags whose places go into `attributes`, ascending, at the same index;
 * *count receives how many there are (at most DCX_SCAN_ATTRIBUTES). */
const uint32_t *dcx_scan_tags(size_t *count);

/* Begin a scan of a new file. */
void dcx_scan_init(dcx_scan *s);

/* Go on with buf = bytes [base, base + len) of the file; `last` says that the
 * file ends there, at base + len. Windows lie inside the file: at its end give
 * an empty one (base = file size, len = 0; buf may then be NULL), however far
 * s->pos is beyond. Returns the status, which is also left in s->status; once
 * it is not DCX_SCAN_NEED, further calls change nothing.
 * DCX_SCAN_NEED: the scanner needs bytes [s->pos, s->need) in one window;
 * s->need - s->pos is at most 4096; s->pos may lie behind the window (a long
 * value is skipped, never asked for). With `last` set, NEED is never
 * returned. A skip that would pass the end of the file is found out when the
 * caller comes with `last`: DCX_SCAN_BROKEN, except for pixel data itself,
 * whose length is reported as declared. */
int dcx_scan_feed(dcx_scan *s, const uint8_t *buf, uint64_t base, size_t len, int last);

/* One item of encapsulated pixel data (PS3.5 A.4). The delimiter is not
 * written as an item; its header stands at *next - 8. */
typedef struct {
    uint64_t offset; /* of the item's header (8 bytes), from the start of the file */
    uint64_t length; /* of its value */
} dcx_scan_item;

enum dcx_items_status {
    DCX_ITEMS_NEED = 0,      /* the next header is not wholly in the window */
    DCX_ITEMS_FULL = 1,      /* `capacity` items written, more may follow */
    DCX_ITEMS_DELIMITER = 2, /* sequence delimiter read: *next is behind it */
    DCX_ITEMS_IRREGULAR = 3  /* something else stands at *next, or the file ends */
};

/* Walk items from file offset *next through buf = bytes [base, base + len);
 * `last` as above. Writes up to `capacity` items to `items`, their number to
 * *count, and the offset of the next header to *next (which may lie behind
 * the window). An item with undefined length, a delimiter with a length other
 * than zero, an item whose value passes the end of the file when `last` is
 * set, and any other tag are irregular: *next then stands at their header, or,
 * if an earlier window without `last` let the item pass, behind the end of the
 * file. Basic Offset Table first, then the fragments; no distinction is made
 * here. */
int dcx_scan_items(const uint8_t *buf, uint64_t base, size_t len, int last, int big_endian,
                   uint64_t *next, dcx_scan_item *items, size_t capacity, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
