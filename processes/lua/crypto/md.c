/* MD2 (RFC 1319), MD4 (RFC 1320), MD5 (RFC 1321), and the padded walk that iterated hashes share.
 * Broken for signatures; kept for programs that must read old digests. */
#include "crypto.h"

#include <string.h>

void md_walk(void *state, compress_fn compress, struct padding pad, const uint8_t *data, size_t len) {
  uint8_t tail[2 * MD_BLOCK_BYTES_MAX] = {0};
  size_t rest = len % pad.block_bytes;
  for (size_t at = 0; at + pad.block_bytes <= len; at += pad.block_bytes) compress(state, data + at);
  if (rest != 0) memcpy(tail, data + (len - rest), rest);
  tail[rest] = 0x80;
  size_t blocks = rest + 1 + pad.length_bytes > pad.block_bytes ? 2 : 1;
  uint8_t *end = tail + blocks * pad.block_bytes;
  if (pad.big_endian) store_be(end - 8, (uint64_t)len * 8, 8);
  else store_le(end - 8, (uint64_t)len * 8, 8);
  for (size_t i = 0; i < blocks; i++) compress(state, tail + i * pad.block_bytes);
}

/* ---- MD2 ---- */

/* RFC 1319: a permutation of 0..255 drawn from the digits of pi. */
static const uint8_t PI_TABLE[256] = {
  41, 46, 67, 201, 162, 216, 124, 1, 61, 54, 84, 161, 236, 240, 6, 19, 98, 167, 5, 243,
  192, 199, 115, 140, 152, 147, 43, 217, 188, 76, 130, 202, 30, 155, 87, 60, 253, 212, 224, 22,
  103, 66, 111, 24, 138, 23, 229, 18, 190, 78, 196, 214, 218, 158, 222, 73, 160, 251, 245, 142,
  187, 47, 238, 122, 169, 104, 121, 145, 21, 178, 7, 63, 148, 194, 16, 137, 11, 34, 95, 33,
  128, 127, 93, 154, 90, 144, 50, 39, 53, 62, 204, 231, 191, 247, 151, 3, 255, 25, 48, 179,
  72, 165, 181, 209, 215, 94, 146, 42, 172, 86, 170, 198, 79, 184, 56, 210, 150, 164, 125, 182,
  118, 252, 107, 226, 156, 116, 4, 241, 69, 157, 112, 89, 100, 113, 135, 32, 134, 91, 207, 101,
  230, 45, 168, 2, 27, 96, 37, 173, 174, 176, 185, 246, 28, 70, 97, 105, 52, 64, 126, 15,
  85, 71, 163, 35, 221, 81, 175, 58, 195, 92, 249, 206, 186, 197, 234, 38, 44, 83, 13, 110,
  133, 40, 132, 9, 211, 223, 205, 244, 65, 129, 77, 82, 106, 220, 55, 200, 108, 193, 171, 250,
  36, 225, 123, 8, 12, 189, 177, 74, 120, 136, 149, 139, 227, 99, 232, 109, 233, 203, 213, 254,
  59, 0, 29, 57, 242, 239, 183, 14, 102, 88, 208, 228, 166, 119, 114, 248, 235, 117, 75, 10,
  49, 68, 80, 180, 143, 237, 31, 26, 219, 153, 141, 51, 159, 17, 131, 20,
};

static void md2_checksum(uint8_t sum[16], const uint8_t block[16]) {
  uint8_t last = sum[15];
  for (int i = 0; i < 16; i++) last = sum[i] ^= PI_TABLE[block[i] ^ last];
}

static void md2_mix(uint8_t x[48], const uint8_t block[16]) {
  for (int i = 0; i < 16; i++) {
    x[16 + i] = block[i];
    x[32 + i] = block[i] ^ x[i];
  }
  uint8_t t = 0;
  for (int round = 0; round < 18; round++) {
    for (int i = 0; i < 48; i++) t = x[i] ^= PI_TABLE[t];
    t = (uint8_t)(t + round);
  }
}

