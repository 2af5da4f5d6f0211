/* The permutations of the position-based transposition. */
#include "block/tables.h"

#include "common/bytes.h"

void dcx_make_permutations(dcx_tables *tables, const uint8_t *keystream) {
    for (unsigned i = 0; i < DCX_CELLS; i++) tables->pi[i] = (uint16_t)i;
    for (unsigned i = DCX_CELLS - 1; i > 0; i--, keystream += 4) {
        unsigned j = (unsigned)((uint64_t)dcx_load32le(keystream) * (i + 1) >> 32);
        uint16_t swap = tables->pi[i];
        tables->pi[i] = tables->pi[j];
        tables->pi[j] = swap;
    }
    for (unsigned i = 0; i < DCX_CELLS; i++) tables->pi[DCX_CELLS + i] = tables->pi[i];
    for (unsigned m = 0; m < 16; m++) {
        uint8_t *mask = tables->mask[m];
        for (unsigned i = 0; i < 16; i++) mask[i] = (uint8_t)i;
        for (unsigned i = 15; i > 0; i--, keystream += 4) {
            unsigned j = (unsigned)((uint64_t)dcx_load32le(keystream) * (i + 1) >> 32);
            uint8_t swap = mask[i];
            mask[i] = mask[j];
            mask[j] = swap;
        }
        for (unsigned i = 0; i < 16; i++) tables->inverse[m][mask[i]] = (uint8_t)i;
    }
}
