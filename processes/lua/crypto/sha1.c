/* SHA-1 (FIPS 180-4). Broken for signatures; kept for HMAC-SHA-1, PBKDF2 and old digests. */
#include "crypto.h"

static void expand(uint32_t w[80], const uint8_t *block) {
  for (int i = 0; i < 16; i++) w[i] = load32_be(block + 4 * i);
  for (int i = 16; i < 80; i++) w[i] = rotl32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
}

/* The mixing function and constant of step i. */
static uint32_t mix(int i, uint32_t b, uint32_t c, uint32_t d) {
  switch (i / 20) {
    case 0: return ((b & c) | (~b & d)) + 0x5a827999;
    case 1: return (b ^ c ^ d) + 0x6ed9eba1;
    case 2: return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    default: return (b ^ c ^ d) + 0xca62c1d6;
  }
}

static void compress(void *state, const uint8_t *block) {
  uint32_t *h = state, w[80];
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
  expand(w, block);
  for (int i = 0; i < 80; i++) {
    uint32_t fresh = rotl32(a, 5) + mix(i, b, c, d) + e + w[i];
    e = d;
    d = c;
    c = rotl32(b, 30);
    b = a;
    a = fresh;
  }
  h[0] += a;
  h[1] += b;
  h[2] += c;
  h[3] += d;
  h[4] += e;
}

void sha1(const uint8_t *data, size_t len, uint8_t out[20]) {
  static const struct padding PAD = {64, 8, 1};
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  md_walk(h, compress, PAD, data, len);
  for (int i = 0; i < 5; i++) store_be(out + 4 * i, h[i], 4);
}
