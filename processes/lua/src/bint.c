/* `require('.bint')(bits, wordbits)`: fixed-width big integers with the API and results of aos's.
 * A value is a Lua table of words, lowest first, whose metatable is its class; limbs.c does the arithmetic.
 * Every function of a class is a closure: upvalue 1 is its `class`, upvalue 2 its table. */
#include <math.h>
#include <string.h>

#include "lobject.h"

#include "weft.h"
#include "limbs.h"

enum { BITS_DEFAULT = 256, BITS_MIN = 64, BITS_MAX = 1 << 20, WORD_BITS_DEFAULT = 32, WORD_BITS_MIN = 8, BASE_MAX = 36 };
enum slot { X, Y, Z, QUOTIENT, REMAINDER, BASE, EXPONENT, RESULT, ROOM, ROOM_END, SLOTS };

#define CLASS lua_upvalueindex(1)
#define META lua_upvalueindex(2)

#define NOT_REPRESENTABLE "value cannot be represented by a bint"
#define NO_INTEGER_OPERAND "value has not integer representation"
#define NO_INTEGER_VALUE "value has no integer representation"

/* One class of numbers, with room for the operands of one call: nothing here calls back into Lua midway. */
typedef struct class {
  limbs_shape shape;
  uint32_t words[];   /* SLOTS times count + 1 */
} class;

static class *class_of(lua_State *L) { return lua_touserdata(L, CLASS); }

static uint32_t *slot_of(class *of, enum slot slot) { return of->words + (size_t)slot * (size_t)(of->shape.count + 1); }

static int bits_of(const class *of) { return of->shape.count * of->shape.word_bits; }

/* --- Between Lua and limbs --- */

/* Lua's own table: words are read and written without going through the stack. */
static Table *table_at(lua_State *L, int index) { return (Table *)lua_topointer(L, index); }

static int is_bint(lua_State *L, int index) {
  return lua_type(L, index) == LUA_TTABLE && table_at(L, index)->metatable == table_at(L, META);
}

/* A word that a program has put there may be anything. */
static uint32_t odd_word(lua_State *L, int index, int at) {
  lua_rawgeti(L, index, at + 1);
  lua_Integer word = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return (uint32_t)word;
}

static void read_words(lua_State *L, int index, const class *of, uint32_t *out) {
  const Table *table = table_at(L, index);
  for (int at = 0; at < of->shape.count; at++) {
    int is_plain = (unsigned)at < table->sizearray && ttisinteger(&table->array[at]);
    out[at] = (is_plain ? (uint32_t)ivalue(&table->array[at]) : odd_word(L, index, at)) & of->shape.mask;
  }
}

static void write_words(lua_State *L, int index, const class *of, const uint32_t *from) {
  Table *table = table_at(L, index);
  for (int at = 0; at < of->shape.count; at++) {
    if ((unsigned)at < table->sizearray) {
      setivalue(&table->array[at], from[at]);   /* a number: the collector need not know */
    } else {
      lua_pushinteger(L, from[at]);
      lua_rawseti(L, index, at + 1);
    }
  }
}

static int push_bint(lua_State *L, const class *of, const uint32_t *from) {
  lua_createtable(L, of->shape.count, 0);
  write_words(L, lua_gettop(L), of, from);
  lua_pushvalue(L, META);
  lua_setmetatable(L, -2);
  return 1;
}

static int push_slot(lua_State *L, enum slot slot) {
  class *of = class_of(L);
  return push_bint(L, of, slot_of(of, slot));
}

static int digit_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  digit |= 0x20;
  return digit >= 'a' && digit <= 'z' ? digit - 'a' + 10 : BASE_MAX;
}

/* Digits of a base, after an optional sign. Answers 0 for anything else. */
static int read_digits(const char *text, size_t length, unsigned base, const class *of, uint32_t *out) {
  size_t at = length && (*text == '-' || *text == '+');
  if (at == length) return 0;
  limbs_set(&of->shape, out, 0, 0);
  uint32_t factor = 1, chunk = 0;
  for (; at < length; at++) {
    unsigned digit = (unsigned)digit_value(text[at]);
    if (digit >= base) return 0;
    chunk = chunk * base + digit;
    factor *= base;
    if (factor > UINT32_MAX / BASE_MAX || at + 1 == length) {
      limbs_multiply_small(&of->shape, out, factor, chunk);
      factor = 1, chunk = 0;
    }
  }
  if (*text == '-') limbs_negate(&of->shape, out, out);
  return 1;
}

/* Decimal, or hexadecimal or binary behind 0x or 0b; a sign may stand first. */
static int read_literal(const char *text, size_t length, const class *of, uint32_t *out) {
  size_t sign = length && (*text == '-' || *text == '+');
  char mark = length > sign + 2 && text[sign] == '0' ? (char)(text[sign + 1] | 0x20) : 0;
  if (mark != 'x' && mark != 'b') return read_digits(text, length, 10, of, out);
  if (digit_value(text[sign + 2]) >= BASE_MAX) return 0;
  if (!read_digits(text + sign + 2, length - sign - 2, mark == 'x' ? 16 : 2, of, out)) return 0;
  if (*text == '-') limbs_negate(&of->shape, out, out);
  return 1;
}

/* What tobint accepts: a value of this class, an integral number, or a literal in a string. */
static int read_value(lua_State *L, int index, const class *of, uint32_t *out) {
  int known = 0;
  size_t length;
  lua_Integer value;
  switch (lua_type(L, index)) {
    case LUA_TTABLE:
      known = is_bint(L, index);
      if (known) read_words(L, index, of, out);
      return known;
    case LUA_TNUMBER:
      value = lua_tointegerx(L, index, &known);
      if (known) limbs_set(&of->shape, out, (uint64_t)value, 1);
      return known;
    case LUA_TSTRING: {
      const char *text = lua_tolstring(L, index, &length);
      return read_literal(text, length, of, out);
    }
    default: return 0;
  }
}

