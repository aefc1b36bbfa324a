/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Floating-point instructions other than loads and stores.
 *
 * The host computes where that provably gives the same: rounding to nearest even, the inexact flag already
 * set, and a result that is finite and above the smallest normal number.  Then no operand can have been
 * a NaN, none of the other flags can be due, and inexact is sticky.  Everything else is softfloat.c's.
 */
#include <math.h>

#include "rv64.h"
#include "softfloat.h"

#define BOX UINT64_C (0xffffffff00000000)
#define NAN32 UINT64_C (0x7fc00000)
#define SIGN32 (UINT64_C (1) << 31)
#define SIGN64 (UINT64_C (1) << 63)

static const RvFormat *
format_of (bool wide)
{
  return wide ? &rv_f64 : &rv_f32;
}

/* A register as an operand: singles must be boxed, or are the canonical NaN. */
static uint64_t
operand (const RvHart *hart, unsigned slot, bool wide)
{
  uint64_t value = hart->f[slot];

  if (wide)
    return value;
  return (value & BOX) == BOX ? value & ~BOX : NAN32;
}

static void
set_float (RvHart *hart, const RvInsn *insn, bool wide, uint64_t value)
{
  hart->f[insn->rd] = wide ? value : value | BOX;
  hart->mstatus |= MSTATUS_FS;
}

static void
raise_flags (RvHart *hart, uint8_t flags)
{
  if (!flags)
    return;
  hart->fflags |= flags;
  hart->mstatus |= MSTATUS_FS;
}

static bool
is_enabled (const RvHart *hart)
{
  return (hart->mstatus & MSTATUS_FS) != 0;
}

/* Finds the rounding mode; false when the instruction is illegal. */
static bool
begin (const RvHart *hart, const RvInsn *insn, RvFpEnv *env)
{
  uint8_t rm = insn->rs3 & 7;

  env->flags = 0;
  env->rm = rm == RV_DYN ? hart->frm : rm;
  return is_enabled (hart) && env->rm <= RV_RMM;
}

static double
as_double (uint64_t value)
{
  double result;

  memcpy (&result, &value, sizeof result);
  return result;
}

static float
as_float (uint64_t value)
{
  uint32_t bits = (uint32_t) value;
  float result;

  memcpy (&result, &bits, sizeof result);
  return result;
}

static uint64_t
double_bits (double value)
{
  uint64_t result;

  memcpy (&result, &value, sizeof result);
  return result;
}

static uint64_t
float_bits (float value)
{
  uint32_t result;

  memcpy (&result, &value, sizeof result);
  return result;
}

/* Whether the host's result may stand, given that it was rounded to nearest even. */
static bool
host_may_round (const RvHart *hart, const RvFpEnv *env)
{
  return env->rm == RV_RNE && (hart->fflags & RV_NX);
}

static bool
is_plain_double (uint64_t result)
{
  uint64_t magnitude = result & ~SIGN64;

  return magnitude > UINT64_C (1) << 52 && magnitude < UINT64_C (0x7ff) << 52;
}

static bool
is_plain_float (uint64_t result)
{
  uint64_t magnitude = result & ~SIGN32;

  return magnitude > UINT64_C (1) << 23 && magnitude < UINT64_C (0xff) << 23;
}

typedef enum Arithmetic { ADD, SUB, MUL, DIV, SQRT } Arithmetic;

static inline bool
host_double (Arithmetic kind, uint64_t a, uint64_t b, uint64_t *result)
{
  double x = as_double (a), y = as_double (b);

  switch (kind) {
  case ADD:
    *result = double_bits (x + y);
    break;
  case SUB:
    *result = double_bits (x - y);
    break;
  case MUL:
    *result = double_bits (x * y);
    break;
  case DIV:
    *result = double_bits (x / y);
    break;
  case SQRT:
    *result = double_bits (sqrt (x));
    break;
  }
  return is_plain_double (*result);
}

