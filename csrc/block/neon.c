/* The Armv8 crypto extension on 16 bytes. */
#include "block/kernel.h"
#include "common/compiler.h"

#include <string.h>

#if defined(DCX_BUILT_NEON)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("aes"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("+crypto")
#endif

#include <arm_neon.h>

#define V uint8x16_t
#define VB 16
#define SET16(p) vld1q_u8((const uint8_t *)(p))
#define SET8(x) vdupq_n_u8(x)
#define LOADU(p) vld1q_u8((const uint8_t *)(p))
#define STOREU(p, v) vst1q_u8((uint8_t *)(p), v)
#define LOAD_CELLS(p, o) LOADU((p) + (o)[0])
#define STORE_CELLS(p, o, v) STOREU((p) + (o)[0], v)
#define XOR(a, b) veorq_u8(a, b)
#define ADD8(a, b) vaddq_u8(a, b)
#define SUB8(a, b) vsubq_u8(a, b)
#define MAX8(a, b) vmaxq_u8(a, b)
#define ADD64(a, b) \
    vreinterpretq_u8_u64(vaddq_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)))
#define SHUF8(v, i) vqtbl1q_u8(v, i)

#define Q V
#define QLOAD LOADU
#define QSTORE STOREU
#define QXOR XOR
#define QADD8 ADD8
#define QSUB8 SUB8
#define QMAX8 MAX8
#define QSET8 SET8
#define QSHUF8 SHUF8

/* AESE adds the round key before SubBytes, so the last key stands alone. */
DCX_INLINE void aes8(V s[8], const V *k) {
    DCX_UNROLL13 for (int r = 0; r < 13; r++) {
        DCX_UNROLL for (int i = 0; i < 8; i++) s[i] = vaesmcq_u8(vaeseq_u8(s[i], k[r]));
    }
    DCX_UNROLL for (int i = 0; i < 8; i++) s[i] = veorq_u8(vaeseq_u8(s[i], k[13]), k[14]);
}

static Q qaes(Q block, const Q *k) {
    for (int r = 0; r < 13; r++) block = vaesmcq_u8(vaeseq_u8(block, k[r]));
    return veorq_u8(vaeseq_u8(block, k[13]), k[14]);
}

/* SubWord of FIPS 197 section 5.2: four equal columns make ShiftRows the identity. */
static uint32_t sub_word(uint32_t word) {
    uint8x16_t columns = vreinterpretq_u8_u32(vdupq_n_u32(word));
    return vgetq_lane_u32(vreinterpretq_u32_u8(vaeseq_u8(columns, vdupq_n_u8(0))), 0);
}

static void expand_key(uint8_t round_keys[15][16], const uint8_t key[32]) {
    uint32_t word[60];
    uint32_t rcon = 1;
    for (int i = 0; i < 8; i++) memcpy(&word[i], key + 4 * i, 4);
    for (int i = 8; i < 60; i++) {
        uint32_t last = word[i - 1];
        if (i % 8 == 0) {
            last = sub_word(last >> 8 | last << 24) ^ rcon; /* RotWord on little-endian words */
            rcon <<= 1;
        } else if (i % 8 == 4) {
            last = sub_word(last);
        }
        word[i] = word[i - 8] ^ last;
    }
    memcpy(round_keys, word, 240);
    dcx_wipe(word, sizeof word);
}

#define TABLE dcx_neon

#include "block/template.inc"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
