/* What tostring shows of a table, function, thread or userdata: a number given when first asked.
 * Never an address, so that a rebuilt engine and a moved heap show the same. Numbers are not reused;
 * the table that remembers them is weak, so a dead object costs nothing. */
#include <stdio.h>

#include "weft.h"

static lua_Integer last_identity;

/* Pushes the table object -> number. Its address in this file is its registry key. */
static void push_known(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &last_identity) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &last_identity);
}

static lua_Integer identity_of(lua_State *L, int index) {
  push_known(L);
  lua_pushvalue(L, index);
  if (lua_rawget(L, -2) != LUA_TNUMBER) {
    lua_pushvalue(L, index);
    lua_pushinteger(L, last_identity + 1);
    lua_rawset(L, -4);
    lua_pop(L, 1);
    lua_pushinteger(L, ++last_identity);
  }
  lua_Integer identity = lua_tointeger(L, -1);
  lua_pop(L, 2);
  return identity;
}

void weft_push_identity(lua_State *L, int index, const char *kind) {
  char number[24];
  luaL_checkstack(L, 6, NULL);
  snprintf(number, sizeof number, "0x%08llx", (unsigned long long)identity_of(L, lua_absindex(L, index)));
  lua_pushfstring(L, "%s: %s", kind, number);
}
