/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * softfloat.c against the host's floating-point unit: bits and flags, in the four rounding modes that hosts
 * have, over special and random operands.  The fifth mode (nearest, ties away) is checked by its definition.
 * RV64_TEST_CASES sets the number of random cases; the seed is g_test's (`--seed`).
 */
#include <fenv.h>
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "softfloat.h"

#pragma STDC FENV_ACCESS ON

#define NAN32 0x7fc00000u
#define NAN64 UINT64_C (0x7ff8000000000000)

static const struct {
  int host;
  uint8_t rm;
} modes[] = {
  { FE_TONEAREST, RV_RNE }, { FE_TOWARDZERO, RV_RTZ }, { FE_DOWNWARD, RV_RDN }, { FE_UPWARD, RV_RUP }
};

static uint8_t
host_flags (void)
{
  int raised = fetestexcept (FE_ALL_EXCEPT);

  return (uint8_t) ((raised & FE_INEXACT ? RV_NX : 0) | (raised & FE_UNDERFLOW ? RV_UF : 0)
                    | (raised & FE_OVERFLOW ? RV_OF : 0) | (raised & FE_DIVBYZERO ? RV_DZ : 0)
                    | (raised & FE_INVALID ? RV_NV : 0));
}

static double
make_double (uint64_t bits)
{
  double value;

  memcpy (&value, &bits, sizeof value);
  return value;
}

static float
make_float (uint64_t bits)
{
  uint32_t low = (uint32_t) bits;
  float value;

  memcpy (&value, &low, sizeof value);
  return value;
}

static uint64_t
double_bits (double value)
{
  uint64_t bits;

  memcpy (&bits, &value, sizeof bits);
  return isnan (value) ? NAN64 : bits;
}

static uint64_t
float_bits (float value)
{
  uint32_t bits;

  memcpy (&bits, &value, sizeof bits);
  return isnan (value) ? NAN32 : bits;
}

static uint64_t
random64 (void)
{
  return (uint64_t) (uint32_t) g_test_rand_int () << 32 | (uint32_t) g_test_rand_int ();
}

/* Bit patterns that are likely to meet: few exponents, runs of ones and zeroes in the fraction. */
static uint64_t
random_pattern (const RvFormat *format)
{
  static const int offsets[] = { 0, 1, 2, 3, -1, -2, -3, -24, -25, 24, 52, 53, -52, -53, 31, 63 };
  uint64_t top = (UINT64_C (1) << format->exp_bits) - 1, bias = top >> 1;
  uint64_t frac = random64 () & ((UINT64_C (1) << format->frac_bits) - 1);
  uint64_t exp = random64 () & top, sign = random64 () & 1;

  switch (random64 () % 8) {
  case 0:
    exp = 0;
    break;
  case 1:
    exp = top - random64 () % 2;
    break;
  case 2:
  case 3:
    exp = bias + (uint64_t) (int64_t) offsets[random64 () % G_N_ELEMENTS (offsets)];
    break;
  case 4:
    exp = 1 + random64 () % 2;
    break;
  default:
    break;
  }
  switch (random64 () % 6) {
  case 0:
    frac = 0;
    break;
  case 1:
    frac = (UINT64_C (1) << format->frac_bits) - 1;
    break;
  case 2:
    frac &= UINT64_MAX << (random64 () % format->frac_bits);
    break;
  case 3:
    frac = UINT64_C (1) << (random64 () % format->frac_bits);
    break;
  default:
    break;
  }
  return sign << (format->exp_bits + format->frac_bits) | exp << format->frac_bits | frac;
}

typedef enum Op { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_SQRT, OP_FMA, OP_CONVERT, OP_COUNT } Op;
static const char *const op_names[] = { "add", "sub", "mul", "div", "sqrt", "fma", "convert" };

static uint64_t
host_double (Op op, uint64_t a, uint64_t b, uint64_t c)
{
  volatile double x = make_double (a), y = make_double (b), z = make_double (c), result = 0;
  volatile float narrow;

  feclearexcept (FE_ALL_EXCEPT);
  switch (op) {
  case OP_ADD:
    result = x + y;
    break;
  case OP_SUB:
    result = x - y;
    break;
  case OP_MUL:
    result = x * y;
    break;
  case OP_DIV:
    result = x / y;
    break;
  case OP_SQRT:
    result = sqrt (x);
    break;
  case OP_FMA:
    result = fma (x, y, z);
    break;
  default:
    narrow = (float) x;
    return float_bits (narrow);
  }
  return double_bits (result);
}

