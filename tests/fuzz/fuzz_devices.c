/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hostile guest at the registers of the system devices: each eight bytes of input are one access.  The
 * plugins are loaded as a program loads them (TENON_PLUGIN_PATH, TENON_BOARD_PATH). */
#include <unistd.h>

#include <glib/gstdio.h>
#include <tenon/machine.h>

/* Where the virt-rv64 board has its devices, and how much of each is worth reaching. */
static const struct {
  uint64_t base, size;
} windows[] = {
  { 0x10000000, 0x100 },  /* serial port */
  { 0x0c000000, 0x400 },  /* PLIC: priorities */
  { 0x0c001000, 0x1400 }, /* pending and enable bits */
  { 0x0c200000, 0x3000 }, /* contexts */
  { 0x02000000, 0x40 },   /* software interrupts */
  { 0x02004000, 0x40 },   /* mtimecmp */
  { 0x0200bff0, 0x20 },   /* mtime */
  { 0x00101000, 0x40 },   /* clock */
  { 0x00100000, 0x10 },   /* finisher */
  { 0x10001000, 0x200 },  /* virtio transport */
};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static TnMachine *
machine_new (void)
{
  static const char loop_forever[] = { 0x6f, 0, 0, 0 };
  g_autoptr (GError) error = NULL;
  g_autoptr (TnOptions) boot = tn_options_new ();
  g_autofree char *kernel = NULL;
  int fd = g_file_open_tmp ("tenon-fuzz-XXXXXX", &kernel, NULL);
  if (fd < 0 || write (fd, loop_forever, sizeof loop_forever) != (ssize_t) sizeof loop_forever)
    g_error ("cannot write a temporary file");
  g_close (fd, NULL);
  tn_options_set (boot, "kernel", kernel);
  TnMachine *machine = tn_machine_new ("virt-rv64", &error);
  if (machine == NULL || tn_machine_set_memory (machine, 16 << 20, &error) < 0
      || tn_machine_set_boot (machine, boot, &error) < 0
      || tn_machine_add_device (machine, "virtio-rng", NULL, NULL, &error) < 0
      || tn_machine_realize (machine, &error) < 0)
    g_error ("%s", error->message);
  g_unlink (kernel);
  return machine;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static TnMachine *machine;
  if (machine == NULL)
    machine = machine_new ();
  TnSpace *space = tn_machine_space (machine);
  for (; size >= 8; data += 8, size -= 8) {
    const size_t window = data[0] % G_N_ELEMENTS (windows);
    const unsigned bytes = 1u << (data[1] & 3);
    const uint64_t address = windows[window].base + tn_load_le16 (data + 2) % windows[window].size;
    /* Small values and set high bits are the interesting ones. */
    uint64_t value = tn_load_le32 (data + 4);
    if (data[1] & 8)
      value = ~value;
    if (data[1] & 4)
      tn_space_write (space, address, bytes, value);
    else
      tn_space_read (space, address, bytes, &value);
  }
  while (tn_loop_iterate (tn_loop_current (), false))
    ;
  return 0;
}
