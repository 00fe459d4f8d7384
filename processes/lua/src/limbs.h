/* Fixed-width two's-complement integers as arrays of words, lowest first. */
#ifndef weft_limbs_h
#define weft_limbs_h

#include <stdint.h>

/* The shape of all numbers of one class. Arrays given to these functions hold `count` words, each <= mask. */
typedef struct limbs_shape {
  int count;
  int word_bits;   /* 8..32 */
  uint32_t mask;
} limbs_shape;

void limbs_set(const limbs_shape *shape, uint32_t *out, uint64_t low, int sign_extend);
void limbs_copy(const limbs_shape *shape, uint32_t *out, const uint32_t *from);
uint64_t limbs_low64(const limbs_shape *shape, const uint32_t *from);
int limbs_is_zero(const limbs_shape *shape, const uint32_t *from);
int limbs_is_negative(const limbs_shape *shape, const uint32_t *from);
/* -1, 0 or 1, as unsigned and as signed numbers. */
int limbs_compare(const limbs_shape *shape, const uint32_t *left, const uint32_t *right);
int limbs_compare_signed(const limbs_shape *shape, const uint32_t *left, const uint32_t *right);

/* `out` may be an operand in all of these but limbs_multiply. Results wrap. */
void limbs_add(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right);
void limbs_subtract(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right);
void limbs_negate(const limbs_shape *shape, uint32_t *out, const uint32_t *from);
void limbs_multiply(const limbs_shape *shape, uint32_t *out, const uint32_t *left, const uint32_t *right);
/* out = out * factor + addend. */
void limbs_multiply_small(const limbs_shape *shape, uint32_t *out, uint32_t factor, uint32_t addend);
/* Divides in place, answers the remainder. */
uint32_t limbs_divide_small(const limbs_shape *shape, uint32_t *number, uint32_t divisor);
/* Unsigned. The divisor is not zero. quotient and remainder are neither operand nor each other;
 * room holds two arrays of count + 1 words. */
void limbs_divide(const limbs_shape *shape, uint32_t *quotient, uint32_t *remainder, const uint32_t *dividend,
                  const uint32_t *divisor, uint32_t *room);
/* Logical shifts by 0 <= bits < width. */
void limbs_shift_left(const limbs_shape *shape, uint32_t *out, const uint32_t *from, int bits);
void limbs_shift_right(const limbs_shape *shape, uint32_t *out, const uint32_t *from, int bits);

#endif
