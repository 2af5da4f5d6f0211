#include "test_aes.h"

#include <string.h>

static uint8_t sbox[256];
static uint32_t column[256]; /* MixColumns of (s, 0, 0, 0) with s = sbox[i] */

static uint32_t rotate(uint32_t x, unsigned bits) {
    return bits ? x >> bits | x << (32 - bits) : x;
}

static uint8_t twice(uint8_t x) { return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0)); }

/* FIPS 197 section 5.1.1: p runs through all powers of 3, q through their inverses. */
static void make_boxes(void) {
    uint8_t p = 1, q = 1;
    sbox[0] = 0x63;
    do {
        p = (uint8_t)(p ^ twice(p));
        q ^= (uint8_t)(q << 1);
        q ^= (uint8_t)(q << 2);
        q ^= (uint8_t)(q << 4);
        if (q & 0x80) q ^= 0x09;
        unsigned all = q * 0x101u; /* q twice in a row: a shift is a rotation */
        sbox[p] = (uint8_t)(q ^ all >> 7 ^ all >> 6 ^ all >> 5 ^ all >> 4 ^ 0x63);
    } while (p != 1);
    for (unsigned i = 0; i < 256; i++) {
        uint32_t s = sbox[i], s2 = twice(sbox[i]);
        column[i] = s2 << 24 | s << 16 | s << 8 | (s ^ s2);
    }
}

static uint32_t load(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store(uint8_t *p, uint32_t x) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x >> (24 - 8 * i));
}

static uint32_t sub_word(uint32_t x) {
    return (uint32_t)sbox[x >> 24] << 24 | (uint32_t)sbox[x >> 16 & 255] << 16 |
           (uint32_t)sbox[x >> 8 & 255] << 8 | sbox[x & 255];
}

void test_aes_key(test_aes *aes, const uint8_t key[32]) {
    uint8_t rcon = 1;
    if (sbox[0] == 0) make_boxes();
    for (int i = 0; i < 8; i++) aes->word[i] = load(key + 4 * i);
    for (int i = 8; i < 60; i++) {
        uint32_t last = aes->word[i - 1];
        if (i % 8 == 0) {
            last = sub_word(rotate(last, 24)) ^ (uint32_t)rcon << 24;
            rcon = twice(rcon);
        } else if (i % 8 == 4) {
            last = sub_word(last);
        }
        aes->word[i] = aes->word[i - 8] ^ last;
    }
}

void test_aes_block(const test_aes *aes, uint8_t out[16], const uint8_t in[16]) {
    uint32_t s[4], t[4];
    for (int c = 0; c < 4; c++) s[c] = load(in + 4 * c) ^ aes->word[c];
    for (int round = 1; round <= 14; round++) {
        for (int c = 0; c < 4; c++) { /* row r of column c comes from column c + r */
            t[c] = 0;
            for (int r = 0; r < 4; r++) {
                unsigned byte = s[(c + r) % 4] >> (24 - 8 * r) & 255;
                t[c] ^= round < 14 ? rotate(column[byte], 8u * (unsigned)r)
                                   : (uint32_t)sbox[byte] << (24 - 8 * r);
            }
        }
        for (int c = 0; c < 4; c++) s[c] = t[c] ^ aes->word[4 * round + c];
    }
    for (int c = 0; c < 4; c++) store(out + 4 * c, s[c]);
}

void test_aes_keystream(const test_aes *aes, const uint8_t counter[16], uint8_t *out, size_t n) {
    uint8_t block[16], made[16];
    memcpy(block, counter, 16);
    while (n > 0) {
        size_t piece = n < 16 ? n : 16;
        test_aes_block(aes, made, block);
        memcpy(out, made, piece);
        out += piece, n -= piece;
        for (int i = 15; i >= 0 && ++block[i] == 0; i--) {
        }
    }
}

static void from_hex(uint8_t *to, const char *hex) {
    for (size_t i = 0; hex[2 * i]; i++) {
        unsigned value = 0;
        for (int k = 0; k < 2; k++) {
            char c = hex[2 * i + (size_t)k];
            value = value << 4 | (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        to[i] = (uint8_t)value;
    }
}

const char *test_aes_check(void) {
    uint8_t key[32], in[64], out[64], want[64];
    test_aes aes;

    from_hex(key, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    from_hex(in, "00112233445566778899aabbccddeeff");
    from_hex(want, "8ea2b7ca516745bfeafc49904b496089");
    test_aes_key(&aes, key);
    test_aes_block(&aes, out, in);
    if (memcmp(out, want, 16) != 0) return "FIPS 197 C.3";

    from_hex(key, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    test_aes_key(&aes, key);
    if (aes.word[8] != 0x9ba35411 || aes.word[59] != 0x706c631e) return "FIPS 197 A.3";

    from_hex(in, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
                 "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    from_hex(want, "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
                   "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6");
    uint8_t counter[16];
    from_hex(counter, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    test_aes_keystream(&aes, counter, out, 64);
    for (int i = 0; i < 64; i++) out[i] ^= in[i];
    if (memcmp(out, want, 64) != 0) return "SP 800-38A F.5.5";

    /* the counter carries through all its bytes */
    uint8_t zero[16] = {0}, last[16];
    memset(counter, 255, 16);
    test_aes_keystream(&aes, counter, out, 32);
    test_aes_block(&aes, last, zero);
    if (memcmp(out + 16, last, 16) != 0) return "carry of the counter";
    return NULL;
}