static inline bool
host_float (Arithmetic kind, uint64_t a, uint64_t b, uint64_t *result)
{
  float x = as_float (a), y = as_float (b);

  switch (kind) {
  case ADD:
    *result = float_bits (x + y);
    break;
  case SUB:
    *result = float_bits (x - y);
    break;
  case MUL:
    *result = float_bits (x * y);
    break;
  case DIV:
    *result = float_bits (x / y);
    break;
  case SQRT:
    *result = float_bits (sqrtf (x));
    break;
  }
  return is_plain_float (*result);
}

static uint64_t
soft (Arithmetic kind, bool wide, uint64_t a, uint64_t b, RvFpEnv *env)
{
  const RvFormat *format = format_of (wide);

  switch (kind) {
  case ADD:
    return rv_sf_add (format, a, b, env);
  case SUB:
    return rv_sf_sub (format, a, b, env);
  case MUL:
    return rv_sf_mul (format, a, b, env);
  case DIV:
    return rv_sf_div (format, a, b, env);
  default:
    return rv_sf_sqrt (format, a, env);
  }
}

static inline RvDone
arithmetic (RvHart *hart, const RvInsn *insn, Arithmetic kind, bool wide)
{
  uint64_t a = operand (hart, insn->rs1, wide),
           b = operand (hart, kind == SQRT ? insn->rs1 : insn->rs2, wide);
  uint64_t result = 0; /* no case is left out, but not every compiler sees it */
  RvFpEnv env;

  if (!begin (hart, insn, &env))
    return rv_illegal_at (hart, hart->pc);
  if (!host_may_round (hart, &env)
      || !(wide ? host_double (kind, a, b, &result) : host_float (kind, a, b, &result)))
    result = soft (kind, wide, a, b, &env);
  raise_flags (hart, env.flags);
  set_float (hart, insn, wide, result);
  return RV_NEXT;
}

/* rs1 * rs2 + rs3, the product and the addend each negated or not. */
static inline RvDone
fused (RvHart *hart, const RvInsn *insn, bool negate_product, bool negate_addend, bool wide)
{
  uint64_t sign = wide ? SIGN64 : SIGN32;
  uint64_t a = operand (hart, insn->rs1, wide) ^ (negate_product ? sign : 0);
  uint64_t b = operand (hart, insn->rs2, wide);
  uint64_t c = operand (hart, insn->rs3 >> 3, wide) ^ (negate_addend ? sign : 0);
  uint64_t result = 0;
  RvFpEnv env;

  if (!begin (hart, insn, &env))
    return rv_illegal_at (hart, hart->pc);
  if (host_may_round (hart, &env))
    result = wide ? double_bits (fma (as_double (a), as_double (b), as_double (c)))
                  : float_bits (fmaf (as_float (a), as_float (b), as_float (c)));
  if (!(wide ? is_plain_double (result) : is_plain_float (result)))
    result = rv_sf_fma (format_of (wide), a, b, c, &env);
  raise_flags (hart, env.flags);
  set_float (hart, insn, wide, result);
  return RV_NEXT;
}

typedef enum Sign { SIGN_COPY, SIGN_NOT, SIGN_XOR } Sign;

static inline RvDone
inject_sign (RvHart *hart, const RvInsn *insn, Sign kind, bool wide)
{
  uint64_t sign = wide ? SIGN64 : SIGN32;
  uint64_t a = operand (hart, insn->rs1, wide), b = operand (hart, insn->rs2, wide);

  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  if (kind == SIGN_NOT)
    b = ~b;
  else if (kind == SIGN_XOR)
    b ^= a;
  set_float (hart, insn, wide, (a & ~sign) | (b & sign));
  return RV_NEXT;
}

static inline RvDone
min_max (RvHart *hart, const RvInsn *insn, bool want_max, bool wide)
{
  uint64_t a = operand (hart, insn->rs1, wide), b = operand (hart, insn->rs2, wide);
  RvFpEnv env = { 0 };

  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  a = want_max ? rv_sf_max (format_of (wide), a, b, &env) : rv_sf_min (format_of (wide), a, b, &env);
  raise_flags (hart, env.flags);
  set_float (hart, insn, wide, a);
  return RV_NEXT;
}

typedef enum Comparison { LE, LT, EQ } Comparison;

