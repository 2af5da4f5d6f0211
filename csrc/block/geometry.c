/* Blocks of a unit, and which of their tiles a window of the unit covers. */
#include "dicomcrypt.h"

void dcx_unit_blocks(uint64_t rows, uint64_t row_bytes, uint64_t split, uint64_t length,
                     dcx_block blocks[4]) {
    if (rows == 0) {
        /* length <= 4 MiB, so length * k cannot overflow */
        for (unsigned k = 0; k < 4; k++) {
            uint64_t from = length * k / 4, to = length * (k + 1) / 4;
            blocks[k] = (dcx_block){from, to > from ? to - from : 1, 1, to - from};
            blocks[k].pitch = blocks[k].width;
        }
        return;
    }
    uint64_t upper = rows - rows / 2;
    uint64_t full = length / row_bytes, rest = length % row_bytes;
    for (unsigned k = 0; k < 4; k++) {
        uint64_t first_row = k < 2 ? 0 : upper, end_row = k < 2 ? upper : rows;
        uint64_t column = k & 1 ? split : 0;
        uint64_t width = k & 1 ? row_bytes - split : split;
        uint64_t whole = full < end_row ? full : end_row;
        uint64_t bytes = whole > first_row ? (whole - first_row) * width : 0;
        if (full >= first_row && full < end_row && rest > column)
            bytes += rest - column < width ? rest - column : width;
        blocks[k] =
            (dcx_block){first_row * row_bytes + column, width ? width : 1, row_bytes, bytes};
    }
}

uint64_t dcx_block_tiles(const dcx_block *block) {
    return block->length / DCX_TILE + (block->length % DCX_TILE != 0);
}

uint64_t dcx_block_offset(const dcx_block *block, uint64_t index) {
    return block->start + index / block->width * block->pitch + index % block->width;
}

uint64_t dcx_block_ready(const dcx_block *block, uint64_t tile, uint64_t end) {
    if (end <= block->start) return 0;
    uint64_t rows = (end - block->start) / block->pitch;
    uint64_t column = (end - block->start) % block->pitch;
    uint64_t bytes = rows * block->width + (column < block->width ? column : block->width);
    uint64_t tiles = bytes >= block->length ? dcx_block_tiles(block) : bytes / DCX_TILE;
    return tiles > tile ? tiles - tile : 0;
}

int dcx_block_method(const dcx_block *block, unsigned sample_bytes, const uint8_t *src,
                     uint64_t src_offset) {
    unsigned sum = 0;
    for (unsigned i = 0; i < sample_bytes && i < block->length; i++)
        sum += src[dcx_block_offset(block, i) - src_offset];
    return (int)(sum % 3);
}
