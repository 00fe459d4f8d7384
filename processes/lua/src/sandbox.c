/* What a process may see: an allow-list, opened in a fixed order. Whatever is not named here, or left
 * in a library by patches/, does not exist. No files, no loader but `preload`. */
#include "weft.h"
#include "lualib.h"

enum { GC_PAUSE_PERCENT = 200, GC_STEP_PERCENT = 200 };

static int loader_missing(lua_State *L, const char *name) {
  return luaL_error(L, "module '%s' not found:\n\tno field package.preload['%s']", name, name);
}

/* require(name): package.loaded, else package.preload; the registry's tables, not the global ones. */
static int require(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, 2, name), lua_toboolean(L, -1)) return 1;
  lua_settop(L, 2);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  if (lua_getfield(L, -1, name) == LUA_TNIL) return loader_missing(L, name);
  lua_pushvalue(L, 1);
  lua_pushliteral(L, ":preload:");
  lua_call(L, 2, 1);
  if (!lua_isnil(L, -1)) lua_setfield(L, 2, name);
  if (lua_getfield(L, 2, name) == LUA_TNIL) {
    lua_pushboolean(L, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
  }
  return 1;
}

static int open_package(lua_State *L) {
  lua_createtable(L, 0, 2);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_setfield(L, -2, "preload");
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_setfield(L, -2, "loaded");
  lua_pushcfunction(L, require);
  lua_setglobal(L, "require");
  return 1;
}

static void protect_strings(lua_State *L) {
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 2);
}

typedef struct library {
  const char *name;
  lua_CFunction open;   /* NULL: another name of the one before */
  int is_global;
} library;

static const library libraries[] = {
  {"_G", luaopen_base, 1},
  {LUA_LOADLIBNAME, open_package, 1},
  {LUA_COLIBNAME, luaopen_coroutine, 1},
  {LUA_TABLIBNAME, luaopen_table, 1},
  {LUA_OSLIBNAME, luaopen_weft_os, 1},
  {LUA_STRLIBNAME, luaopen_string, 1},
  {LUA_MATHLIBNAME, luaopen_math, 1},
  {LUA_UTF8LIBNAME, luaopen_utf8, 1},
  {LUA_DBLIBNAME, luaopen_debug, 1},
  {LUA_BITLIBNAME, luaopen_bit32, 1},
  {"json", luaopen_weft_json, 0},
  {".bint", luaopen_weft_bint, 0},
  {"bint", NULL, 0},
  {".base64", luaopen_weft_base64, 0},
  {"base64", NULL, 0},
  {"weft", luaopen_weft, 0},
};

static void open_library(lua_State *L, const library *library) {
  luaL_requiref(L, library->name, library->open, library->is_global);
  lua_pop(L, 1);
}

static void name_again(lua_State *L, const char *known, const char *name) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, known);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void weft_sandbox_open(lua_State *L) {
  lua_gc(L, LUA_GCSETPAUSE, GC_PAUSE_PERCENT);
  lua_gc(L, LUA_GCSETSTEPMUL, GC_STEP_PERCENT);
  for (size_t at = 0; at < sizeof libraries / sizeof *libraries; at++) {
    if (libraries[at].open) open_library(L, &libraries[at]);
    else name_again(L, libraries[at - 1].name, libraries[at].name);
  }
  protect_strings(L);
}
