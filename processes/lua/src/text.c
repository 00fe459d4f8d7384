/* A byte string that grows, for JSON and other output. Not a Lua string; the owner frees it. */
#include <string.h>

#include "weft.h"

enum { SMALLEST_CAPACITY = 256 };

int weft_raise_memory(lua_State *L) {
  lua_pushliteral(L, "not enough memory");
  return lua_error(L);
}

char *weft_text_room(lua_State *L, weft_text *text, size_t more_bytes) {
  size_t wanted = text->length + more_bytes;
  if (wanted < more_bytes) weft_raise_memory(L);
  if (wanted > text->capacity) {
    size_t capacity = text->capacity ? text->capacity : SMALLEST_CAPACITY;
    while (capacity < wanted) capacity = capacity < wanted / 2 ? wanted : capacity * 2;
    char *bytes = weft_heap(NULL, text->bytes, text->capacity, capacity);
    if (!bytes) weft_raise_memory(L);
    text->bytes = bytes;
    text->capacity = capacity;
  }
  return text->bytes + text->length;
}

void weft_text_add(lua_State *L, weft_text *text, const char *bytes, size_t length) {
  memcpy(weft_text_room(L, text, length), bytes, length);
  text->length += length;
}

void weft_text_add_char(lua_State *L, weft_text *text, char byte) {
  *weft_text_room(L, text, 1) = byte;
  text->length++;
}

void weft_text_free(weft_text *text) {
  weft_heap(NULL, text->bytes, text->capacity, 0);
  *text = (weft_text){0};
}
