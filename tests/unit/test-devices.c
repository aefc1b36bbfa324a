/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registers of the system devices, through the bus of a virt-rv64 machine that stands still. */
#include <time.h>

#include <glib/gstdio.h>
#include <tenon/machine.h>

#define UART UINT64_C (0x10000000)
#define PLIC UINT64_C (0x0c000000)
#define CLINT UINT64_C (0x02000000)
#define RTC UINT64_C (0x00101000)
#define FINISHER UINT64_C (0x00100000)

#define UART_IRQ 10
#define RTC_IRQ 11
#define CONTEXT_S 1 /* hart 0, second context */

typedef struct Fixture {
  TnMachine *machine;
  TnSpace *space;
  char *directory, *output, *kernel;
} Fixture;

static void
set_up (Fixture *f, gconstpointer data)
{
  static const uint8_t loop_forever[] = { 0x6f, 0x00, 0x00, 0x00 };
  g_autoptr (GError) error = NULL;
  g_autoptr (TnOptions) boot = tn_options_new ();
  f->directory = g_dir_make_tmp ("tenon-test-XXXXXX", NULL);
  f->output = g_build_filename (f->directory, "serial", NULL);
  f->kernel = g_build_filename (f->directory, "kernel", NULL);
  g_assert_true (g_file_set_contents (f->kernel, (const char *) loop_forever, sizeof loop_forever, NULL));
  g_autofree char *backend = g_strconcat ("file:", f->output, NULL);
  tn_options_set (boot, "kernel", f->kernel);
  f->machine = tn_machine_new ("virt-rv64", &error);
  g_assert_no_error (error);
  tn_machine_set_cpus (f->machine, 2, &error);
  tn_machine_set_boot (f->machine, boot, &error);
  tn_machine_add_chardev (f->machine, "serial0", backend, &error);
  tn_machine_realize (f->machine, &error);
  g_assert_no_error (error);
  f->space = tn_machine_space (f->machine);
}

static void
tear_down (Fixture *f, gconstpointer data)
{
  tn_machine_free (f->machine);
  g_unlink (f->output);
  g_unlink (f->kernel);
  g_rmdir (f->directory);
  g_free (f->output);
  g_free (f->kernel);
  g_free (f->directory);
}

static uint64_t
get (Fixture *f, uint64_t address, unsigned bytes)
{
  uint64_t value = UINT64_C (0xdeaddeaddeaddead);
  g_assert_cmpint (tn_space_read (f->space, address, bytes, &value), ==, TN_BUS_OK);
  return value;
}

static void
put (Fixture *f, uint64_t address, unsigned bytes, uint64_t value)
{
  g_assert_cmpint (tn_space_write (f->space, address, bytes, value), ==, TN_BUS_OK);
}

static bool
faults (Fixture *f, uint64_t address, unsigned bytes)
{
  uint64_t value;
  return tn_space_read (f->space, address, bytes, &value) == TN_BUS_FAULT
         && tn_space_write (f->space, address, bytes, 0) == TN_BUS_FAULT;
}

static bool
irq_pending (Fixture *f, unsigned source)
{
  return get (f, PLIC + 0x1000 + source / 32 * 4, 4) >> source % 32 & 1;
}

/* ---- Serial port ---- */

static void
test_uart_output (Fixture *f, gconstpointer data)
{
  g_autofree char *text = NULL;
  put (f, UART + 3, 1, 0x80); /* divisor latch: no output */
  put (f, UART, 1, 'x');
  g_assert_cmphex (get (f, UART, 1), ==, 'x');
  put (f, UART + 3, 1, 0x03);
  put (f, UART, 1, 'O');
  put (f, UART, 1, 'K');
  g_assert_cmphex (get (f, UART + 5, 1) & 0x60, ==, 0x60);
  tn_machine_free (g_steal_pointer (&f->machine));
  g_assert_true (g_file_get_contents (f->output, &text, NULL, NULL));
  g_assert_cmpstr (text, ==, "OK");
}

static void
test_uart_registers (Fixture *f, gconstpointer data)
{
  put (f, UART + 7, 1, 0x5a);
  g_assert_cmphex (get (f, UART + 7, 1), ==, 0x5a);
  put (f, UART + 1, 1, 0xff);
  g_assert_cmphex (get (f, UART + 1, 1), ==, 0x0f);
  put (f, UART + 1, 1, 0);
  g_assert_cmphex (get (f, UART + 2, 1), ==, 0x01);
  put (f, UART + 2, 1, 0x01); /* FIFO on: that is how a 16550A is recognised */
  g_assert_cmphex (get (f, UART + 2, 1), ==, 0xc1);
  g_assert_cmphex (get (f, UART, 1), ==, 0); /* nothing received */
  g_assert_cmphex (get (f, UART + 0x80, 1), ==, 0);
  g_assert_true (faults (f, UART, 4));
}

