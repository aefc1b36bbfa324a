/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linux's Image, raw binaries, and the choice of a loader. */
#include "machine/boot.h"

#define LINUX_HEADER 64
#define LINUX_TEXT_OFFSET 8
#define LINUX_IMAGE_SIZE 16

bool
tn_boot_is_linux (TnBootFile *file, uint64_t magic_offset, const GByteArray *magic)
{
  uint8_t header[LINUX_HEADER];
  if (magic->len == 0 || magic_offset > sizeof header - magic->len)
    return false;
  if (tn_boot_file_read (file, 0, header, sizeof header, NULL) < 0)
    return false;
  return memcmp (header + magic_offset, magic->data, magic->len) == 0;
}

int
tn_boot_load_linux (TnBootFile *file, TnSpace *space, uint64_t ram, TnBootImage *image, GError **error)
{
  uint8_t header[LINUX_HEADER];
  int r = tn_boot_file_read (file, 0, header, sizeof header, error);
  if (r < 0)
    return r;
  const uint64_t text_offset = tn_load_le64 (header + LINUX_TEXT_OFFSET);
  const uint64_t image_size = MAX (tn_load_le64 (header + LINUX_IMAGE_SIZE), tn_boot_file_size (file));
  uint64_t address, end;
  TnRamSpan span;
  if (__builtin_add_overflow (ram, text_offset, &address)
      || __builtin_add_overflow (address, image_size, &end) || !tn_space_ram (space, address, &span)
      || span.length < image_size)
    return tn_fail (error, TN_MACHINE_ERROR, EFAULT,
                    "kernel '%s' wants %" G_GUINT64_FORMAT
                    " MiB at the start of RAM plus 0x%" G_GINT64_MODIFIER
                    "x: give the machine more memory (-m)",
                    tn_boot_file_name (file), image_size >> 20, text_offset);
  r = tn_boot_file_load (file, 0, tn_boot_file_size (file), space, address, error);
  if (r < 0)
    return r;
  *image = (TnBootImage){ .loaded = true, .entry = address, .low = address, .high = end };
  return 0;
}

int
tn_boot_load_raw (TnBootFile *file, TnSpace *space, uint64_t address, TnBootImage *image, GError **error)
{
  const uint64_t size = tn_boot_file_size (file);
  if (size == 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "boot image '%s' is empty", tn_boot_file_name (file));
  int r = tn_boot_file_load (file, 0, size, space, address, error);
  if (r < 0)
    return r;
  *image = (TnBootImage){ .loaded = true, .entry = address, .low = address, .high = address + size };
  return 0;
}

int
tn_boot_load (TnBootFile *file, TnSpace *space, const TnBoard *board, const TnBoardBoot *boot,
              const TnBoardLoad *load, TnBootImage *image, GError **error)
{
  for (guint i = 0; i < load->kinds->len; i++) {
    switch (g_array_index (load->kinds, TnLoaderKind, i)) {
    case TN_LOADER_ELF:
      if (tn_boot_is_elf (file))
        return tn_boot_load_elf (file, space, board->elf_machine, image, error);
      break;
    case TN_LOADER_IMAGE:
      if (tn_boot_is_linux (file, boot->image_magic_offset, boot->image_magic))
        return tn_boot_load_linux (file, space, board->ram, image, error);
      break;
    case TN_LOADER_RAW:
      return tn_boot_load_raw (file, space, board->ram + load->offset, image, error);
    }
  }
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s' is of no kind that board '%s' can boot here",
                  tn_boot_file_name (file), board->name);
}

void
tn_boot_plan_clear (TnBootPlan *plan)
{
  tn_boot_file_close (plan->firmware_file);
  tn_boot_file_close (plan->kernel_file);
  tn_boot_file_close (plan->initrd_file);
  memset (plan, 0, sizeof *plan);
}

bool
tn_boot_plan_symbol (const TnBootPlan *plan, const char *name, uint64_t *value)
{
  return (plan->firmware_file != NULL && tn_boot_elf_symbol (plan->firmware_file, name, value))
         || (plan->kernel_file != NULL && tn_boot_elf_symbol (plan->kernel_file, name, value));
}
