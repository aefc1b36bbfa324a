/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Address spaces: look-up, single accesses, DMA, watches, and changing the map under readers. */
#include <tenon/memory.h>

#define RAM UINT64_C (0x80000000)
#define SIZE UINT64_C (0x10000)

/* ---- A register block that remembers ---- */

typedef struct Registers {
  uint64_t offset, value;
  unsigned bytes, reads, writes;
} Registers;

static uint64_t
registers_read (void *opaque, uint64_t offset, unsigned bytes)
{
  Registers *registers = opaque;
  registers->offset = offset;
  registers->bytes = bytes;
  registers->reads++;
  return UINT64_C (0x1122334455667788);
}

static void
registers_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  Registers *registers = opaque;
  registers->offset = offset;
  registers->value = value;
  registers->bytes = bytes;
  registers->writes++;
}

static const TnMmioOps registers_ops = { .size = sizeof (TnMmioOps),
                                         .min_access = 2,
                                         .max_access = 4,
                                         .read = registers_read,
                                         .write = registers_write };

static TnSpace *
space_with_ram (void)
{
  TnSpace *space = tn_space_new ("test");
  g_autoptr (GError) error = NULL;
  tn_space_add_ram (space, "ram", RAM, SIZE, &error);
  g_assert_no_error (error);
  return space;
}

/* ---- Tests ---- */

static void
test_ram (void)
{
  TnSpace *space = space_with_ram ();
  uint64_t value = 0;
  TnRamSpan span;
  for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
    const uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C (1) << 8 * bytes) - 1;
    for (uint64_t address = RAM; address < RAM + 16; address++) {
      g_assert_cmpint (tn_space_write (space, address, bytes, UINT64_C (0x8877665544332211)), ==, TN_BUS_OK);
      g_assert_cmpint (tn_space_read (space, address, bytes, &value), ==, TN_BUS_OK);
      g_assert_cmphex (value, ==, UINT64_C (0x8877665544332211) & mask);
    }
  }
  g_assert_true (tn_space_ram (space, RAM + 0x1234, &span));
  g_assert_cmphex (span.base, ==, RAM);
  g_assert_cmphex (span.length, ==, SIZE - 0x1234);
  g_assert_true (span.writable);
  tn_space_write (space, RAM + 0x1234, 1, 0xab);
  g_assert_cmphex (span.host[0], ==, 0xab);
  g_assert_cmpint (tn_space_read (space, RAM - 1, 1, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, RAM + SIZE, 1, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, RAM + SIZE - 4, 8, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, RAM, 3, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_write (space, RAM + SIZE - 1, 2, 0), ==, TN_BUS_FAULT);
  tn_space_free (space);
}

static void
test_neighbours (void)
{
  TnSpace *space = space_with_ram ();
  uint64_t value;
  uint8_t buffer[64], expected[64];
  tn_space_add_ram (space, "more", RAM + SIZE, SIZE, NULL);
  for (unsigned i = 0; i < sizeof expected; i++)
    expected[i] = (uint8_t) (i * 7 + 1);
  g_assert_cmpint (tn_space_dma_write (space, RAM + SIZE - 20, expected, sizeof expected), ==, TN_BUS_OK);
  g_assert_cmpint (tn_space_dma_read (space, RAM + SIZE - 20, buffer, sizeof buffer), ==, TN_BUS_OK);
  g_assert_cmpmem (buffer, sizeof buffer, expected, sizeof expected);
  g_assert_cmpint (tn_space_write (space, RAM + SIZE - 3, 8, UINT64_C (0x0102030405060708)), ==, TN_BUS_OK);
  g_assert_cmpint (tn_space_read (space, RAM + SIZE, 1, &value), ==, TN_BUS_OK);
  g_assert_cmphex (value, ==, 0x05);
  g_assert_null (tn_space_dma_map (space, RAM + SIZE - 8, 16, true));
  g_assert_nonnull (tn_space_dma_map (space, RAM + SIZE - 8, 8, true));
  tn_space_free (space);
}

static void
test_rom (void)
{
  TnSpace *space = space_with_ram ();
  static const uint8_t contents[] = { 1, 2, 3 };
  uint64_t value;
  TnRamSpan span;
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_space_add_rom (space, "rom", 0x1000, 0x1000, contents, sizeof contents, &error), ==, 0);
  g_assert_cmpint (tn_space_read (space, 0x1000, 4, &value), ==, TN_BUS_OK);
  g_assert_cmphex (value, ==, 0x030201);
  g_assert_cmpint (tn_space_write (space, 0x1000, 4, 0), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_dma_write (space, 0x1000, contents, 1), ==, TN_BUS_FAULT);
  g_assert_true (tn_space_ram (space, 0x1000, &span));
  g_assert_false (span.writable);
  g_assert_null (tn_space_dma_map (space, 0x1000, 4, true));
  g_assert_nonnull (tn_space_dma_map (space, 0x1000, 4, false));
  tn_space_free (space);
}