static void
test_uart_loopback (Fixture *f, gconstpointer data)
{
  put (f, UART + 2, 1, 0x01);
  put (f, UART + 4, 1, 0x1f);
  g_assert_cmphex (get (f, UART + 6, 1) & 0xf0, ==, 0xf0);
  put (f, UART + 4, 1, 0x12);
  g_assert_cmphex (get (f, UART + 6, 1) & 0xf0, ==, 0x10);
  for (unsigned i = 0; i < 18; i++)
    put (f, UART, 1, 'a' + i);
  g_assert_cmphex (get (f, UART + 5, 1) & 0x03, ==, 0x03); /* ready, and two were too many */
  g_assert_cmphex (get (f, UART + 5, 1) & 0x03, ==, 0x01);
  for (unsigned i = 0; i < 16; i++)
    g_assert_cmphex (get (f, UART, 1), ==, 'a' + i);
  g_assert_cmphex (get (f, UART + 5, 1) & 0x01, ==, 0);
}

static void
test_uart_interrupts (Fixture *f, gconstpointer data)
{
  put (f, UART + 2, 1, 0x41); /* trigger at four */
  put (f, UART + 1, 1, 0x02);
  g_assert_true (irq_pending (f, UART_IRQ));
  g_assert_cmphex (get (f, UART + 2, 1) & 0x0f, ==, 0x02);
  g_assert_false (irq_pending (f, UART_IRQ)); /* reading IIR took it back */
  put (f, UART + 1, 1, 0x05);
  put (f, UART + 4, 1, 0x10);
  put (f, UART, 1, '1');
  g_assert_cmphex (get (f, UART + 2, 1) & 0x0f, ==, 0x0c); /* timed out below the trigger */
  for (unsigned i = 0; i < 3; i++)
    put (f, UART, 1, '2');
  g_assert_cmphex (get (f, UART + 2, 1) & 0x0f, ==, 0x04);
  g_assert_true (irq_pending (f, UART_IRQ));
  put (f, UART + 2, 1, 0x43);
  g_assert_false (irq_pending (f, UART_IRQ));
  for (unsigned i = 0; i < 17; i++)
    put (f, UART, 1, '3');
  g_assert_cmphex (get (f, UART + 2, 1) & 0x0f, ==, 0x06); /* overrun comes first */
}

/* ---- Interrupt controller ---- */

static void
test_plic_registers (Fixture *f, gconstpointer data)
{
  put (f, PLIC + 4, 4, 0xffffffff);
  g_assert_cmphex (get (f, PLIC + 4, 4), ==, 7);
  put (f, PLIC, 4, 7); /* there is no source 0 */
  g_assert_cmphex (get (f, PLIC, 4), ==, 0);
  put (f, PLIC + 4 * 97, 4, 7);
  g_assert_cmphex (get (f, PLIC + 4 * 97, 4), ==, 0);
  for (unsigned word = 0; word < 32; word++)
    put (f, PLIC + 0x2000 + 4 * word, 4, 0xffffffff);
  g_assert_cmphex (get (f, PLIC + 0x2000, 4), ==, 0xfffffffe);
  g_assert_cmphex (get (f, PLIC + 0x2008, 4), ==, 0xffffffff);
  g_assert_cmphex (get (f, PLIC + 0x200c, 4), ==, 1); /* source 96 */
  g_assert_cmphex (get (f, PLIC + 0x2010, 4), ==, 0);
  put (f, PLIC + 0x200000, 4, 0xff);
  g_assert_cmphex (get (f, PLIC + 0x200000, 4), ==, 7);
  put (f, PLIC + 0x200000 + 0x1000 * 4, 4, 3); /* contexts 0 to 3 exist */
  g_assert_cmphex (get (f, PLIC + 0x200000 + 0x1000 * 4, 4), ==, 0);
  put (f, PLIC + 0x5ffffc, 4, 1);
  g_assert_cmphex (get (f, PLIC + 0x5ffffc, 4), ==, 0);
  put (f, PLIC + 0x1000, 4, 0xffffffff); /* pending is read-only */
  g_assert_cmphex (get (f, PLIC + 0x1000, 4), ==, 0);
  g_assert_true (faults (f, PLIC, 8));
  g_assert_true (faults (f, PLIC, 1));
}

