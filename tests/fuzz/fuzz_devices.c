/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hostile guest at the registers of every device.  The first byte chooses the board (virt-rv64 with a
 * virtio device of each kind, or spike for HTIF); then each eight bytes of input are one access.  Every input
 * begins with devices as after power-on, so that a finding can be seen again.  The plugins are loaded as a
 * program loads them (TENON_PLUGIN_PATH, TENON_BOARD_PATH).
 */
#include <elf.h>
#include <stdlib.h>
#include <unistd.h>

#include <glib/gstdio.h>
#include <tenon/drive.h>

#include "machine/machine-private.h"

#define RAM UINT64_C (0x80000000)
#define TOHOST (RAM + 0x1000)
/* Rings of the virtio devices, near the start of RAM, where accesses of their own reach them. */
#define RINGS (RAM + 0x2000)
#define RING_BYTES 0x400
#define MAX_ACCESSES 256u

typedef struct Window {
  uint64_t base, size;
} Window;

/* Where virt-rv64 has its devices, and how much of each is worth reaching. */
static const Window virt_windows[] = {
  { 0x10000000, 0x100 },                                                /* serial port */
  { 0x0c000000, 0x400 },                                                /* PLIC: priorities */
  { 0x0c001000, 0x1400 },                                               /* pending and enable bits */
  { 0x0c200000, 0x3000 },                                               /* contexts */
  { 0x02000000, 0x40 },                                                 /* software interrupts */
  { 0x02004000, 0x40 },                                                 /* mtimecmp */
  { 0x0200bff0, 0x20 },                                                 /* mtime */
  { 0x00101000, 0x40 },                                                 /* clock */
  { 0x00100000, 0x10 },                                                 /* finisher */
  { 0x10001000, 0x200 },  { 0x10002000, 0x200 }, { 0x10003000, 0x200 }, /* virtio transports */
  { 0x10008000, 0x200 },  { 0x10007000, 0x200 }, { 0x10006000, 0x200 }, { RINGS, 2 * RING_BYTES },
};

static const Window spike_windows[] = {
  { TOHOST, 0x20 },     { 0x02000000, 0x40 },      { 0x02004000, 0x40 },
  { 0x0200bff0, 0x20 }, { RINGS, 2 * RING_BYTES },
};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* ---- The machine ---- */

/* A program that loops, with the symbols that HTIF asks for. */
typedef struct Program {
  Elf64_Ehdr header;
  Elf64_Phdr segment;
  Elf64_Shdr sections[3]; /* none, symbols, their names */
  Elf64_Sym symbols[3];
  char names[20];
  uint8_t code[4];
} Program;

static const Program program = {
  .header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
              .e_type = ET_EXEC,
              .e_machine = EM_RISCV,
              .e_version = EV_CURRENT,
              .e_entry = RAM,
              .e_phoff = offsetof (Program, segment),
              .e_shoff = offsetof (Program, sections),
              .e_ehsize = sizeof (Elf64_Ehdr),
              .e_phentsize = sizeof (Elf64_Phdr),
              .e_phnum = 1,
              .e_shentsize = sizeof (Elf64_Shdr),
              .e_shnum = 3 },
  .segment = { .p_type = PT_LOAD,
               .p_flags = PF_R | PF_X,
               .p_offset = offsetof (Program, code),
               .p_vaddr = RAM,
               .p_paddr = RAM,
               .p_filesz = 4,
               .p_memsz = 0x2000 },
  .sections = { { .sh_type = SHT_NULL },
                { .sh_type = SHT_SYMTAB,
                  .sh_offset = offsetof (Program, symbols),
                  .sh_size = sizeof (Elf64_Sym) * 3,
                  .sh_entsize = sizeof (Elf64_Sym),
                  .sh_link = 2 },
                { .sh_type = SHT_STRTAB, .sh_offset = offsetof (Program, names), .sh_size = 20 } },
  .symbols = { { 0 },
               { .st_name = 1, .st_shndx = SHN_ABS, .st_value = TOHOST },
               { .st_name = 8, .st_shndx = SHN_ABS, .st_value = TOHOST + 0x10 } },
  .names = "\0tohost\0fromhost",
  .code = { 0x6f, 0, 0, 0 },
};

static char *kernel;

static void
remove_kernel (void)
{
  g_unlink (kernel);
}

static void
make_kernel (void)
{
  const int fd = g_file_open_tmp ("tenon-fuzz-XXXXXX", &kernel, NULL);
  if (fd < 0 || write (fd, &program, sizeof program) != (ssize_t) sizeof program)
    g_error ("cannot write a temporary file");
  g_close (fd, NULL);
  atexit (remove_kernel);
}

static int
add_virtio (TnMachine *machine, GError **error)
{
  g_autoptr (TnOptions) drive_options = tn_options_new (), with_drive = tn_options_new (),
                        with_chardev = tn_options_new ();
  TnDrive *drive = NULL;
  tn_options_set (drive_options, "file.driver", "null");
  tn_options_set (drive_options, "file.size", "1M");
  tn_options_set (drive_options, "format", "raw");
  tn_options_set (with_drive, "drive", "disk");
  tn_options_set (with_chardev, "chardev", "terminal");
  int r = tn_drive_open (drive_options, &drive, error);
  if (r < 0 || (r = tn_machine_add_drive (machine, "disk", drive, error)) < 0
      || (r = tn_machine_add_chardev (machine, "terminal", "null", error)) < 0
      || (r = tn_machine_add_device (machine, "virtio-blk", NULL, with_drive, error)) < 0
      || (r = tn_machine_add_device (machine, "virtio-console", NULL, with_chardev, error)) < 0)
    return r;
  return tn_machine_add_device (machine, "virtio-rng", NULL, NULL, error);
}