void md2(const uint8_t *data, size_t len, uint8_t out[16]) {
  uint8_t x[48] = {0}, sum[16] = {0}, tail[16];
  size_t rest = len % 16;
  for (size_t at = 0; at + 16 <= len; at += 16) {
    md2_checksum(sum, data + at);
    md2_mix(x, data + at);
  }
  memset(tail, (int)(16 - rest), 16);
  if (rest != 0) memcpy(tail, data + (len - rest), rest);
  md2_checksum(sum, tail);
  md2_mix(x, tail);
  md2_mix(x, sum);
  memcpy(out, x, 16);
}

/* ---- MD4 and MD5 ---- */

static const struct padding PAD64_LE = {64, 8, 0};

static uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return (x & y) | (~x & z); }
static uint32_t majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) | (x & z) | (y & z); }
static uint32_t parity(uint32_t x, uint32_t y, uint32_t z) { return x ^ y ^ z; }

static void load_block_le(uint32_t w[16], const uint8_t *block) {
  for (int i = 0; i < 16; i++) w[i] = load32_le(block + 4 * i);
}

/* (a, b, c, d) becomes (d, new, b, c): the roles turn by one each step. */
static void turn(uint32_t s[4], uint32_t fresh) {
  s[0] = s[3];
  s[3] = s[2];
  s[2] = s[1];
  s[1] = fresh;
}

static void md4_compress(void *state, const uint8_t *block) {
  static const uint8_t ORDER[3][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
    {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15},
  };
  static const uint8_t SHIFT[3][4] = {{3, 7, 11, 19}, {3, 5, 9, 13}, {3, 9, 11, 15}};
  static const uint32_t ADD[3] = {0, 0x5a827999, 0x6ed9eba1};
  static uint32_t (*const MIX[3])(uint32_t, uint32_t, uint32_t) = {choose, majority, parity};
  uint32_t *h = state, w[16], s[4];
  load_block_le(w, block);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 48; i++) {
    int round = i / 16;
    uint32_t sum = s[0] + MIX[round](s[1], s[2], s[3]) + w[ORDER[round][i % 16]] + ADD[round];
    turn(s, rotl32(sum, SHIFT[round][i % 4]));
  }
  for (int i = 0; i < 4; i++) h[i] += s[i];
}

/* RFC 1321: the integer part of 2^32 * |sin(i + 1)|. */
static const uint32_t SINES[64] = {
  0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
  0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
  0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
  0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
  0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
  0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
  0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
  0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

/* The word and the mixing function of step i. */
static uint32_t md5_mix(int i, const uint32_t s[4], const uint32_t w[16]) {
  uint32_t b = s[1], c = s[2], d = s[3];
  switch (i / 16) {
    case 0: return choose(b, c, d) + w[i];
    case 1: return choose(d, b, c) + w[(5 * i + 1) % 16];
    case 2: return parity(b, c, d) + w[(3 * i + 5) % 16];
    default: return (c ^ (b | ~d)) + w[(7 * i) % 16];
  }
}

static void md5_compress(void *state, const uint8_t *block) {
  static const uint8_t SHIFT[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  uint32_t *h = state, w[16], s[4];
  load_block_le(w, block);
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t sum = s[0] + md5_mix(i, s, w) + SINES[i];
    turn(s, s[1] + rotl32(sum, SHIFT[i / 16][i % 4]));
  }
  for (int i = 0; i < 4; i++) h[i] += s[i];
}

static void md45(compress_fn compress, const uint8_t *data, size_t len, uint8_t out[16]) {
  uint32_t h[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  md_walk(h, compress, PAD64_LE, data, len);
  for (int i = 0; i < 4; i++) store_le(out + 4 * i, h[i], 4);
}

void md4(const uint8_t *data, size_t len, uint8_t out[16]) { md45(md4_compress, data, len, out); }
void md5(const uint8_t *data, size_t len, uint8_t out[16]) { md45(md5_compress, data, len, out); }
