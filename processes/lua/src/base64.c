/* base64 as aos's `.base64`: encode, decode, makeencoder, makedecoder, on any bytes.
 * An encoder is a table 0..64 -> byte (64 is the pad), a decoder the other way round. What aos's does with
 * texts of a wrong length or padding in the middle is kept too. */
#include <string.h>

#include "weft.h"

enum { CODES = 65, PAD = 64, NONE = -1 };

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

/* --- Alphabets --- */

/* The codes 0..64 as bytes, from the table at `index` or, if there is none, the standard ones. */
static void read_encoder(lua_State *L, int index, unsigned char *bytes) {
  if (lua_isnoneornil(L, index)) {
    memcpy(bytes, standard, CODES);
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  for (int code = 0; code < CODES; code++) {
    if (lua_rawgeti(L, index, code) != LUA_TNUMBER) luaL_error(L, "bad argument #1 to 'char' (number expected, got nil)");
    bytes[code] = (unsigned char)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
}

static void read_decoder(lua_State *L, int index, int *codes) {
  for (int byte = 0; byte < 256; byte++) codes[byte] = NONE;
  if (lua_isnoneornil(L, index)) {
    for (int code = 0; code < CODES; code++) codes[(unsigned char)standard[code]] = code;
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  for (int byte = 0; byte < 256; byte++) {
    if (lua_rawgeti(L, index, byte) == LUA_TNUMBER) codes[byte] = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
}

/* Argument `index`'s first byte, or the standard one: what a maker puts at 62, 63 and 64. */
static char chosen(lua_State *L, int index, char otherwise) {
  if (lua_isnoneornil(L, index)) return otherwise;
  if (lua_type(L, index) != LUA_TSTRING) luaL_error(L, "attempt to index a %s value", luaL_typename(L, index));
  return *lua_tostring(L, index);
}

static void read_choice(lua_State *L, char *bytes) {
  memcpy(bytes, standard, CODES);
  bytes[62] = chosen(L, 1, standard[62]);
  bytes[63] = chosen(L, 2, standard[63]);
  bytes[PAD] = chosen(L, 3, standard[PAD]);
}

static int makeencoder(lua_State *L) {
  char bytes[CODES];
  read_choice(L, bytes);
  lua_createtable(L, CODES - 1, 1);
  for (int code = 0; code < CODES; code++) {
    lua_pushinteger(L, (unsigned char)bytes[code]);
    lua_rawseti(L, -2, code);
  }
  return 1;
}

static int makedecoder(lua_State *L) {
  char bytes[CODES];
  read_choice(L, bytes);
  lua_createtable(L, 0, CODES);
  for (int code = 0; code < CODES; code++) {
    lua_pushinteger(L, code);
    lua_rawseti(L, -2, (unsigned char)bytes[code]);
  }
  return 1;
}

/* --- Encoding --- */

/* Argument 1, which must be a string; the message says what could not be done with another value. */
static const char *text_argument(lua_State *L, const char *attempt, size_t *length) {
  if (lua_type(L, 1) != LUA_TSTRING) luaL_error(L, "attempt to %s a %s value", attempt, luaL_typename(L, 1));
  return lua_tolstring(L, 1, length);
}

static int encode(lua_State *L) {
  size_t length;
  unsigned char bytes[CODES];
  lua_settop(L, 2);
  const unsigned char *text = (const unsigned char *)text_argument(L, "get length of", &length);
  read_encoder(L, 2, bytes);
  luaL_Buffer buffer;
  char *out = luaL_buffinitsize(L, &buffer, (length + 2) / 3 * 4), *begin = out;
  for (size_t at = 0; at < length; at += 3) {
    size_t left = length - at;
    unsigned group = (unsigned)text[at] << 16 | (left > 1 ? text[at + 1] << 8 : 0) | (left > 2 ? text[at + 2] : 0);
    *out++ = (char)bytes[group >> 18];
    *out++ = (char)bytes[group >> 12 & 63];
    *out++ = (char)bytes[left > 1 ? group >> 6 & 63 : PAD];
    *out++ = (char)bytes[left > 2 ? group & 63 : PAD];
  }
  luaL_pushresultsize(&buffer, (size_t)(out - begin));
  return 1;
}

/* --- Decoding --- */

static int is_alphanumeric(unsigned char byte) {
  return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
}

/* The byte that stands for a code; each decoder must know 62 and 63. */
static int byte_of(lua_State *L, const int *codes, int code) {
  for (int byte = 0; byte < 256; byte++)
    if (codes[byte] == code) return byte;
  return luaL_error(L, "bad argument #1 to 'char' (number expected, got nil)");
}

/* Keeps letters, digits, the two other characters and `=`; all else is skipped. */
static size_t strip(lua_State *L, const int *codes, const unsigned char *text, size_t length, unsigned char *kept) {
  int other = byte_of(L, codes, 62), another = byte_of(L, codes, 63);
  size_t count = 0;
  for (size_t at = 0; at < length; at++)
    if (is_alphanumeric(text[at]) || text[at] == other || text[at] == another || text[at] == '=') kept[count++] = text[at];
  return count;
}

/* The codes of up to four bytes from `at` as one number; the pad counts as 64, as aos's counts it. */
static unsigned group_of(lua_State *L, const int *codes, const unsigned char *text, size_t length, size_t at, int bytes) {
  unsigned group = 0;
  for (int index = 0; index < bytes; index++) {
    int code = at + (size_t)index < length ? codes[text[at + (size_t)index]] : NONE;
    if (code == NONE) luaL_error(L, "attempt to perform arithmetic on a nil value (field '?')");
    group += (unsigned)code << (18 - 6 * index);
  }
  return group;
}

static char *put(char *out, unsigned group, int bytes) {
  for (int index = 0; index < bytes; index++) *out++ = (char)(group >> (16 - 8 * index));
  return out;
}

static int padding_of(const unsigned char *text, size_t length) {
  if (length < 1 || text[length - 1] != '=') return 0;
  return length > 1 && text[length - 2] == '=' ? 2 : 1;
}

static int decode(lua_State *L) {
  size_t length;
  int codes[256];
  lua_settop(L, 2);
  const unsigned char *text = (const unsigned char *)text_argument(L, "index", &length);
  read_decoder(L, 2, codes);
  unsigned char *kept = lua_newuserdata(L, length + 1);
  length = strip(L, codes, text, length, kept);
  int padding = padding_of(kept, length);
  luaL_Buffer buffer;
  char *out = luaL_buffinitsize(L, &buffer, length + 4), *begin = out;
  size_t whole = !padding ? length : length < 4 ? 0 : length - 4;
  for (size_t at = 0; at < whole; at += 4) out = put(out, group_of(L, codes, kept, length, at, 4), 3);
  if (padding && length < 4) luaL_error(L, "attempt to perform arithmetic on a nil value (field '?')");
  if (padding) out = put(out, group_of(L, codes, kept, length, length - 4, 4 - padding), 3 - padding);
  luaL_pushresultsize(&buffer, (size_t)(out - begin));
  return 1;
}

int luaopen_weft_base64(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"makeencoder", makeencoder}, {"makedecoder", makedecoder}, {"encode", encode}, {"decode", decode}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
