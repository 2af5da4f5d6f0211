/* The scanner: a loop over element headers, with a stack for sequences of
 * undefined length. Values are skipped, never read, but for the few that
 * steer the scan or that the caller asked for.
 *
 * A call that lacks bytes leaves s->pos at the header it could not finish and
 * decides nothing, so that what is found never depends on the windows. */
#include <string.h>

#include "internal.h"

enum { GO_ON = -1 }; /* beside the public statuses */

/* s->flags: the part of the file that is being read, and what is known of it */
enum {
    PART_START = 0,
    PART_META = 1,
    PART_COMMAND = 2,
    PART_DATASET = 3,
    PART_MASK = 3,
    ENTERED = 1 << 2, /* the encoding of this part has been decided */
    IMPLICIT = 1 << 3,
    BIG = 1 << 4,
    SYNTAX_SEEN = 1 << 5,
    SYNTAX_SHIFT = 6 /* three bits of dcx_scan_syntax */
};
#define SYNTAX_MASK (7u << SYNTAX_SHIFT)

/* s->kind[]: one sequence of undefined length, and its item if one is open */
enum {
    IN_ITEM = 1,
    ITEM_IS_NEW = 2, /* its encoding is not yet decided */
    ITEM_IMPLICIT = 4,
    SEQUENCE_IMPLICIT = 8, /* the data set around the sequence is */
    SEQUENCE_BIG = 16
};

void dcx_scan_init(dcx_scan *s) {
    memset(s, 0, sizeof *s);
    s->frames = 1;
    s->need = 132;
}

/* The n bytes at s->pos are not all there: ask for them, or conclude. */
static int lacking(dcx_scan *s, const struct dcx_window *w, uint64_t n) {
    uint64_t i;

    if (s->pos > UINT64_MAX - n) return DCX_SCAN_BROKEN;
    s->need = s->pos + n;
    if (!w->last) return DCX_SCAN_NEED;
    if (s->depth != 0 || s->pos < w->base || s->pos > w->end) return DCX_SCAN_BROKEN;
    if (w->end - s->pos >= 8) return DCX_SCAN_BROKEN;
    for (i = s->pos; i < w->end; i++)
        if (w->buf[(size_t)(i - w->base)] != 0) return DCX_SCAN_BROKEN;
    return DCX_SCAN_END;
}

/* Find the preamble, or decide whether the file is DICOM without one. */
static int begin(dcx_scan *s, const struct dcx_window *w) {
    const uint8_t *p = dcx_at(w, 0, 132);
    uint64_t n = DCX_GUESS_BYTES;

    if (p == NULL && !w->last) {
        s->need = 132;
        return DCX_SCAN_NEED;
    }
    if (p != NULL && memcmp(p + 128, "DICM", 4) == 0) {
        s->has_preamble = 1;
        s->pos = 132;
    } else {
        if (dcx_at(w, 0, n) == NULL) {
            if (!w->last) {
                s->need = n;
                return DCX_SCAN_NEED;
            }
            n = w->base == 0 ? w->end : 0;
        }
        if (n == 0 || !dcx_scan_plausible(w->buf, (size_t)n, w->last && n == w->end))
            return DCX_SCAN_FOREIGN;
    }
    s->flags = PART_META;
    return GO_ON;
}

/* Decide how the part that begins at s->pos is encoded. The first element
 * outweighs what the file declares, as in pydicom. */
static int enter(dcx_scan *s, const struct dcx_window *w) {
    unsigned part = s->flags & PART_MASK, encoding = 0;
    unsigned syntax = (s->flags & SYNTAX_MASK) >> SYNTAX_SHIFT;
    const uint8_t *p = dcx_at(w, s->pos, 8);

    if (p == NULL) return lacking(s, w, 8);
    if (part == PART_META) {
        s->has_meta = dcx_u16(p, 0) == 0x0002;
    } else if (syntax & DCX_SYNTAX_DEFLATED) {
        s->dataset = s->pos;
        return DCX_SCAN_DEFLATED;
    } else if (part == PART_DATASET) {
        if (s->flags & SYNTAX_SEEN) {
            encoding = syntax & DCX_SYNTAX_BIG ? BIG : 0;
        } else if (dcx_vr_class_of(p + 4) >= DCX_VR_SHORT) {
            /* A big endian group below 0100 looks like one of 0400 or more. */
            encoding = dcx_u16(p, 0) >= 0x0400 ? BIG : 0;
        }
    }
    if (!dcx_is_capital(p + 4)) encoding |= IMPLICIT;
    if (part == PART_DATASET) {
        s->dataset = s->pos;
        s->implicit_vr = (encoding & IMPLICIT) != 0;
        s->big_endian = (encoding & BIG) != 0;
    }
    s->flags = (s->flags & ~(unsigned)(IMPLICIT | BIG)) | encoding | ENTERED;
    return GO_ON;
}

