/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a machine boots: choosing the protocol, loading, placing, entering. */
#include "machine/machine-private.h"
#include "memory/space.h"

/* Room that is left for a device tree; the tree is placed before its contents are known. */
#define FDT_ROOM (UINT64_C (2) << 20)

static int
open_image (TnMachine *machine, const char *key, TnBootFile **file, GError **error)
{
  const char *path = tn_options_get (machine->boot_options, key);
  return path != NULL ? tn_boot_file_open (path, file, error) : 0;
}

/* "none" and "default" are both the CPU's built-in services; anything else is a firmware file. */
static bool
firmware_given (const TnMachine *machine)
{
  const char *bios = tn_options_get (machine->boot_options, "bios");
  return bios != NULL && strcmp (bios, "none") != 0 && strcmp (bios, "default") != 0;
}

int
tn_machine_choose_protocol (TnMachine *machine, GError **error)
{
  const TnBoard *board = machine->board;
  machine->protocol = firmware_given (machine) ? board->firmware : board->builtin;
  if (machine->protocol != NULL)
    return 0;
  if (board->builtin == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "board '%s' boots a program of yours: give it with -bios FILE", board->name);
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "board '%s' runs no firmware: leave out -bios",
                  board->name);
}

static int
load_one (TnMachine *machine, TnBootFile *file, const TnBoardLoad *load, TnBootImage *image, GError **error)
{
  return file != NULL
             ? tn_boot_load (file, machine->space, machine->board, machine->protocol, load, image, error)
             : 0;
}

static bool
images_overlap (const TnBootImage *a, const TnBootImage *b)
{
  return a->loaded && b->loaded && a->low < b->high && b->low < a->high;
}

int
tn_machine_load_images (TnMachine *machine, GError **error)
{
  TnBootPlan *boot = &machine->boot;
  tn_boot_plan_clear (boot);
  int r = firmware_given (machine) ? open_image (machine, "bios", &boot->firmware_file, error) : 0;
  if (r == 0)
    r = open_image (machine, "kernel", &boot->kernel_file, error);
  if (r == 0)
    r = open_image (machine, "initrd", &boot->initrd_file, error);
  if (r == 0)
    r = load_one (machine, boot->firmware_file, &machine->protocol->firmware, &boot->firmware, error);
  if (r == 0)
    r = load_one (machine, boot->kernel_file, &machine->protocol->kernel, &boot->kernel, error);
  if (r < 0)
    return r;
  if (images_overlap (&boot->firmware, &boot->kernel))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "firmware '%s' and kernel '%s' overlap in memory",
                    tn_boot_file_name (boot->firmware_file), tn_boot_file_name (boot->kernel_file));
  return 0;
}

/* Places device tree and initial RAM disk at the top of what firmware can reach, and loads the latter. */
int
tn_machine_place (TnMachine *machine, GError **error)
{
  TnBootPlan *boot = &machine->boot;
  const TnBoard *board = machine->board;
  const uint64_t bottom = MAX (board->ram, MAX (boot->kernel.high, boot->firmware.high));
  uint64_t top = board->ram + machine->memory;
  if (board->high > board->ram)
    top = MIN (top, board->high);
  /* A small machine runs small programs: the tree then simply takes the end of RAM. */
  const uint64_t room = machine->memory >= 8 * FDT_ROOM ? FDT_ROOM : FDT_ROOM / 32;
  boot->fdt_address = (top - MIN (room, top)) & ~(room - 1);
  boot->fdt_room = top - boot->fdt_address;
  if (boot->fdt_address < bottom)
    return tn_fail (error, TN_MACHINE_ERROR, ENOSPC,
                    "no room for the device tree above what is loaded: give the machine more memory (-m)");
  if (boot->initrd_file == NULL)
    return 0;
  const uint64_t length = tn_boot_file_size (boot->initrd_file);
  const uint64_t space = boot->fdt_address - bottom;
  const uint64_t slack = length + 2 * TN_PAGE_SIZE;
  if (slack > space)
    return tn_fail (error, TN_MACHINE_ERROR, ENOSPC,
                    "initial RAM disk '%s' (%" G_GUINT64_FORMAT
                    " MiB) does not fit above what is loaded: give the "
                    "machine more memory (-m)",
                    tn_boot_file_name (boot->initrd_file), length >> 20);
  boot->initrd = (boot->fdt_address - length) & ~(TN_PAGE_SIZE - 1);
  boot->initrd_length = length;
  return tn_boot_file_load (boot->initrd_file, 0, length, machine->space, boot->initrd, error);
}

int
tn_machine_resolve (TnMachine *machine, const TnBoardValue *value, unsigned hart, uint64_t *number,
                    GError **error)
{
  const TnBootPlan *boot = &machine->boot;
  const struct {
    const char *name;
    uint64_t number;
  } names[] = {
    { "hart", hart },
    { "fdt", boot->fdt_address },
    { "kernel", boot->kernel.entry },
    { "firmware", boot->firmware.entry },
    { "initrd", boot->initrd },
    { "ram", machine->board->ram },
    { "memory", machine->memory },
  };
  *number = value->number;
  if (value->name == NULL)
    return 0;
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++) {
    if (strcmp (names[i].name, value->name) == 0) {
      *number = names[i].number;
      return 0;
    }
  }
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                  "%s: '@%s' is not known: @hart, @fdt, @kernel, @firmware, @initrd, @ram and @memory are",
                  machine->board->path, value->name);
}

static int
fill_rom (TnMachine *machine, const TnBoardRom *rom, GError **error)
{
  g_autofree uint8_t *data = g_malloc0 (rom->size);
  uint64_t at = 0;
  for (guint i = 0; i < rom->items->len; i++) {
    const TnBoardRomItem *item = g_ptr_array_index (rom->items, i);
    uint64_t number;
    int r = tn_machine_resolve (machine, &item->value, 0, &number, error);
    if (r < 0)
      return r;
    if (item->bytes == 4)
      tn_store_le32 (data + at, (uint32_t) number);
    else
      tn_store_le64 (data + at, number);
    at += item->bytes;
  }
  return tn_space_load (machine->space, rom->address, data, rom->size, error);
}

static int
set_registers (TnMachine *machine, unsigned hart, GError **error)
{
  for (guint i = 0; i < machine->protocol->registers->len; i++) {
    const TnBoardRegister *reg = g_ptr_array_index (machine->protocol->registers, i);
    uint64_t number;
    int r = tn_machine_resolve (machine, &reg->value, hart, &number, error);
    if (r == 0)
      r = tn_cpu_set_register (tn_cpu_set_get (machine->cpu_set, hart), reg->name, number, error);
    if (r < 0)
      return r;
  }
  return 0;
}

int
tn_machine_enter (TnMachine *machine, GError **error)
{
  const TnBootPlan *boot = &machine->boot;
  if (machine->fdt_length > boot->fdt_room)
    return tn_fail (
        error, TN_MACHINE_ERROR, ENOSPC,
        "the device tree (%zu KiB) does not fit at the end of RAM: give the machine more memory (-m)",
        machine->fdt_length >> 10);
  int r = tn_space_load (machine->space, boot->fdt_address, machine->fdt, machine->fdt_length, error);
  for (guint i = 0; r == 0 && i < machine->board->roms->len; i++)
    r = fill_rom (machine, g_ptr_array_index (machine->board->roms, i), error);
  tn_cpu_set_reset (machine->cpu_set);
  const unsigned harts = machine->protocol->all_harts ? machine->cpus : 1;
  for (unsigned i = 0; r == 0 && i < harts; i++)
    r = set_registers (machine, i, error);
  return r;
}