static uint64_t
host_float (Op op, uint64_t a, uint64_t b, uint64_t c)
{
  volatile float x = make_float (a), y = make_float (b), z = make_float (c), result = 0;
  volatile double wide;

  feclearexcept (FE_ALL_EXCEPT);
  switch (op) {
  case OP_ADD:
    result = x + y;
    break;
  case OP_SUB:
    result = x - y;
    break;
  case OP_MUL:
    result = x * y;
    break;
  case OP_DIV:
    result = x / y;
    break;
  case OP_SQRT:
    result = sqrtf (x);
    break;
  case OP_FMA:
    result = fmaf (x, y, z);
    break;
  default:
    wide = (double) x;
    return double_bits (wide);
  }
  return float_bits (result);
}

static uint64_t
ours (Op op, const RvFormat *format, uint64_t a, uint64_t b, uint64_t c, RvFpEnv *env)
{
  switch (op) {
  case OP_ADD:
    return rv_sf_add (format, a, b, env);
  case OP_SUB:
    return rv_sf_sub (format, a, b, env);
  case OP_MUL:
    return rv_sf_mul (format, a, b, env);
  case OP_DIV:
    return rv_sf_div (format, a, b, env);
  case OP_SQRT:
    return rv_sf_sqrt (format, a, env);
  case OP_FMA:
    return rv_sf_fma (format, a, b, c, env);
  default:
    return rv_sf_convert (format, format == &rv_f64 ? &rv_f32 : &rv_f64, a, env);
  }
}

static bool
is_nan_pattern (const RvFormat *format, uint64_t a)
{
  return rv_sf_class (format, a) >= 1u << 8;
}

/* Infinity times zero plus a quiet NaN: IEEE leaves the flag to the implementation; RISC-V raises it. */
static bool
is_free_choice (Op op, const RvFormat *format, uint64_t a, uint64_t b, uint64_t c)
{
  unsigned classes = rv_sf_class (format, a) | rv_sf_class (format, b);

  return op == OP_FMA && is_nan_pattern (format, c) && (classes & 0x81) && (classes & 0x18);
}

static void
check (Op op, const RvFormat *format, unsigned mode, uint64_t a, uint64_t b, uint64_t c)
{
  RvFpEnv env = { modes[mode].rm, 0 };
  uint64_t mine = ours (op, format, a, b, c, &env), theirs;
  uint8_t flags;

  fesetround (modes[mode].host);
  theirs = format == &rv_f64 ? host_double (op, a, b, c) : host_float (op, a, b, c);
  flags = host_flags ();
  fesetround (FE_TONEAREST);
  if (is_free_choice (op, format, a, b, c))
    flags = env.flags;
#ifndef __x86_64__
  flags = (flags & ~RV_UF) | (env.flags & RV_UF); /* where the host detects tininess is its choice */
#endif
  if (mine == theirs && env.flags == flags)
    return;
  g_test_message ("%s f%d rm %u: %" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER
                  "x: %" G_GINT64_MODIFIER "x flags %x, host %" G_GINT64_MODIFIER "x flags %x",
                  op_names[op], format->frac_bits, modes[mode].rm, a, b, c, mine, env.flags, theirs, flags);
  g_test_fail ();
}

static unsigned
cases (void)
{
  const char *text = g_getenv ("RV64_TEST_CASES");

  return text ? (unsigned) strtoul (text, NULL, 10) : 60000;
}

static void
test_arithmetic (const void *data)
{
  const RvFormat *format = data;
  unsigned count = cases ();

  for (unsigned i = 0; i < count && !g_test_failed (); i++) {
    uint64_t a = random_pattern (format), b = random_pattern (format), c = random_pattern (format);

    for (unsigned mode = 0; mode < G_N_ELEMENTS (modes); mode++)
      for (int op = 0; op < OP_COUNT; op++)
        check ((Op) op, format, mode, a, b, c);
  }
}

