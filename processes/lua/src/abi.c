/* The exports a host calls. Every entry runs protected, so that no Lua error leaves the module;
 * what a process keeps between calls is the Lua state and nothing here but its pointer. */
#include <string.h>

#include "weft.h"

#define EXPORT(name) __attribute__((export_name(name)))

/* Buffers up to this stay for the next call; larger ones go back to the heap. */
enum { KEPT_BYTES_MAX = 16 * 1024, LENGTH_BYTES = 4 };

static lua_State *state;
static weft_text input;
static weft_text output;
static const char ENV = 0;    /* its address is the env's key in the registry */
static const char BASE = 0;   /* the same for the state of compute() */

/* The last resort when even an error's text does not fit into memory. */
static struct { uint32_t length; char bytes[48]; } no_memory = {
  sizeof "{\"ok\":false,\"response\":\"not enough memory\"}" - 1, "{\"ok\":false,\"response\":\"not enough memory\"}"};

typedef struct call {
  const uint8_t *bytes;
  size_t length;
} call;

extern void __wasm_call_ctors(void);

EXPORT("_initialize") void weft_initialize(void) { __wasm_call_ctors(); }

EXPORT("weft_call") void weft_call(void (*function)(void *, void *), void *L, void *ud) { function(L, ud); }

EXPORT("weft_has_env") int weft_has_env(void) {
  if (!state) return 0;
  int known = lua_rawgetp(state, LUA_REGISTRYINDEX, &ENV) != LUA_TNIL;
  lua_pop(state, 1);
  return known;
}

EXPORT("weft_alloc") void *weft_alloc(size_t length) {
  if (length == 0) length = 1;
  if (length > input.capacity) {
    char *bytes = weft_heap(NULL, input.bytes, input.capacity, length);
    if (!bytes) return NULL;
    input.bytes = bytes;
    input.capacity = length;
  }
  return input.bytes;
}

static void drop_if_large(weft_text *buffer) {
  if (buffer->capacity > KEPT_BYTES_MAX) weft_text_free(buffer);
}

/* --- Protected parts: called by lua_pcall with a `call` as light userdata. --- */

static const call *argument(lua_State *L) { return lua_touserdata(L, 1); }

static void begin_output(lua_State *L, const char *head) {
  output.length = 0;
  weft_text_room(L, &output, LENGTH_BYTES);
  output.length = LENGTH_BYTES;
  weft_text_add(L, &output, head, strlen(head));
}

static void write_ok(lua_State *L, int index) {
  begin_output(L, "{\"ok\":true,\"response\":");
  weft_json_add(L, &output, index, WEFT_JSON_RESPONSE);
  weft_text_add_char(L, &output, '}');
}

/* 1: the error's text. */
static int write_error(lua_State *L) {
  size_t length;
  const char *text = lua_tolstring(L, 1, &length);
  begin_output(L, "{\"ok\":false,\"response\":");
  weft_json_add_string(L, &output, text, length, WEFT_JSON_RESPONSE);
  weft_text_add_char(L, &output, '}');
  return 0;
}

static int error_text(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  return 1;
}

static int open_and_load(lua_State *L) {
  const call *source = argument(L);
  weft_sandbox_open(L);
  if (luaL_loadbufferx(L, (const char *)source->bytes, source->length, "=module", "t")) return lua_error(L);
  drop_if_large(&input);
  lua_call(L, 0, 0);
  lua_pushnil(L);
  write_ok(L, -1);
  lua_gc(L, LUA_GCCOLLECT, 0);   /* every process of the module starts from this image */
  return 0;
}

static int set_env(lua_State *L) {
  const call *frame = argument(L);
  weft_frame_push(L, frame->bytes, frame->length);
  luaL_argcheck(L, lua_istable(L, -1), 1, "env must be a table");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &ENV);
  lua_pushnil(L);
  write_ok(L, -1);
  return 0;
}

