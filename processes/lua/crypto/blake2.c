/* BLAKE2b (RFC 7693): digests of 1..64 bytes, optionally keyed. */
#include "crypto.h"

#include <string.h>

#define BLOCK_BYTES 128

static const uint64_t IV[8] = {
  0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
  0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint8_t SIGMA[10][16] = {
  {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
  {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
  {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
  {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
  {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
  {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
  {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
  {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
  {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
  {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

/* Columns, then diagonals, of the 4 x 4 matrix of words. */
static const uint8_t QUARTERS[8][4] = {
  {0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
  {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14},
};

static void quarter(uint64_t v[16], const uint8_t q[4], uint64_t x, uint64_t y) {
  uint64_t a = v[q[0]], b = v[q[1]], c = v[q[2]], d = v[q[3]];
  a += b + x;
  d = rotr64(d ^ a, 32);
  c += d;
  b = rotr64(b ^ c, 24);
  a += b + y;
  d = rotr64(d ^ a, 16);
  c += d;
  b = rotr64(b ^ c, 63);
  v[q[0]] = a;
  v[q[1]] = b;
  v[q[2]] = c;
  v[q[3]] = d;
}

/* `count` is the number of input bytes so far, this block's included. */
static void compress(uint64_t h[8], const uint8_t *block, uint64_t count, int last) {
  uint64_t m[16], v[16];
  for (int i = 0; i < 16; i++) m[i] = load64_le(block + 8 * i);
  memcpy(v, h, 8 * sizeof *v);
  memcpy(v + 8, IV, sizeof IV);
  v[12] ^= count;
  if (last) v[14] = ~v[14];
  for (int round = 0; round < 12; round++) {
    const uint8_t *s = SIGMA[round % 10];
    for (int i = 0; i < 8; i++) quarter(v, QUARTERS[i], m[s[2 * i]], m[s[2 * i + 1]]);
  }
  for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
}

/* The key is a block of its own ahead of the data; the last block is compressed with its flag set. */
void blake2b(const uint8_t *data, size_t len, const uint8_t *key, size_t key_len, uint8_t *out, size_t out_len) {
  uint64_t h[8], count = 0;
  uint8_t block[BLOCK_BYTES] = {0}, full[DIGEST_BYTES_MAX];
  memcpy(h, IV, sizeof h);
  h[0] ^= 0x01010000 ^ (uint64_t)key_len << 8 ^ (uint64_t)out_len;
  if (key_len != 0) {
    memcpy(block, key, key_len);
    count = BLOCK_BYTES;
    if (len != 0) compress(h, block, count, 0);
  }
  if (key_len == 0 || len != 0) {
    for (; len > BLOCK_BYTES; data += BLOCK_BYTES, len -= BLOCK_BYTES) {
      compress(h, data, count += BLOCK_BYTES, 0);
    }
    memset(block, 0, sizeof block);
    if (len != 0) memcpy(block, data, len);
    count += len;
  }
  compress(h, block, count, 1);
  for (int i = 0; i < 8; i++) store_le(full + 8 * i, h[i], 8);
  memcpy(out, full, out_len);
}