static int try_read(lua_State *L, int index, enum slot slot) {
  class *of = class_of(L);
  return read_value(L, index, of, slot_of(of, slot));
}

static uint32_t *must_read(lua_State *L, int index, enum slot slot, const char *otherwise) {
  if (!try_read(L, index, slot)) luaL_error(L, "%s", otherwise);
  return slot_of(class_of(L), slot);
}

/* The 64 low bits of a bint, or any number or numeral that is integral. */
static int to_integer(lua_State *L, int index, lua_Integer *value) {
  int known = is_bint(L, index);
  if (known) {
    class *of = class_of(L);
    read_words(L, index, of, slot_of(of, Z));
    *value = (lua_Integer)limbs_low64(&of->shape, slot_of(of, Z));
    if (bits_of(of) < 64 && limbs_is_negative(&of->shape, slot_of(of, Z))) *value |= -1LL << bits_of(of);
  } else {
    *value = lua_tointegerx(L, index, &known);
  }
  return known;
}

static lua_Integer must_integer(lua_State *L, int index) {
  lua_Integer value = 0;
  if (!to_integer(L, index, &value)) luaL_error(L, NO_INTEGER_VALUE);
  return value;
}

/* Where aos's compares an argument with a number, a numeral in a string is an error. */
static void refuse_string(lua_State *L, int index) {
  if (lua_type(L, index) == LUA_TSTRING) luaL_error(L, "attempt to compare string with number");
}

/* --- Text --- */

/* Writes the digits of slot Z, which is used up, ending before `end`; answers where they begin. */
static char *write_digits(class *of, char *end, uint32_t base) {
  static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  uint32_t *rest = slot_of(of, Z), chunk_base = base;
  int chunk_digits = 1;
  for (; chunk_base <= of->shape.mask / base && chunk_base <= UINT32_MAX / BASE_MAX / base; chunk_base *= base) chunk_digits++;
  while (!limbs_is_zero(&of->shape, rest)) {
    uint32_t chunk = limbs_divide_small(&of->shape, rest, chunk_base);
    for (int count = 0; count < chunk_digits; count++, chunk /= base) *--end = digits[chunk % base];
  }
  return end;
}

static void push_text(lua_State *L, const uint32_t *number, uint32_t base, int is_unsigned) {
  class *of = class_of(L);
  uint32_t *rest = slot_of(of, Z);
  int negative = !is_unsigned && limbs_is_negative(&of->shape, number);
  luaL_Buffer buffer;
  size_t room = (size_t)bits_of(of) + 64;
  char *text = luaL_buffinitsize(L, &buffer, room), *end = text + room;
  if (negative) limbs_negate(&of->shape, rest, number);
  else limbs_copy(&of->shape, rest, number);
  char *begin = write_digits(of, end, base);
  while (begin < end && *begin == '0') begin++;
  if (begin == end) *--begin = '0';
  if (negative) *--begin = '-';
  memmove(text, begin, (size_t)(end - begin));
  luaL_pushresultsize(&buffer, (size_t)(end - begin));
}

static int tostring(lua_State *L) {
  class *of = class_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  read_words(L, 1, of, slot_of(of, X));
  push_text(L, slot_of(of, X), 10, 0);
  return 1;
}

/* Any value as a Lua number, or nil: small numbers as integers, others as the float their digits read as. */
static void push_number(lua_State *L, int index) {
  class *of = class_of(L);
  lua_Integer value;
  index = lua_absindex(L, index);
  if (is_bint(L, index)) {
    to_integer(L, index, &value);
    uint32_t *whole = slot_of(of, Z), *low = slot_of(of, ROOM);
    limbs_set(&of->shape, low, (uint64_t)value, 1);
    if (limbs_compare(&of->shape, whole, low) == 0) {
      lua_pushinteger(L, value);
      return;
    }
    limbs_copy(&of->shape, low, whole);
    push_text(L, low, 10, 0);
    lua_stringtonumber(L, lua_tostring(L, -1));
    lua_remove(L, -2);
  } else if (lua_type(L, index) == LUA_TNUMBER) {
    lua_pushvalue(L, index);
  } else {
    size_t length = 0;
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &length) : "";
    size_t read = lua_stringtonumber(L, text);
    if (read == length + 1) return;
    if (read) lua_pop(L, 1);
    lua_pushnil(L);
  }
}

/* --- Making values --- */

static int zero(lua_State *L) {
  class *of = class_of(L);
  limbs_set(&of->shape, slot_of(of, X), 0, 0);
  return push_slot(L, X);
}

static int one(lua_State *L) {
  class *of = class_of(L);
  limbs_set(&of->shape, slot_of(of, X), 1, 0);
  return push_slot(L, X);
}

static void set_least(class *of, uint32_t *out) {
  limbs_set(&of->shape, out, 0, 0);
  out[of->shape.count - 1] = 1u << (of->shape.word_bits - 1);
}

static int mininteger(lua_State *L) {
  class *of = class_of(L);
  set_least(of, slot_of(of, X));
  return push_slot(L, X);
}

static int maxinteger(lua_State *L) {
  class *of = class_of(L);
  uint32_t *number = slot_of(of, X);
  limbs_set(&of->shape, number, ~(uint64_t)0, 1);
  number[of->shape.count - 1] >>= 1;
  return push_slot(L, X);
}

static int from_integer(lua_State *L, int sign_extend) {
  class *of = class_of(L);
  int known;
  lua_Integer value = lua_tointegerx(L, 1, &known);
  if (!known) return 0;
  limbs_set(&of->shape, slot_of(of, X), (uint64_t)value, sign_extend);
  return push_slot(L, X);
}

static int fromuinteger(lua_State *L) { return from_integer(L, 0); }

static int frominteger(lua_State *L) { return from_integer(L, 1); }

static int fromstring(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING || !try_read(L, 1, X)) return 0;
  return push_slot(L, X);
}

