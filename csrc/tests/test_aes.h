/* AES-256 and CTR mode for the tests: the keystream that a cryptographic library
 * makes for the portable kernel elsewhere, on any machine and with nothing to link.
 * Its time depends on the key; never for real data. */
#ifndef DICOMCRYPT_TEST_AES_H
#define DICOMCRYPT_TEST_AES_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t word[60]; /* of the key schedule; the first byte is the highest */
} test_aes;

void test_aes_key(test_aes *aes, const uint8_t key[32]);
void test_aes_block(const test_aes *aes, uint8_t out[16], const uint8_t in[16]);

/* n bytes of CTR keystream; the counter block is a big-endian number. */
void test_aes_keystream(const test_aes *aes, const uint8_t counter[16], uint8_t *out, size_t n);

/* Known answers of FIPS 197 and SP 800-38A: NULL, or which one is wrong. */
const char *test_aes_check(void);

#endif
