/* SHA-256 and SHA-512 (FIPS 180-4): the same walk over 32-bit and 64-bit words. */
#include "crypto.h"

#include <string.h>

/* The first 32 and 64 bits of the fractional parts of the cube roots of the first primes: the 32-bit
 * constants are the upper halves of the 64-bit ones. */
static const uint64_t K[80] = {
  0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
  0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
  0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
  0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
  0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
  0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
  0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
  0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
  0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
  0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
  0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
  0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
  0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
  0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
  0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
  0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
  0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
  0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
  0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
  0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

/* (a..h) becomes (t1 + t2, a, b, c, d + t1, e, f, g). */
#define TURN(s, t1, t2)                              \
  do {                                               \
    s[7] = s[6]; s[6] = s[5]; s[5] = s[4];           \
    s[4] = s[3] + (t1);                              \
    s[3] = s[2]; s[2] = s[1]; s[1] = s[0];           \
    s[0] = (t1) + (t2);                              \
  } while (0)

#define CHOOSE(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJORITY(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))

static uint32_t spread256(uint32_t x, int a, int b, int c) { return rotr32(x, a) ^ rotr32(x, b) ^ rotr32(x, c); }
static uint64_t spread512(uint64_t x, int a, int b, int c) { return rotr64(x, a) ^ rotr64(x, b) ^ rotr64(x, c); }

static void expand256(uint32_t w[64], const uint8_t *block) {
  for (int i = 0; i < 16; i++) w[i] = load32_be(block + 4 * i);
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotr32(w[i - 15], 7) ^ rotr32(w[i - 15], 18) ^ (w[i - 15] >> 3);
    uint32_t s1 = rotr32(w[i - 2], 17) ^ rotr32(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
}

static void compress256(void *state, const uint8_t *block) {
  uint32_t *h = state, w[64], s[8];
  expand256(w, block);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t t1 = s[7] + spread256(s[4], 6, 11, 25) + CHOOSE(s[4], s[5], s[6]) + (uint32_t)(K[i] >> 32) + w[i];
    uint32_t t2 = spread256(s[0], 2, 13, 22) + MAJORITY(s[0], s[1], s[2]);
    TURN(s, t1, t2);
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void expand512(uint64_t w[80], const uint8_t *block) {
  for (int i = 0; i < 16; i++) w[i] = load64_be(block + 8 * i);
  for (int i = 16; i < 80; i++) {
    uint64_t s0 = rotr64(w[i - 15], 1) ^ rotr64(w[i - 15], 8) ^ (w[i - 15] >> 7);
    uint64_t s1 = rotr64(w[i - 2], 19) ^ rotr64(w[i - 2], 61) ^ (w[i - 2] >> 6);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
}

static void compress512(void *state, const uint8_t *block) {
  uint64_t *h = state, w[80], s[8];
  expand512(w, block);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 80; i++) {
    uint64_t t1 = s[7] + spread512(s[4], 14, 18, 41) + CHOOSE(s[4], s[5], s[6]) + K[i] + w[i];
    uint64_t t2 = spread512(s[0], 28, 34, 39) + MAJORITY(s[0], s[1], s[2]);
    TURN(s, t1, t2);
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

void sha2_256(const uint8_t *data, size_t len, uint8_t out[32]) {
  static const struct padding PAD = {64, 8, 1};
  uint32_t h[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  };
  md_walk(h, compress256, PAD, data, len);
  for (int i = 0; i < 8; i++) store_be(out + 4 * i, h[i], 4);
}

void sha2_512(const uint8_t *data, size_t len, uint8_t out[64]) {
  static const struct padding PAD = {128, 16, 1};
  uint64_t h[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
  };
  md_walk(h, compress512, PAD, data, len);
  for (int i = 0; i < 8; i++) store_be(out + 8 * i, h[i], 8);
}