/* A header inside a sequence of undefined length, between its items. */
static int between_items(dcx_scan *s, const uint8_t *p) {
    uint8_t *kind = &s->kind[s->depth - 1];
    int big = (*kind & SEQUENCE_BIG) != 0;
    uint32_t tag = dcx_tag(p, big), length;

    /* An element with VR UN holds implicit VR little endian even in a big
     * endian data set (PS3.5 6.2.2). */
    if (big && (dcx_tag(p, 0) == TAG_ITEM || dcx_tag(p, 0) == TAG_SEQUENCE_END)) {
        *kind = SEQUENCE_IMPLICIT;
        big = 0;
        tag = dcx_tag(p, 0);
    }
    length = dcx_u32(p + 4, big);
    s->pos += 8;
    if (tag == TAG_SEQUENCE_END) {
        s->depth--;
    } else if (tag == TAG_ITEM && length == UNDEFINED_32) {
        *kind |= IN_ITEM | ITEM_IS_NEW;
    } else if (tag == TAG_ITEM || tag == TAG_ITEM_END) {
        /* Some writers close items of defined length with a delimiter too. */
        if (length == UNDEFINED_32 || length > UINT64_MAX - s->pos) return DCX_SCAN_BROKEN;
        s->pos += length;
    } else {
        return DCX_SCAN_BROKEN;
    }
    return GO_ON;
}

/* One element header, decoded. */
struct header {
    uint32_t tag, length;
    unsigned size; /* bytes up to the value */
    uint8_t vr[2]; /* zeros in implicit VR */
};

/* Decode the header at p, of which `there` >= 8 bytes can be read. False: it
 * has 12 bytes and they are not all there. */
static inline int decode(const uint8_t *p, uint64_t there, int implicit, int big,
                         struct header *h) {
    h->tag = dcx_tag(p, big);
    h->size = 8;
    h->vr[0] = h->vr[1] = 0;
    if (implicit || dcx_vr_class_of(p + 4) == DCX_VR_NONE) {
        h->length = dcx_u32(p + 4, big);
        return 1;
    }
    h->vr[0] = p[4];
    h->vr[1] = p[5];
    if (dcx_vr_class_of(p + 4) != DCX_VR_LONG) {
        h->length = dcx_u16(p + 6, big);
        return 1;
    }
    if (there < 12) return 0;
    h->length = dcx_u32(p + 8, big);
    h->size = 12;
    return 1;
}

/* Step over the value, or into it if its length is undefined. */
static inline int step(dcx_scan *s, const struct header *h, int implicit, int big) {
    if (s->pos > UINT64_MAX - h->size - h->length) return DCX_SCAN_BROKEN;
    s->pos += h->size;
    if (h->length != UNDEFINED_32) {
        s->pos += h->length;
        return GO_ON;
    }
    if (s->depth == DCX_SCAN_DEPTH) return DCX_SCAN_BROKEN;
    s->kind[s->depth++] = (uint8_t)((implicit ? SEQUENCE_IMPLICIT : 0) | (big ? SEQUENCE_BIG : 0));
    return GO_ON;
}

/* Walk what lies inside sequences of undefined length. GO_ON: back at the top
 * level. Encapsulated pixel data of an icon is such a sequence, too: items up
 * to a delimiter. */
static int nested(dcx_scan *s, const struct dcx_window *w) {
    while (s->depth > 0) {
        const uint8_t *p = dcx_at(w, s->pos, 8);
        uint8_t *kind = &s->kind[s->depth - 1];
        struct header h;
        int implicit, big, status;

        if (p == NULL) return lacking(s, w, 8);
        if (!(*kind & IN_ITEM)) {
            status = between_items(s, p);
            if (status != GO_ON) return status;
            continue;
        }
        if (*kind & ITEM_IS_NEW) {
            *kind &= (uint8_t)~(ITEM_IS_NEW | ITEM_IMPLICIT);
            if ((*kind & SEQUENCE_IMPLICIT) || !dcx_is_capital(p + 4)) *kind |= ITEM_IMPLICIT;
        }
        implicit = (*kind & ITEM_IMPLICIT) != 0;
        big = (*kind & SEQUENCE_BIG) != 0;
        if (dcx_tag(p, big) == TAG_ITEM_END) {
            *kind &= (uint8_t)~IN_ITEM;
            s->pos += 8;
            continue;
        }
        if (!decode(p, w->end - s->pos, implicit, big, &h)) return lacking(s, w, 12);
        status = step(s, &h, implicit, big);
        if (status != GO_ON) return status;
    }
    return GO_ON;
}

/* Read the value of an element that the scan depends on or reports as a
 * number. s->pos still stands at the element's header. */
static int read_value(dcx_scan *s, const struct dcx_window *w, const dcx_scan_attribute *a,
                      int big) {
    const uint8_t *value;
    uint64_t n = a->length;
    unsigned syntax;

    if (n > DCX_VALUE_BYTES) /* no UID and no number is as long */
        n = 0;
    value = dcx_at(w, a->offset, n);
    if (value == NULL) return w->last ? DCX_SCAN_BROKEN : lacking(s, w, a->offset - s->pos + n);
    if (a->tag == TAG_TRANSFER_SYNTAX) {
        syntax = dcx_scan_syntax(value, (size_t)n);
        s->flags = (s->flags & ~SYNTAX_MASK) | SYNTAX_SEEN | syntax << SYNTAX_SHIFT;
    } else {
        dcx_scan_number(s, a->tag, a->vr, value, (size_t)n, big);
    }
    return GO_ON;
}

