/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The decoders of the rv64 CPU: every word must decode to something that the interpreter knows, with register
 * slots inside the register file.
 */
#include "ops.h"
#include "rv64.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
check (const RvHart *hart, uint32_t word)
{
  RvInsn insn = { .pos = 2, .nth = 1 };

  rv_decode (hart, word, &insn);
  if (insn.op >= RV_OP_COUNT || (insn.op == RV_OP_HELPER && insn.helper == NULL))
    __builtin_trap ();
  if (insn.op != RV_OP_HELPER && (insn.rd > RV_SINK || insn.rs1 > 31 || insn.rs2 > 31))
    __builtin_trap ();
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static RvHart hart;
  const uint8_t *end = data + size;

  if (size < 1)
    return 0;
  hart.ext = (RvExtensions){ .zba = data[0] & 1, .zbb = data[0] & 2, .zbs = data[0] & 4 };
  for (data++; end - data >= 4; data += 4) {
    uint32_t word = tn_load_le32 (data), expanded = rv_expand ((uint16_t) word);

    check (&hart, word);
    if ((word & 3) != 3 && expanded)
      check (&hart, expanded);
  }
  return 0;
}
