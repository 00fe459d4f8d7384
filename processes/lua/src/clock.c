/* os: time from the message alone, UTC, C locale, proleptic Gregorian. No clock of any host.
 * os.time() is milliseconds because aos's is; every other function here speaks of seconds. */
#include <string.h>

#include "weft.h"

enum { SECONDS_A_DAY = 86400, FIELD_MAX = 1073741823 };

static lua_Integer now_ms;

void weft_clock_set(lua_Integer value) { now_ms = value; }

lua_Integer weft_clock_now(void) { return now_ms; }

typedef struct date {
  lua_Integer year, month, day, hour, minute, second;   /* month from 1, year in full */
  int weekday, yearday;                                 /* Sunday is 0, 1 January is 0 */
} date;

static lua_Integer floor_div(lua_Integer value, lua_Integer by) {
  lua_Integer quotient = value / by;
  return value % by < 0 ? quotient - 1 : quotient;
}

static lua_Integer floor_mod(lua_Integer value, lua_Integer by) { return value - floor_div(value, by) * by; }

static int is_leap(lua_Integer year) {
  return floor_mod(year, 4) == 0 && (floor_mod(year, 100) != 0 || floor_mod(year, 400) == 0);
}

static lua_Integer days_before_year(lua_Integer year) {
  lua_Integer past = year - 1;
  return past * 365 + floor_div(past, 4) - floor_div(past, 100) + floor_div(past, 400);
}