/* A product cancelled by an addend close to it, where a second rounding would show. */
static void
test_cancellation (void)
{
  for (unsigned i = 0; i < cases () && !g_test_failed (); i++) {
    uint64_t a = double_bits (1 + (double) (random64 () >> 12) * 0x1p-52);
    uint64_t b = double_bits (1 + (double) (random64 () >> 12) * 0x1p-52);
    uint64_t c = double_bits (-make_double (a) * make_double (b)) + random64 () % 5 - 2;

    for (unsigned mode = 0; mode < G_N_ELEMENTS (modes); mode++)
      check (OP_FMA, &rv_f64, mode, a, b, c);
  }
}

static void
check_to_int (unsigned mode, uint64_t a)
{
  RvFpEnv env = { modes[mode].rm, 0 };
  uint64_t mine = rv_sf_to_int (&rv_f64, a, 64, true, &env);
  volatile double value = make_double (a);
  volatile long long theirs;
  uint8_t flags;

  fesetround (modes[mode].host);
  feclearexcept (FE_ALL_EXCEPT);
  theirs = llrint (value);
  flags = host_flags ();
  fesetround (FE_TONEAREST);
  g_assert_cmphex (env.flags, ==, flags);
  if (!(flags & RV_NV))
    g_assert_cmphex (mine, ==, (uint64_t) theirs);
  else if (isnan (value))
    g_assert_cmphex (mine, ==, INT64_MAX);
  else
    g_assert_cmphex (mine, ==, value < 0 ? (uint64_t) INT64_MIN : (uint64_t) INT64_MAX);
}

static void
check_from_int (unsigned mode, uint64_t a)
{
  RvFpEnv env = { modes[mode].rm, 0 };
  uint64_t mine = rv_sf_from_int (&rv_f64, a, true, &env), mine32 = rv_sf_from_int (&rv_f32, a, false, &env);
  volatile int64_t value = (int64_t) a;
  volatile uint64_t as_unsigned = a;
  volatile double theirs;
  volatile float theirs32;

  fesetround (modes[mode].host);
  theirs = (double) value;
  theirs32 = (float) as_unsigned;
  fesetround (FE_TONEAREST);
  g_assert_cmphex (mine, ==, double_bits (theirs));
  g_assert_cmphex (mine32, ==, float_bits (theirs32));
}

static void
test_integers (void)
{
  for (unsigned i = 0; i < cases (); i++) {
    uint64_t number = random64 () >> random64 () % 64;

    for (unsigned mode = 0; mode < G_N_ELEMENTS (modes); mode++) {
      check_to_int (mode, random_pattern (&rv_f64));
      check_from_int (mode, random64 () & 1 ? number : -number);
    }
  }
}

/* Ties go away from zero: halves are exact in doubles, so the answer is known. */
static void
test_ties_away (void)
{
  for (int i = -1000; i <= 1000; i++) {
    RvFpEnv env = { RV_RMM, 0 };
    uint64_t half = double_bits (i + 0.5);
    int64_t expected = i >= 0 ? i + 1 : i;

    g_assert_cmpint ((int64_t) rv_sf_to_int (&rv_f64, half, 64, true, &env), ==, expected);
    g_assert_cmphex (env.flags, ==, RV_NX);
  }
  for (unsigned i = 0; i < 1000; i++) {
    RvFpEnv env = { RV_RMM, 0 };
    uint64_t a = double_bits (1 + i * 0x1p-52), tie = double_bits (0x1p-53);

    g_assert_cmphex (rv_sf_add (&rv_f64, a, tie, &env), ==, a + 1);
    g_assert_cmphex (rv_sf_add (&rv_f64, a, double_bits (0x1.fffffp-54), &env), ==, a);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (g_getenv ("TN_UNDER_VALGRIND")) {
    g_print ("1..0 # SKIP Valgrind has neither the flags nor all the rounding of the host's floating-point "
             "unit\n");
    return 0;
  }
  g_test_add_data_func ("/rv64/softfloat/single", &rv_f32, test_arithmetic);
  g_test_add_data_func ("/rv64/softfloat/double", &rv_f64, test_arithmetic);
  g_test_add_func ("/rv64/softfloat/cancellation", test_cancellation);
  g_test_add_func ("/rv64/softfloat/integers", test_integers);
  g_test_add_func ("/rv64/softfloat/ties-away", test_ties_away);
  return g_test_run ();
}
