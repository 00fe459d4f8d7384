/* `require("weft")`: what a kernel written in Lua needs from the engine. */
#include <stdlib.h>
#include <string.h>

#include "weft.h"

static int now(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) weft_clock_set((lua_Integer)luaL_checknumber(L, 1));
  lua_pushinteger(L, weft_clock_now());
  return 1;
}

/* The same effect as math.randomseed, out of reach of whoever replaces that. */
static int seed(lua_State *L) {
  srand((unsigned)(lua_Integer)luaL_checknumber(L, 1));
  (void)rand();
  return 0;
}

static int hex(lua_State *L) {
  static const char digits[] = "0123456789abcdef";
  size_t length;
  const unsigned char *bytes = (const unsigned char *)luaL_checklstring(L, 1, &length);
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  for (size_t at = 0; at < length; at++) {
    luaL_addchar(&text, digits[bytes[at] >> 4]);
    luaL_addchar(&text, digits[bytes[at] & 15]);
  }
  luaL_pushresult(&text);
  return 1;
}

static int hex_value(char digit) {
  static const char digits[] = "0123456789abcdef0123456789ABCDEF";
  const char *found = digit ? strchr(digits, digit) : NULL;
  return found ? (int)(found - digits) % 16 : -1;
}

static int unhex(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  luaL_Buffer bytes;
  luaL_buffinit(L, &bytes);
  for (size_t at = 0; at + 1 < length; at += 2) {
    int high = hex_value(text[at]), low = hex_value(text[at + 1]);
    if (high < 0 || low < 0) return 0;
    luaL_addchar(&bytes, (char)(high * 16 + low));
  }
  if (length % 2) return 0;
  luaL_pushresult(&bytes);
  return 1;
}

#define IMPORT(name) __attribute__((import_module("weft"), import_name(name)))

/* The host answers a question and keeps the answer until it is taken; it may also end the message here. */
IMPORT("ask") extern size_t weft_host_ask(const char *question, size_t length);
IMPORT("take") extern void weft_host_take(char *answer);

/* ask(question): what the compute unit answers, both JSON. */
static int ask(lua_State *L) {
  size_t length;
  const char *question = luaL_checklstring(L, 1, &length);
  size_t answer = weft_host_ask(question, length);
  luaL_Buffer text;
  weft_host_take(luaL_buffinitsize(L, &text, answer));
  luaL_pushresultsize(&text, answer);
  return 1;
}

int luaopen_weft(lua_State *L) {
  static const luaL_Reg members[] = {
    {"now", now}, {"seed", seed}, {"hex", hex}, {"unhex", unhex}, {"ask", ask}, {NULL, NULL}};
  luaL_newlib(L, members);
  weft_lines_install(L);
#ifdef WEFT_CRYPTO
  luaopen_weft_crypto(L);
#endif
  return 1;
}
