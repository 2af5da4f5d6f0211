/* Names, availability and dispatch of the kernels. */
#include "block/kernel.h"

#include <string.h>

static const struct {
    const char *name;
    dcx_kernel_fn *transform;
} kernels[DCX_KERNELS] = {
    [DCX_KERNEL_PORTABLE] = {"portable", dcx_portable_transform},
    [DCX_KERNEL_AESNI] = {"aesni", NULL},
    [DCX_KERNEL_VAES256] = {"vaes256", NULL},
    [DCX_KERNEL_VAES512] = {"vaes512", NULL},
    [DCX_KERNEL_NEON] = {"neon", NULL},
};

const char *dcx_kernel_name(int kernel) {
    return kernel >= 0 && kernel < DCX_KERNELS ? kernels[kernel].name : NULL;
}

enum dcx_kernel_verdict dcx_kernel_lookup(const char *name, int *kernel) {
    for (int i = 0; i < DCX_KERNELS; i++) {
        if (strcmp(name, kernels[i].name) != 0) continue;
        *kernel = i;
        return kernels[i].transform ? DCX_KERNEL_OK : DCX_KERNEL_NOTBUILT;
    }
    return DCX_KERNEL_UNKNOWN;
}

int dcx_transform(int kernel, const dcx_job *job, const dcx_block *block, uint64_t tile,
                  uint64_t count, uint8_t *dst, uint64_t dst_offset, const uint8_t *src,
                  uint64_t src_offset, const dcx_keystream *keystream) {
    if (kernel < 0 || kernel >= DCX_KERNELS || !kernels[kernel].transform) return -1;
    kernels[kernel].transform(job, block, tile, count, dst, dst_offset, src, src_offset, keystream);
    return 0;
}
