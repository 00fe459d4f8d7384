/* What the glue's files share: the state, the text builder, the clock, and who installs what.
 * Not Lua's own configuration (that is weft_config.h). */
#ifndef weft_h
#define weft_h

#include <stddef.h>
#include <stdint.h>

#include "lua.h"
#include "lauxlib.h"

/* heap.c: Lua's allocator; every byte the glue keeps comes from here too. */
void *weft_heap(void *context, void *block, size_t old_bytes, size_t new_bytes);

/* text.c: a byte string that grows. Growing raises "not enough memory" in `L`. */
typedef struct weft_text {
  char *bytes;
  size_t length;
  size_t capacity;
} weft_text;

char *weft_text_room(lua_State *L, weft_text *text, size_t more_bytes);
void weft_text_add(lua_State *L, weft_text *text, const char *bytes, size_t length);
void weft_text_add_char(lua_State *L, weft_text *text, char byte);
void weft_text_free(weft_text *text);
int weft_raise_memory(lua_State *L);

/* frame.c: pushes the one value of a frame or raises "bad frame: ...". */
void weft_frame_push(lua_State *L, const uint8_t *bytes, size_t length);

/* json.c */
/* The json module's text, bytes as they are; or a response's, which is UTF-8 and keeps integers whole. */
enum weft_json_kind { WEFT_JSON_LIBRARY, WEFT_JSON_RESPONSE };
void weft_json_add(lua_State *L, weft_text *text, int index, enum weft_json_kind kind);
void weft_json_add_string(lua_State *L, weft_text *text, const char *bytes, size_t length, enum weft_json_kind kind);
int luaopen_weft_json(lua_State *L);

/* number.c: the only place a number becomes text. */
#define WEFT_NUMBER_BYTES 40
size_t weft_integer_text(char *buffer, lua_Integer value);
size_t weft_float_text(char *buffer, lua_Number value);

/* clock.c: milliseconds, as the message says. */
void weft_clock_set(lua_Integer now_ms);
lua_Integer weft_clock_now(void);
int luaopen_weft_os(lua_State *L);

/* sandbox.c: opens what a process may see, and nothing else. */
void weft_sandbox_open(lua_State *L);

/* natives.c: `require("weft")`. */
int luaopen_weft(lua_State *L);
/* lines.c: adds lines, lines_take, lines_of to the table at the top. */
void weft_lines_install(lua_State *L);
/* crypto/: adds its functions to the table at the top; linked only if there. */
int luaopen_weft_crypto(lua_State *L);

int luaopen_weft_bint(lua_State *L);
int luaopen_weft_base64(lua_State *L);

#endif
