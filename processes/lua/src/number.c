/* Numbers as text: integers by own code, floats as %.14g, every NaN alike. Not parsing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "weft.h"

/* Integral floats below this print all their digits under %.14g. */
#define FLOAT_DIGITS_END 1e14

size_t weft_integer_text(char *buffer, lua_Integer value) {
  char digits[24];
  size_t count = 0;
  lua_Unsigned rest = value < 0 ? 0u - (lua_Unsigned)value : (lua_Unsigned)value;
  do digits[count++] = (char)('0' + rest % 10);
  while (rest /= 10);
  if (value < 0) digits[count++] = '-';
  for (size_t at = 0; at < count; at++) buffer[at] = digits[count - 1 - at];
  buffer[count] = '\0';
  return count;
}

/* The sign and payload of a NaN differ between hosts; this is the only one that is shown. */
double weft_one_nan(double value) {
  static const union { uint64_t bits; double value; } shown = {0xfff8000000000000u};
  return value != value ? shown.value : value;
}

size_t weft_float_text(char *buffer, lua_Number value) {
  if (fabs(value) < FLOAT_DIGITS_END && value == (lua_Number)(lua_Integer)value && !(value == 0 && signbit(value)))
    return weft_integer_text(buffer, (lua_Integer)value);
  return (size_t)snprintf(buffer, WEFT_NUMBER_BYTES, LUA_NUMBER_FMT, weft_one_nan(value));
}
