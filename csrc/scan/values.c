/* Tables and values: the tags that are reported, the VRs, transfer syntaxes,
 * numbers of the image pixel module, and what counts as DICOM at all. */
#include <string.h>

#include "internal.h"

#define LETTER(c) ((uint32_t)1 << ((c) - 'A'))

/* PS3.5 tables 7.1-1 and 7.1-2. */
const uint32_t dcx_scan_vr_short[26] = {
    ['A' - 'A'] = LETTER('E') | LETTER('S') | LETTER('T'),
    ['C' - 'A'] = LETTER('S'),
    ['D' - 'A'] = LETTER('A') | LETTER('S') | LETTER('T'),
    ['F' - 'A'] = LETTER('L') | LETTER('D'),
    ['I' - 'A'] = LETTER('S'),
    ['L' - 'A'] = LETTER('O') | LETTER('T'),
    ['P' - 'A'] = LETTER('N'),
    ['S' - 'A'] = LETTER('H') | LETTER('L') | LETTER('S') | LETTER('T'),
    ['T' - 'A'] = LETTER('M'),
    ['U' - 'A'] = LETTER('I') | LETTER('L') | LETTER('S'),
};
const uint32_t dcx_scan_vr_long[26] = {
    ['O' - 'A'] = LETTER('B') | LETTER('D') | LETTER('F') | LETTER('L') | LETTER('V') | LETTER('W'),
    ['S' - 'A'] = LETTER('Q') | LETTER('V'),
    ['U' - 'A'] = LETTER('C') | LETTER('N') | LETTER('R') | LETTER('T') | LETTER('V'),
};

static const uint32_t tags[] = {
    0x00020003, 0x00020010,                                     /* file meta */
    0x00080005, 0x00080008, 0x00080016, 0x00080018,             /* character set, type, SOP */
    0x00080020, 0x00080021, 0x00080022, 0x00080023,             /* dates */
    0x00080030, 0x00080031,                                     /* times */
    0x00080050, 0x00080060, 0x00080070, 0x00080080, 0x00080090, /* accession .. physician */
    0x00081010, 0x00081030, 0x0008103E,                         /* station, descriptions */
    0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040, /* patient */
    0x00101010, 0x00180015,                                     /* age, body part */
    0x0020000D, 0x0020000E, 0x00200010, 0x00200011, 0x00200013, /* study, series, instance */
    0x00280002, 0x00280004, 0x00280006, 0x00280008,             /* image pixel module */
    0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102,
    0x00280103, 0x7FE00001, 0x7FE00002, /* extended offset table */
};

/* Fails to compile if the tags outgrow the room for them. */
typedef char dcx_tags_fit[sizeof tags / sizeof tags[0] <= DCX_SCAN_ATTRIBUTES ? 1 : -1];

const uint32_t *dcx_scan_tags(size_t *count) {
    *count = sizeof tags / sizeof tags[0];
    return tags;
}

static int uid_is(const uint8_t *uid, size_t n, const char *text) {
    return n == strlen(text) && memcmp(uid, text, n) == 0;
}

unsigned dcx_scan_syntax(const uint8_t *uid, size_t n) {
    while (n > 0 && (uid[n - 1] == 0 || uid[n - 1] == ' ')) n--;
    if (uid_is(uid, n, "1.2.840.10008.1.2")) return DCX_SYNTAX_IMPLICIT;
    if (uid_is(uid, n, "1.2.840.10008.1.2.2")) return DCX_SYNTAX_BIG;
    if (uid_is(uid, n, "1.2.840.10008.1.2.1.99") || uid_is(uid, n, "1.2.840.10008.1.2.4.95") ||
        uid_is(uid, n, "1.2.840.10008.1.2.4.205"))
        return DCX_SYNTAX_DEFLATED;
    return 0; /* PS3.5 A.4: everything else is explicit VR little endian */
}

static int is_padding(uint8_t c) { return c == 0 || c == ' ' || (c >= '\t' && c <= '\r'); }

/* An integer string (PS3.5 6.2, IS) above zero, else 0. Like pydicom, "2.0"
 * is an integer. */