static int is_space(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

/* Short texts are read as Lua's tonumber reads them, spaces around and all. */
static void trim_short(const char **text, size_t *length, unsigned base) {
  double reach = 63 / log2(base);
  if ((double)*length > reach) return;
  for (; *length && is_space(**text); ++*text) --*length;
  for (; *length && is_space((*text)[*length - 1]);) --*length;
}

static int frombase(lua_State *L) {
  class *of = class_of(L);
  if (lua_type(L, 1) != LUA_TSTRING) return 0;
  size_t length;
  const char *text = lua_tolstring(L, 1, &length);
  refuse_string(L, 2);
  lua_Integer base = luaL_optinteger(L, 2, 10);
  if (base < 2 || base > BASE_MAX) return 0;
  trim_short(&text, &length, (unsigned)base);
  if (!read_digits(text, length, (unsigned)base, of, slot_of(of, X))) return 0;
  return push_slot(L, X);
}

/* Bytes to words, the lowest byte `at(index)` first; what does not fit is left out. */
static int from_bytes(lua_State *L, int big_endian) {
  class *of = class_of(L);
  size_t length, bytes = (size_t)bits_of(of) / 8;
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_error(L, "buffer is not a string");
  const unsigned char *text = (const unsigned char *)lua_tolstring(L, 1, &length);
  uint32_t *number = slot_of(of, X);
  limbs_set(&of->shape, number, 0, 0);
  for (size_t at = 0; at < bytes && at < length; at++) {
    unsigned byte = big_endian ? text[length - 1 - at] : text[at];
    for (int bit = 0; bit < 8; bit++) {
      size_t place = at * 8 + (size_t)bit;
      number[place / (size_t)of->shape.word_bits] |= (byte >> bit & 1) << place % (size_t)of->shape.word_bits;
    }
  }
  push_slot(L, X);
  /* aos's leaves the place after the last byte behind the words; `#` and JSON show it. */
  lua_pushinteger(L, (lua_Integer)bytes + 1);
  lua_rawseti(L, -2, of->shape.count + 1);
  return 1;
}

static int fromle(lua_State *L) { return from_bytes(L, 0); }

static int frombe(lua_State *L) { return from_bytes(L, 1); }

static int new(lua_State *L) {
  int type = lua_type(L, 1);
  if (try_read(L, 1, X)) return push_slot(L, X);
  if (type == LUA_TSTRING || type == LUA_TNUMBER || !lua_toboolean(L, 1)) return luaL_error(L, NOT_REPRESENTABLE);
  lua_settop(L, 1);
  return 1;
}

/* bint(x): the class's __call. */
static int call(lua_State *L) {
  lua_remove(L, 1);
  return new(L);
}

static int tobint(lua_State *L) {
  if (is_bint(L, 1) && !lua_toboolean(L, 2)) {
    lua_settop(L, 1);
    return 1;
  }
  return try_read(L, 1, X) ? push_slot(L, X) : 0;
}

static int parse(lua_State *L) {
  if (tobint(L)) return 1;
  push_number(L, 1);
  return 1;
}

/* --- Taking values out --- */

static int tointeger(lua_State *L) {
  lua_Integer value;
  if (!to_integer(L, 1, &value)) return 0;
  lua_pushinteger(L, value);
  return 1;
}

static int tonumber(lua_State *L) {
  luaL_checkany(L, 1);
  push_number(L, 1);
  return 1;
}

static int tobase(lua_State *L) {
  if (!try_read(L, 1, X)) return 0;
  refuse_string(L, 2);
  lua_Integer base = luaL_optinteger(L, 2, 10);
  if (base < 2 || base > BASE_MAX) return 0;
  int is_unsigned = lua_isnoneornil(L, 3) ? base != 10 : lua_toboolean(L, 3);
  push_text(L, slot_of(class_of(L), X), (uint32_t)base, is_unsigned);
  return 1;
}

static unsigned byte_at(const class *of, const uint32_t *number, size_t at) {
  unsigned byte = 0;
  for (size_t bit = 0; bit < 8; bit++) {
    size_t place = at * 8 + bit;
    byte |= (number[place / (size_t)of->shape.word_bits] >> place % (size_t)of->shape.word_bits & 1) << bit;
  }
  return byte;
}

/* All bytes, or with a true second argument without the zeros of high places. */
static int to_bytes(lua_State *L, int big_endian) {
  class *of = class_of(L);
  const uint32_t *number = must_read(L, 1, X, NO_INTEGER_OPERAND);
  size_t bytes = (size_t)bits_of(of) / 8;
  if (lua_toboolean(L, 2))
    while (bytes > 1 && !byte_at(of, number, bytes - 1)) bytes--;
  luaL_Buffer buffer;
  char *text = luaL_buffinitsize(L, &buffer, bytes);
  for (size_t at = 0; at < bytes; at++) text[big_endian ? bytes - 1 - at : at] = (char)byte_at(of, number, at);
  luaL_pushresultsize(&buffer, bytes);
  return 1;
}

static int tole(lua_State *L) { return to_bytes(L, 0); }

static int tobe(lua_State *L) { return to_bytes(L, 1); }

/* --- Questions --- */

static int answer(lua_State *L, int yes) {
  lua_pushboolean(L, yes);
  return 1;
}

/* Is argument 1 this integer: a bint by value, anything else as `==` says. */
static int equals_integer(lua_State *L, lua_Integer wanted) {
  lua_settop(L, 1);
  if (is_bint(L, 1)) {
    class *of = class_of(L);
    read_words(L, 1, of, slot_of(of, X));
    limbs_set(&of->shape, slot_of(of, Y), (uint64_t)wanted, 1);
    return answer(L, limbs_compare(&of->shape, slot_of(of, X), slot_of(of, Y)) == 0);
  }
  lua_pushinteger(L, wanted);
  return answer(L, lua_type(L, 1) == LUA_TNUMBER && lua_compare(L, 1, 2, LUA_OPEQ));
}

static int iszero(lua_State *L) { return equals_integer(L, 0); }

static int isone(lua_State *L) { return equals_integer(L, 1); }

static int isminusone(lua_State *L) { return equals_integer(L, -1); }

static int isbint(lua_State *L) { return answer(L, is_bint(L, 1)); }

static int isintegral(lua_State *L) { return answer(L, is_bint(L, 1) || lua_isinteger(L, 1)); }

static int isnumeric(lua_State *L) { return answer(L, is_bint(L, 1) || lua_type(L, 1) == LUA_TNUMBER); }

static int type(lua_State *L) {
  if (is_bint(L, 1)) lua_pushliteral(L, "bint");
  else if (lua_type(L, 1) != LUA_TNUMBER) lua_pushnil(L);
  else lua_pushstring(L, lua_isinteger(L, 1) ? "integer" : "float");
  return 1;
}

static int has_parity(lua_State *L, int parity) {
  if (is_bint(L, 1)) {
    lua_rawgeti(L, 1, 1);
    return answer(L, (lua_tointeger(L, -1) & 1) == parity);
  }
  if (lua_isinteger(L, 1)) return answer(L, (lua_tointeger(L, 1) & 1) == parity);
  return answer(L, fmod(fabs(luaL_checknumber(L, 1)), 2) == parity);
}

static int iseven(lua_State *L) { return has_parity(L, 0); }

static int isodd(lua_State *L) { return has_parity(L, 1); }

/* Whether the value at `index` is below zero, as Lua's `<` says for what is no bint. */
static int is_negative(lua_State *L, int index) {
  class *of = class_of(L);
  index = lua_absindex(L, index);
  if (is_bint(L, index)) {
    read_words(L, index, of, slot_of(of, Z));
    return limbs_is_negative(&of->shape, slot_of(of, Z));
  }
  lua_pushinteger(L, 0);
  int below = lua_compare(L, index, -1, LUA_OPLT);
  lua_pop(L, 1);
  return below;
}

static int isneg(lua_State *L) {
  lua_settop(L, 1);
  return answer(L, is_negative(L, 1));
}

static int ispos(lua_State *L) {
  lua_settop(L, 1);
  if (is_bint(L, 1)) return answer(L, !is_negative(L, 1) && !limbs_is_zero(&class_of(L)->shape, slot_of(class_of(L), Z)));
  lua_pushinteger(L, 0);
  return answer(L, lua_compare(L, 2, 1, LUA_OPLT));
}

/* --- One operand --- */

static int abs_value(lua_State *L) {
  class *of = class_of(L);
  lua_settop(L, 1);
  if (!try_read(L, 1, X)) {
    lua_pushnumber(L, fabs(luaL_checknumber(L, 1)));
    return 1;
  }
  uint32_t *number = slot_of(of, X);
  if (limbs_is_negative(&of->shape, number)) limbs_negate(&of->shape, number, number);
  return push_slot(L, X);
}

/* x + step, by Lua's own arithmetic if x is no integer. */
static int step(lua_State *L, lua_Integer by) {
  class *of = class_of(L);
  lua_settop(L, 1);
  if (!try_read(L, 1, X)) {
    lua_pushinteger(L, by);
    lua_arith(L, LUA_OPADD);
    return 1;
  }
  limbs_set(&of->shape, slot_of(of, Y), (uint64_t)by, 1);
  limbs_add(&of->shape, slot_of(of, X), slot_of(of, X), slot_of(of, Y));
  return push_slot(L, X);
}

static int inc(lua_State *L) { return step(L, 1); }

static int dec(lua_State *L) { return step(L, -1); }

/* A bint as it is; a number rounded first. `strict`: what no bint can hold is an error, else nothing. */
static int rounded(lua_State *L, double (*round_to)(double), int strict) {
  class *of = class_of(L);
  lua_settop(L, 1);
  if (is_bint(L, 1)) return new(L);
  push_number(L, 1);
  if (lua_isinteger(L, 2)) {
    limbs_set(&of->shape, slot_of(of, X), (uint64_t)lua_tointeger(L, 2), 1);
    return push_slot(L, X);
  }
  if (!strict && !lua_isnumber(L, 2)) return 0;
  lua_pushnumber(L, round_to(luaL_checknumber(L, 2)));
  if (try_read(L, -1, X)) return push_slot(L, X);
  return strict ? luaL_error(L, NOT_REPRESENTABLE) : 0;
}

static int ceil_value(lua_State *L) { return rounded(L, ceil, 1); }

static int floor_value(lua_State *L) { return rounded(L, floor, 1); }

static int trunc_value(lua_State *L) { return rounded(L, trunc, 0); }

static int negate(lua_State *L) {
  class *of = class_of(L);
  uint32_t *number = must_read(L, 1, X, NOT_REPRESENTABLE);
  limbs_negate(&of->shape, number, number);
  return push_slot(L, X);
}

static void invert(const class *of, uint32_t *number) {
  for (int at = 0; at < of->shape.count; at++) number[at] = ~number[at] & of->shape.mask;
}

static int bnot(lua_State *L) {
  invert(class_of(L), must_read(L, 1, X, NOT_REPRESENTABLE));
  return push_slot(L, X);
}

/* --- Sums, products, comparisons --- */

/* Both operands as Lua numbers under Lua's own operator, errors included. */
static int plain_arith(lua_State *L, int operator) {
  lua_settop(L, 2);
  push_number(L, 1);
  push_number(L, 2);
  lua_arith(L, operator);
  return 1;
}

typedef void combine(const limbs_shape *, uint32_t *, const uint32_t *, const uint32_t *);

static int arith(lua_State *L, combine *with, int operator) {
  class *of = class_of(L);
  if (!try_read(L, 1, X) || !try_read(L, 2, Y)) return plain_arith(L, operator);
  with(&of->shape, slot_of(of, Z), slot_of(of, X), slot_of(of, Y));
  return push_slot(L, Z);
}

static int add(lua_State *L) { return arith(L, limbs_add, LUA_OPADD); }

static int subtract(lua_State *L) { return arith(L, limbs_subtract, LUA_OPSUB); }

static int multiply(lua_State *L) { return arith(L, limbs_multiply, LUA_OPMUL); }

static int divide_float(lua_State *L) { return plain_arith(L, LUA_OPDIV); }

static int power_float(lua_State *L) { return plain_arith(L, LUA_OPPOW); }

/* `==` between two tables of which one is a bint: word by word, whatever the other is. */
static int equal_tables(lua_State *L) {
  class *of = class_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  for (int at = 1; at <= of->shape.count; at++) {
    lua_rawgeti(L, 1, at);
    lua_rawgeti(L, 2, at);
    if (!lua_rawequal(L, -1, -2)) return answer(L, 0);
    lua_pop(L, 2);
  }
  return answer(L, 1);
}

static int eq(lua_State *L) {
  class *of = class_of(L);
  lua_settop(L, 2);
  if (try_read(L, 1, X) && try_read(L, 2, Y))
    return answer(L, limbs_compare(&of->shape, slot_of(of, X), slot_of(of, Y)) == 0);
  return answer(L, lua_compare(L, 1, 2, LUA_OPEQ));
}

static int ordered(lua_State *L, int operator) {
  class *of = class_of(L);
  lua_settop(L, 2);
  if (try_read(L, 1, X) && try_read(L, 2, Y)) {
    int order = limbs_compare_signed(&of->shape, slot_of(of, X), slot_of(of, Y));
    return answer(L, operator == LUA_OPLT ? order < 0 : order <= 0);
  }
  push_number(L, 1);
  push_number(L, 2);
  return answer(L, lua_compare(L, 3, 4, operator));
}

static int less(lua_State *L) { return ordered(L, LUA_OPLT); }

static int less_or_equal(lua_State *L) { return ordered(L, LUA_OPLE); }

static int compare_unsigned(lua_State *L) {
  const uint32_t *left = must_read(L, 1, X, NO_INTEGER_OPERAND);
  return limbs_compare(&class_of(L)->shape, left, must_read(L, 2, Y, NO_INTEGER_OPERAND));
}

static int ult(lua_State *L) { return answer(L, compare_unsigned(L) < 0); }

static int ule(lua_State *L) { return answer(L, compare_unsigned(L) <= 0); }

/* The greater (sign 1) or lesser (-1) of two, as parse makes it. */
static int extreme(lua_State *L, int sign) {
  class *of = class_of(L);
  lua_settop(L, 2);
  int first;
  if (try_read(L, 1, X) && try_read(L, 2, Y))
    first = limbs_compare_signed(&of->shape, slot_of(of, X), slot_of(of, Y)) * sign > 0;
  else
    first = sign > 0 ? lua_compare(L, 2, 1, LUA_OPLT) : lua_compare(L, 1, 2, LUA_OPLT);
  int chosen = first ? 1 : 2;
  if (try_read(L, chosen, X)) return push_slot(L, X);
  push_number(L, chosen);
  return 1;
}

static int max_value(lua_State *L) { return extreme(L, 1); }

static int min_value(lua_State *L) { return extreme(L, -1); }

/* --- Division --- */

/* X / Y unsigned into QUOTIENT and REMAINDER. */
static void divide_slots(lua_State *L) {
  class *of = class_of(L);
  if (limbs_is_zero(&of->shape, slot_of(of, Y))) luaL_error(L, "attempt to divide by zero");
  limbs_divide(&of->shape, slot_of(of, QUOTIENT), slot_of(of, REMAINDER), slot_of(of, X), slot_of(of, Y), slot_of(of, ROOM));
}

static void negate_slot(class *of, enum slot slot) { limbs_negate(&of->shape, slot_of(of, slot), slot_of(of, slot)); }

/* X and Y become their absolute values; answers bit 0: X was negative, bit 1: Y was. */
static int take_signs(class *of) {
  int signs = limbs_is_negative(&of->shape, slot_of(of, X)) | limbs_is_negative(&of->shape, slot_of(of, Y)) << 1;
  if (signs & 1) negate_slot(of, X);
  if (signs & 2) negate_slot(of, Y);
  return signs;
}

static int signs_differ(int signs) { return signs == 1 || signs == 2; }

static void divide_unsigned(lua_State *L) {
  must_read(L, 1, X, NOT_REPRESENTABLE);
  must_read(L, 2, Y, NO_INTEGER_OPERAND);
  divide_slots(L);
}

/* Rounding towards minus infinity, as `//` and `%`. */
static void divide_floor(lua_State *L) {
  class *of = class_of(L);
  int signs = take_signs(of);
  divide_slots(L);
  int exact = limbs_is_zero(&of->shape, slot_of(of, REMAINDER));
  if (signs_differ(signs)) {
    negate_slot(of, QUOTIENT);
    if (!exact) {
      limbs_set(&of->shape, slot_of(of, Z), 1, 0);
      limbs_subtract(&of->shape, slot_of(of, QUOTIENT), slot_of(of, QUOTIENT), slot_of(of, Z));
      limbs_subtract(&of->shape, slot_of(of, REMAINDER), slot_of(of, Y), slot_of(of, REMAINDER));
    }
  }
  if (signs & 2) negate_slot(of, REMAINDER);
}

/* Rounding towards zero. */
static void divide_truncating(lua_State *L) {
  class *of = class_of(L);
  set_least(of, slot_of(of, Z));
  int is_least = limbs_compare(&of->shape, slot_of(of, X), slot_of(of, Z)) == 0;
  limbs_set(&of->shape, slot_of(of, Z), (uint64_t)-1, 1);
  if (is_least && limbs_compare(&of->shape, slot_of(of, Y), slot_of(of, Z)) == 0) luaL_error(L, "division overflow");
  int signs = take_signs(of);
  divide_slots(L);
  if (signs_differ(signs)) negate_slot(of, QUOTIENT);
  if (signs & 1) negate_slot(of, REMAINDER);
}

enum part { PART_QUOTIENT = 1, PART_REMAINDER = 2, PART_BOTH = 3 };

static int push_parts(lua_State *L, enum part part) {
  if (part & PART_QUOTIENT) push_slot(L, QUOTIENT);
  if (part & PART_REMAINDER) push_slot(L, REMAINDER);
  return part == PART_BOTH ? 2 : 1;
}

static int unsigned_parts(lua_State *L, enum part part) {
  divide_unsigned(L);
  return push_parts(L, part);
}

/* Lua's own operator on the numbers at 3 and 4; the result at the top. */
static void number_arith(lua_State *L, int operator) {
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 4);
  lua_arith(L, operator);
}

