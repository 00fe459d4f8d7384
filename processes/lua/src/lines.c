/* Which lines ran, for a test runner's coverage. Off until asked; while off it costs nothing.
 * Reads Lua's own structures, as bint.c does and no other file of the glue. */
#include "lprefix.h"

#include "lapi.h"
#include "ldebug.h"
#include "lfunc.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"

#include "weft.h"

static const char RECORD = 0;   /* its address is the record's key in the registry */

/* Pushes record[source], a table line -> times. */
static void push_lines(lua_State *L, const Proto *function) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &RECORD) != LUA_TTABLE) return;
  setsvalue2s(L, L->top, function->source);
  api_incr_top(L);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -5);
  }
}

static void count_line(lua_State *L, lua_Debug *at) {
  int top = lua_gettop(L);
  const Proto *function = clLvalue(at->i_ci->func)->p;
  if (function->source) {
    push_lines(L, function);
    if (lua_istable(L, -1)) {
      lua_rawgeti(L, -1, at->currentline);
      lua_pushinteger(L, lua_tointeger(L, -1) + 1);
      lua_rawseti(L, -3, at->currentline);
    }
  }
  lua_settop(L, top);
}

/* Hooks belong to a coroutine, and a new one takes over its maker's: set all that exist. */
static void hook_all(lua_State *L, lua_Hook hook, int mask) {
  lua_sethook(G(L)->mainthread, hook, mask, 0);
  for (GCObject *object = G(L)->allgc; object; object = object->next)
    if (object->tt == LUA_TTHREAD) lua_sethook(gco2th(object), hook, mask, 0);
}

static void new_record(lua_State *L) {
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &RECORD);
}

static int lines(lua_State *L) {
  int on = lua_toboolean(L, 1);
  if (on && lua_rawgetp(L, LUA_REGISTRYINDEX, &RECORD) != LUA_TTABLE) new_record(L);
  hook_all(L, on ? count_line : NULL, on ? LUA_MASKLINE : 0);
  return 0;
}

static int lines_take(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &RECORD) != LUA_TTABLE) lua_newtable(L);
  new_record(L);
  return 1;
}

/* Marks set[line] for every instruction of a function and of those inside it. */
static void mark_lines(lua_State *L, const Proto *function, int set) {
  for (int at = 0; at < function->sizelineinfo; at++) {
    lua_pushboolean(L, 1);
    lua_rawseti(L, set, function->lineinfo[at]);
  }
  for (int at = 0; at < function->sizep; at++) mark_lines(L, function->p[at], set);
}

static int last_line(const Proto *function) {
  int last = 0;
  for (int at = 0; at < function->sizelineinfo; at++)
    if (function->lineinfo[at] > last) last = function->lineinfo[at];
  for (int at = 0; at < function->sizep; at++) {
    int inner = last_line(function->p[at]);
    if (inner > last) last = inner;
  }
  return last;
}

static int lines_of(lua_State *L) {
  size_t length;
  const char *source = luaL_checklstring(L, 1, &length);
  if (luaL_loadbufferx(L, source, length, luaL_optstring(L, 2, source), "t")) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  const Proto *function = clLvalue(L->top - 1)->p;
  lua_newtable(L);
  int set = lua_gettop(L);
  mark_lines(L, function, set);
  lua_newtable(L);
  lua_Integer count = 0;
  for (int line = 1; line <= last_line(function); line++) {
    if (lua_rawgeti(L, set, line) != LUA_TNIL) {
      lua_pushinteger(L, line);
      lua_rawseti(L, set + 1, ++count);
    }
    lua_pop(L, 1);
  }
  return 1;
}

void weft_lines_install(lua_State *L) {
  static const luaL_Reg members[] = {{"lines", lines}, {"lines_take", lines_take}, {"lines_of", lines_of}, {NULL, NULL}};
  luaL_setfuncs(L, members, 0);
}