static int found_pixels(dcx_scan *s, const struct header *h) {
    s->pixel_tag = h->tag;
    s->pixel_vr[0] = h->vr[0];
    s->pixel_vr[1] = h->vr[1];
    s->pixel_element = s->pos;
    s->pixel_value = s->pos + h->size;
    s->pixel_length = h->length == UNDEFINED_32 ? DCX_SCAN_UNDEFINED : h->length;
    return DCX_SCAN_PIXELS;
}

/* Note where an element of dcx_scan_tags lies, and read it if it is a number. */
static int found(dcx_scan *s, const struct dcx_window *w, const struct header *h, size_t index,
                 int big) {
    dcx_scan_attribute *a = &s->attributes[index];

    a->offset = s->pos + h->size;
    a->length = h->length == UNDEFINED_32 ? DCX_SCAN_UNDEFINED : h->length;
    a->tag = h->tag;
    a->vr[0] = h->vr[0];
    a->vr[1] = h->vr[1];
    a->present = 1;
    if (h->tag == TAG_TRANSFER_SYNTAX || dcx_is_numeric(h->tag)) return read_value(s, w, a, big);
    return GO_ON;
}

/* Walk the elements of one part. GO_ON: an element of the next part stands at
 * s->pos. */
static int elements(dcx_scan *s, const struct dcx_window *w) {
    const unsigned part = s->flags & PART_MASK;
    const int implicit = (s->flags & IMPLICIT) != 0, big = (s->flags & BIG) != 0;
    const uint32_t group_of_part = part == PART_META ? 0x0002 : 0x0000;
    const uint64_t base = w->base, end = w->end;
    const uint8_t *const buf = w->buf;
    size_t count, cursor = 0;
    const uint32_t *tags = dcx_scan_tags(&count);
    uint64_t pos = s->pos; /* s->pos is written only where somebody looks */

    for (;;) {
        const uint8_t *p;
        struct header h;
        int status;

        if (s->depth > 0) {
            status = nested(s, w);
            if (status != GO_ON) return status;
            pos = s->pos;
        }
        if (pos < base || pos > end || end - pos < 8) {
            s->pos = pos;
            return lacking(s, w, 8);
        }
        p = buf + (size_t)(pos - base);
        if (part != PART_DATASET && dcx_u16(p, 0) != group_of_part) {
            s->pos = pos;
            return GO_ON;
        }
        if (!decode(p, end - pos, implicit, big, &h)) {
            s->pos = pos;
            return lacking(s, w, 12);
        }
        /* Out of order: PS3.5 7.1 forbids it, files do it. */
        if (cursor > 0 && h.tag <= tags[cursor - 1]) cursor = 0;
        while (cursor < count && tags[cursor] < h.tag) cursor++;
        if (cursor < count && tags[cursor] != h.tag && h.length != UNDEFINED_32 &&
            h.length <= end - pos - h.size) {
            pos += h.size + h.length; /* most elements: nothing to see */
            continue;
        }

        s->pos = pos;
        if (h.tag == TAG_ITEM_END) return DCX_SCAN_BROKEN; /* pydicom, too, reads no further */
        if (part != PART_DATASET || h.tag >> 16 != 0x0002) {
            if (h.tag == TAG_PIXELS || h.tag == TAG_FLOAT_PIXELS || h.tag == TAG_DOUBLE_PIXELS)
                return found_pixels(s, &h);
            if (cursor < count && tags[cursor] == h.tag) {
                status = found(s, w, &h, cursor, big);
                if (status != GO_ON) return status;
            }
        }
        status = step(s, &h, implicit, big);
        if (status != GO_ON) return status;
        pos = s->pos;
    }
}

int dcx_scan_feed(dcx_scan *s, const uint8_t *buf, uint64_t base, size_t len, int last) {
    struct dcx_window w;
    int status = s->status == DCX_SCAN_NEED ? GO_ON : s->status;

    if (base > UINT64_MAX - len) status = DCX_SCAN_BROKEN;
    w.buf = buf;
    w.base = base;
    w.end = base + len;
    w.last = last;

    while (status == GO_ON) {
        if ((s->flags & PART_MASK) == PART_START) {
            status = begin(s, &w);
        } else if (!(s->flags & ENTERED)) {
            status = enter(s, &w);
        } else {
            status = elements(s, &w);
            if (status == GO_ON) /* never from the data set, the last part */
                s->flags = (s->flags + 1) & ~(unsigned)ENTERED;
        }
    }
    if (status == DCX_SCAN_END && (s->flags & PART_MASK) != PART_DATASET)
        s->dataset = s->pos; /* an empty one */
    s->status = status;
    return status;
}
