/* AES-NI on 16 bytes, SSSE3 for the shuffles. */
#include "block/kernel.h"
#include "common/compiler.h"

#if defined(DCX_BUILT_X86)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse2,ssse3,aes"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("sse2,ssse3,aes")
#endif

#define V __m128i
#define VB 16
#define SET16(p) _mm_loadu_si128((const __m128i *)(p))
#define SET8(x) _mm_set1_epi8(x)
#define LOADU(p) _mm_loadu_si128((const __m128i *)(p))
#define STOREU(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define LOAD_CELLS(p, o) LOADU((p) + (o)[0])
#define STORE_CELLS(p, o, v) STOREU((p) + (o)[0], v)
#define XOR(a, b) _mm_xor_si128(a, b)
#define ADD8(a, b) _mm_add_epi8(a, b)
#define SUB8(a, b) _mm_sub_epi8(a, b)
#define MAX8(a, b) _mm_max_epu8(a, b)
#define ADD64(a, b) _mm_add_epi64(a, b)
#define SHUF8(v, i) _mm_shuffle_epi8(v, i)
#define AESENC(v, k) _mm_aesenc_si128(v, k)
#define AESLAST(v, k) _mm_aesenclast_si128(v, k)

#define TABLE dcx_aesni

#include "block/x86.inc"

#include "block/template.inc"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
