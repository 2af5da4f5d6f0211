/* What this processor and its operating system can run. */
#ifndef DICOMCRYPT_CPU_H
#define DICOMCRYPT_CPU_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64) || defined(__i386__) || defined(_M_IX86)
#define DCX_X86 1
#endif
#if (defined(__aarch64__) || defined(_M_ARM64)) && !defined(__AARCH64EB__)
#define DCX_ARM64 1
#endif

enum dcx_cpu_feature {
    DCX_CPU_SSSE3 = 1 << 0,
    DCX_CPU_AES = 1 << 1, /* AES-NI, or the AES instructions of Armv8 */
    DCX_CPU_AVX2 = 1 << 2,
    DCX_CPU_VAES = 1 << 3,
    DCX_CPU_AVX512 = 1 << 4, /* F and BW, and the registers are saved */
    DCX_CPU_NEON = 1 << 5
};

/* The features found, as bits. Asks the processor each time; keeps nothing. */
uint32_t dcx_cpu_features(void);

#endif