static void
test_plic_claim (Fixture *f, gconstpointer data)
{
  const uint64_t claim = PLIC + 0x200000 + 0x1000 * CONTEXT_S + 4;
  const uint64_t enable = PLIC + 0x2000 + 0x80 * CONTEXT_S;
  put (f, UART + 1, 1, 0x02);
  g_assert_true (irq_pending (f, UART_IRQ));
  g_assert_cmphex (get (f, claim, 4), ==, 0); /* not enabled */
  put (f, enable, 4, 1u << UART_IRQ);
  g_assert_cmphex (get (f, claim, 4), ==, 0); /* priority 0 never interrupts */
  put (f, PLIC + 4 * UART_IRQ, 4, 2);
  put (f, PLIC + 0x200000 + 0x1000 * CONTEXT_S, 4, 7); /* claiming ignores the threshold */
  g_assert_cmphex (get (f, claim - 0x1000, 4), ==, 0);
  g_assert_cmphex (get (f, claim, 4), ==, UART_IRQ);
  g_assert_false (irq_pending (f, UART_IRQ));
  g_assert_cmphex (get (f, claim, 4), ==, 0);
  put (f, claim, 4, 0);
  put (f, claim, 4, 5000);
  put (f, claim - 0x1000, 4, UART_IRQ); /* not enabled there: ignored */
  g_assert_false (irq_pending (f, UART_IRQ));
  put (f, claim, 4, UART_IRQ);
  g_assert_true (irq_pending (f, UART_IRQ)); /* the line is still high */
  get (f, UART + 2, 1);
  g_assert_false (irq_pending (f, UART_IRQ));
}

static void
test_plic_priorities (Fixture *f, gconstpointer data)
{
  const uint64_t claim = PLIC + 0x200000 + 4;
  put (f, UART + 1, 1, 0x02);
  put (f, RTC + 0x10, 4, 1);
  put (f, RTC + 0x08, 4, 0); /* an alarm in the past */
  g_assert_true (irq_pending (f, RTC_IRQ));
  put (f, PLIC + 0x2000, 4, 1u << UART_IRQ | 1u << RTC_IRQ);
  put (f, PLIC + 4 * UART_IRQ, 4, 1);
  put (f, PLIC + 4 * RTC_IRQ, 4, 2);
  g_assert_cmphex (get (f, claim, 4), ==, RTC_IRQ);
  g_assert_cmphex (get (f, claim, 4), ==, UART_IRQ);
  put (f, claim, 4, RTC_IRQ);
  put (f, claim, 4, UART_IRQ);
  put (f, PLIC + 4 * UART_IRQ, 4, 2);
  g_assert_cmphex (get (f, claim, 4), ==, UART_IRQ); /* among equals the lowest */
}

/* ---- Timers, clock, finisher ---- */

static void
test_aclint (Fixture *f, gconstpointer data)
{
  put (f, CLINT + 4, 4, 0xffffffff);
  g_assert_cmphex (get (f, CLINT + 4, 4), ==, 1);
  g_assert_cmphex (get (f, CLINT, 4), ==, 0);
  put (f, CLINT + 8, 4, 1); /* there is no hart 2 */
  g_assert_cmphex (get (f, CLINT + 8, 4), ==, 0);
  g_assert_cmphex (get (f, CLINT + 0x4000, 8), ==, UINT64_MAX);
  put (f, CLINT + 0x4008, 4, 0x11223344);
  put (f, CLINT + 0x400c, 4, 0x55667788);
  g_assert_cmphex (get (f, CLINT + 0x4008, 8), ==, UINT64_C (0x5566778811223344));
  g_assert_cmphex (get (f, CLINT + 0xbff8, 8), ==, 0); /* the machine stands still */
  put (f, CLINT + 0xbff8, 8, UINT64_C (0x123456789a));
  g_assert_cmphex (get (f, CLINT + 0xbff8, 8), ==, UINT64_C (0x123456789a));
  g_assert_cmphex (get (f, CLINT + 0xbffc, 4), ==, 0x12);
  put (f, CLINT + 0xbffc, 4, 0xffffffff);
  g_assert_cmphex (get (f, CLINT + 0xbff8, 8), ==, UINT64_C (0xffffffff3456789a));
  put (f, CLINT + 0x4000, 8, 0);
  put (f, CLINT + 0xfff8, 8, 1);
  g_assert_true (faults (f, CLINT + 2, 4));
  g_assert_true (faults (f, CLINT, 2));
}