static int floor_parts(lua_State *L, enum part part) {
  lua_settop(L, 2);
  if (try_read(L, 1, X) && try_read(L, 2, Y)) {
    divide_floor(L);
    return push_parts(L, part);
  }
  push_number(L, 1);
  push_number(L, 2);
  if (part & PART_QUOTIENT) number_arith(L, LUA_OPIDIV);
  if (part & PART_REMAINDER) number_arith(L, LUA_OPMOD);
  return part == PART_BOTH ? 2 : 1;
}

/* Absolute value for truncating division of what is no bint: a number at the top. */
static void push_magnitude(lua_State *L, int index) {
  if (try_read(L, index, X)) {
    class *of = class_of(L);
    if (limbs_is_negative(&of->shape, slot_of(of, X))) negate_slot(of, X);
    push_slot(L, X);
    push_number(L, -1);
    lua_remove(L, -2);
  } else {
    lua_pushnumber(L, fabs(luaL_checknumber(L, index)));
  }
}

static void negate_top(lua_State *L, int negative) {
  if (negative) lua_arith(L, LUA_OPUNM);
}

static int truncating_parts(lua_State *L, enum part part) {
  lua_settop(L, 2);
  if (try_read(L, 1, X) && try_read(L, 2, Y)) {
    refuse_string(L, 1);
    refuse_string(L, 2);
    divide_truncating(L);
    return push_parts(L, part);
  }
  push_magnitude(L, 1);
  push_magnitude(L, 2);
  int x_negative = is_negative(L, 1), differ = x_negative != is_negative(L, 2);
  if (part & PART_QUOTIENT) {
    number_arith(L, LUA_OPIDIV);
    negate_top(L, differ);
  }
  if (part & PART_REMAINDER) {
    number_arith(L, LUA_OPMOD);
    negate_top(L, x_negative);
  }
  return part == PART_BOTH ? 2 : 1;
}