static inline RvDone
compare (RvHart *hart, const RvInsn *insn, Comparison kind, bool wide)
{
  uint64_t a = operand (hart, insn->rs1, wide), b = operand (hart, insn->rs2, wide);
  RvFpEnv env = { 0 };
  bool holds;

  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  if (kind == EQ)
    holds = rv_sf_eq (format_of (wide), a, b, &env);
  else if (kind == LT)
    holds = rv_sf_lt (format_of (wide), a, b, &env);
  else
    holds = rv_sf_le (format_of (wide), a, b, &env);
  raise_flags (hart, env.flags);
  hart->x[insn->rd ? insn->rd : RV_SINK] = holds;
  return RV_NEXT;
}

static inline RvDone
classify (RvHart *hart, const RvInsn *insn, bool wide)
{
  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  hart->x[insn->rd ? insn->rd : RV_SINK] = rv_sf_class (format_of (wide), operand (hart, insn->rs1, wide));
  return RV_NEXT;
}

/* rs2 says to or from which integer: bit 0 unsigned, bit 1 64 bits. */
static inline RvDone
to_integer (RvHart *hart, const RvInsn *insn, bool wide)
{
  unsigned bits = insn->rs2 & 2 ? 64 : 32;
  uint64_t a = operand (hart, insn->rs1, wide);
  RvFpEnv env;

  if (!begin (hart, insn, &env))
    return rv_illegal_at (hart, hart->pc);
  hart->x[insn->rd ? insn->rd : RV_SINK] = rv_sf_to_int (format_of (wide), a, bits, !(insn->rs2 & 1), &env);
  raise_flags (hart, env.flags);
  return RV_NEXT;
}

static inline RvDone
from_integer (RvHart *hart, const RvInsn *insn, bool wide)
{
  bool is_signed = !(insn->rs2 & 1);
  uint64_t a = hart->x[insn->rs1], result;
  RvFpEnv env;

  if (!begin (hart, insn, &env))
    return rv_illegal_at (hart, hart->pc);
  if (!(insn->rs2 & 2))
    a = is_signed ? (uint64_t) (int64_t) (int32_t) a : (uint32_t) a;
  result = rv_sf_from_int (format_of (wide), a, is_signed, &env);
  raise_flags (hart, env.flags);
  set_float (hart, insn, wide, result);
  return RV_NEXT;
}

static inline RvDone
convert (RvHart *hart, const RvInsn *insn, bool wide)
{
  uint64_t a = operand (hart, insn->rs1, !wide), result;
  RvFpEnv env;

  if (!begin (hart, insn, &env))
    return rv_illegal_at (hart, hart->pc);
  result = rv_sf_convert (format_of (!wide), format_of (wide), a, &env);
  raise_flags (hart, env.flags);
  set_float (hart, insn, wide, result);
  return RV_NEXT;
}

/* Moves bits as they are: no unboxing. */
static inline RvDone
move_to_integer (RvHart *hart, const RvInsn *insn, bool wide)
{
  uint64_t value = hart->f[insn->rs1];

  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  hart->x[insn->rd ? insn->rd : RV_SINK] = wide ? value : (uint64_t) (int64_t) (int32_t) value;
  return RV_NEXT;
}

static inline RvDone
move_from_integer (RvHart *hart, const RvInsn *insn, bool wide)
{
  if (!is_enabled (hart))
    return rv_illegal_at (hart, hart->pc);
  set_float (hart, insn, wide, wide ? hart->x[insn->rs1] : (uint32_t) hart->x[insn->rs1]);
  return RV_NEXT;
}

