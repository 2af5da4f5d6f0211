/* VAES on 32 bytes, AVX2 for the rest: processors without AVX-512. */
#include "block/kernel.h"
#include "common/compiler.h"

#if defined(DCX_BUILT_X86)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("aes,avx2,vaes"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("aes,avx2,vaes")
#endif

#define V __m256i
#define VB 32
#define SET16(p) _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p)))
#define SET8(x) _mm256_set1_epi8(x)
#define LOADU(p) _mm256_loadu_si256((const __m256i *)(p))
#define STOREU(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define LOAD_CELLS(p, o)                                                          \
    _mm256_inserti128_si256(                                                      \
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)((p) + (o)[0]))), \
        _mm_loadu_si128((const __m128i *)((p) + (o)[1])), 1)
#define STORE_CELLS(p, o, v)                                                 \
    (_mm_storeu_si128((__m128i *)((p) + (o)[0]), _mm256_castsi256_si128(v)), \
     _mm_storeu_si128((__m128i *)((p) + (o)[1]), _mm256_extracti128_si256(v, 1)))
#define XOR(a, b) _mm256_xor_si256(a, b)
#define ADD8(a, b) _mm256_add_epi8(a, b)
#define SUB8(a, b) _mm256_sub_epi8(a, b)
#define MAX8(a, b) _mm256_max_epu8(a, b)
#define ADD64(a, b) _mm256_add_epi64(a, b)
#define SHUF8(v, i) _mm256_shuffle_epi8(v, i)
#define AESENC(v, k) _mm256_aesenc_epi128(v, k)
#define AESLAST(v, k) _mm256_aesenclast_epi128(v, k)

#define TABLE dcx_vaes256

#include "block/x86.inc"

#include "block/template.inc"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
