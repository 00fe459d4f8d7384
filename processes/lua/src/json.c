/* JSON: encode and decode as the json module of aos behaves, error texts included, and the response's
 * encoder, which is the same with bytes that are not UTF-8 replaced. Not a validator of anything else. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weft.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* --- Strings out --- */

/* The length of the valid UTF-8 character at `at`, or 0. Overlong forms and surrogates are not valid. */
static size_t utf8_length(const unsigned char *at, size_t left) {
  unsigned char lead = at[0];
  size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || length > left) return 0;
  for (size_t index = 1; index < length; index++)
    if ((at[index] & 0xc0) != 0x80) return 0;
  if (lead == 0xe0 && at[1] < 0xa0) return 0;
  if (lead == 0xed && at[1] > 0x9f) return 0;
  if (lead == 0xf0 && at[1] < 0x90) return 0;
  if (lead == 0xf4 && at[1] > 0x8f) return 0;
  return length;
}

/* How many bytes at `at`, which starts no valid character, one U+FFFD stands for: its longest valid beginning. */
static size_t broken_length(const unsigned char *at, size_t left) {
  unsigned char lead = at[0];
  if (lead < 0xc2 || lead > 0xf4 || left < 2) return 1;
  unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (at[1] < low || at[1] > high) return 1;
  if (lead < 0xf0 || left < 3 || (at[2] & 0xc0) != 0x80) return lead < 0xe0 ? 1 : 2;
  return 3;
}

static const char *short_escape(unsigned char byte) {
  switch (byte) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return NULL;
  }
}

