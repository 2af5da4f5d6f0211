/* Items of encapsulated pixel data (PS3.5 A.4). */
#include "internal.h"

int dcx_scan_items(const uint8_t *buf, uint64_t base, size_t len, int last, int big_endian,
                   uint64_t *next, dcx_scan_item *items, size_t capacity, size_t *count) {
    struct dcx_window w;
    uint64_t pos = *next;
    int status;

    *count = 0;
    if (base > UINT64_MAX - len) return DCX_ITEMS_IRREGULAR;
    w.buf = buf;
    w.base = base;
    w.end = base + len;
    w.last = last;

    for (;;) {
        const uint8_t *p;
        uint32_t tag, length;

        if (*count == capacity) {
            status = DCX_ITEMS_FULL;
            break;
        }
        p = dcx_at(&w, pos, 8);
        if (p == NULL) {
            status = last ? DCX_ITEMS_IRREGULAR : DCX_ITEMS_NEED;
            break;
        }
        tag = dcx_tag(p, big_endian);
        length = dcx_u32(p + 4, big_endian);
        if (tag == TAG_SEQUENCE_END && length == 0) {
            pos += 8;
            status = DCX_ITEMS_DELIMITER;
            break;
        }
        if (tag != TAG_ITEM || length == UNDEFINED_32 || (last && length > w.end - pos - 8) ||
            length > UINT64_MAX - pos - 8) {
            status = DCX_ITEMS_IRREGULAR;
            break;
        }
        items[*count].offset = pos;
        items[*count].length = length;
        ++*count;
        pos += 8 + (uint64_t)length;
    }
    *next = pos;
    return status;
}