static void
test_rtc (Fixture *f, gconstpointer data)
{
  const int64_t now = (int64_t) time (NULL);
  uint64_t low = get (f, RTC, 4);
  const int64_t seconds = (int64_t) ((get (f, RTC + 4, 4) << 32 | low) / 1000000000);
  g_assert_cmpint (seconds, >=, now - 60);
  g_assert_cmpint (seconds, <=, now + 1);
  put (f, RTC + 4, 4, 0x100);
  put (f, RTC, 4, 0x200);
  g_assert_cmphex (get (f, RTC, 4), ==, 0x200);
  g_assert_cmphex (get (f, RTC + 4, 4), ==, 0x100);
  put (f, RTC + 0x0c, 4, 0x101);
  put (f, RTC + 0x08, 4, 0);
  g_assert_cmphex (get (f, RTC + 0x18, 4), ==, 1);
  g_assert_cmphex (get (f, RTC + 0x0c, 4), ==, 0x101);
  put (f, RTC + 0x14, 4, 1);
  g_assert_cmphex (get (f, RTC + 0x18, 4), ==, 0);
  put (f, RTC + 0x0c, 4, 0);
  put (f, RTC + 0x08, 4, 1); /* past: rings at once, but only if that is wanted */
  g_assert_false (irq_pending (f, RTC_IRQ));
  put (f, RTC + 0x10, 4, 1);
  g_assert_true (irq_pending (f, RTC_IRQ));
  put (f, RTC + 0x1c, 4, 1);
  g_assert_false (irq_pending (f, RTC_IRQ));
}

typedef struct Finish {
  const char *path;
  uint32_t value;
  int status;
} Finish;

static const Finish finishes[] = { { "/devices/finisher/pass", 0x5555, 0 },
                                   { "/devices/finisher/fail", 0x3333, 1 },
                                   { "/devices/finisher/code", 0x00073333, 7 },
                                   { "/devices/finisher/large", 0x01003333, 1 } };

static void
test_finisher (Fixture *f, gconstpointer data)
{
  const Finish *finish = data;
  int status = -1;
  g_autoptr (GError) error = NULL;
  put (f, FINISHER, 4, 0x1234);
  put (f, FINISHER + 4, 4, 0x5555);
  g_assert_cmphex (get (f, FINISHER, 4), ==, 0);
  put (f, FINISHER, 4, finish->value);
  tn_machine_run (f->machine, &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, finish->status);
}

static void
test_reset (Fixture *f, gconstpointer data)
{
  int status = -1;
  g_autoptr (GError) error = NULL;
  tn_machine_set_reboot (f->machine, false);
  put (f, FINISHER, 4, 0x7777);
  tn_machine_run (f->machine, &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 0);
}

/* Values at the edges into every word of every device: nothing falls over, everything can be read back. */
static void
test_edges (Fixture *f, gconstpointer data)
{
  static const uint64_t bases[] = {
    UART, PLIC, PLIC + 0x1000, PLIC + 0x2000, PLIC + 0x200000, CLINT, CLINT + 0x4000, RTC
  };
  static const uint64_t values[] = { 0, 1, UINT64_MAX, INT64_MAX, UINT64_C (0x8000000080000000) };
  for (size_t b = 0; b < G_N_ELEMENTS (bases); b++) {
    for (uint64_t offset = 0; offset < 0x100; offset++) {
      for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
        uint64_t ignored;
        for (size_t v = 0; v < G_N_ELEMENTS (values); v++)
          tn_space_write (f->space, bases[b] + offset, bytes, values[v]);
        tn_space_read (f->space, bases[b] + offset, bytes, &ignored);
      }
    }
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  const struct {
    const char *path;
    void (*run) (Fixture *f, gconstpointer data);
  } tests[] = {
    { "/devices/uart/output", test_uart_output },
    { "/devices/uart/registers", test_uart_registers },
    { "/devices/uart/loopback", test_uart_loopback },
    { "/devices/uart/interrupts", test_uart_interrupts },
    { "/devices/plic/registers", test_plic_registers },
    { "/devices/plic/claim", test_plic_claim },
    { "/devices/plic/priorities", test_plic_priorities },
    { "/devices/aclint", test_aclint },
    { "/devices/rtc", test_rtc },
    { "/devices/reset", test_reset },
    { "/devices/edges", test_edges },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (tests); i++)
    g_test_add (tests[i].path, Fixture, NULL, set_up, tests[i].run, tear_down);
  for (size_t i = 0; i < G_N_ELEMENTS (finishes); i++)
    g_test_add (finishes[i].path, Fixture, &finishes[i], set_up, test_finisher, tear_down);
  return g_test_run ();
}
