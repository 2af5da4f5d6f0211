/* What the files of the scanner share: the window, byte loads, VR classes. */
#ifndef DCX_SCAN_INTERNAL_H
#define DCX_SCAN_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "dicomcrypt_scan.h"

#define TAG_TRANSFER_SYNTAX 0x00020010u
#define TAG_PHOTOMETRIC 0x00280004u
#define TAG_NUMBER_OF_FRAMES 0x00280008u
#define TAG_FLOAT_PIXELS 0x7FE00008u
#define TAG_DOUBLE_PIXELS 0x7FE00009u
#define TAG_PIXELS 0x7FE00010u
#define TAG_ITEM 0xFFFEE000u
#define TAG_ITEM_END 0xFFFEE00Du
#define TAG_SEQUENCE_END 0xFFFEE0DDu

#define UNDEFINED_32 0xFFFFFFFFu

/* Bytes that are looked at before a file without preamble counts as DICOM. */
#define DCX_GUESS_BYTES 4096u

/* Longest value that is read: a UID has 64 bytes, an IS number 12. */
#define DCX_VALUE_BYTES 64u

/* Bytes [base, end) of the file. */
struct dcx_window {
    const uint8_t *buf;
    uint64_t base, end;
    int last;
};

/* The n bytes at file offset pos, or NULL if they are not all in the window. */
static inline const uint8_t *dcx_at(const struct dcx_window *w, uint64_t pos, uint64_t n) {
    if (pos < w->base || pos > w->end || w->end - pos < n) return NULL;
    return w->buf + (size_t)(pos - w->base);
}

static inline uint32_t dcx_u16(const uint8_t *p, int big) {
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static inline uint32_t dcx_u32(const uint8_t *p, int big) {
    if (big) return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static inline uint32_t dcx_tag(const uint8_t *p, int big) {
    uint32_t both = dcx_u32(p, big);
    return big ? both : both << 16 | both >> 16;
}

/* Two capital letters: how a data set betrays that it is explicit VR. */
static inline int dcx_is_capital(const uint8_t *vr) {
    return vr[0] >= 'A' && vr[0] <= 'Z' && vr[1] >= 'A' && vr[1] <= 'Z';
}

enum dcx_vr_class {
    DCX_VR_NONE,    /* not a VR: the header is taken as implicit VR */
    DCX_VR_UNKNOWN, /* not in the standard, read with a 16-bit length */
    DCX_VR_SHORT,   /* 16-bit length (PS3.5 table 7.1-2) */
    DCX_VR_LONG     /* two reserved bytes, 32-bit length (table 7.1-1) */
};

/* One mask per first letter, one bit per second letter. */
extern const uint32_t dcx_scan_vr_short[26];
extern const uint32_t dcx_scan_vr_long[26];

static inline enum dcx_vr_class dcx_vr_class_of(const uint8_t *vr) {
    if (dcx_is_capital(vr)) {
        uint32_t bit = (uint32_t)1 << (vr[1] - 'A');
        if (dcx_scan_vr_short[vr[0] - 'A'] & bit) return DCX_VR_SHORT;
        if (dcx_scan_vr_long[vr[0] - 'A'] & bit) return DCX_VR_LONG;
        return DCX_VR_UNKNOWN;
    }
    /* pydicom compares both bytes as one string with "AA" and "ZZ", so that
     * any second byte passes between the two. */
    if (vr[0] > 'A' && vr[0] < 'Z') return DCX_VR_UNKNOWN;
    if ((vr[0] == 'A' && vr[1] > 'Z') || (vr[0] == 'Z' && vr[1] < 'A')) return DCX_VR_UNKNOWN;
    return DCX_VR_NONE;
}

/* Whether n bytes from the start of a file without preamble look like DICOM;
 * `whole` says that the file ends with them. */
int dcx_scan_plausible(const uint8_t *p, size_t n, int whole);

/* Flags for a transfer syntax UID with its padding. */
enum { DCX_SYNTAX_IMPLICIT = 1, DCX_SYNTAX_BIG = 2, DCX_SYNTAX_DEFLATED = 4 };
unsigned dcx_scan_syntax(const uint8_t *uid, size_t n);

/* Whether the value of the element goes into a number of dcx_scan. */
static inline int dcx_is_numeric(uint32_t tag) {
    return tag >> 16 == 0x0028u && tag != TAG_PHOTOMETRIC;
}

/* Decode the n bytes of an element for which dcx_is_numeric holds. */
void dcx_scan_number(dcx_scan *s, uint32_t tag, const uint8_t *vr, const uint8_t *value, size_t n,
                     int big);

#endif
