/* What the files of this folder share: loads and stores of words in a stated byte order, rotations,
 * the padded walk over blocks that MD4, MD5, SHA-1 and SHA-2 have in common, and one line per algorithm.
 * Not here: Lua. Only crypto.c knows it.
 * Invariant: no function keeps state between calls and none allocates. */
#ifndef WEFT_CRYPTO_H
#define WEFT_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES_MAX 64
#define MD_BLOCK_BYTES_MAX 128
#define AES_BLOCK_BYTES 16

static inline uint32_t rotl32(uint32_t x, int n) { return (x << n) | (x >> (32 - n)); }
static inline uint32_t rotr32(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }
static inline uint64_t rotr64(uint64_t x, int n) { return (x >> n) | (x << (64 - n)); }

/* n is 0..63: zero must not shift by 64. */
static inline uint64_t rotl64(uint64_t x, int n) { return (x << n) | (x >> ((64 - n) & 63)); }

static inline uint32_t load32_le(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t load32_be(const uint8_t *p) {
  return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

static inline uint64_t load64_le(const uint8_t *p) {
  return (uint64_t)load32_le(p) | (uint64_t)load32_le(p + 4) << 32;
}

static inline uint64_t load64_be(const uint8_t *p) {
  return (uint64_t)load32_be(p) << 32 | (uint64_t)load32_be(p + 4);
}

static inline void store_le(uint8_t *p, uint64_t x, int bytes) {
  for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(x >> (8 * i));
}

static inline void store_be(uint8_t *p, uint64_t x, int bytes) {
  for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(x >> (8 * (bytes - 1 - i)));
}

/* One block into the chaining state of an iterated hash. */
typedef void (*compress_fn)(void *state, const uint8_t *block);

/* Feeds data in blocks, then 0x80, zeros and the length in bits at the block's end. */
struct padding {
  size_t block_bytes;  /* 64 or 128 */
  size_t length_bytes; /* 8 or 16 */
  int big_endian;      /* byte order of the length */
};
void md_walk(void *state, compress_fn compress, struct padding pad, const uint8_t *data, size_t len);

/* One-shot digests: `out` holds the digest's full size. */
void md2(const uint8_t *data, size_t len, uint8_t out[16]);
void md4(const uint8_t *data, size_t len, uint8_t out[16]);
void md5(const uint8_t *data, size_t len, uint8_t out[16]);
void sha1(const uint8_t *data, size_t len, uint8_t out[20]);
void sha2_256(const uint8_t *data, size_t len, uint8_t out[32]);
void sha2_512(const uint8_t *data, size_t len, uint8_t out[64]);
void sha3_256(const uint8_t *data, size_t len, uint8_t out[32]);
void sha3_512(const uint8_t *data, size_t len, uint8_t out[64]);
void keccak256(const uint8_t *data, size_t len, uint8_t out[32]);
void keccak512(const uint8_t *data, size_t len, uint8_t out[64]);

/* out_len 1..64, key_len 0..64: the caller has checked. */
void blake2b(const uint8_t *data, size_t len, const uint8_t *key, size_t key_len, uint8_t *out, size_t out_len);

/* The AES block cipher alone. key_bytes is 16, 24 or 32: the caller has checked. */
struct aes_key {
  int rounds;
  uint8_t round_keys[15 * AES_BLOCK_BYTES];
};
void aes_expand(struct aes_key *key, const uint8_t *bytes, size_t key_bytes);
void aes_encrypt(const struct aes_key *key, const uint8_t in[16], uint8_t out[16]);
void aes_decrypt(const struct aes_key *key, const uint8_t in[16], uint8_t out[16]);

#endif