static int days_before_month(lua_Integer year, int month) {
  static const short days[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
  return days[month - 1] + (month > 2 && is_leap(year));
}

/* Days since 1970-01-01; months beyond 1..12 carry into years. */
static lua_Integer day_number(lua_Integer year, lua_Integer month, lua_Integer day) {
  lua_Integer carried = year + floor_div(month - 1, 12);
  int within = (int)floor_mod(month - 1, 12) + 1;
  return days_before_year(carried) - days_before_year(1970) + days_before_month(carried, within) + day - 1;
}

static lua_Integer seconds_of(const date *when) {
  return day_number(when->year, when->month, when->day) * SECONDS_A_DAY + when->hour * 3600 + when->minute * 60 + when->second;
}

static date date_of(lua_Integer seconds) {
  lua_Integer days = floor_div(seconds, SECONDS_A_DAY), rest = floor_mod(seconds, SECONDS_A_DAY);
  lua_Integer year = 1970 + floor_div(days * 400, 146097);
  while (day_number(year, 1, 1) > days) year--;
  while (day_number(year + 1, 1, 1) <= days) year++;
  int yearday = (int)(days - day_number(year, 1, 1)), month = 12;
  while (days_before_month(year, month) > yearday) month--;
  return (date){.year = year, .month = month, .day = yearday - days_before_month(year, month) + 1,
                .hour = rest / 3600, .minute = rest / 60 % 60, .second = rest % 60,
                .weekday = (int)floor_mod(days + 4, 7), .yearday = yearday};
}

/* --- os.time --- */

static lua_Integer field_failed(lua_State *L, const char *key, int type) {
  if (type != LUA_TNIL) return luaL_error(L, "field '%s' is not an integer", key);
  return luaL_error(L, "field '%s' missing in date table", key);
}

/* An integer field of the table at 1. `missing` stands in for it; < 0: it must be there. */
static lua_Integer field(lua_State *L, const char *key, lua_Integer missing) {
  int is_integer, type = lua_getfield(L, 1, key);
  lua_Integer value = lua_tointegerx(L, -1, &is_integer);
  lua_pop(L, 1);
  if (!is_integer) {
    if (type != LUA_TNIL || missing < 0) return field_failed(L, key, type);
    return missing;
  }
  if (value < -FIELD_MAX || value > FIELD_MAX) return luaL_error(L, "field '%s' is out-of-bound", key);
  return value;
}

static void set_field(lua_State *L, const char *key, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

/* Into the table at the top. Daylight saving does not exist here. */
static void set_fields(lua_State *L, const date *when) {
  set_field(L, "sec", when->second);
  set_field(L, "min", when->minute);
  set_field(L, "hour", when->hour);
  set_field(L, "day", when->day);
  set_field(L, "month", when->month);
  set_field(L, "year", when->year);
  set_field(L, "wday", when->weekday + 1);
  set_field(L, "yday", when->yearday + 1);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "isdst");
}

static int os_time(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_pushinteger(L, now_ms);
    return 1;
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  date when = {.second = field(L, "sec", 0)};
  when.minute = field(L, "min", 0);
  when.hour = field(L, "hour", 12);
  when.day = field(L, "day", -1);
  when.month = field(L, "month", -1);
  when.year = field(L, "year", -1);
  lua_Integer seconds = seconds_of(&when);
  when = date_of(seconds);
  set_fields(L, &when);
  lua_pushinteger(L, seconds);
  return 1;
}

/* --- os.date --- */

static const char *const day_names[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const month_names[] = {"January", "February", "March", "April", "May", "June", "July",
                                          "August", "September", "October", "November", "December"};

static void add_padded(luaL_Buffer *text, lua_Integer value, int width, char pad) {
  char digits[WEFT_NUMBER_BYTES];
  int length = (int)weft_integer_text(digits, value < 0 ? -value : value);
  if (value < 0) luaL_addchar(text, '-');
  for (; length < width; width--) luaL_addchar(text, pad);
  luaL_addlstring(text, digits, (size_t)length);
}

/* Week of the year, the first one beginning on the year's first `first_weekday`. */
static int week_number(const date *when, int first_weekday) {
  return (when->yearday + 7 - (when->weekday + 7 - first_weekday) % 7) / 7;
}

static int iso_weeks(lua_Integer year) {
  date last = date_of(day_number(year, 12, 31) * SECONDS_A_DAY);
  return last.weekday == 4 || (last.weekday == 5 && is_leap(year)) ? 53 : 52;
}

/* ISO 8601: the week belongs to the year that its Thursday is in. */
static int iso_week(const date *when, lua_Integer *year) {
  int week = (when->yearday - (when->weekday + 6) % 7 + 10) / 7;
  *year = when->year;
  if (week < 1) return iso_weeks(--*year);
  if (week > iso_weeks(*year)) return ++*year, 1;
  return week;
}

static void add_format(luaL_Buffer *text, const char *format, const date *when);

static void add_iso(luaL_Buffer *text, char conversion, const date *when) {
  lua_Integer year;
  int week = iso_week(when, &year);
  if (conversion == 'V') add_padded(text, week, 2, '0');
  else if (conversion == 'G') add_padded(text, year, 4, '0');
  else add_padded(text, floor_mod(year, 100), 2, '0');
}

/* The conversions that are other conversions put together. */
static const char *composed(char conversion) {
  switch (conversion) {
    case 'c': return "%a %b %e %H:%M:%S %Y";
    case 'D': case 'x': return "%m/%d/%y";
    case 'F': return "%Y-%m-%d";
    case 'R': return "%H:%M";
    case 'r': return "%I:%M:%S %p";
    case 'T': case 'X': return "%H:%M:%S";
    default: return NULL;
  }
}

static const char *word(char conversion, const date *when) {
  switch (conversion) {
    case 'A': case 'a': return day_names[when->weekday];
    case 'B': case 'b': case 'h': return month_names[when->month - 1];
    case 'p': return when->hour < 12 ? "AM" : "PM";
    case 'n': return "\n";
    case 't': return "\t";
    case 'Z': return "UTC";
    case 'z': return "+0000";
    case '%': return "%";
    default: return NULL;
  }
}

static void add_number(luaL_Buffer *text, char conversion, const date *when) {
  switch (conversion) {
    case 'C': add_padded(text, floor_div(when->year, 100), 2, '0'); break;
    case 'd': add_padded(text, when->day, 2, '0'); break;
    case 'e': add_padded(text, when->day, 2, ' '); break;
    case 'H': add_padded(text, when->hour, 2, '0'); break;
    case 'I': add_padded(text, (when->hour + 11) % 12 + 1, 2, '0'); break;
    case 'j': add_padded(text, when->yearday + 1, 3, '0'); break;
    case 'M': add_padded(text, when->minute, 2, '0'); break;
    case 'm': add_padded(text, when->month, 2, '0'); break;
    case 'S': add_padded(text, when->second, 2, '0'); break;
    case 'U': add_padded(text, week_number(when, 0), 2, '0'); break;
    case 'u': add_padded(text, (when->weekday + 6) % 7 + 1, 1, '0'); break;
    case 'W': add_padded(text, week_number(when, 1), 2, '0'); break;
    case 'w': add_padded(text, when->weekday, 1, '0'); break;
    case 'Y': add_padded(text, when->year, 1, '0'); break;
    case 'y': add_padded(text, floor_mod(when->year, 100), 2, '0'); break;
    default: add_iso(text, conversion, when); break;
  }
}

static void add_conversion(luaL_Buffer *text, char conversion, const date *when) {
  const char *format = composed(conversion), *name = word(conversion, when);
  int is_short = conversion == 'a' || conversion == 'b' || conversion == 'h';
  if (format) add_format(text, format, when);
  else if (name) luaL_addlstring(text, name, is_short ? 3 : strlen(name));
  else add_number(text, conversion, when);
}

static void add_format(luaL_Buffer *text, const char *format, const date *when) {
  for (; *format; format++) {
    if (*format == '%') add_conversion(text, *++format, when);
    else luaL_addchar(text, *format);
  }
}

#define CONVERSIONS "aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%"

/* Copies a format with its E and O modifiers taken out, which mean nothing in the C locale. */
static const char *checked_format(lua_State *L, const char *format, size_t length) {
  luaL_Buffer plain;
  luaL_buffinit(L, &plain);
  for (size_t at = 0; at < length; at++) {
    luaL_addchar(&plain, format[at]);
    if (format[at] != '%') continue;
    const char *conversion = format + at + 1, *allowed = CONVERSIONS;
    if (at + 1 < length && (format[at + 1] == 'E' || format[at + 1] == 'O'))
      allowed = format[++at] == 'E' ? "cCxXyY" : "deHImMSuUVwWy";
    if (++at >= length || !format[at] || !strchr(allowed, format[at]))
      luaL_argerror(L, 1, lua_pushfstring(L, "invalid conversion specifier '%%%s'", conversion));
    luaL_addchar(&plain, format[at]);
  }
  luaL_pushresult(&plain);
  return lua_tostring(L, -1);
}

static int os_date(lua_State *L) {
  size_t length;
  const char *format = luaL_optlstring(L, 1, "%c", &length);
  lua_Integer seconds = lua_isnoneornil(L, 2) ? floor_div(now_ms, 1000) : luaL_checkinteger(L, 2);
  /* The years that C's int can hold, as stock. */
  if (seconds < -67768040609740800LL || seconds > 67768036191676799LL)
    return luaL_error(L, "time result cannot be represented in this installation");
  date when = date_of(seconds);
  if (*format == '!') format++, length--;
  if (strcmp(format, "*t") == 0) {
    lua_createtable(L, 0, 9);
    set_fields(L, &when);
    return 1;
  }
  format = checked_format(L, format, length);
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  add_format(&text, format, &when);
  luaL_pushresult(&text);
  return 1;
}

/* --- The rest of os --- */

static int os_clock(lua_State *L) {
  lua_pushnumber(L, 0);
  return 1;
}

static int os_difftime(lua_State *L) {
  lua_pushnumber(L, (lua_Number)luaL_checkinteger(L, 1) - (lua_Number)luaL_checkinteger(L, 2));
  return 1;
}

static int os_getenv(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_pushnil(L);
  return 1;
}

int luaopen_weft_os(lua_State *L) {
  static const luaL_Reg members[] = {{"time", os_time}, {"date", os_date}, {"clock", os_clock},
                                     {"difftime", os_difftime}, {"getenv", os_getenv}, {NULL, NULL}};
  luaL_newlib(L, members);
  return 1;
}
