/* Arithmetic of fixed-width integers on plain word arrays. Knows nothing of Lua; bint.c is its only user. */
#include "limbs.h"

#include <string.h>

void limbs_set(const limbs_shape *shape, uint32_t *out, uint64_t low, int sign_extend) {
  uint32_t fill = sign_extend && (int64_t)low < 0 ? shape->mask : 0;
  int position = 0;
  for (int at = 0; at < shape->count; at++, position += shape->word_bits) {
    if (position >= 64) {
      out[at] = fill;
      continue;
    }
    uint64_t word = low >> position;
    if (position + shape->word_bits > 64 && fill) word |= ~(uint64_t)0 << (64 - position);
    out[at] = (uint32_t)word & shape->mask;
  }
}

void limbs_copy(const limbs_shape *shape, uint32_t *out, const uint32_t *from) {
  memmove(out, from, (size_t)shape->count * sizeof *out);
}

uint64_t limbs_low64(const limbs_shape *shape, const uint32_t *from) {
  uint64_t low = 0;
  int position = 0;
  for (int at = 0; at < shape->count && position < 64; at++, position += shape->word_bits)
    low |= (uint64_t)from[at] << position;
  return low;
}

int limbs_is_zero(const limbs_shape *shape, const uint32_t *from) {
  for (int at = 0; at < shape->count; at++)
    if (from[at]) return 0;
  return 1;
}

int limbs_is_negative(const limbs_shape *shape, const uint32_t *from) {
  return (int)(from[shape->count - 1] >> (shape->word_bits - 1)) & 1;
}

int limbs_compare(const limbs_shape *shape, const uint32_t *left, const uint32_t *right) {
  for (int at = shape->count - 1; at >= 0; at--)
    if (left[at] != right[at]) return left[at] < right[at] ? -1 : 1;
  return 0;
}

int limbs_compare_signed(const limbs_shape *shape, const uint32_t *left, const uint32_t *right) {
  int negative = limbs_is_negative(shape, left);
  if (negative != limbs_is_negative(shape, right)) return negative ? -1 : 1;
  return limbs_compare(shape, left, right);
}

void limbs_add(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  uint64_t carry = 0;
  for (int at = 0; at < shape->count; at++) {
    carry += (uint64_t)left[at] + right[at];
    out[at] = (uint32_t)carry & shape->mask;
    carry >>= shape->word_bits;
  }
}

void limbs_subtract(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  uint64_t borrow = 0;
  for (int at = 0; at < shape->count; at++) {
    uint64_t difference = (uint64_t)left[at] - right[at] - borrow;
    out[at] = (uint32_t)difference & shape->mask;
    borrow = difference >> 63;
  }
}

void limbs_negate(const limbs_shape *shape, uint32_t *out, const uint32_t *from) {
  uint64_t carry = 1;
  for (int at = 0; at < shape->count; at++) {
    carry += ~from[at] & shape->mask;
    out[at] = (uint32_t)carry & shape->mask;
    carry >>= shape->word_bits;
  }
}

void limbs_multiply(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right) {
  memset(out, 0, (size_t)shape->count * sizeof *out);
  for (int low = 0; low < shape->count; low++) {
    uint64_t carry = 0, factor = left[low];
    if (!factor) continue;
    for (int at = low; at < shape->count; at++) {
      carry += factor * right[at - low] + out[at];
      out[at] = (uint32_t)carry & shape->mask;
      carry >>= shape->word_bits;
    }
  }
}

void limbs_multiply_small(const limbs_shape *shape, uint32_t *out, uint32_t factor, uint32_t addend) {
  uint64_t carry = addend;
  for (int at = 0; at < shape->count; at++) {
    carry += (uint64_t)out[at] * factor;
    out[at] = (uint32_t)carry & shape->mask;
    carry >>= shape->word_bits;
  }
}

uint32_t limbs_divide_small(const limbs_shape *shape, uint32_t *number, uint32_t divisor) {
  uint64_t rest = 0;
  for (int at = shape->count - 1; at >= 0; at--) {
    rest = rest << shape->word_bits | number[at];
    number[at] = (uint32_t)(rest / divisor);
    rest %= divisor;
  }
  return (uint32_t)rest;
}

static int words_used(const limbs_shape *shape, const uint32_t *from) {
  int used = shape->count;
  while (used > 0 && !from[used - 1]) used--;
  return used;
}

/* to[0..length) = from[0..length - 1] << bits, 0 <= bits < word_bits; from may be one word shorter. */
static void shift_words(const limbs_shape *shape, uint32_t *to, const uint32_t *from, int used, int length, int bits) {
  uint64_t carry = 0;
  for (int at = 0; at < length; at++) {
    if (at < used) carry |= (uint64_t)from[at] << bits;
    to[at] = (uint32_t)carry & shape->mask;
    carry >>= shape->word_bits;
  }
}