static void
test_mmio (void)
{
  TnSpace *space = space_with_ram ();
  Registers registers = { 0 };
  uint64_t value = 5;
  TnRamSpan span;
  uint8_t buffer[4];
  g_assert_cmpint (tn_space_add_mmio (space, "regs", 0x2000, 0x106, &registers_ops, &registers, NULL), ==, 0);
  g_assert_cmpint (tn_space_read (space, 0x2004, 4, &value), ==, TN_BUS_OK);
  g_assert_cmphex (value, ==, 0x55667788);
  g_assert_cmphex (registers.offset, ==, 4);
  g_assert_cmpint (tn_space_write (space, 0x2006, 2, 0xbeef), ==, TN_BUS_OK);
  g_assert_cmphex (registers.value, ==, 0xbeef);
  g_assert_cmpuint (registers.bytes, ==, 2);
  /* Too small, too large, misaligned, across the end. */
  g_assert_cmpint (tn_space_read (space, 0x2000, 1, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, 0x2000, 8, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, 0x2002, 4, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_read (space, 0x2104, 4, &value), ==, TN_BUS_FAULT);
  g_assert_cmpint (tn_space_dma_read (space, 0x2000, buffer, 4), ==, TN_BUS_FAULT);
  g_assert_cmpuint (registers.reads, ==, 1);
  g_assert_cmpuint (registers.writes, ==, 1);
  g_assert_false (tn_space_ram (space, 0x2000, &span));
  tn_space_free (space);
}

static void
test_bad_regions (void)
{
  TnSpace *space = space_with_ram ();
  Registers registers = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_space_add_ram (space, "other", RAM + 0x1000, 0x1000, &error), ==, -EEXIST);
  g_assert_nonnull (strstr (error->message, "'other'"));
  g_assert_nonnull (strstr (error->message, "'ram'"));
  g_assert_cmpint (tn_space_add_ram (space, "odd", 0x123, 0x1000, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_space_add_ram (space, "none", 0x1000, 0, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_space_add_ram (space, "wraps", UINT64_MAX - 0xfff, 0x2000, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_space_add_mmio (space, "regs", RAM + SIZE - 1, 4, &registers_ops, &registers, NULL), ==,
                   -EEXIST);
  g_assert_cmpint (tn_space_remove (space, RAM + 0x1000, NULL), ==, -ENOENT);
  tn_space_free (space);
}

static void
test_top (void)
{
  TnSpace *space = tn_space_new ("top");
  uint64_t value = 0;
  uint8_t buffer[16];
  g_assert_cmpint (tn_space_add_ram (space, "last", UINT64_MAX - 0xfff, 0x1000, NULL), ==, 0);
  g_assert_cmpint (tn_space_write (space, UINT64_MAX, 1, 7), ==, TN_BUS_OK);
  g_assert_cmpint (tn_space_read (space, UINT64_MAX, 1, &value), ==, TN_BUS_OK);
  g_assert_cmphex (value, ==, 7);
  g_assert_cmpint (tn_space_dma_read (space, UINT64_MAX - 7, buffer, 8), ==, TN_BUS_OK);
  g_assert_cmpint (tn_space_dma_read (space, UINT64_MAX - 7, buffer, 16), ==, TN_BUS_FAULT);
  tn_space_free (space);
}

static void
test_dirty (void)
{
  TnSpace *space = space_with_ram ();
  TnRamSpan span;
  g_assert_true (tn_space_ram (space, RAM, &span));
  memset (span.dirty, 0, SIZE / TN_PAGE_SIZE);
  tn_space_write (space, RAM + 0xfff, 2, 0);
  g_assert_true (span.dirty[0] != 0 && span.dirty[1] != 0);
  g_assert_cmphex (span.dirty[2], ==, 0);
  tn_space_mark_dirty (space, RAM + 0x3fff, 2);
  g_assert_true (span.dirty[3] & TN_DIRTY_CODE);
  g_assert_true (span.dirty[4] & TN_DIRTY_CODE);
  g_assert_cmphex (span.dirty[5], ==, 0);
  tn_space_free (space);
}

/* ---- Watches ---- */

typedef struct Seen {
  unsigned calls, bytes;
  uint64_t address;
} Seen;

static void
watch_written (void *opaque, uint64_t address, unsigned bytes)
{
  Seen *seen = opaque;
  seen->calls++;
  seen->address = address;
  seen->bytes = bytes;
}

static void
test_watch (void)
{
  TnSpace *space = space_with_ram ();
  Seen seen = { 0 };
  TnRamSpan span;
  uint64_t value;
  const uint64_t page = RAM + 0x2000;
  g_assert_cmpint (tn_space_watch (space, page + 0x40, 8, watch_written, &seen, NULL), ==, 0);
  g_assert_cmpint (tn_space_watch (space, page + 0x80, 8, watch_written, &seen, NULL), ==, -EEXIST);
  g_assert_cmpint (tn_space_watch (space, RAM + 0xffc, 8, watch_written, &seen, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_space_watch (space, 0x1000, 8, watch_written, &seen, NULL), ==, -ENOENT);
  g_assert_true (tn_space_ram (space, RAM, &span) && span.writable && span.length == 0x2000);
  g_assert_true (tn_space_ram (space, page, &span) && !span.writable && span.length == 0x1000);
  g_assert_cmphex (span.base, ==, page);
  g_assert_true (tn_space_ram (space, page + 0x1000, &span) && span.writable);
  g_assert_cmphex (span.base, ==, page + 0x1000);
  tn_space_write (space, page + 0x38, 8, 1);
  tn_space_write (space, page + 0x48, 1, 1);
  g_assert_cmpuint (seen.calls, ==, 0);
  tn_space_write (space, page + 0x44, 4, 99);
  g_assert_cmpuint (seen.calls, ==, 1);
  g_assert_cmphex (seen.address, ==, page + 0x44);
  g_assert_cmpint (tn_space_read (space, page + 0x44, 4, &value), ==, TN_BUS_OK);
  g_assert_cmphex (value, ==, 99);
  /* One run of host memory all the same. */
  g_assert_nonnull (tn_space_dma_map (space, RAM + 0x1800, 0x2000, true));
  tn_space_unwatch (space, page + 0x40);
  g_assert_true (tn_space_ram (space, page, &span) && span.writable && span.length == SIZE - 0x2000);
  tn_space_free (space);
}

/* ---- Changing the map under readers ---- */

typedef struct Race {
  TnSpace *space;
  gint stop;
} Race;

static gpointer
race_reader (gpointer data)
{
  Race *race = data;
  do {
    uint64_t value = 0;
    g_assert_cmpint (tn_space_read (race->space, RAM + 8, 8, &value), ==, TN_BUS_OK);
    g_assert_cmphex (value, ==, 42);
    if (tn_space_read (race->space, 0x2000, 4, &value) == TN_BUS_OK)
      g_assert_cmphex (value, ==, 0x55667788);
  } while (!g_atomic_int_get (&race->stop));
  return NULL;
}

static uint64_t
constant_read (void *opaque, uint64_t offset, unsigned bytes)
{
  return 0x55667788;
}

static void
constant_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
}

static void
test_race (void)
{
  static const TnMmioOps ops = {
    .size = sizeof ops, .min_access = 4, .max_access = 4, .read = constant_read, .write = constant_write
  };
  Race race = { .space = space_with_ram () };
  GThread *threads[2];
  tn_space_write (race.space, RAM + 8, 8, 42);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("reader", race_reader, &race);
  for (unsigned i = 0; i < 500; i++) {
    g_assert_cmpint (tn_space_add_mmio (race.space, "regs", 0x2000, 0x100, &ops, NULL, NULL), ==, 0);
    g_assert_cmpint (tn_space_add_ram (race.space, "more", 0x4000, 0x1000, NULL), ==, 0);
    g_assert_cmpint (tn_space_remove (race.space, 0x2000, NULL), ==, 0);
    g_assert_cmpint (tn_space_remove (race.space, 0x4000, NULL), ==, 0);
  }
  g_usleep (1000);
  g_atomic_int_set (&race.stop, 1);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  tn_space_free (race.space);
}

/* A pointer from before a removal still leads to memory of the space, which reads as zero. */
static void
test_late_access (void)
{
  TnSpace *space = space_with_ram ();
  TnRamSpan span;
  uint64_t value;
  tn_space_write (space, RAM, 8, 42);
  g_assert_true (tn_space_ram (space, RAM, &span));
  g_assert_cmpint (tn_space_remove (space, RAM, NULL), ==, 0);
  g_assert_cmpint (tn_space_read (space, RAM, 8, &value), ==, TN_BUS_FAULT);
  g_assert_cmphex (span.host[0], ==, 0);
  span.host[0] = 1;
  tn_space_free (space);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/memory/ram", test_ram);
  g_test_add_func ("/memory/neighbours", test_neighbours);
  g_test_add_func ("/memory/rom", test_rom);
  g_test_add_func ("/memory/mmio", test_mmio);
  g_test_add_func ("/memory/bad-regions", test_bad_regions);
  g_test_add_func ("/memory/top", test_top);
  g_test_add_func ("/memory/dirty", test_dirty);
  g_test_add_func ("/memory/watch", test_watch);
  g_test_add_func ("/memory/race", test_race);
  g_test_add_func ("/memory/late-access", test_late_access);
  return g_test_run ();
}