static uint64_t integer_string(const uint8_t *text, size_t n) {
    uint64_t number = 0;
    size_t i = 0, digits;

    while (n > 0 && is_padding(text[n - 1])) n--;
    while (i < n && is_padding(text[i])) i++;
    if (i < n && text[i] == '+') i++;
    for (digits = i; i < n && text[i] >= '0' && text[i] <= '9'; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (number > (UINT64_MAX - digit) / 10) return 0;
        number = number * 10 + digit;
    }
    if (i == digits) return 0;
    if (i < n && text[i] == '.')
        for (i++; i < n && text[i] == '0'; i++);
    return i == n ? number : 0;
}

void dcx_scan_number(dcx_scan *s, uint32_t tag, const uint8_t *vr, const uint8_t *value, size_t n,
                     int big) {
    uint64_t number = 0;

    /* The VR decides if there is one; the standard has US, and IS for frames. */
    if ((vr[0] == 'I' || vr[0] == 'D') && vr[1] == 'S')
        number = integer_string(value, n);
    else if (vr[0] == 0 && tag == TAG_NUMBER_OF_FRAMES)
        number = integer_string(value, n);
    else if (vr[0] == 'U' && vr[1] == 'N' && tag == TAG_NUMBER_OF_FRAMES)
        number = integer_string(value, n);
    else if ((vr[0] == 'U' || vr[0] == 'S') && vr[1] == 'L')
        number = n >= 4 ? dcx_u32(value, big) : 0;
    else
        number = n >= 2 ? dcx_u16(value, big) : 0;

    switch (tag) {
    case TAG_NUMBER_OF_FRAMES: s->frames = number > 0 ? number : 1; break;
    case 0x00280002: s->samples = (uint32_t)number; break;
    case 0x00280006: s->planar = (uint32_t)number; break;
    case 0x00280010: s->rows = (uint32_t)number; break;
    case 0x00280011: s->columns = (uint32_t)number; break;
    case 0x00280100: s->bits_allocated = (uint32_t)number; break;
    case 0x00280101: s->bits_stored = (uint32_t)number; break;
    case 0x00280102: s->high_bit = (uint32_t)number; break;
    case 0x00280103: s->pixel_representation = (uint32_t)number; break;
    default: break;
    }
}

/* Whether the first elements, read in one encoding, ascend and stay inside
 * the file. Only groups that a file can begin with are let in: file meta,
 * directory, identification. */
static int follows(const uint8_t *p, size_t n, int whole, int implicit, int big) {
    uint32_t previous = 0;
    size_t at = 0;
    int count;

    for (count = 0; count < 4; count++) {
        uint32_t tag, group, length;
        size_t header = 8;

        if (whole && at == n) return count > 0;
        if (n - at < 8) return !whole && count > 0;
        tag = dcx_tag(p + at, big);
        group = tag >> 16;
        if (count == 0 && group != 0x0002 && group != 0x0004 && group != 0x0008) return 0;
        if (count > 0 && tag <= previous) return 0;
        if (count > 0 && previous >> 16 == 0x0002 && group != 0x0002)
            return group < 0x0100 || (group & 0xFF) == 0; /* in another encoding, perhaps */
        if (implicit) {
            length = dcx_u32(p + at + 4, big);
        } else {
            switch (dcx_vr_class_of(p + at + 4)) {
            case DCX_VR_SHORT: length = dcx_u16(p + at + 6, big); break;
            case DCX_VR_LONG:
                if (n - at < 12) return !whole && count > 0;
                length = dcx_u32(p + at + 8, big);
                header = 12;
                break;
            default: return 0;
            }
        }
        if (length == UNDEFINED_32 || tag == TAG_PIXELS) return count > 0;
        /* Nothing as long as this stands among the first elements, and a group
         * length is four bytes long. */
        if ((implicit && length > 0xFFFF) || ((tag & 0xFFFF) == 0 && length != 4)) return 0;
        if (length > n - at - header) return !whole && (count > 0 || !implicit);
        at += header + length;
        previous = tag;
    }
    return 1;
}

int dcx_scan_plausible(const uint8_t *p, size_t n, int whole) {
    return follows(p, n, whole, 0, 0) || follows(p, n, whole, 1, 0) || follows(p, n, whole, 0, 1);
}
