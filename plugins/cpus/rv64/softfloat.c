/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every operation takes its operands apart into sign, exponent and a 64-bit significand whose top bit is
 * set, computes exactly in 128 bits with a sticky lowest bit for what falls off, and puts the result
 * together with one rounding.
 */
#include "softfloat.h"

typedef unsigned __int128 Wide;

typedef enum Kind { ZERO, FINITE, INFINITE, QUIET, SIGNALLING } Kind;

typedef struct Parts {
  Kind kind;
  bool sign;
  int exp;      /* of the significand's top bit */
  uint64_t sig; /* FINITE: bit 63 is set */
} Parts;

const RvFormat rv_f32 = { 8, 23 };
const RvFormat rv_f64 = { 11, 52 };

static int
bias (const RvFormat *format)
{
  return (1 << (format->exp_bits - 1)) - 1;
}

static uint64_t
max_exp_field (const RvFormat *format)
{
  return (UINT64_C (1) << format->exp_bits) - 1;
}

static uint64_t
frac_mask (const RvFormat *format)
{
  return (UINT64_C (1) << format->frac_bits) - 1;
}

static uint64_t
sign_bit (const RvFormat *format)
{
  return UINT64_C (1) << (format->exp_bits + format->frac_bits);
}

static uint64_t
pack_zero (const RvFormat *format, bool sign)
{
  return sign ? sign_bit (format) : 0;
}

static uint64_t
pack_infinity (const RvFormat *format, bool sign)
{
  return max_exp_field (format) << format->frac_bits | pack_zero (format, sign);
}

static uint64_t
canonical_nan (const RvFormat *format)
{
  return pack_infinity (format, false) | UINT64_C (1) << (format->frac_bits - 1);
}

static Parts
unpack (const RvFormat *format, uint64_t a)
{
  uint64_t frac = a & frac_mask (format), exp = a >> format->frac_bits & max_exp_field (format);
  Parts parts = { .sign = (a & sign_bit (format)) != 0 };
  unsigned up;

  if (exp == max_exp_field (format)) {
    if (frac)
      parts.kind = frac >> (format->frac_bits - 1) ? QUIET : SIGNALLING;
    else
      parts.kind = INFINITE;
    return parts;
  }
  if (exp == 0 && frac == 0)
    return parts;
  parts.kind = FINITE;
  if (exp == 0) {
    up = (unsigned) __builtin_clzll (frac);
    parts.sig = frac << up;
    parts.exp = 1 - bias (format) + 63 - (int) up - format->frac_bits;
    return parts;
  }
  parts.sig = (frac | UINT64_C (1) << format->frac_bits) << (63 - format->frac_bits);
  parts.exp = (int) exp - bias (format);
  return parts;
}

static bool
is_nan (Kind kind)
{
  return kind >= QUIET;
}

static uint64_t
shift_right_sticky (uint64_t value, unsigned by)
{
  if (by == 0)
    return value;
  if (by > 63)
    return value != 0;
  return value >> by | ((value << (64 - by)) != 0);
}

static Wide
shift_right_sticky_wide (Wide value, unsigned by)
{
  if (by == 0)
    return value;
  if (by > 127)
    return value != 0;
  return value >> by | ((value << (128 - by)) != 0);
}

static bool
rounds_up (uint8_t rm, bool sign, uint64_t rest, uint64_t half, bool odd)
{
  switch (rm) {
  case RV_RNE:
    return rest > half || (rest == half && odd);
  case RV_RDN:
    return sign && rest;
  case RV_RUP:
    return !sign && rest;
  case RV_RMM:
    return rest >= half;
  default:
    return false;
  }
}

static uint64_t
overflow (const RvFormat *format, bool sign, RvFpEnv *env)
{
  bool to_largest = env->rm == RV_RTZ || (env->rm == RV_RDN && !sign) || (env->rm == RV_RUP && sign);

  env->flags |= RV_OF | RV_NX;
  return pack_infinity (format, sign) - (to_largest ? 1 : 0);
}

/* Whether a value just below the normal range stays there when rounded without bounds on the exponent. */
static bool
is_tiny (const RvFormat *format, bool sign, int exp, uint64_t sig, uint8_t rm)
{
  unsigned drop = 63u - format->frac_bits;
  uint64_t unit = UINT64_C (1) << drop, rest = sig & (unit - 1);

  if (exp < -bias (format))
    return true;
  if (!rounds_up (rm, sign, rest, unit / 2, (sig & unit) != 0))
    return true;
  return (sig | (unit - 1)) != UINT64_MAX; /* rounding up doesn't carry out */
}

