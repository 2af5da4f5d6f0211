/* The block layer, version 1 (docs/spec/block-layer-v1.md): everything that
 * Cython sees of it.
 *
 * Nothing here allocates, keeps state between calls or holds mutable globals;
 * any number of threads may call at once. A kernel is named by its id, which
 * is an argument. */
#ifndef DICOMCRYPT_H
#define DICOMCRYPT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DCX_TILE 16384u          /* bytes that one transposition spans */
#define DCX_CELLS 1024u          /* cells of 16 bytes in a tile */
#define DCX_LINEAR_UNIT 4194304u /* bytes of a unit in a linear run */
#define DCX_TABLE_WORDS 1263u    /* words of keystream that the tables take */

/* ---- kernels ---------------------------------------------------------- */

enum dcx_kernel {
    DCX_KERNEL_PORTABLE = 0,
    DCX_KERNEL_AESNI = 1,
    DCX_KERNEL_VAES256 = 2,
    DCX_KERNEL_VAES512 = 3,
    DCX_KERNEL_NEON = 4,
    DCX_KERNELS = 5
};

enum dcx_kernel_verdict {
    DCX_KERNEL_OK = 0,
    DCX_KERNEL_UNKNOWN = 1,  /* no kernel has this name */
    DCX_KERNEL_NOTBUILT = 2, /* this build does not contain it */
    DCX_KERNEL_NOCPU = 3     /* this processor cannot run it */
};

/* The name of a kernel, NULL beyond DCX_KERNELS. */
const char *dcx_kernel_name(int kernel);

/* Verdict on a name; *kernel receives its id unless it is unknown. */
enum dcx_kernel_verdict dcx_kernel_lookup(const char *name, int *kernel);

/* The same for a processor with these features (bits of common/cpu.h), for tests. */
enum dcx_kernel_verdict dcx_kernel_lookup_for(const char *name, uint32_t features, int *kernel);

/* ---- tables ----------------------------------------------------------- */

typedef struct {
    uint8_t mask[16][16];
    uint8_t inverse[16][16];    /* inverse[m][mask[m][b]] == b */
    uint8_t round_keys[15][16]; /* of K, in kernels that have AES */
    uint16_t pi[2 * DCX_CELLS]; /* twice in a row, so that a rotation is an offset */
} dcx_tables;

/* Whether a kernel makes its keystream itself. */
int dcx_kernel_has_aes(int kernel);

/* Make a stream's tables from its key of 64 bytes: K and KT. A kernel without AES takes the
 * DCX_TABLE_WORDS * 4 bytes of keystream under KT from `keystream`, others ignore it. */
void dcx_tables_init(int kernel, dcx_tables *tables, const uint8_t key[64],
                     const uint8_t *keystream);

/* Overwrite n bytes in a way that the compiler may not leave out. */
void dcx_wipe(void *p, size_t n);

/* ---- geometry --------------------------------------------------------- */

/* A block: byte i of it lies in its unit at
 * start + (i / width) * pitch + i % width. */
typedef struct {
    uint64_t start;
    uint64_t width; /* bytes of a row; at least 1 where length > 0 */
    uint64_t pitch;
    uint64_t length;
} dcx_block;

/* The four blocks of a unit of `length` bytes: of a linear one if rows == 0,
 * otherwise of a frame of rows * row_bytes bytes divided at byte column
 * `split`, cut to `length`. */
void dcx_unit_blocks(uint64_t rows, uint64_t row_bytes, uint64_t split, uint64_t length,
                     dcx_block blocks[4]);

/* How many tiles the block has. */
uint64_t dcx_block_tiles(const dcx_block *block);

/* Offset in the unit of byte `index` of the block, index < length. */
uint64_t dcx_block_offset(const dcx_block *block, uint64_t index);

/* How many tiles, counted from `tile`, lie wholly below unit offset `end`. */
uint64_t dcx_block_ready(const dcx_block *block, uint64_t tile, uint64_t end);

/* The method that the block's first sample of `sample_bytes` bytes chooses.
 * src is the unit from offset src_offset on and must reach over tile 0. */
int dcx_block_method(const dcx_block *block, unsigned sample_bytes, const uint8_t *src,
                     uint64_t src_offset);

/* ---- the transform ---------------------------------------------------- */

enum dcx_method { DCX_AES_TRANSPOSITION = 0, DCX_VIGENERE = 1, DCX_MULTILEVEL = 2 };

/* Where the portable kernel takes its keystream from: made beforehand by a
 * library, for the `count` tiles of the call and nothing else. A pointer that
 * the method does not need may be NULL. */
typedef struct {
    const uint8_t *xor_stream;      /* stage 1, from the first tile's first byte */
    const uint8_t *vigenere_stream; /* stage 2, likewise */
    const uint8_t *rotations;       /* stage 3, 2 bytes a tile */
} dcx_keystream;

/* pi without the cells that a short last tile lacks, kept from one unit to the next: the
 * frames of an image are of one size. One for each block; `cells` is zero at first, and as long
 * as `order` was not written; belongs to the tables it is used with, and to one thread at a time.
 */
typedef struct {
    struct dcx_order {
        uint32_t cells;
        uint16_t order[2 * DCX_CELLS]; /* twice in a row */
    } block[4];
} dcx_orders;

typedef struct {
    const dcx_tables *tables;
    uint64_t unit;      /* number of the unit in the stream */
    unsigned block;     /* 0 to 3 */
    int method;         /* enum dcx_method */
    int inverse;        /* 0 encrypts, 1 decrypts */
    dcx_orders *orders; /* or NULL: made anew each time */
} dcx_job;

/* Transform `count` tiles of a block from tile number `tile` on.
 *
 * src holds the unit's bytes from offset src_offset on, dst likewise; every byte
 * of these tiles must lie in both, and nothing else of dst is written. src and
 * dst must not overlap. Returns 0, or -1 if the kernel is not in this build. */
int dcx_transform(int kernel, const dcx_job *job, const dcx_block *block, uint64_t tile,
                  uint64_t count, uint8_t *dst, uint64_t dst_offset, const uint8_t *src,
                  uint64_t src_offset, const dcx_keystream *keystream);

#ifdef __cplusplus
}
#endif
#endif