static int udivmod(lua_State *L) { return unsigned_parts(L, PART_BOTH); }
static int udiv(lua_State *L) { return unsigned_parts(L, PART_QUOTIENT); }
static int umod(lua_State *L) { return unsigned_parts(L, PART_REMAINDER); }
static int idivmod(lua_State *L) { return floor_parts(L, PART_BOTH); }
static int idiv(lua_State *L) { return floor_parts(L, PART_QUOTIENT); }
static int mod(lua_State *L) { return floor_parts(L, PART_REMAINDER); }
static int tdivmod(lua_State *L) { return truncating_parts(L, PART_BOTH); }
static int tdiv(lua_State *L) { return truncating_parts(L, PART_QUOTIENT); }
static int tmod(lua_State *L) { return truncating_parts(L, PART_REMAINDER); }

/* --- Powers --- */

static int bit_at(const class *of, const uint32_t *number, int bit) {
  return (int)(number[bit / of->shape.word_bits] >> bit % of->shape.word_bits) & 1;
}

static int highest_bit(const class *of, const uint32_t *number) {
  int bit = bits_of(of) - 1;
  while (bit >= 0 && !bit_at(of, number, bit)) bit--;
  return bit;
}

/* Wrapping; the exponent's bits count as unsigned. */
static int ipow(lua_State *L) {
  class *of = class_of(L);
  const uint32_t *exponent = must_read(L, 2, Y, NO_INTEGER_OPERAND);
  int top = highest_bit(of, exponent);
  uint32_t *result = slot_of(of, QUOTIENT), *product = slot_of(of, Z);
  limbs_set(&of->shape, result, 1, 0);
  if (top < 0) return push_slot(L, QUOTIENT);
  const uint32_t *base = must_read(L, 1, X, NOT_REPRESENTABLE);
  for (int bit = top; bit >= 0; bit--) {
    limbs_multiply(&of->shape, product, result, result);
    if (bit_at(of, exponent, bit)) limbs_multiply(&of->shape, result, product, base);
    else limbs_copy(&of->shape, result, product);
  }
  return push_slot(L, QUOTIENT);
}