/* @sig has bit 63 set; its lowest bit is sticky. */
static uint64_t
round_pack (const RvFormat *format, bool sign, int exp, uint64_t sig, RvFpEnv *env)
{
  unsigned drop = 63u - format->frac_bits;
  uint64_t unit = UINT64_C (1) << drop, rest, packed;
  int least = 1 - bias (format);
  bool tiny = false;

  if (exp > bias (format))
    return overflow (format, sign, env);
  if (exp < least) {
    tiny = is_tiny (format, sign, exp, sig, env->rm);
    sig = shift_right_sticky (sig, least - exp > 64 ? 64u : (unsigned) (least - exp));
    exp = least - 1; /* what the missing top bit stands for */
  }
  rest = sig & (unit - 1);
  packed = sig >> drop;
  if (exp >= least)
    packed += (uint64_t) (exp - least) << format->frac_bits;
  if (rounds_up (env->rm, sign, rest, unit / 2, packed & 1))
    packed++; /* a carry moves into the exponent as it should */
  if (packed >> format->frac_bits >= max_exp_field (format))
    return overflow (format, sign, env);
  if (rest)
    env->flags |= tiny ? RV_UF | RV_NX : RV_NX;
  return packed | pack_zero (format, sign);
}

/* As round_pack() for a 128-bit significand, not 0, whose bit 127 stands for 2^exp. */
static uint64_t
round_pack_wide (const RvFormat *format, bool sign, int exp, Wide sig, RvFpEnv *env)
{
  uint64_t high = (uint64_t) (sig >> 64);
  unsigned up = high ? (unsigned) __builtin_clzll (high) : 64u + (unsigned) __builtin_clzll ((uint64_t) sig);

  sig <<= up;
  return round_pack (format, sign, exp - (int) up, (uint64_t) (sig >> 64) | ((uint64_t) sig != 0), env);
}

static uint64_t
invalid (const RvFormat *format, RvFpEnv *env)
{
  env->flags |= RV_NV;
  return canonical_nan (format);
}

static uint64_t
nan_result (const RvFormat *format, Kind a, Kind b, RvFpEnv *env)
{
  if (a == SIGNALLING || b == SIGNALLING)
    env->flags |= RV_NV;
  return canonical_nan (format);
}

static uint64_t
zero_sum (const RvFormat *format, bool a, bool b, const RvFpEnv *env)
{
  return pack_zero (format, a == b ? a : env->rm == RV_RDN);
}

/* Sum of two significands in which bit 125 stands for 2^exp; each is below 2^127. */
static uint64_t
sum_wide (const RvFormat *format, bool a_sign, int a_exp, Wide a, bool b_sign, int b_exp, Wide b,
          RvFpEnv *env)
{
  int exp = a_exp > b_exp ? a_exp : b_exp;

  a = shift_right_sticky_wide (a, (unsigned) (exp - a_exp));
  b = shift_right_sticky_wide (b, (unsigned) (exp - b_exp));
  if (a_sign == b_sign)
    return round_pack_wide (format, a_sign, exp + 2, a + b, env);
  if (a == b)
    return zero_sum (format, a_sign, b_sign, env);
  if (a > b)
    return round_pack_wide (format, a_sign, exp + 2, a - b, env);
  return round_pack_wide (format, b_sign, exp + 2, b - a, env);
}

static uint64_t
add_parts (const RvFormat *format, const Parts *a, const Parts *b, RvFpEnv *env)
{
  if (is_nan (a->kind) || is_nan (b->kind))
    return nan_result (format, a->kind, b->kind, env);
  if (a->kind == INFINITE && b->kind == INFINITE && a->sign != b->sign)
    return invalid (format, env);
  if (a->kind == INFINITE || b->kind == INFINITE)
    return pack_infinity (format, a->kind == INFINITE ? a->sign : b->sign);
  if (a->kind == ZERO && b->kind == ZERO)
    return zero_sum (format, a->sign, b->sign, env);
  if (a->kind == ZERO)
    return round_pack (format, b->sign, b->exp, b->sig, env);
  if (b->kind == ZERO)
    return round_pack (format, a->sign, a->exp, a->sig, env);
  return sum_wide (format, a->sign, a->exp, (Wide) a->sig << 62, b->sign, b->exp, (Wide) b->sig << 62, env);
}

uint64_t
rv_sf_add (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b);

  return add_parts (format, &pa, &pb, env);
}

uint64_t
rv_sf_sub (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b);

  pb.sign = !pb.sign;
  return add_parts (format, &pa, &pb, env);
}

uint64_t
rv_sf_mul (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b);
  bool sign = pa.sign != pb.sign;

  if (is_nan (pa.kind) || is_nan (pb.kind))
    return nan_result (format, pa.kind, pb.kind, env);
  if (pa.kind == INFINITE || pb.kind == INFINITE)
    return pa.kind == ZERO || pb.kind == ZERO ? invalid (format, env) : pack_infinity (format, sign);
  if (pa.kind == ZERO || pb.kind == ZERO)
    return pack_zero (format, sign);
  return round_pack_wide (format, sign, pa.exp + pb.exp + 1, (Wide) pa.sig * pb.sig, env);
}