/* The next quotient word: high[0..length] is the dividend's window, its top word last. */
static uint32_t quotient_word(const limbs_shape *shape, const uint32_t *window, const uint32_t *divisor, int length) {
  uint64_t base = (uint64_t)1 << shape->word_bits;
  uint64_t top = ((uint64_t)window[length] << shape->word_bits) | window[length - 1];
  uint64_t guess = top / divisor[length - 1], rest = top % divisor[length - 1];
  while (guess >= base || guess * divisor[length - 2] > (rest << shape->word_bits | window[length - 2])) {
    guess--;
    rest += divisor[length - 1];
    if (rest >= base) break;
  }
  return (uint32_t)guess;
}

/* window -= divisor * factor; answers whether it went below zero. */
static int subtract_multiple(const limbs_shape *shape, uint32_t *window, const uint32_t *divisor, int length, uint32_t factor) {
  uint64_t carry = 0, borrow = 0;
  for (int at = 0; at <= length; at++) {
    carry += at < length ? (uint64_t)divisor[at] * factor : 0;
    uint64_t difference = (uint64_t)window[at] - (carry & shape->mask) - borrow;
    window[at] = (uint32_t)difference & shape->mask;
    borrow = difference >> 63;
    carry >>= shape->word_bits;
  }
  return (int)borrow;
}

static void add_back(const limbs_shape *shape, uint32_t *window, const uint32_t *divisor, int length) {
  uint64_t carry = 0;
  for (int at = 0; at <= length; at++) {
    carry += (uint64_t)window[at] + (at < length ? divisor[at] : 0);
    window[at] = (uint32_t)carry & shape->mask;
    carry >>= shape->word_bits;
  }
}

/* Long division (Knuth's algorithm D): the divisor is shifted until its top bit is set. */
static void divide_long(const limbs_shape *shape, uint32_t *quotient, uint32_t *remainder, const uint32_t *dividend,
                        int dividend_used, const uint32_t *divisor, int length, uint32_t *room) {
  uint32_t *shifted = room, *rest = room + shape->count + 1;
  int bits = 0;
  while (!(divisor[length - 1] >> (shape->word_bits - 1 - bits) & 1)) bits++;
  shift_words(shape, shifted, divisor, length, length, bits);
  shift_words(shape, rest, dividend, dividend_used, dividend_used + 1, bits);
  for (int at = dividend_used - length; at >= 0; at--) {
    uint32_t word = quotient_word(shape, rest + at, shifted, length);
    if (subtract_multiple(shape, rest + at, shifted, length, word)) {
      word--;
      add_back(shape, rest + at, shifted, length);
    }
    quotient[at] = word;
  }
  for (int at = 0; at < length; at++) {
    uint64_t two = rest[at] | (uint64_t)(at + 1 < length ? rest[at + 1] : 0) << shape->word_bits;
    remainder[at] = (uint32_t)(two >> bits) & shape->mask;
  }
}

void limbs_divide(const limbs_shape *shape, uint32_t *quotient, uint32_t *remainder, const uint32_t *dividend,
                  const uint32_t *divisor, uint32_t *room) {
  int length = words_used(shape, divisor), dividend_used = words_used(shape, dividend);
  memset(remainder, 0, (size_t)shape->count * sizeof *remainder);
  if (length == 1) {
    limbs_copy(shape, quotient, dividend);
    remainder[0] = limbs_divide_small(shape, quotient, divisor[0]);
    return;
  }
  memset(quotient, 0, (size_t)shape->count * sizeof *quotient);
  if (dividend_used < length) limbs_copy(shape, remainder, dividend);
  else divide_long(shape, quotient, remainder, dividend, dividend_used, divisor, length, room);
}

void limbs_shift_left(const limbs_shape *shape, uint32_t *out, const uint32_t *from, int bits) {
  int words = bits / shape->word_bits, rest = bits % shape->word_bits;
  for (int at = shape->count - 1; at >= 0; at--) {
    uint64_t high = at >= words ? from[at - words] : 0, low = at > words ? from[at - words - 1] : 0;
    out[at] = (uint32_t)((high << rest) | (low << rest >> shape->word_bits)) & shape->mask;
  }
}

void limbs_shift_right(const limbs_shape *shape, uint32_t *out, const uint32_t *from, int bits) {
  int words = bits / shape->word_bits, rest = bits % shape->word_bits;
  for (int at = 0; at < shape->count; at++) {
    uint64_t low = at + words < shape->count ? from[at + words] : 0;
    uint64_t high = at + words + 1 < shape->count ? from[at + words + 1] : 0;
    out[at] = (uint32_t)((low | high << shape->word_bits) >> rest) & shape->mask;
  }
}
