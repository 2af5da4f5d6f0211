/* Names, availability and dispatch of the kernels. */
#include "block/kernel.h"
#include "block/tables.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t needs; /* features of the processor */
    const dcx_kernel_table *table;
} kernels[DCX_KERNELS] = {
    [DCX_KERNEL_PORTABLE] = {"portable", 0, &dcx_portable},
#if defined(DCX_BUILT_X86)
    [DCX_KERNEL_AESNI] = {"aesni", DCX_CPU_SSSE3 | DCX_CPU_AES, &dcx_aesni},
    [DCX_KERNEL_VAES256] = {"vaes256", DCX_CPU_AES | DCX_CPU_AVX2 | DCX_CPU_VAES, &dcx_vaes256},
    [DCX_KERNEL_VAES512] = {"vaes512", DCX_CPU_AES | DCX_CPU_AVX512 | DCX_CPU_VAES, &dcx_vaes512},
#else
    [DCX_KERNEL_AESNI] = {"aesni", 0, NULL},
    [DCX_KERNEL_VAES256] = {"vaes256", 0, NULL},
    [DCX_KERNEL_VAES512] = {"vaes512", 0, NULL},
#endif
#if defined(DCX_BUILT_NEON)
    [DCX_KERNEL_NEON] = {"neon", DCX_CPU_NEON | DCX_CPU_AES, &dcx_neon},
#else
    [DCX_KERNEL_NEON] = {"neon", 0, NULL},
#endif
};

const char *dcx_kernel_name(int kernel) {
    return kernel >= 0 && kernel < DCX_KERNELS ? kernels[kernel].name : NULL;
}

enum dcx_kernel_verdict dcx_kernel_lookup_for(const char *name, uint32_t features, int *kernel) {
    for (int i = 0; i < DCX_KERNELS; i++) {
        if (strcmp(name, kernels[i].name) != 0) continue;
        *kernel = i;
        if (!kernels[i].table) return DCX_KERNEL_NOTBUILT;
        return (features & kernels[i].needs) == kernels[i].needs ? DCX_KERNEL_OK : DCX_KERNEL_NOCPU;
    }
    return DCX_KERNEL_UNKNOWN;
}

enum dcx_kernel_verdict dcx_kernel_lookup(const char *name, int *kernel) {
    return dcx_kernel_lookup_for(name, dcx_cpu_features(), kernel);
}

static const dcx_kernel_table *table_of(int kernel) {
    return kernel >= 0 && kernel < DCX_KERNELS ? kernels[kernel].table : NULL;
}

int dcx_kernel_has_aes(int kernel) {
    const dcx_kernel_table *table = table_of(kernel);
    return table && table->expand;
}

void dcx_tables_init(int kernel, dcx_tables *tables, const uint8_t key[64],
                     const uint8_t *keystream) {
    uint8_t made[(DCX_TABLE_WORDS * 4 + 15) / 16 * 16];
    if (!dcx_kernel_has_aes(kernel)) {
        dcx_make_permutations(tables, keystream);
        return;
    }
    const dcx_kernel_table *table = table_of(kernel);
    table->expand(tables, key + 32);
    table->keystream(tables, made, sizeof made);
    dcx_make_permutations(tables, made);
    dcx_wipe(made, sizeof made);
    table->expand(tables, key);
}

int dcx_transform(int kernel, const dcx_job *job, const dcx_block *block, uint64_t tile,
                  uint64_t count, uint8_t *dst, uint64_t dst_offset, const uint8_t *src,
                  uint64_t src_offset, const dcx_keystream *keystream) {
    const dcx_kernel_table *table = table_of(kernel);
    if (!table) return -1;
    table->transform(job, block, tile, count, dst, dst_offset, src, src_offset, keystream);
    return 0;
}