uint64_t
rv_sf_fma (const RvFormat *format, uint64_t a, uint64_t b, uint64_t c, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b), pc = unpack (format, c);
  bool sign = pa.sign != pb.sign;
  bool zero_times_infinity =
      (pa.kind == INFINITE && pb.kind == ZERO) || (pa.kind == ZERO && pb.kind == INFINITE);

  if (zero_times_infinity)
    env->flags |= RV_NV; /* even when the addend is a quiet NaN */
  if (is_nan (pa.kind) || is_nan (pb.kind) || is_nan (pc.kind) || zero_times_infinity) {
    nan_result (format, pa.kind, pb.kind, env);
    return nan_result (format, pc.kind, ZERO, env);
  }
  if (pa.kind == INFINITE || pb.kind == INFINITE) {
    if (pc.kind == INFINITE && pc.sign != sign)
      return invalid (format, env);
    return pack_infinity (format, sign);
  }
  if (pc.kind == INFINITE)
    return pack_infinity (format, pc.sign);
  if (pa.kind == ZERO || pb.kind == ZERO) {
    if (pc.kind == ZERO)
      return zero_sum (format, sign, pc.sign, env);
    return round_pack (format, pc.sign, pc.exp, pc.sig, env);
  }
  if (pc.kind == ZERO)
    return round_pack_wide (format, sign, pa.exp + pb.exp + 1, (Wide) pa.sig * pb.sig, env);
  return sum_wide (format, sign, pa.exp + pb.exp, (Wide) pa.sig * pb.sig >> 1, pc.sign, pc.exp,
                   (Wide) pc.sig << 62, env);
}

uint64_t
rv_sf_div (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b);
  bool sign = pa.sign != pb.sign;
  Wide numerator, quotient;

  if (is_nan (pa.kind) || is_nan (pb.kind))
    return nan_result (format, pa.kind, pb.kind, env);
  if (pa.kind == pb.kind && (pa.kind == ZERO || pa.kind == INFINITE))
    return invalid (format, env);
  if (pa.kind == ZERO || pb.kind == INFINITE)
    return pack_zero (format, sign);
  if (pb.kind == ZERO && pa.kind == FINITE)
    env->flags |= RV_DZ;
  if (pa.kind == INFINITE || pb.kind == ZERO)
    return pack_infinity (format, sign);
  numerator = (Wide) pa.sig << 63;
  quotient = numerator / pb.sig;
  /* Bit 63 of the quotient stands for 2^(difference of exponents); the remainder makes it sticky. */
  return round_pack_wide (format, sign, pa.exp - pb.exp + 63, quotient << 1 | (numerator % pb.sig != 0), env);
}

/* The integer square root of @n, with the lowest bit set when it isn't exact. */
static uint64_t
square_root (Wide n)
{
  uint64_t root = 0;

  for (int bit = 63; bit >= 0; bit--) {
    uint64_t trial = root | UINT64_C (1) << bit;

    if ((Wide) trial * trial <= n)
      root = trial;
  }
  return root | ((Wide) root * root != n);
}

uint64_t
rv_sf_sqrt (const RvFormat *format, uint64_t a, RvFpEnv *env)
{
  Parts pa = unpack (format, a);
  unsigned odd = (unsigned) pa.exp & 1;

  if (is_nan (pa.kind))
    return nan_result (format, pa.kind, ZERO, env);
  if (pa.kind == ZERO)
    return a;
  if (pa.sign)
    return invalid (format, env);
  if (pa.kind == INFINITE)
    return a;
  return round_pack (format, false, (pa.exp - (int) odd) / 2, square_root ((Wide) pa.sig << (63 + odd)), env);
}

/* Order of two numbers that aren't NaN: -1, 0, 1. */
static int
order (const RvFormat *format, uint64_t a, uint64_t b)
{
  uint64_t sign = sign_bit (format);
  uint64_t a_abs = a & (sign - 1), b_abs = b & (sign - 1);
  bool a_negative = (a & sign) && a_abs, b_negative = (b & sign) && b_abs;

  if (a_negative != b_negative)
    return a_negative ? -1 : 1;
  if (a_abs == b_abs)
    return 0;
  return (a_abs < b_abs) != a_negative ? -1 : 1;
}

static uint64_t
min_max (const RvFormat *format, uint64_t a, uint64_t b, bool want_max, RvFpEnv *env)
{
  Parts pa = unpack (format, a), pb = unpack (format, b);
  bool a_is_less;
  int compared;

  if (pa.kind == SIGNALLING || pb.kind == SIGNALLING)
    env->flags |= RV_NV;
  if (is_nan (pa.kind))
    return is_nan (pb.kind) ? canonical_nan (format) : b;
  if (is_nan (pb.kind))
    return a;
  compared = order (format, a, b);
  a_is_less = compared < 0 || (compared == 0 && pa.sign); /* -0 is less than +0 */
  return a_is_less != want_max ? a : b;
}