/* out = left * right % Y; the product wraps first, as aos's does. */
static void multiply_mod(lua_State *L, enum slot out, enum slot left, enum slot right) {
  class *of = class_of(L);
  limbs_multiply(&of->shape, slot_of(of, X), slot_of(of, left), slot_of(of, right));
  divide_slots(L);
  limbs_copy(&of->shape, slot_of(of, out), slot_of(of, REMAINDER));
}

/* x ^ y % m, all unsigned. */
static int upowmod(lua_State *L) {
  class *of = class_of(L);
  must_read(L, 3, Y, NO_INTEGER_OPERAND);
  limbs_set(&of->shape, slot_of(of, RESULT), 1, 0);
  if (limbs_compare(&of->shape, slot_of(of, RESULT), slot_of(of, Y)) == 0) return zero(L);
  must_read(L, 1, X, NOT_REPRESENTABLE);
  must_read(L, 2, EXPONENT, NOT_REPRESENTABLE);
  divide_slots(L);
  limbs_copy(&of->shape, slot_of(of, BASE), slot_of(of, REMAINDER));
  int top = highest_bit(of, slot_of(of, EXPONENT));
  for (int bit = 0; bit <= top; bit++) {
    if (bit_at(of, slot_of(of, EXPONENT), bit)) multiply_mod(L, RESULT, RESULT, BASE);
    multiply_mod(L, BASE, BASE, BASE);
  }
  return push_slot(L, RESULT);
}

