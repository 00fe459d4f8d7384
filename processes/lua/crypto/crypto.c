/* The Lua face of this folder: luaopen_weft_crypto adds two functions over byte strings to the table on top of
 * the stack (a new one, if there is none) and leaves it there.
 *
 *   digest(name, bytes [, length [, key]]) -> bytes
 *     name: md2 md4 md5 sha1 sha2_256 sha2_512 sha3_256 sha3_512 keccak256 keccak512 blake2b.
 *     length (1..64, default 64) and key (at most 64 bytes) are for blake2b alone.
 *   cipher("aes", mode, encrypt, key, iv, bytes) -> bytes
 *     mode: ecb cbc cfb ofb ctr. key: 16, 24 or 32 bytes. iv: 16 bytes (ecb: not read). encrypt: a boolean.
 *     ecb and cbc need whole blocks of 16 bytes; the others take any length. Nothing is padded here.
 *     The counter of ctr is the last 8 bytes, big-endian: it wraps without a carry into the first 8.
 *
 * Bad arguments are Lua errors that name the argument. Result objects, streams, padding and the ciphers
 * made of plain Lua are in processes/aos/crypto. */
#include "crypto.h"

#include <string.h>

#include "lauxlib.h"
#include "lua.h"

int luaopen_weft_crypto(lua_State *L);

/* ---- digests ---- */

struct digest {
  const char *name;
  size_t out_len;
  void (*run)(const uint8_t *data, size_t len, uint8_t *out);
};

static const struct digest DIGESTS[] = {
  {"md2", 16, md2},
  {"md4", 16, md4},
  {"md5", 16, md5},
  {"sha1", 20, sha1},
  {"sha2_256", 32, sha2_256},
  {"sha2_512", 64, sha2_512},
  {"sha3_256", 32, sha3_256},
  {"sha3_512", 64, sha3_512},
  {"keccak256", 32, keccak256},
  {"keccak512", 64, keccak512},
  {NULL, 0, NULL},
};

static int digest_blake2b(lua_State *L, const uint8_t *data, size_t len) {
  uint8_t out[DIGEST_BYTES_MAX];
  size_t key_len;
  lua_Integer out_len = luaL_optinteger(L, 3, DIGEST_BYTES_MAX);
  const char *key = luaL_optlstring(L, 4, "", &key_len);
  luaL_argcheck(L, out_len >= 1 && out_len <= DIGEST_BYTES_MAX, 3, "a digest has 1 to 64 bytes");
  luaL_argcheck(L, key_len <= DIGEST_BYTES_MAX, 4, "a key has at most 64 bytes");
  blake2b(data, len, (const uint8_t *)key, key_len, out, (size_t)out_len);
  lua_pushlstring(L, (const char *)out, (size_t)out_len);
  return 1;
}

static int l_digest(lua_State *L) {
  uint8_t out[DIGEST_BYTES_MAX];
  size_t len;
  const char *name = luaL_checkstring(L, 1);
  const uint8_t *data = (const uint8_t *)luaL_checklstring(L, 2, &len);
  if (strcmp(name, "blake2b") == 0) return digest_blake2b(L, data, len);
  for (const struct digest *d = DIGESTS; d->name != NULL; d++) {
    if (strcmp(name, d->name) != 0) continue;
    d->run(data, len, out);
    lua_pushlstring(L, (const char *)out, d->out_len);
    return 1;
  }
  return luaL_argerror(L, 1, "no such digest");
}

/* ---- ciphers ---- */

struct mode {
  struct aes_key key;
  int encrypt;
  uint8_t iv[AES_BLOCK_BYTES]; /* the last cipher block, the key stream or the counter */
};

/* One block, or the shorter last one of a stream mode: n is 1..16. */
typedef void (*step_fn)(struct mode *m, const uint8_t *in, uint8_t *out, size_t n);

static void xor_into(uint8_t *out, const uint8_t *a, const uint8_t *b, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = a[i] ^ b[i];
}

