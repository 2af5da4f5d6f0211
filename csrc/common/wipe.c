#include "dicomcrypt.h"

#include <string.h>

/* A call through a volatile pointer is not optimised away. */
static void *(*const volatile wipe_with)(void *, int, size_t) = memset;

void dcx_wipe(void *p, size_t n) {
    if (n > 0) wipe_with(p, 0, n);
}