/* --- Bits --- */

static void combine_and(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  for (int at = 0; at < shape->count; at++) out[at] = left[at] & right[at];
}

static void combine_or(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  for (int at = 0; at < shape->count; at++) out[at] = left[at] | right[at];
}

static void combine_xor(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  for (int at = 0; at < shape->count; at++) out[at] = left[at] ^ right[at];
}

static int bitwise(lua_State *L, combine *with) {
  class *of = class_of(L);
  const uint32_t *left = must_read(L, 1, X, NOT_REPRESENTABLE);
  with(&of->shape, slot_of(of, Z), left, must_read(L, 2, Y, NO_INTEGER_OPERAND));
  return push_slot(L, Z);
}

static int band(lua_State *L) { return bitwise(L, combine_and); }

static int bor(lua_State *L) { return bitwise(L, combine_or); }

static int bxor(lua_State *L) { return bitwise(L, combine_xor); }

/* Left by `places`, right if negative; zeros come in. */
static void shift(const class *of, uint32_t *out, const uint32_t *from, lua_Integer places) {
  if (places >= bits_of(of) || places <= -bits_of(of)) limbs_set(&of->shape, out, 0, 0);
  else if (places >= 0) limbs_shift_left(&of->shape, out, from, (int)places);
  else limbs_shift_right(&of->shape, out, from, (int)-places);
}

static int shifted(lua_State *L, int direction) {
  class *of = class_of(L);
  lua_Integer places = must_integer(L, 2);
  const uint32_t *number = must_read(L, 1, X, NOT_REPRESENTABLE);
  if (places == LUA_MININTEGER) places = LUA_MAXINTEGER;
  shift(of, slot_of(of, Y), number, direction * places);
  return push_slot(L, Y);
}

static int shl(lua_State *L) { return shifted(L, 1); }

static int shr(lua_State *L) { return shifted(L, -1); }

/* Rotates once: farther than the width, what is rotated out is lost, as aos's does. */
static int rotated(lua_State *L, int direction) {
  class *of = class_of(L);
  must_read(L, 1, X, NOT_REPRESENTABLE);
  lua_Integer places = must_integer(L, 2);
  if (places == LUA_MININTEGER) return push_slot(L, X);
  lua_Integer left = direction * places, back = left > 0 ? left - bits_of(of) : left + bits_of(of);
  if (left == 0) return push_slot(L, X);
  shift(of, slot_of(of, Y), slot_of(of, X), left);
  shift(of, slot_of(of, REMAINDER), slot_of(of, X), back);
  combine_or(&of->shape, slot_of(of, Y), slot_of(of, Y), slot_of(of, REMAINDER));
  return push_slot(L, Y);
}

static int brol(lua_State *L) { return rotated(L, 1); }

static int bror(lua_State *L) { return rotated(L, -1); }

/* The low `y` bits of x. */
static int bwrap(lua_State *L) {
  class *of = class_of(L);
  uint32_t *number = must_read(L, 1, X, NO_INTEGER_OPERAND);
  refuse_string(L, 2);
  lua_Integer width = must_integer(L, 2);
  if (width <= 0) return zero(L);
  for (lua_Integer bit = width; bit < bits_of(of); bit++)
    number[bit / of->shape.word_bits] &= ~(1u << bit % of->shape.word_bits);
  return push_slot(L, X);
}

/* --- In place: argument 1 is changed and answered --- */

static uint32_t *read_self(lua_State *L) {
  class *of = class_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  read_words(L, 1, of, slot_of(of, X));
  return slot_of(of, X);
}

static int write_self(lua_State *L, enum slot slot) {
  class *of = class_of(L);
  write_words(L, 1, of, slot_of(of, slot));
  lua_settop(L, 1);
  return 1;
}

static int combine_self(lua_State *L, combine *with) {
  class *of = class_of(L);
  const uint32_t *right = must_read(L, 2, Y, NO_INTEGER_OPERAND);
  with(&of->shape, slot_of(of, Z), read_self(L), right);
  return write_self(L, Z);
}

static int self_add(lua_State *L) { return combine_self(L, limbs_add); }
static int self_sub(lua_State *L) { return combine_self(L, limbs_subtract); }
static int self_band(lua_State *L) { return combine_self(L, combine_and); }
static int self_bor(lua_State *L) { return combine_self(L, combine_or); }
static int self_bxor(lua_State *L) { return combine_self(L, combine_xor); }

static int self_assign(lua_State *L) {
  must_read(L, 2, Y, NO_INTEGER_OPERAND);
  read_self(L);
  return write_self(L, Y);
}

static int self_abs(lua_State *L) {
  class *of = class_of(L);
  uint32_t *number = read_self(L);
  if (limbs_is_negative(&of->shape, number)) negate_slot(of, X);
  return write_self(L, X);
}

static int self_unm(lua_State *L) {
  read_self(L);
  negate_slot(class_of(L), X);
  return write_self(L, X);
}

static int self_step(lua_State *L, lua_Integer by) {
  class *of = class_of(L);
  uint32_t *number = read_self(L);
  limbs_set(&of->shape, slot_of(of, Y), (uint64_t)by, 1);
  limbs_add(&of->shape, number, number, slot_of(of, Y));
  return write_self(L, X);
}

static int self_inc(lua_State *L) { return self_step(L, 1); }

static int self_dec(lua_State *L) { return self_step(L, -1); }

static int self_bnot(lua_State *L) {
  invert(class_of(L), read_self(L));
  return write_self(L, X);
}

static int self_shift(lua_State *L, lua_Integer places) {
  class *of = class_of(L);
  shift(of, slot_of(of, Y), read_self(L), places);
  return write_self(L, Y);
}

static int self_shlone(lua_State *L) { return self_shift(L, 1); }

