#include "common/cpu.h"

#if defined(DCX_X86)

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
    int out[4];
    __cpuidex(out, 0, 0);
    r[0] = r[1] = r[2] = r[3] = 0;
    if ((uint32_t)out[0] < leaf) return; /* it would answer for its highest leaf */
    __cpuidex(out, (int)leaf, (int)subleaf);
    for (int i = 0; i < 4; i++) r[i] = (uint32_t)out[i];
}
static uint64_t xcr0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
    r[0] = r[1] = r[2] = r[3] = 0;
    __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]);
}
static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

uint32_t dcx_cpu_features(void) {
    uint32_t one[4], seven[4], found = 0;
    cpuid(1, 0, one);
    cpuid(7, 0, seven);
    if (one[2] & 1u << 9) found |= DCX_CPU_SSSE3;
    if (one[2] & 1u << 25) found |= DCX_CPU_AES;
    if (!(one[2] & 1u << 27)) return found; /* no OSXSAVE: wide registers are not saved */
    uint64_t saved = xcr0();
    if ((saved & 0x06) != 0x06) return found;
    if (seven[1] & 1u << 5) found |= DCX_CPU_AVX2;
    if (seven[2] & 1u << 9) found |= DCX_CPU_VAES;
    if ((saved & 0xe6) == 0xe6 && seven[1] & 1u << 16 && seven[1] & 1u << 30)
        found |= DCX_CPU_AVX512;
    return found;
}

#elif defined(DCX_ARM64)

#if defined(__linux__)
#include <sys/auxv.h>
uint32_t dcx_cpu_features(void) {
    unsigned long capabilities = getauxval(AT_HWCAP);
    uint32_t found = 0;
    if (capabilities & 1ul << 1) found |= DCX_CPU_NEON; /* HWCAP_ASIMD */
    if (capabilities & 1ul << 3) found |= DCX_CPU_AES;  /* HWCAP_AES */
    return found;
}
#elif defined(__APPLE__)
uint32_t dcx_cpu_features(void) { return DCX_CPU_NEON | DCX_CPU_AES; }
#else
uint32_t dcx_cpu_features(void) { return DCX_CPU_NEON; }
#endif

#else

uint32_t dcx_cpu_features(void) { return 0; }

#endif
