/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file softfloat.h
 * IEEE 754 arithmetic as RISC-V defines it, in integers: canonical NaNs, tininess after rounding, five
 * rounding modes.  Values are the formats' bit patterns in the low bits of a uint64_t.
 */
#ifndef RV64_SOFTFLOAT_H
#define RV64_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

enum { RV_NX = 1, RV_UF = 2, RV_OF = 4, RV_DZ = 8, RV_NV = 16 };
enum { RV_RNE = 0, RV_RTZ = 1, RV_RDN = 2, RV_RUP = 3, RV_RMM = 4, RV_DYN = 7 };

typedef struct RvFormat {
  uint8_t exp_bits, frac_bits;
} RvFormat;

/* Rounding mode in, flags out (added to what is there). */
typedef struct RvFpEnv {
  uint8_t rm, flags;
} RvFpEnv;

extern const RvFormat rv_f32, rv_f64;

uint64_t rv_sf_add (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
uint64_t rv_sf_sub (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
uint64_t rv_sf_mul (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
uint64_t rv_sf_div (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
uint64_t rv_sf_sqrt (const RvFormat *format, uint64_t a, RvFpEnv *env);
/* a * b + c, rounded once. */
uint64_t rv_sf_fma (const RvFormat *format, uint64_t a, uint64_t b, uint64_t c, RvFpEnv *env);

/* IEEE 754-2019 minimumNumber and maximumNumber. */
uint64_t rv_sf_min (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
uint64_t rv_sf_max (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
bool rv_sf_eq (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
bool rv_sf_lt (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
bool rv_sf_le (const RvFormat *format, uint64_t a, uint64_t b, RvFpEnv *env);
/* The ten-bit mask of FCLASS. */
unsigned rv_sf_class (const RvFormat *format, uint64_t a);

uint64_t rv_sf_convert (const RvFormat *from, const RvFormat *to, uint64_t a, RvFpEnv *env);
/* To an integer of 32 or 64 bits, saturating; 32-bit results are sign-extended, unsigned ones too. */
uint64_t rv_sf_to_int (const RvFormat *format, uint64_t a, unsigned bits, bool is_signed, RvFpEnv *env);
uint64_t rv_sf_from_int (const RvFormat *format, uint64_t a, bool is_signed, RvFpEnv *env);

#endif
