/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  /* Where a damaged table had two entries for one cluster, and one of them was copied on writing, the other
   * lacks the COPIED flag ever after: one copy too many, but no data lost. */
  static const FormatFuzz qcow2 = { .driver = "qcow2", .beside = "fuzz.data", .harmless = " refcount=1" };
  return format_fuzz (&qcow2, data, size);
}
