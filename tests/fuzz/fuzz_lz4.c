/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const FormatFuzz lz4 = { .driver = "lz4" };
  return format_fuzz (&lz4, data, size);
}
