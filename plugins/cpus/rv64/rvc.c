/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The compressed instructions, as the 32-bit ones that they stand for. */
#include "rv64.h"

static uint32_t
bits (uint32_t half, unsigned low, unsigned count)
{
  return half >> low & ((1u << count) - 1);
}

/* Moves @count bits from @from to @to. */
static uint32_t
field (uint32_t half, unsigned from, unsigned count, unsigned to)
{
  return bits (half, from, count) << to;
}

static uint32_t
make_i (uint32_t imm, uint32_t rs1, uint32_t funct3, uint32_t rd, uint32_t opcode)
{
  return imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static uint32_t
make_s (uint32_t imm, uint32_t rs2, uint32_t rs1, uint32_t funct3, uint32_t opcode)
{
  return bits (imm, 5, 7) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | bits (imm, 0, 5) << 7 | opcode;
}

static uint32_t
make_r (uint32_t funct7, uint32_t rs2, uint32_t rs1, uint32_t funct3, uint32_t rd, uint32_t opcode)
{
  return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static uint32_t
make_b (uint32_t imm, uint32_t rs1, uint32_t funct3)
{
  return bits (imm, 12, 1) << 31 | bits (imm, 5, 6) << 25 | rs1 << 15 | funct3 << 12 | bits (imm, 1, 4) << 8
         | bits (imm, 11, 1) << 7 | 0x63;
}

static uint32_t
make_j (uint32_t imm, uint32_t rd)
{
  return bits (imm, 20, 1) << 31 | bits (imm, 1, 10) << 21 | bits (imm, 11, 1) << 20 | bits (imm, 12, 8) << 12
         | rd << 7 | 0x6f;
}

/* The signed six-bit constant of most instructions, as twelve bits. */
static uint32_t
imm6 (uint32_t half)
{
  uint32_t value = field (half, 2, 5, 0) | field (half, 12, 1, 5);

  return (value & 0x20 ? value | 0xfc0 : value) & 0xfff;
}

static uint32_t
word_offset (uint32_t half)
{
  return field (half, 10, 3, 3) | field (half, 6, 1, 2) | field (half, 5, 1, 6);
}

static uint32_t
double_offset (uint32_t half)
{
  return field (half, 10, 3, 3) | field (half, 5, 2, 6);
}

static uint32_t
expand_quadrant0 (uint32_t half)
{
  uint32_t rd = bits (half, 2, 3) + 8, rs1 = bits (half, 7, 3) + 8;

  switch (bits (half, 13, 3)) {
  case 0: { /* c.addi4spn */
    uint32_t imm =
        field (half, 11, 2, 4) | field (half, 7, 4, 6) | field (half, 6, 1, 2) | field (half, 5, 1, 3);
    return imm ? make_i (imm, 2, 0, rd, 0x13) : 0;
  }
  case 1:
    return make_i (double_offset (half), rs1, 3, rd, 0x07);
  case 2:
    return make_i (word_offset (half), rs1, 2, rd, 0x03);
  case 3:
    return make_i (double_offset (half), rs1, 3, rd, 0x03);
  case 5:
    return make_s (double_offset (half), rd, rs1, 3, 0x27);
  case 6:
    return make_s (word_offset (half), rd, rs1, 2, 0x23);
  case 7:
    return make_s (double_offset (half), rd, rs1, 3, 0x23);
  default:
    return 0;
  }
}

static uint32_t
expand_arithmetic (uint32_t half)
{
  static const uint8_t funct3[4] = { 0, 4, 6, 7 }; /* sub, xor, or, and */
  uint32_t rd = bits (half, 7, 3) + 8, rs2 = bits (half, 2, 3) + 8;
  uint32_t shift = field (half, 2, 5, 0) | field (half, 12, 1, 5), which = bits (half, 5, 2);

  switch (bits (half, 10, 2)) {
  case 0:
    return make_i (shift, rd, 5, rd, 0x13);
  case 1:
    return make_i (shift | 0x400, rd, 5, rd, 0x13);
  case 2:
    return make_i (imm6 (half), rd, 7, rd, 0x13);
  default:
    break;
  }
  if (!bits (half, 12, 1))
    return make_r (which == 0 ? 0x20 : 0, rs2, rd, funct3[which], rd, 0x33);
  if (which > 1)
    return 0;
  return make_r (which == 0 ? 0x20 : 0, rs2, rd, 0, rd, 0x3b);
}

static uint32_t
expand_quadrant1 (uint32_t half)
{
  uint32_t rd = bits (half, 7, 5), imm = imm6 (half);
  uint32_t jump, branch;

  switch (bits (half, 13, 3)) {
  case 0: /* c.addi, c.nop */
    return make_i (imm, rd, 0, rd, 0x13);
  case 1: /* c.addiw */
    return rd ? make_i (imm, rd, 0, rd, 0x1b) : 0;
  case 2: /* c.li */
    return make_i (imm, 0, 0, rd, 0x13);
  case 3:
    if (imm == 0)
      return 0;
    if (rd != 2) /* c.lui */
      return ((imm & 0x800 ? 0xfffff000 : 0) | imm) << 12 | rd << 7 | 0x37;
    imm = field (half, 6, 1, 4) | field (half, 2, 1, 5) | field (half, 5, 1, 6) | field (half, 3, 2, 7)
          | (bits (half, 12, 1) ? 0xe00 : 0);
    return make_i (imm, 2, 0, 2, 0x13); /* c.addi16sp */
  case 4:
    return expand_arithmetic (half);
  case 5:
    jump = field (half, 3, 3, 1) | field (half, 11, 1, 4) | field (half, 2, 1, 5) | field (half, 7, 1, 6)
           | field (half, 6, 1, 7) | field (half, 9, 2, 8) | field (half, 8, 1, 10)
           | (bits (half, 12, 1) ? 0x1ff800 : 0);
    return make_j (jump, 0);
  default:
    branch = field (half, 3, 2, 1) | field (half, 10, 2, 3) | field (half, 2, 1, 5) | field (half, 5, 2, 6)
             | (bits (half, 12, 1) ? 0x1f00 : 0);
    return make_b (branch, bits (half, 7, 3) + 8, bits (half, 13, 1));
  }
}

static uint32_t
expand_quadrant2 (uint32_t half)
{
  uint32_t rd = bits (half, 7, 5), rs2 = bits (half, 2, 5);
  uint32_t load_double = field (half, 5, 2, 3) | field (half, 12, 1, 5) | field (half, 2, 3, 6);
  uint32_t load_word = field (half, 4, 3, 2) | field (half, 12, 1, 5) | field (half, 2, 2, 6);
  uint32_t store_double = field (half, 10, 3, 3) | field (half, 7, 3, 6);
  uint32_t store_word = field (half, 9, 4, 2) | field (half, 7, 2, 6);

  switch (bits (half, 13, 3)) {
  case 0:
    return make_i (field (half, 2, 5, 0) | field (half, 12, 1, 5), rd, 1, rd, 0x13);
  case 1:
    return make_i (load_double, 2, 3, rd, 0x07);
  case 2:
    return rd ? make_i (load_word, 2, 2, rd, 0x03) : 0;
  case 3:
    return rd ? make_i (load_double, 2, 3, rd, 0x03) : 0;
  case 4:
    if (!bits (half, 12, 1)) {
      if (rs2)
        return make_r (0, rs2, 0, 0, rd, 0x33);   /* c.mv */
      return rd ? make_i (0, rd, 0, 0, 0x67) : 0; /* c.jr */
    }
    if (rs2)
      return make_r (0, rs2, rd, 0, rd, 0x33);           /* c.add */
    return rd ? make_i (0, rd, 0, 1, 0x67) : 0x00100073; /* c.jalr, c.ebreak */
  case 5:
    return make_s (store_double, rs2, 2, 3, 0x27);
  case 6:
    return make_s (store_word, rs2, 2, 2, 0x23);
  default:
    return make_s (store_double, rs2, 2, 3, 0x23);
  }
}

uint32_t
rv_expand (uint16_t half)
{
  switch (half & 3) {
  case 0:
    return expand_quadrant0 (half);
  case 1:
    return expand_quadrant1 (half);
  default:
    return expand_quadrant2 (half);
  }
}