uint64_t
rv_sf_min (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  return min_max (format, a, b, false, env);
}

uint64_t
rv_sf_max (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  return min_max (format, a, b, true, env);
}

bool
rv_sf_eq (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  Kind ka = unpack (format, a).kind, kb = unpack (format, b).kind;

  if (ka == SIGNALLING || kb == SIGNALLING)
    env->flags |= RV_NV;
  return !is_nan (ka) && !is_nan (kb) && order (format, a, b) == 0;
}

/* The comparisons that no NaN may enter. */
static bool
is_ordered (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  if (!is_nan (unpack (format, a).kind) && !is_nan (unpack (format, b).kind))
    return true;
  env->flags |= RV_NV;
  return false;
}

bool
rv_sf_lt (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  return is_ordered (format, a, b, env) && order (format, a, b) < 0;
}

bool
rv_sf_le (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env)
{
  return is_ordered (format, a, b, env) && order (format, a, b) <= 0;
}

unsigned
rv_sf_class (const RvFormat *format, uint64_t a)
{
  Parts parts = unpack (format, a);
  bool subnormal = (a >> format->frac_bits & max_exp_field (format)) == 0;

  switch (parts.kind) {
  case INFINITE:
    return parts.sign ? 1u << 0 : 1u << 7;
  case ZERO:
    return parts.sign ? 1u << 3 : 1u << 4;
  case SIGNALLING:
    return 1u << 8;
  case QUIET:
    return 1u << 9;
  default:
    break;
  }
  if (subnormal)
    return parts.sign ? 1u << 2 : 1u << 5;
  return parts.sign ? 1u << 1 : 1u << 6;
}

uint64_t
rv_sf_convert (const RvFormat *from, const RvFormat *to, uint64_t a, RvFpEnv *env)
{
  Parts parts = unpack (from, a);

  if (is_nan (parts.kind))
    return nan_result (to, parts.kind, ZERO, env);
  if (parts.kind == ZERO)
    return pack_zero (to, parts.sign);
  if (parts.kind == INFINITE)
    return pack_infinity (to, parts.sign);
  return round_pack (to, parts.sign, parts.exp, parts.sig, env);
}

static uint64_t
extend (uint64_t value, unsigned bits)
{
  return bits == 32 ? (uint64_t) (int64_t) (int32_t) value : value;
}

static uint64_t
saturated (bool negative, unsigned bits, bool is_signed, RvFpEnv *env)
{
  uint64_t top = UINT64_C (1) << (bits - 1);

  env->flags |= RV_NV;
  if (is_signed)
    return extend (negative ? top : top - 1, bits);
  return negative ? 0 : extend (top | (top - 1), bits);
}

uint64_t
rv_sf_to_int (const RvFormat *format, uint64_t a, unsigned bits, bool is_signed, RvFpEnv *env)
{
  Parts parts = unpack (format, a);
  bool negative = parts.sign && !is_nan (parts.kind);
  uint64_t whole = 0, rest, limit = UINT64_MAX >> (64 - bits);

  if (parts.kind == ZERO)
    return 0;
  if (parts.kind != FINITE || parts.exp > 63)
    return saturated (negative, bits, is_signed, env);
  if (parts.exp >= 0) {
    whole = parts.sig >> (63 - parts.exp);
    rest = parts.exp == 63 ? 0 : parts.sig << (parts.exp + 1);
  } else {
    rest = shift_right_sticky (parts.sig, parts.exp < -64 ? 64u : (unsigned) (-1 - parts.exp));
  }
  if (rounds_up (env->rm, negative, rest, UINT64_C (1) << 63, whole & 1)) {
    if (whole == UINT64_MAX)
      return saturated (negative, bits, is_signed, env);
    whole++;
  }
  if (is_signed)
    limit = (limit >> 1) + (negative ? 1 : 0);
  else if (negative)
    limit = 0;
  if (whole > limit)
    return saturated (negative, bits, is_signed, env);
  if (rest)
    env->flags |= RV_NX;
  return extend (negative ? -whole : whole, bits);
}

uint64_t
rv_sf_from_int (const RvFormat *format, uint64_t a, bool is_signed, RvFpEnv *env)
{
  bool negative = is_signed && (int64_t) a < 0;
  uint64_t magnitude = negative ? -a : a;
  unsigned up;

  if (magnitude == 0)
    return 0;
  up = (unsigned) __builtin_clzll (magnitude);
  return round_pack (format, negative, 63 - (int) up, magnitude << up, env);
}
