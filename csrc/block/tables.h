#ifndef DICOMCRYPT_TABLES_H
#define DICOMCRYPT_TABLES_H

#include "dicomcrypt.h"

/* Make pi, the masks and their inverses from DCX_TABLE_WORDS * 4 bytes of keystream. */
void dcx_make_permutations(dcx_tables *tables, const uint8_t *keystream);

#endif