static void add_escape(lua_State *L, weft_text *text, unsigned char byte) {
  static const char hex[] = "0123456789abcdef";
  const char *escape = short_escape(byte);
  char number[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
  if (escape) weft_text_add(L, text, escape, 2);
  else weft_text_add(L, text, number, sizeof number);
}

static int is_plain(unsigned char byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

void weft_json_add_string(lua_State *L, weft_text *text, const char *bytes, size_t length, enum weft_json_kind kind) {
  const unsigned char *at = (const unsigned char *)bytes, *end = at + length;
  weft_text_add_char(L, text, '"');
  while (at < end) {
    const unsigned char *start = at;
    while (at < end && is_plain(*at)) at++;
    weft_text_add(L, text, (const char *)start, (size_t)(at - start));
    if (at == end) break;
    size_t character = *at < 0x80 ? 0 : kind == WEFT_JSON_LIBRARY ? 1 : utf8_length(at, (size_t)(end - at));
    if (*at < 0x80) add_escape(L, text, *at++);
    else if (character) weft_text_add(L, text, (const char *)at, character), at += character;
    else weft_text_add(L, text, REPLACEMENT, 3), at += broken_length(at, (size_t)(end - at));
  }
  weft_text_add_char(L, text, '"');
}

/* --- Values out --- */

/* Tables that are open lie on the Lua stack, LEVEL_SLOTS each; nothing recurses, so nesting costs no C stack:
 *   array   table, false, length, index of the element being written
 *   object  table, iterator (nil: `next`), state, control */
enum { LEVEL_SLOTS = 4, SCANNED_LEVELS = 16, RESPONSE_LEVELS_MAX = 100 };

typedef struct writer {
  lua_State *L;
  weft_text *text;
  size_t start;   /* where this value's text begins */
  enum weft_json_kind kind;
  int ancestors;  /* stack index of the set of open tables beyond the first SCANNED_LEVELS; nil until needed */
  int depth;
} writer;

static int level_of(const writer *out, int depth) { return out->ancestors + 1 + (depth - 1) * LEVEL_SLOTS; }

/* Takes back what was written: the text may be an outer encoder's too. */
static int refuse_value(writer *out, const char *format, const char *detail) {
  out->text->length = out->start;
  return luaL_error(out->L, format, detail);
}

/* The json module of aos shows integers as %.14g too; a response shows them whole. */
static void add_number(writer *out, int index) {
  char buffer[WEFT_NUMBER_BYTES];
  lua_Number value = lua_tonumber(out->L, index);
  size_t length;
  if (lua_isinteger(out->L, index) && out->kind == WEFT_JSON_RESPONSE)
    length = weft_integer_text(buffer, lua_tointeger(out->L, index));
  else
    length = weft_float_text(buffer, value);
  if (value != value || isinf(value)) refuse_value(out, "unexpected number value '%s'", buffer);
  weft_text_add(out->L, out->text, buffer, length);
}

static void add_string(writer *out, int index) {
  size_t length;
  const char *bytes = lua_tolstring(out->L, index, &length);
  weft_json_add_string(out->L, out->text, bytes, length, out->kind);
}

/* Pushes what `pairs` would: iterator, state, first control. Nil in place of a plain table's `next`. */
static void begin_pairs(lua_State *L, int table) {
  if (luaL_getmetafield(L, table, "__pairs") != LUA_TNIL) {
    lua_pushvalue(L, table);
    lua_call(L, 1, 3);
  } else {
    lua_pushnil(L);
    lua_pushvalue(L, table);
    lua_pushnil(L);
  }
}

/* With iterator, state and control at the top: replaces control by the next key and pushes its value; or answers 0. */
static int next_pair(lua_State *L) {
  int control = lua_gettop(L);
  if (lua_isnil(L, control - 2)) return lua_next(L, control - 1);
  lua_pushvalue(L, control - 2);
  lua_pushvalue(L, control - 1);
  lua_pushvalue(L, control);
  lua_remove(L, control);
  lua_call(L, 2, 2);
  return !lua_isnil(L, -2);
}

/* Counts the keys of a table that begins like an array: all must be numbers, and none may be missing. */
static lua_Integer array_length(writer *out, int table) {
  lua_State *L = out->L;
  int top = lua_gettop(L);
  size_t written = out->text->length;
  lua_Integer count = 0;
  for (begin_pairs(L, table); next_pair(L); lua_pop(L, 1), count++)
    if (lua_type(L, -2) != LUA_TNUMBER) refuse_value(out, "invalid table: mixed or invalid key types", NULL);
  if (count != luaL_len(L, table)) refuse_value(out, "invalid table: sparse array", NULL);
  out->text->length = written;   /* what a metamethod wrote into the shared text */
  lua_settop(L, top);
  return count;
}

static int looks_like_array(lua_State *L, int table) {
  int first = lua_rawgeti(L, table, 1);
  lua_pop(L, 1);
  if (first != LUA_TNIL) return 1;
  lua_pushnil(L);
  if (!lua_next(L, table)) return 1;
  lua_pop(L, 2);
  return 0;
}

/* The set of open tables beyond the scanned levels; pushes it. */
static void push_ancestors(writer *out) {
  if (lua_isnil(out->L, out->ancestors)) {
    lua_newtable(out->L);
    lua_replace(out->L, out->ancestors);
  }
  lua_pushvalue(out->L, out->ancestors);
}

/* Refuses the table at the top if it is open already; else counts it as open. */
static void enter(writer *out) {
  lua_State *L = out->L;
  int table = lua_gettop(L);
  for (int depth = 1; depth <= out->depth && depth <= SCANNED_LEVELS; depth++)
    if (lua_rawequal(L, table, level_of(out, depth))) refuse_value(out, "circular reference", NULL);
  out->depth++;
  if (out->kind == WEFT_JSON_RESPONSE && out->depth > RESPONSE_LEVELS_MAX) refuse_value(out, "response nested too deeply", NULL);
  if (out->depth <= SCANNED_LEVELS) return;
  push_ancestors(out);
  lua_pushvalue(L, table);
  if (lua_rawget(L, -2) != LUA_TNIL) refuse_value(out, "circular reference", NULL);
  lua_pushvalue(L, table);
  lua_pushboolean(L, 1);
  lua_rawset(L, table + 1);
  lua_settop(L, table);
}

static void leave(writer *out) {
  lua_State *L = out->L;
  if (out->depth > SCANNED_LEVELS) {
    lua_pushvalue(L, level_of(out, out->depth));
    lua_pushnil(L);
    lua_rawset(L, out->ancestors);
  }
  out->depth--;
  lua_settop(L, level_of(out, out->depth + 1) - 1);
}

/* The table at the top becomes the innermost level. */
static void open_table(writer *out) {
  lua_State *L = out->L;
  enter(out);
  int table = lua_gettop(L);
  int is_array = looks_like_array(L, table);
  if (is_array) {
    lua_pushboolean(L, 0);
    lua_pushinteger(L, array_length(out, table));
    lua_pushinteger(L, 0);
  } else {
    begin_pairs(L, table);
  }
  weft_text_add_char(L, out->text, is_array ? '[' : '{');
}

/* Writes the value at the top and pops it, or opens it as the innermost level. */
static void add_value(writer *out) {
  lua_State *L = out->L;
  luaL_checkstack(L, LEVEL_SLOTS + 8, NULL);
  switch (lua_type(L, -1)) {
    case LUA_TNIL: weft_text_add(L, out->text, "null", 4); break;
    case LUA_TBOOLEAN:
      if (lua_toboolean(L, -1)) weft_text_add(L, out->text, "true", 4);
      else weft_text_add(L, out->text, "false", 5);
      break;
    case LUA_TNUMBER: add_number(out, -1); break;
    case LUA_TSTRING: add_string(out, -1); break;
    case LUA_TTABLE: open_table(out); return;
    default: refuse_value(out, "unexpected type '%s'", luaL_typename(L, -1));
  }
  lua_pop(L, 1);
}

/* One element of the innermost array, or its end. */
static void step_array(writer *out, int level) {
  lua_State *L = out->L;
  lua_Integer index = lua_tointeger(L, level + 3) + 1;
  if (index > lua_tointeger(L, level + 2)) {
    weft_text_add_char(L, out->text, ']');
    leave(out);
    return;
  }
  if (index > 1) weft_text_add_char(L, out->text, ',');
  lua_pushinteger(L, index);
  lua_replace(L, level + 3);
  lua_rawgeti(L, level, index);
  add_value(out);
}

/* One member of the innermost object, or its end. Members that are functions are left out, as in aos. */
static void step_object(writer *out, int level) {
  lua_State *L = out->L;
  size_t written = out->text->length;
  int more = next_pair(L);
  out->text->length = written;
  if (!more) {
    weft_text_add_char(L, out->text, '}');
    leave(out);
    return;
  }
  if (lua_type(L, level + 3) != LUA_TSTRING) refuse_value(out, "invalid table: mixed or invalid key types", NULL);
  if (lua_isfunction(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  if (out->text->bytes[written - 1] != '{') weft_text_add_char(L, out->text, ',');
  add_string(out, level + 3);
  weft_text_add_char(L, out->text, ':');
  add_value(out);
}

void weft_json_add(lua_State *L, weft_text *text, int index, enum weft_json_kind kind) {
  luaL_checkstack(L, 2, NULL);
  lua_pushvalue(L, index);
  lua_pushnil(L);
  lua_insert(L, -2);
  writer out = {L, text, text->length, kind, lua_gettop(L) - 1, 0};
  add_value(&out);
  while (out.depth > 0) {
    int level = level_of(&out, out.depth);
    if (lua_isboolean(L, level + 1)) step_array(&out, level);
    else step_object(&out, level);
  }
  lua_settop(L, out.ancestors - 1);
}

/* One text serves every call. A call made by a metamethod of an outer call writes behind the outer's text. */
static int encode(lua_State *L) {
  static weft_text text;
  enum { KEPT_BYTES_MAX = 16 * 1024 };
  size_t start = text.length;
  lua_settop(L, 1);
  weft_json_add(L, &text, 1, WEFT_JSON_LIBRARY);
  lua_pushlstring(L, text.bytes + start, text.length - start);
  text.length = start;
  if (start == 0 && text.capacity > KEPT_BYTES_MAX) weft_text_free(&text);
  return 1;
}

/* --- Text in --- */

typedef struct parser {
  lua_State *L;
  const char *start;
  const char *at;
  const char *end;
} parser;

/* Raises the message at the top with the place of `at`: line and column, both from 1. */
static int refuse_top(parser *in, const char *at) {
  int line = 1, column = 1;
  for (const char *byte = in->start; byte < at; byte++) {
    column++;
    if (byte < in->end && *byte == '\n') line++, column = 1;
  }
  luaL_where(in->L, 1);
  lua_insert(in->L, -2);
  lua_pushfstring(in->L, " at line %d col %d", line, column);
  lua_concat(in->L, 3);
  return lua_error(in->L);
}

static int refuse(parser *in, const char *at, const char *what) {
  lua_pushstring(in->L, what);
  return refuse_top(in, at);
}

/* Raises "what 'found'after"; what was found may hold any bytes. */
static int refuse_found(parser *in, const char *at, const char *what, const char *found, size_t length, const char *after) {
  lua_pushfstring(in->L, "%s '", what);
  lua_pushlstring(in->L, found, length);
  lua_pushfstring(in->L, "'%s", after);
  lua_concat(in->L, 3);
  return refuse_top(in, at);
}

static void skip_space(parser *in) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\r' || *in->at == '\n')) in->at++;
}

static int next_is(parser *in, char byte) { return in->at < in->end && *in->at == byte; }

static int ends_word(char byte) { return byte == '\0' || strchr(" \t\r\n]},", byte) != NULL; }

static const char *word_end(parser *in) {
  const char *at = in->at;
  while (at < in->end && !(*at && ends_word(*at))) at++;
  return at;
}

static int hex_digit(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  byte |= 0x20;
  return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Four hex digits at `at`, or -1. */
static int hex_four(parser *in, const char *at) {
  int value = 0;
  if (in->end - at < 4) return -1;
  for (int index = 0; index < 4; index++) {
    int digit = hex_digit(at[index]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

static void add_utf8(parser *in, luaL_Buffer *text, unsigned long code) {
  char bytes[4];
  int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  (void)in;
  for (int index = length - 1; index > 0; index--, code >>= 6) bytes[index] = (char)(0x80 | (code & 0x3f));
  bytes[0] = (char)(lead[length] | code);
  luaL_addlstring(text, bytes, (size_t)length);
}

/* At the four digits after \u; a high surrogate takes its low one along. */
static void add_unicode_escape(parser *in, luaL_Buffer *text) {
  int code = hex_four(in, in->at);
  in->at += 4;
  int pairs = code >= 0xd800 && code < 0xdc00 && in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u';
  int low = pairs ? hex_four(in, in->at + 2) : -1;
  if (low >= 0) {
    in->at += 6;
    add_utf8(in, text, 0x10000ul + ((unsigned long)(code - 0xd800) << 10) + (unsigned long)(low - 0xdc00));
  } else {
    add_utf8(in, text, (unsigned long)code);
  }
}

static void add_escaped(parser *in, luaL_Buffer *text) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char *backslash = in->at++;
  char name = in->at < in->end ? *in->at : '\0';
  const char *known = name ? strchr(names, name) : NULL;
  if (name == 'u') {
    in->at++;
    if (hex_four(in, in->at) < 0) refuse(in, backslash, "invalid unicode escape in string");
    add_unicode_escape(in, text);
  } else if (known) {
    in->at++;
    luaL_addchar(text, values[known - names]);
  } else {
    refuse_found(in, backslash, "invalid escape char", in->at, in->at < in->end, " in string");
  }
}

static const char *plain_end(parser *in) {
  const char *at = in->at;
  while (at < in->end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20) at++;
  if (at < in->end && (unsigned char)*at < 0x20) refuse(in, at, "control character in string");
  return at;
}

/* Never inlined: its buffer would lie in every level's frame. */
__attribute__((noinline)) static void push_escaped_string(parser *in, const char *quote) {
  const char *stop;
  luaL_Buffer text;
  luaL_buffinit(in->L, &text);
  while (!next_is(in, '"')) {
    stop = plain_end(in);
    if (stop == in->end) refuse(in, quote, "expected closing quote for string");
    luaL_addlstring(&text, in->at, (size_t)(stop - in->at));
    in->at = stop;
    if (*stop == '\\') add_escaped(in, &text);
  }
  in->at++;
  luaL_pushresult(&text);
}

static void push_string(parser *in) {
  const char *quote = in->at++;
  const char *stop = plain_end(in);
  if (stop == in->end || *stop != '"') {
    push_escaped_string(in, quote);
    return;
  }
  lua_pushlstring(in->L, in->at, (size_t)(stop - in->at));
  in->at = stop + 1;
}

static void push_number(parser *in) {
  const char *start = in->at, *end = word_end(in);
  lua_pushlstring(in->L, start, (size_t)(end - start));
  if (lua_stringtonumber(in->L, lua_tostring(in->L, -1)) != (size_t)(end - start) + 1)
    refuse_found(in, start, "invalid number", start, (size_t)(end - start), "");
  lua_remove(in->L, -2);
  in->at = end;
}

static void push_word(parser *in) {
  const char *start = in->at, *end = word_end(in);
  size_t length = (size_t)(end - start);
  if (length == 4 && !memcmp(start, "true", 4)) lua_pushboolean(in->L, 1);
  else if (length == 5 && !memcmp(start, "false", 5)) lua_pushboolean(in->L, 0);
  else if (length == 4 && !memcmp(start, "null", 4)) lua_pushnil(in->L);
  else refuse_found(in, start, "invalid literal", start, length, "");
  in->at = end;
}

/* Containers that are open lie on the Lua stack, two slots each, so that nesting costs no C stack:
 *   array   table, key of the element being read
 *   object  table, key of the member being read */

/* A value that is no container is pushed; a container is opened: the answer is 1. */
static int push_value(parser *in) {
  luaL_checkstack(in->L, 8, NULL);
  char first = in->at < in->end ? *in->at : '\0';
  if (first == '{' || first == '[') {
    in->at++;
    lua_newtable(in->L);
    return 1;
  }
  if (first == '"') push_string(in);
  else if (first == '-' || (first >= '0' && first <= '9')) push_number(in);
  else if (first == 't' || first == 'f' || first == 'n') push_word(in);
  else refuse_found(in, in->at, "unexpected character", in->at, in->at < in->end, "");
  return 0;
}

/* Pushes the key of an object's next member, up to its colon; or answers 0 at the end. */
static int begin_member(parser *in) {
  skip_space(in);
  if (next_is(in, '}')) return 0;
  if (!next_is(in, '"')) refuse(in, in->at, "expected string for key");
  push_string(in);
  skip_space(in);
  if (!next_is(in, ':')) refuse(in, in->at, "expected ':' after key");
  in->at++;
  return 1;
}

/* Pushes the next key of an array, from the key before it; or answers 0 at the end. */
static int begin_element(parser *in, lua_Integer before) {
  skip_space(in);
  if (next_is(in, ']')) return 0;
  lua_pushinteger(in->L, before + 1);
  return 1;
}

/* After a value: 1 if a comma promises another. */
static int take_comma(parser *in, int is_array) {
  skip_space(in);
  if (next_is(in, is_array ? ']' : '}')) return 0;
  if (!next_is(in, ',')) refuse(in, in->at + 1, is_array ? "expected ']' or ','" : "expected '}' or ','");
  in->at++;
  return 1;
}

/* The value at the top goes into the container below it. Answers whether that container goes on, its next key pushed. */
static int store(parser *in) {
  lua_State *L = in->L;
  int is_array = lua_type(L, -2) == LUA_TNUMBER;
  lua_Integer key = is_array ? lua_tointeger(L, -2) : 0;
  if (is_array) {
    lua_rawseti(L, -3, key);
    lua_pop(L, 1);
  } else {
    lua_rawset(L, -3);
  }
  return take_comma(in, is_array) && (is_array ? begin_element(in, key) : begin_member(in));
}

/* Reads one value of any depth and pushes it. */
static void push_any(parser *in) {
  int base = lua_gettop(in->L);
  for (;;) {
    skip_space(in);
    int opens = push_value(in);
    if (opens && (in->at[-1] == '[' ? begin_element(in, 0) : begin_member(in))) continue;
    if (opens) in->at++;
    while (lua_gettop(in->L) > base + 1) {
      if (store(in)) break;
      in->at++;
    }
    if (lua_gettop(in->L) == base + 1) return;
  }
}

static int decode(lua_State *L) {
  size_t length;
  lua_settop(L, 1);
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_error(L, "expected argument of type string, got %s", luaL_typename(L, 1));
  const char *bytes = lua_tolstring(L, 1, &length);
  parser in = {L, bytes, bytes, bytes + length};
  skip_space(&in);
  push_any(&in);
  skip_space(&in);
  if (in.at != in.end) refuse(&in, in.at, "trailing garbage");
  return 1;
}

int luaopen_weft_json(lua_State *L) {
  static const luaL_Reg members[] = {{"encode", encode}, {"decode", decode}, {NULL, NULL}};
  luaL_newlib(L, members);
  lua_pushliteral(L, "0.2.0");
  lua_setfield(L, -2, "_version");
  return 1;
}
