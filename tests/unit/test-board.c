/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Board files: what a good one means, and what is said about bad ones. */
#include <tenon/machine.h>

#include "machine/board.h"

#define BOARD                                                                                                \
  "[board]\nsummary=test\ncompatible=a;b\nram=0x80000000\nmemory=64M\ncpus=2\ncpus-max=4\ncpu=toy\n"         \
  "timebase=1000\nconsole=port\n"
#define BOOT "[boot builtin]\nkernel=elf;raw\nkernel-offset=0x1000\nregisters=pc=@kernel;a0=@hart;a1=7\n"
#define PORT                                                                                                 \
  "[device port]\nclass=serial\naddress=0x1000;0x2000\nirq=port:3\noption.speed=9600\nfdt.label=\"x\"\n"

static TnBoard *
parse (const char *text)
{
  TnBoard *board = NULL;
  g_autoptr (GError) error = NULL;
  tn_board_parse ("dir/test.board", text, strlen (text), &board, &error);
  g_assert_no_error (error);
  return board;
}

static void
test_good (void)
{
  g_autoptr (TnBoard) board =
      parse (BOARD PORT BOOT "[slots virtio]\nclass=mmio\naddress=0x3000\nstride=0x100\n"
                             "count=4\nirq=port:8\n[interfaces]\nvirtio=disk\n"
                             "[rom r]\naddress=0\nsize=0x1000\ndata=u32:1,2;u64:@fdt\n"
                             "[node n]\nvalue=<1 &port>\n");
  g_assert_cmpstr (board->name, ==, "test");
  g_assert_cmpstr (board->compatible[1], ==, "b");
  g_assert_cmphex (board->memory, ==, 64 << 20);
  g_assert_cmpuint (board->cpus_max, ==, 4);
  const TnBoardDevice *device = g_ptr_array_index (board->devices, 0);
  g_assert_cmpstr (device->class_name, ==, "serial");
  g_assert_cmpuint (device->addresses->len, ==, 2);
  g_assert_cmphex (g_array_index (device->addresses, uint64_t, 1), ==, 0x2000);
  const TnBoardWire *wire = g_ptr_array_index (device->wires, 0);
  g_assert_cmpstr (wire->target, ==, "port");
  g_assert_cmpuint (wire->line, ==, 3);
  g_assert_cmpstr (tn_options_get (device->options, "speed"), ==, "9600");
  const TnBoardSlots *slots = g_ptr_array_index (board->slots, 0);
  g_assert_cmpuint (slots->count, ==, 4);
  g_assert_cmpuint (slots->wire.line, ==, 8);
  const TnBoardRom *rom = g_ptr_array_index (board->roms, 0);
  g_assert_cmpuint (rom->items->len, ==, 3);
  const TnBoardRomItem *last = g_ptr_array_index (rom->items, 2);
  g_assert_cmpstr (last->value.name, ==, "fdt");
  g_assert_cmpuint (last->bytes, ==, 8);
  g_assert_cmpuint (board->builtin->kernel.kinds->len, ==, 2);
  g_assert_cmpuint (board->builtin->registers->len, ==, 3);
  g_assert_false (board->builtin->all_harts);
  g_assert_null (board->firmware);
  g_assert_cmpstr (tn_options_get (board->interfaces, "virtio"), ==, "disk");
}

/* A bad file, and what its error must name. */
typedef struct Bad {
  const char *path;
  const char *text;
  const char *names[3];
} Bad;

