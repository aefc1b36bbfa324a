/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const FormatFuzz vmdk = { .driver = "vmdk" };
  return format_fuzz (&vmdk, data, size);
}
