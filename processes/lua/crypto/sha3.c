/* SHA3-256/512 (FIPS 202) and Keccak-256/512 (the submission, as Ethereum uses it): they differ in the
 * padding byte alone. */
#include "crypto.h"

#define LANES 25
#define ROUNDS 24

/* FIPS 202, 3.2.5: bit 2^j - 1 of round i's constant is the bit that this register gives at step j + 7i. */
static uint64_t round_constant(uint8_t *lfsr) {
  uint64_t constant = 0;
  for (int j = 0; j < 7; j++) {
    if (*lfsr & 1) constant ^= (uint64_t)1 << ((1 << j) - 1);
    *lfsr = (uint8_t)((*lfsr << 1) ^ ((*lfsr & 0x80) ? 0x71 : 0));
  }
  return constant;
}

static void theta(uint64_t a[LANES]) {
  uint64_t c[5];
  for (int x = 0; x < 5; x++) c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
  for (int i = 0; i < LANES; i++) a[i] ^= c[(i + 4) % 5] ^ rotl64(c[(i + 1) % 5], 1);
}

/* rho and pi in one walk: lane (x, y) moves to (y, 2x + 3y) and turns by the triangular numbers. */
static void rho_pi(uint64_t a[LANES]) {
  int x = 1, y = 0;
  uint64_t carried = a[1];
  for (int t = 1; t <= 24; t++) {
    int next = (2 * x + 3 * y) % 5;
    x = y;
    y = next;
    uint64_t here = a[x + 5 * y];
    a[x + 5 * y] = rotl64(carried, (t * (t + 1) / 2) % 64);
    carried = here;
  }
}

static void chi(uint64_t a[LANES]) {
  for (int y = 0; y < LANES; y += 5) {
    uint64_t row[5];
    for (int x = 0; x < 5; x++) row[x] = a[y + x];
    for (int x = 0; x < 5; x++) a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
  }
}

static void permute(uint64_t a[LANES]) {
  uint8_t lfsr = 1;
  for (int round = 0; round < ROUNDS; round++) {
    theta(a);
    rho_pi(a);
    chi(a);
    a[0] ^= round_constant(&lfsr);
  }
}

static void absorb_byte(uint64_t a[LANES], size_t at, uint8_t byte) { a[at / 8] ^= (uint64_t)byte << (8 * (at % 8)); }

/* Absorbs at a rate of 200 - 2 * out_len bytes, pads with `domain`..0x80, squeezes out_len bytes. */
static void sponge(const uint8_t *data, size_t len, uint8_t domain, uint8_t *out, size_t out_len) {
  uint64_t a[LANES] = {0};
  size_t rate = 200 - 2 * out_len, at = 0;
  for (; at + rate <= len; at += rate) {
    for (size_t i = 0; i < rate / 8; i++) a[i] ^= load64_le(data + at + 8 * i);
    permute(a);
  }
  for (size_t i = at; i < len; i++) absorb_byte(a, i - at, data[i]);
  absorb_byte(a, len - at, domain);
  absorb_byte(a, rate - 1, 0x80);
  permute(a);
  for (size_t i = 0; i < out_len / 8; i++) store_le(out + 8 * i, a[i], 8);
}

void sha3_256(const uint8_t *data, size_t len, uint8_t out[32]) { sponge(data, len, 0x06, out, 32); }
void sha3_512(const uint8_t *data, size_t len, uint8_t out[64]) { sponge(data, len, 0x06, out, 64); }
void keccak256(const uint8_t *data, size_t len, uint8_t out[32]) { sponge(data, len, 0x01, out, 32); }
void keccak512(const uint8_t *data, size_t len, uint8_t out[64]) { sponge(data, len, 0x01, out, 64); }
