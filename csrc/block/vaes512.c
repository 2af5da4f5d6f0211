/* VAES on 64 bytes, AVX-512 F and BW. */
#include "block/kernel.h"
#include "common/compiler.h"

#if defined(DCX_BUILT_X86)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("aes,avx512f,avx512bw,vaes"))), \
                             apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("aes,avx512f,avx512bw,vaes")
#endif

#define V __m512i
#define VB 64
#define SET16(p) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(p)))
#define SET8(x) _mm512_set1_epi8(x)
#define LOADU(p) _mm512_loadu_si512((const void *)(p))
#define STOREU(p, v) _mm512_storeu_si512((void *)(p), v)
#define CELL(p, o) _mm_loadu_si128((const __m128i *)((p) + (o)))
#define LOAD_CELLS(p, o)                                                                     \
    _mm512_inserti32x4(                                                                      \
        _mm512_inserti32x4(                                                                  \
            _mm512_inserti32x4(_mm512_castsi128_si512(CELL(p, (o)[0])), CELL(p, (o)[1]), 1), \
            CELL(p, (o)[2]), 2),                                                             \
        CELL(p, (o)[3]), 3)
#define STORE_CELLS(p, o, v)                                                       \
    (_mm_storeu_si128((__m128i *)((p) + (o)[0]), _mm512_castsi512_si128(v)),       \
     _mm_storeu_si128((__m128i *)((p) + (o)[1]), _mm512_extracti32x4_epi32(v, 1)), \
     _mm_storeu_si128((__m128i *)((p) + (o)[2]), _mm512_extracti32x4_epi32(v, 2)), \
     _mm_storeu_si128((__m128i *)((p) + (o)[3]), _mm512_extracti32x4_epi32(v, 3)))
#define XOR(a, b) _mm512_xor_si512(a, b)
#define ADD8(a, b) _mm512_add_epi8(a, b)
#define SUB8(a, b) _mm512_sub_epi8(a, b)
#define MAX8(a, b) _mm512_max_epu8(a, b)
#define ADD64(a, b) _mm512_add_epi64(a, b)
#define SHUF8(v, i) _mm512_shuffle_epi8(v, i)
#define AESENC(v, k) _mm512_aesenc_epi128(v, k)
#define AESLAST(v, k) _mm512_aesenclast_epi128(v, k)

#define TABLE dcx_vaes512

#include "block/x86.inc"

#include "block/template.inc"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
