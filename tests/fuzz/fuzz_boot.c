/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot images from a hostile hand: the first byte chooses the loader. */
#include "machine/boot.h"
#include "machine/machine-private.h"

#define RAM UINT64_C (0x80000000)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size == 0)
    return 0;
  TnSpace *space = tn_space_new ("fuzz");
  tn_space_add_ram (space, "ram", RAM, 1 << 20, NULL);
  g_autoptr (TnBootFile) file = tn_boot_file_memory ("fuzz", data + 1, size - 1);
  TnBootImage image = { 0 };
  uint64_t value;
  switch (data[0] % 4) {
  case 0:
    tn_boot_load_elf (file, space, 0, &image, NULL);
    tn_boot_elf_symbol (file, "tohost", &value);
    break;
  case 1:
    tn_boot_load_linux (file, space, RAM, &image, NULL);
    break;
  case 2:
    tn_boot_load_raw (file, space, RAM + 0x1000, &image, NULL);
    break;
  default:
    tn_fdt_check_blob (data + 1, size - 1, "fuzz", NULL);
    break;
  }
  tn_space_free (space);
  return 0;
}