static const Bad bads[] = {
  { "/board/bad/syntax", "nonsense\n", { "test.board" } },
  { "/board/bad/empty", "", { "[board]" } },
  { "/board/bad/no-boot", BOARD PORT, { "[boot builtin]" } },
  { "/board/bad/section", BOARD PORT BOOT "[devise x]\n", { "[devise x]" } },
  { "/board/bad/unnamed", BOARD PORT BOOT "[device]\nclass=a\n", { "[device]" } },
  { "/board/bad/unknown-key", BOARD PORT BOOT "[device x]\nclass=a\nadress=1\n", { "[device x]", "adress" } },
  { "/board/bad/no-class", BOARD PORT BOOT "[device x]\naddress=1\n", { "[device x]", "class" } },
  { "/board/bad/number", BOARD PORT BOOT "[device x]\nclass=a\naddress=0xzz\n", { "[device x]", "address" } },
  { "/board/bad/negative", BOARD PORT BOOT "[device x]\nclass=a\naddress=-1\n", { "[device x]", "address" } },
  { "/board/bad/huge", BOARD PORT BOOT "[device x]\nclass=a\naddress=99999999999999999999\n", { "address" } },
  { "/board/bad/irq-syntax", BOARD PORT BOOT "[device x]\nclass=a\nirq=port\n", { "[device x]", "irq" } },
  { "/board/bad/irq-line", BOARD PORT BOOT "[device x]\nclass=a\nirq=port:1x\n", { "irq" } },
  { "/board/bad/irq-target", BOARD PORT BOOT "[device x]\nclass=a\nirq=ghost:1\n", { "irq", "ghost" } },
  { "/board/bad/console",
    "[board]\nsummary=s\nram=0\ncpu=c\ntimebase=1\nconsole=ghost\n" BOOT,
    { "console", "ghost" } },
  { "/board/bad/cpus", "[board]\nsummary=s\nram=0\ncpu=c\ntimebase=1\ncpus=0\n" BOOT, { "[board]", "cpus" } },
  { "/board/bad/ram", "[board]\nsummary=s\nram=0x123\ncpu=c\ntimebase=1\n" BOOT, { "[board]", "ram" } },
  { "/board/bad/memory", "[board]\nsummary=s\nram=0\ncpu=c\ntimebase=1\nmemory=lots\n" BOOT, { "memory" } },
  { "/board/bad/boot-kind", BOARD PORT "[boot builtin]\nkernel=zip\n", { "[boot builtin]", "kernel" } },
  { "/board/bad/boot-name", BOARD PORT BOOT "[boot other]\n", { "[boot other]" } },
  { "/board/bad/harts", BOARD PORT "[boot builtin]\nkernel=raw\nharts=some\n", { "harts" } },
  { "/board/bad/register", BOARD PORT "[boot builtin]\nkernel=raw\nregisters=pc\n", { "registers" } },
  { "/board/bad/magic", BOARD PORT "[boot builtin]\nkernel=raw\nimage-magic=63:0102\n", { "image-magic" } },
  { "/board/bad/rom-data",
    BOARD PORT BOOT "[rom r]\naddress=0\nsize=0x1000\ndata=u16:1\n",
    { "[rom r]", "data" } },
  { "/board/bad/rom-wide",
    BOARD PORT BOOT "[rom r]\naddress=0\nsize=0x1000\ndata=u32:0x100000000\n",
    { "data" } },
  { "/board/bad/slots-irq",
    BOARD PORT BOOT "[slots v]\nclass=c\naddress=1\nirq=port:1,2\n",
    { "[slots v]", "irq" } },
};

static void
test_bad (gconstpointer data)
{
  const Bad *bad = data;
  TnBoard *board = NULL;
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_board_parse ("dir/test.board", bad->text, strlen (bad->text), &board, &error), <, 0);
  g_assert_null (board);
  g_assert_nonnull (strstr (error->message, "test.board"));
  for (size_t i = 0; i < G_N_ELEMENTS (bad->names) && bad->names[i] != NULL; i++) {
    if (strstr (error->message, bad->names[i]) == NULL)
      g_error ("\"%s\" does not name %s", error->message, bad->names[i]);
  }
  g_assert_null (strchr (error->message, '\n'));
}

static void
test_binary (void)
{
  static const char zero[] = "[board]\0summary=x\n", latin[] = "[board]\nsummary=\xe9\n";
  TnBoard *board;
  g_assert_cmpint (tn_board_parse ("x", zero, sizeof zero - 1, &board, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_board_parse ("x", latin, sizeof latin - 1, &board, NULL), ==, -EINVAL);
  g_autofree char *large = g_strnfill (TN_BOARD_MAX_FILE + 1, '#');
  g_assert_cmpint (tn_board_parse ("x", large, TN_BOARD_MAX_FILE + 1, &board, NULL), ==, -EFBIG);
}

/* Any beginning of a good file is either good or refused. */
static void
test_truncated (void)
{
  static const char text[] = BOARD PORT BOOT;
  for (size_t length = 0; length < sizeof text; length++) {
    g_autoptr (TnBoard) board = NULL;
    g_autoptr (GError) error = NULL;
    int r = tn_board_parse ("x", text, MIN (length, sizeof text - 1), &board, &error);
    g_assert_true ((r == 0) == (board != NULL));
    g_assert_true ((r == 0) == (error == NULL));
  }
}

static void
count_board (const char *name, const char *summary, void *opaque)
{
  g_assert_null (strstr (summary, ".board:"));
  (*(unsigned *) opaque)++;
}

/* The boards that come with Tenon parse. */
static void
test_shipped (void)
{
  unsigned n = 0;
  const char *const names[] = { "virt-rv64", "spike" };
  tn_boards_foreach (count_board, &n);
  g_assert_cmpuint (n, >=, 2);
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autoptr (TnBoard) board = NULL;
    g_autoptr (GError) error = NULL;
    tn_board_load (names[i], &board, &error);
    g_assert_no_error (error);
  }
  TnBoard *board;
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_board_load ("no-such-board", &board, &error), ==, -ENOENT);
  g_assert_nonnull (strstr (error->message, "no-such-board"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/board/good", test_good);
  for (size_t i = 0; i < G_N_ELEMENTS (bads); i++)
    g_test_add_data_func (bads[i].path, &bads[i], test_bad);
  g_test_add_func ("/board/binary", test_binary);
  g_test_add_func ("/board/truncated", test_truncated);
  g_test_add_func ("/board/shipped", test_shipped);
  return g_test_run ();
}
