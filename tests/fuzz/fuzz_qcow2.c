/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const FormatFuzz qcow2 = { .driver = "qcow2", .beside = "fuzz.data" };
  return format_fuzz (&qcow2, data, size);
}