/* The message's own time, whatever the module is. */
static void set_clock(lua_State *L, int message) {
  if (!lua_istable(L, message)) return;
  lua_pushliteral(L, "Timestamp");
  lua_rawget(L, message);
  int known;
  lua_Number now_ms = lua_tonumberx(L, -1, &known);
  if (known && now_ms > -9e15 && now_ms < 9e15) weft_clock_set((lua_Integer)now_ms);
  lua_pop(L, 1);
}

static void call_handle(lua_State *L, int message) {
  lua_pushvalue(L, message);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &ENV);
  lua_call(L, 2, 1);
}

static void push_base(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &BASE) != LUA_TNIL) return;
  lua_pop(L, 1);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &ENV) != LUA_TNIL) return;
  lua_pop(L, 1);
  lua_newtable(L);
}

/* Leaves the new state at the top. It may be returned alone or after a status word. */
static void take_computed(lua_State *L) {
  if (lua_type(L, -2) == LUA_TSTRING) {
    if (strcmp(lua_tostring(L, -2), "ok") != 0) lua_error(L);
    lua_remove(L, -2);
  } else {
    lua_pop(L, 1);
  }
  if (!lua_istable(L, -1)) luaL_error(L, "compute answered a %s, not the new state", luaL_typename(L, -1));
}

static void call_compute(lua_State *L, int message) {
  push_base(L);
  lua_pushvalue(L, message);
  lua_newtable(L);
  lua_call(L, 3, 2);
  take_computed(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &BASE);
  lua_pushliteral(L, "results");
  lua_rawget(L, -2);
  if (!lua_istable(L, -1)) lua_newtable(L);
}

static int handle(lua_State *L) {
  const call *frame = argument(L);
  weft_frame_push(L, frame->bytes, frame->length);
  drop_if_large(&input);
  set_clock(L, 2);
  if (lua_getglobal(L, "handle") == LUA_TFUNCTION) call_handle(L, 2);
  else if (lua_getglobal(L, "compute") == LUA_TFUNCTION) call_compute(L, 2);
  else return luaL_error(L, "the module defines neither handle nor compute");
  write_ok(L, -1);
  return 0;
}

/* --- */

/* The error at the top, whatever it is, becomes a string there. */
static void make_error_text(lua_State *L) {
  if (lua_type(L, -1) == LUA_TSTRING) return;
  const char *kind = luaL_typename(L, -1);
  lua_pushcfunction(L, error_text);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return;
  lua_pop(L, 1);
  lua_pushfstring(L, "(error object is a %s value)", kind);
}

static void *answer(void) {
  uint32_t length = (uint32_t)(output.length - LENGTH_BYTES);
  memcpy(output.bytes, &length, sizeof length);
  return output.bytes;
}

static void *run(lua_CFunction part, const uint8_t *bytes, size_t length) {
  call now = {bytes, length};
  drop_if_large(&output);
  lua_pushcfunction(state, part);
  lua_pushlightuserdata(state, &now);
  int status = lua_pcall(state, 1, 0, 0);
  drop_if_large(&input);
  if (status == LUA_OK) return answer();
  make_error_text(state);
  lua_pushcfunction(state, write_error);
  lua_insert(state, -2);
  int written = lua_pcall(state, 1, 0, 0);
  lua_settop(state, 0);
  return written == LUA_OK ? answer() : (void *)&no_memory;
}

EXPORT("weft_load") void *weft_load(const uint8_t *bytes, size_t length) {
  if (!state) state = lua_newstate(weft_heap, NULL);
  if (!state) return &no_memory;
  return run(open_and_load, bytes, length);
}

EXPORT("weft_set_env") void *weft_set_env(const uint8_t *bytes, size_t length) { return run(set_env, bytes, length); }

EXPORT("weft_handle") void *weft_handle(const uint8_t *bytes, size_t length) { return run(handle, bytes, length); }