static int self_shrone(lua_State *L) { return self_shift(L, -1); }

/* A whole number of words, at least none and at most all. */
static lua_Integer word_places(lua_State *L) {
  const class *of = class_of(L);
  lua_Integer words = luaL_checkinteger(L, 2);
  if (words < 0) words = 0;
  return (words < of->shape.count ? words : of->shape.count) * of->shape.word_bits;
}

static int self_shlwords(lua_State *L) { return self_shift(L, word_places(L)); }

static int self_shrwords(lua_State *L) { return self_shift(L, -word_places(L)); }

/* --- The class --- */

static const luaL_Reg members[] = {
  {"zero", zero}, {"one", one}, {"mininteger", mininteger}, {"maxinteger", maxinteger}, {"fromuinteger", fromuinteger},
  {"frominteger", frominteger}, {"fromstring", fromstring}, {"frombase", frombase}, {"fromle", fromle}, {"frombe", frombe},
  {"new", new}, {"tobint", tobint}, {"parse", parse}, {"tointeger", tointeger}, {"touinteger", tointeger},
  {"tonumber", tonumber}, {"tobase", tobase}, {"tole", tole}, {"tobe", tobe}, {"iszero", iszero}, {"isone", isone},
  {"isminusone", isminusone}, {"isbint", isbint}, {"isintegral", isintegral}, {"isnumeric", isnumeric}, {"type", type},
  {"isneg", isneg}, {"ispos", ispos}, {"iseven", iseven}, {"isodd", isodd}, {"abs", abs_value}, {"inc", inc}, {"dec", dec},
  {"ceil", ceil_value}, {"floor", floor_value}, {"trunc", trunc_value}, {"brol", brol}, {"bror", bror}, {"bwrap", bwrap},
  {"max", max_value}, {"min", min_value}, {"udivmod", udivmod}, {"udiv", udiv}, {"umod", umod}, {"tdivmod", tdivmod},
  {"tdiv", tdiv}, {"tmod", tmod}, {"idivmod", idivmod}, {"ipow", ipow}, {"upowmod", upowmod}, {"eq", eq}, {"ult", ult},
  {"ule", ule}, {"_add", self_add}, {"_sub", self_sub}, {"_band", self_band}, {"_bor", self_bor}, {"_bxor", self_bxor},
  {"_assign", self_assign}, {"_abs", self_abs}, {"_unm", self_unm}, {"_inc", self_inc}, {"_dec", self_dec},
  {"_bnot", self_bnot}, {"_shlone", self_shlone}, {"_shrone", self_shrone}, {"_shlwords", self_shlwords},
  {"_shrwords", self_shrwords}, {"__add", add}, {"__sub", subtract}, {"__mul", multiply}, {"__div", divide_float},
  {"__idiv", idiv}, {"__mod", mod}, {"__pow", power_float}, {"__unm", negate}, {"__band", band}, {"__bor", bor},
  {"__bxor", bxor}, {"__bnot", bnot}, {"__shl", shl}, {"__shr", shr}, {"__eq", equal_tables}, {"__lt", less},
  {"__le", less_or_equal}, {"__tostring", tostring}, {NULL, NULL}};

static int check_shape(lua_State *L, lua_Integer bits, lua_Integer word_bits) {
  if (word_bits == 0 || bits % word_bits != 0) return luaL_error(L, "bitsize is not multiple of word bitsize");
  if (word_bits > WORD_BITS_DEFAULT) return luaL_error(L, "word bitsize must be half of the lua integer bitsize");
  if (bits < BITS_MIN) return luaL_error(L, "bitsize must be >= 64");
  if (word_bits < WORD_BITS_MIN) return luaL_error(L, "wordbits must be at least 8");
  if (bits > BITS_MAX) return weft_raise_memory(L);
  return 0;
}

/* Pushes the userdata that the functions of a class share. */
static void push_class(lua_State *L, int bits, int word_bits) {
  int count = bits / word_bits;
  class *of = lua_newuserdata(L, sizeof(class) + SLOTS * (size_t)(count + 1) * sizeof(uint32_t));
  of->shape = (limbs_shape){count, word_bits, (uint32_t)(((uint64_t)1 << word_bits) - 1)};
}

/* Pushes a function of the class whose table and userdata are at 1 and 2. */
static void push_member(lua_State *L, lua_CFunction function) {
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, function, 2);
}

/* On an empty stack: leaves the class's table at 1. */
static void push_new_class(lua_State *L, int bits, int word_bits) {
  lua_createtable(L, 0, (int)(sizeof members / sizeof *members) + 2);
  push_class(L, bits, word_bits);
  for (const luaL_Reg *member = members; member->name; member++) {
    push_member(L, member->func);
    lua_setfield(L, 1, member->name);
  }
  lua_pushvalue(L, 1);
  lua_setfield(L, 1, "__index");
  lua_pushinteger(L, bits);
  lua_setfield(L, 1, "bits");
  lua_createtable(L, 0, 1);
  push_member(L, call);
  lua_setfield(L, -2, "__call");
  lua_setmetatable(L, 1);
  lua_settop(L, 1);
}

/* The module: the class of these bits, always the same one. Upvalue 1 keeps them. */
static int class_for(lua_State *L) {
  lua_Integer bits = luaL_optinteger(L, 1, BITS_DEFAULT), word_bits = luaL_optinteger(L, 2, WORD_BITS_DEFAULT);
  check_shape(L, bits, word_bits);
  if (lua_rawgeti(L, CLASS, bits * 64 + word_bits) != LUA_TNIL) return 1;
  lua_settop(L, 0);
  push_new_class(L, (int)bits, (int)word_bits);
  lua_pushvalue(L, -1);
  lua_rawseti(L, CLASS, bits * 64 + word_bits);
  return 1;
}

int luaopen_weft_bint(lua_State *L) {
  lua_newtable(L);
  lua_pushcclosure(L, class_for, 1);
  return 1;
}