static TnMachine *
machine_new (bool spike)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnOptions) boot = tn_options_new (), cpu = tn_options_new ();
  if (kernel == NULL)
    make_kernel ();
  tn_options_set (boot, spike ? "bios" : "kernel", kernel);
  tn_options_set (cpu, "code-cache", "1M");
  TnMachine *machine = tn_machine_new (spike ? "spike" : "virt-rv64", &error);
  if (machine == NULL || tn_machine_set_memory (machine, 16 << 20, &error) < 0
      || tn_machine_set_cpu (machine, "rv64", cpu, &error) < 0
      || tn_machine_set_boot (machine, boot, &error) < 0
      || tn_machine_add_chardev (machine, "serial0", "null", &error) < 0
      || (!spike && add_virtio (machine, &error) < 0) || tn_machine_realize (machine, &error) < 0)
    g_error ("%s", error->message);
  return machine;
}

/* ---- Accesses ---- */

/* A queue as a driver would set it up, which no guessing finds soon. */
static void
start_queue (TnSpace *space, uint64_t transport, unsigned queue, unsigned entries)
{
  static const uint16_t registers[] = { 0x80, 0x90, 0xa0 }; /* descriptors, driver and device ring */
  tn_space_write (space, transport + 0x70, 4, 1 | 2);
  tn_space_write (space, transport + 0x24, 4, 1);
  tn_space_write (space, transport + 0x20, 4, 1); /* VIRTIO_F_VERSION_1 */
  tn_space_write (space, transport + 0x70, 4, 1 | 2 | 8);
  tn_space_write (space, transport + 0x30, 4, queue);
  tn_space_write (space, transport + 0x38, 4, entries);
  for (unsigned i = 0; i < G_N_ELEMENTS (registers); i++) {
    tn_space_write (space, transport + registers[i], 4, (RINGS + i * 0x100) & UINT32_MAX);
    tn_space_write (space, transport + registers[i] + 4, 4, 0);
  }
  tn_space_write (space, transport + 0x44, 4, 1);
  tn_space_write (space, transport + 0x70, 4, 1 | 2 | 4 | 8);
}

/* The descriptor, made the first of the ring, and the driver's notice of it. */
static void
offer (TnSpace *space, uint64_t transport, const uint8_t *data, unsigned queue)
{
  uint64_t index = 0;
  tn_space_write (space, RINGS, 8, RINGS + RING_BYTES + (tn_load_le16 (data) & 0x1ff));
  tn_space_write (space, RINGS + 8, 4, tn_load_le16 (data + 2) & 0xfff);
  tn_space_write (space, RINGS + 12, 4, data[4] & 7);
  tn_space_read (space, RINGS + 0x102, 2, &index);
  tn_space_write (space, RINGS + 0x102, 2, index + 1);
  tn_space_write (space, transport + 0x50, 4, queue);
}

static void
access_once (TnSpace *space, const Window *window, const uint8_t *data)
{
  const unsigned bytes = 1u << (data[1] & 3);
  const uint64_t address = window->base + tn_load_le16 (data + 2) % window->size;
  /* Small values and set high bits are the interesting ones. */
  uint64_t value = tn_load_le32 (data + 4);
  if ((window->base & ~UINT64_C (0xffff)) == 0x10000000 && window->base != 0x10000000 && (data[1] & 0x10)) {
    if (data[1] & 0x20)
      offer (space, window->base, data + 3, data[2] & 3);
    else
      start_queue (space, window->base, data[2] & 3, 1u << (data[3] & 3));
    return;
  }
  if (data[1] & 8)
    value = ~value;
  if (data[1] & 4)
    tn_space_write (space, address, bytes, value);
  else
    tn_space_read (space, address, bytes, &value);
}

/* Lets the devices do what they have been asked for. */
static void
settle (void)
{
  while (tn_loop_iterate (tn_loop_current (), false))
    ;
}

static void
power_on (TnMachine *machine)
{
  static const uint8_t zeroes[0x1000 + 2 * RING_BYTES];
  for (unsigned i = 0; i < machine->devices->len; i++)
    tn_device_reset (g_ptr_array_index (machine->devices, i));
  tn_space_dma_write (tn_machine_space (machine), TOHOST, zeroes, sizeof zeroes);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static TnMachine *machines[2];
  if (size < 1)
    return 0;
  const bool spike = data[0] & 1;
  const Window *windows = spike ? spike_windows : virt_windows;
  const size_t n_windows = spike ? G_N_ELEMENTS (spike_windows) : G_N_ELEMENTS (virt_windows);
  if (machines[spike] == NULL)
    machines[spike] = machine_new (spike);
  power_on (machines[spike]);
  data++, size--;
  for (unsigned i = 0; size >= 8 && i < MAX_ACCESSES; data += 8, size -= 8, i++) {
    access_once (tn_machine_space (machines[spike]), &windows[data[0] % n_windows], data);
    if (data[1] & 0x40)
      settle ();
  }
  settle ();
  return 0;
}