/* One function per instruction and format, so that the compiler specialises them. */
#define FP_PAIR(name, call, ...)                                                                             \
  static RvDone rv_op_##name##_s (RvHart *hart, const RvInsn *insn)                                          \
  {                                                                                                          \
    return call (hart, insn, ##__VA_ARGS__, false);                                                          \
  }                                                                                                          \
  static RvDone rv_op_##name##_d (RvHart *hart, const RvInsn *insn)                                          \
  {                                                                                                          \
    return call (hart, insn, ##__VA_ARGS__, true);                                                           \
  }
FP_PAIR (fadd, arithmetic, ADD)
FP_PAIR (fsub, arithmetic, SUB)
FP_PAIR (fmul, arithmetic, MUL)
FP_PAIR (fdiv, arithmetic, DIV)
FP_PAIR (fsqrt, arithmetic, SQRT)
FP_PAIR (fmadd, fused, false, false)
FP_PAIR (fmsub, fused, false, true)
FP_PAIR (fnmsub, fused, true, false)
FP_PAIR (fnmadd, fused, true, true)
FP_PAIR (fsgnj, inject_sign, SIGN_COPY)
FP_PAIR (fsgnjn, inject_sign, SIGN_NOT)
FP_PAIR (fsgnjx, inject_sign, SIGN_XOR)
FP_PAIR (fmin, min_max, false)
FP_PAIR (fmax, min_max, true)
FP_PAIR (fle, compare, LE)
FP_PAIR (flt, compare, LT)
FP_PAIR (feq, compare, EQ)
FP_PAIR (fclass, classify)
FP_PAIR (fcvt_to_int, to_integer)
FP_PAIR (fcvt_from_int, from_integer)
FP_PAIR (fcvt, convert)
FP_PAIR (fmv_x, move_to_integer)
FP_PAIR (fmv_f, move_from_integer)

#define PICK(name) (wide ? rv_op_##name##_d : rv_op_##name##_s)

static RvHelper *
fused_helper (uint32_t word, bool wide)
{
  switch (word & 0x7f) {
  case 0x43:
    return PICK (fmadd);
  case 0x47:
    return PICK (fmsub);
  case 0x4b:
    return PICK (fnmsub);
  default:
    return PICK (fnmadd);
  }
}

static RvHelper *
sign_helper (unsigned rm, bool wide)
{
  switch (rm) {
  case 0:
    return PICK (fsgnj);
  case 1:
    return PICK (fsgnjn);
  case 2:
    return PICK (fsgnjx);
  default:
    return NULL;
  }
}

static RvHelper *
compare_helper (unsigned rm, bool wide)
{
  switch (rm) {
  case 0:
    return PICK (fle);
  case 1:
    return PICK (flt);
  case 2:
    return PICK (feq);
  default:
    return NULL;
  }
}

/* Those that round: rounding modes 5 and 6 don't exist. */
static RvHelper *
rounding (RvHelper *helper, unsigned rm)
{
  return rm == 5 || rm == 6 ? NULL : helper;
}

RvHelper *
rv_fpu_helper (uint32_t word)
{
  unsigned rm = word >> 12 & 7, rs2 = word >> 20 & 31, format = word >> 25 & 3;
  bool wide = format == 1;

  if (format > 1)
    return NULL;
  if ((word & 0x7f) != 0x53)
    return rounding (fused_helper (word, wide), rm);
  switch (word >> 27) {
  case 0x00:
    return rounding (PICK (fadd), rm);
  case 0x01:
    return rounding (PICK (fsub), rm);
  case 0x02:
    return rounding (PICK (fmul), rm);
  case 0x03:
    return rounding (PICK (fdiv), rm);
  case 0x0b:
    return rs2 ? NULL : rounding (PICK (fsqrt), rm);
  case 0x04:
    return sign_helper (rm, wide);
  case 0x05:
    return rm == 0 ? PICK (fmin) : rm == 1 ? PICK (fmax) : NULL;
  case 0x08:
    return rs2 == (wide ? 0 : 1) ? rounding (PICK (fcvt), rm) : NULL;
  case 0x14:
    return compare_helper (rm, wide);
  case 0x18:
    return rs2 < 4 ? rounding (PICK (fcvt_to_int), rm) : NULL;
  case 0x1a:
    return rs2 < 4 ? rounding (PICK (fcvt_from_int), rm) : NULL;
  case 0x1c:
    if (rs2)
      return NULL;
    return rm == 0 ? PICK (fmv_x) : rm == 1 ? PICK (fclass) : NULL;
  case 0x1e:
    return rs2 == 0 && rm == 0 ? PICK (fmv_f) : NULL;
  default:
    return NULL;
  }
}