static void step_ecb(struct mode *m, const uint8_t *in, uint8_t *out, size_t n) {
  (void)n;
  if (m->encrypt) aes_encrypt(&m->key, in, out);
  else aes_decrypt(&m->key, in, out);
}

static void step_cbc(struct mode *m, const uint8_t *in, uint8_t *out, size_t n) {
  uint8_t block[AES_BLOCK_BYTES];
  if (m->encrypt) {
    xor_into(block, in, m->iv, n);
    aes_encrypt(&m->key, block, out);
    memcpy(m->iv, out, n);
  } else {
    aes_decrypt(&m->key, in, block);
    xor_into(out, block, m->iv, n);
    memcpy(m->iv, in, n);
  }
}

static void step_cfb(struct mode *m, const uint8_t *in, uint8_t *out, size_t n) {
  uint8_t block[AES_BLOCK_BYTES];
  aes_encrypt(&m->key, m->iv, block);
  xor_into(out, in, block, n);
  memcpy(m->iv, m->encrypt ? out : in, n);
}

static void step_ofb(struct mode *m, const uint8_t *in, uint8_t *out, size_t n) {
  aes_encrypt(&m->key, m->iv, m->iv);
  xor_into(out, in, m->iv, n);
}

static void step_ctr(struct mode *m, const uint8_t *in, uint8_t *out, size_t n) {
  uint8_t block[AES_BLOCK_BYTES];
  aes_encrypt(&m->key, m->iv, block);
  xor_into(out, in, block, n);
  for (int i = AES_BLOCK_BYTES - 1; i >= AES_BLOCK_BYTES / 2 && ++m->iv[i] == 0; i--) {}
}

static void check_arguments(lua_State *L, int mode, size_t key_len, size_t iv_len, size_t len) {
  int ecb = mode == 0, whole = mode <= 1;
  luaL_argcheck(L, key_len == 16 || key_len == 24 || key_len == 32, 4, "a key has 16, 24 or 32 bytes");
  luaL_argcheck(L, ecb || iv_len == AES_BLOCK_BYTES, 5, "an initial vector has 16 bytes");
  luaL_argcheck(L, !whole || len % AES_BLOCK_BYTES == 0, 6, "this mode takes whole blocks of 16 bytes");
}

static int l_cipher(lua_State *L) {
  static const char *const NAMES[] = {"aes", NULL};
  static const char *const MODES[] = {"ecb", "cbc", "cfb", "ofb", "ctr", NULL};
  static const step_fn STEPS[] = {step_ecb, step_cbc, step_cfb, step_ofb, step_ctr};
  struct mode m;
  luaL_Buffer b;
  size_t key_len, iv_len, len;
  luaL_checkoption(L, 1, NULL, NAMES);
  int mode = luaL_checkoption(L, 2, NULL, MODES);
  const uint8_t *key = (const uint8_t *)luaL_checklstring(L, 4, &key_len);
  const uint8_t *iv = (const uint8_t *)luaL_optlstring(L, 5, "", &iv_len);
  const uint8_t *in = (const uint8_t *)luaL_checklstring(L, 6, &len);
  check_arguments(L, mode, key_len, iv_len, len);
  m.encrypt = lua_toboolean(L, 3);
  aes_expand(&m.key, key, key_len);
  if (mode != 0) memcpy(m.iv, iv, AES_BLOCK_BYTES);
  uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, len);
  for (size_t at = 0; at < len; at += AES_BLOCK_BYTES) {
    size_t n = len - at < AES_BLOCK_BYTES ? len - at : AES_BLOCK_BYTES;
    STEPS[mode](&m, in + at, out + at, n);
  }
  luaL_pushresultsize(&b, len);
  return 1;
}

int luaopen_weft_crypto(lua_State *L) {
  static const luaL_Reg FUNCTIONS[] = {{"digest", l_digest}, {"cipher", l_cipher}, {NULL, NULL}};
  if (lua_type(L, -1) != LUA_TTABLE) lua_newtable(L);
  luaL_setfuncs(L, FUNCTIONS, 0);
  return 1;
}
