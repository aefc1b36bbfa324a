/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  /* The name that a descriptor in a file "fuzz" gives its extent. */
  static const FormatFuzz vmdk = { .driver = "vmdk", .beside = "fuzz-flat.vmdk" };
  return format_fuzz (&vmdk, data, size);
}
