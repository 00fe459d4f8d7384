/* Binary frames from the host, straight into Lua tables. The format stands in README.md.
 * A frame is the host's, so a bad one is a bug; it is refused, never trusted. */
#include <string.h>

#include "weft.h"

enum { FRAME_VERSION = 1, DEPTH_MAX = 200 };
enum kind { NIL, FALSE, TRUE, FLOAT, INTEGER, STRING, ARRAY, OBJECT };

typedef struct reader {
  lua_State *L;
  const uint8_t *at;
  const uint8_t *end;
} reader;

static const uint8_t *take(reader *frame, size_t length) {
  if ((size_t)(frame->end - frame->at) < length) luaL_error(frame->L, "bad frame: ends early");
  const uint8_t *taken = frame->at;
  frame->at += length;
  return taken;
}

static uint32_t take_count(reader *frame) {
  uint32_t count;
  memcpy(&count, take(frame, sizeof count), sizeof count);
  return count;
}

/* Every element takes at least one byte: a count cannot ask for more room than the frame is long. */
static uint32_t take_elements(reader *frame) {
  uint32_t count = take_count(frame);
  if (count > (size_t)(frame->end - frame->at)) luaL_error(frame->L, "bad frame: count %d too large", (int)count);
  return count;
}

static void push_string(reader *frame) {
  uint32_t length = take_count(frame);
  lua_pushlstring(frame->L, (const char *)take(frame, length), length);
}

static void push_float(reader *frame) {
  lua_Number value;
  memcpy(&value, take(frame, sizeof value), sizeof value);
  lua_pushnumber(frame->L, value);
}

static void push_integer(reader *frame) {
  lua_Integer value;
  memcpy(&value, take(frame, sizeof value), sizeof value);
  lua_pushinteger(frame->L, value);
}

static void push_value(reader *frame, int depth);

static void push_array(reader *frame, int depth) {
  uint32_t count = take_elements(frame);
  lua_createtable(frame->L, (int)count, 0);
  for (uint32_t key = 1; key <= count; key++) {
    push_value(frame, depth);
    lua_rawseti(frame->L, -2, key);
  }
}

static void push_object(reader *frame, int depth) {
  uint32_t count = take_elements(frame);
  lua_createtable(frame->L, 0, (int)count);
  for (uint32_t pair = 0; pair < count; pair++) {
    push_string(frame);
    push_value(frame, depth);
    lua_rawset(frame->L, -3);
  }
}

static void push_value(reader *frame, int depth) {
  if (depth > DEPTH_MAX) luaL_error(frame->L, "bad frame: nested deeper than %d", DEPTH_MAX);
  luaL_checkstack(frame->L, 4, "bad frame");
  switch (*take(frame, 1)) {
    case NIL: lua_pushnil(frame->L); break;
    case FALSE: lua_pushboolean(frame->L, 0); break;
    case TRUE: lua_pushboolean(frame->L, 1); break;
    case FLOAT: push_float(frame); break;
    case INTEGER: push_integer(frame); break;
    case STRING: push_string(frame); break;
    case ARRAY: push_array(frame, depth + 1); break;
    case OBJECT: push_object(frame, depth + 1); break;
    default: luaL_error(frame->L, "bad frame: unknown kind");
  }
}

void weft_frame_push(lua_State *L, const uint8_t *bytes, size_t length) {
  reader frame = {L, bytes, bytes + length};
  if (*take(&frame, 1) != FRAME_VERSION) luaL_error(L, "bad frame: unknown version");
  push_value(&frame, 0);
  if (frame.at != frame.end) luaL_error(L, "bad frame: bytes after its end");
}
