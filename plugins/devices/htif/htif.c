/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* HTIF, the host-target interface of the Spike simulator.
 *
 * A program has two 64-bit words, which its ELF symbols `tohost` and `fromhost` name.  It writes a command
 * to the first and finds the answer in the second: device in bits 63-56, command in 55-48, payload below.
 *
 *   device 0, command 0   payload bit 0 set: end with exit code payload >> 1;
 *                         clear: address of a system call (number, arguments), answered in place
 *   device 1, command 0   read a character;  1: write a character
 */
#include <stdatomic.h>

#include <tenon/device.h>
#include <tenon/plugin.h>

#define HTIF_PAYLOAD ((UINT64_C (1) << 48) - 1)
#define HTIF_INPUT 64
#define HTIF_WRITE_MAX 65536

enum { SYSCALL_WRITE = 64, SYSCALL_EXIT = 93 };
enum { DEVICE_SYSCALL = 0, DEVICE_CONSOLE = 1 };
enum { CONSOLE_READ = 0, CONSOLE_WRITE = 1 };

typedef struct Htif {
  TnDevice *device;
  TnChardev *chardev;
  uint64_t tohost, fromhost;
  bool connected, watched;
  atomic_bool half_written;
  bool read_waits; /* a read command came before a character */
  uint8_t input[HTIF_INPUT];
  unsigned head, count;
} Htif;

static uint64_t
htif_command (uint64_t device, uint64_t command, uint64_t payload)
{
  return device << 56 | command << 48 | (payload & HTIF_PAYLOAD);
}

static void
htif_answer (Htif *htif, uint64_t value)
{
  if (htif->fromhost != 0)
    tn_space_write (tn_device_space (htif->device), htif->fromhost, 8, value);
}

/* ---- Console ---- */

/* Answers a waiting read if there is a character.  The caller holds the lock. */
static bool
htif_give_character (Htif *htif)
{
  if (!htif->read_waits || htif->count == 0)
    return false;
  const uint8_t byte = htif->input[htif->head];
  htif->head = (htif->head + 1) % HTIF_INPUT;
  htif->count--;
  htif->read_waits = false;
  htif_answer (htif, htif_command (DEVICE_CONSOLE, CONSOLE_READ, 0x100 | byte));
  return true;
}

static size_t
htif_can_receive (void *opaque)
{
  Htif *htif = opaque;
  tn_device_lock (htif->device);
  size_t room = HTIF_INPUT - htif->count;
  tn_device_unlock (htif->device);
  return room;
}

static void
htif_receive (void *opaque, const uint8_t *data, size_t length)
{
  Htif *htif = opaque;
  tn_device_lock (htif->device);
  for (size_t i = 0; i < length && htif->count < HTIF_INPUT; i++)
    htif->input[(htif->head + htif->count++) % HTIF_INPUT] = data[i];
  htif_give_character (htif);
  tn_device_unlock (htif->device);
}

static void
htif_console (Htif *htif, unsigned command, uint64_t payload)
{
  if (command == CONSOLE_WRITE) {
    const uint8_t byte = (uint8_t) payload;
    tn_chardev_write (htif->chardev, &byte, 1);
    htif_answer (htif, htif_command (DEVICE_CONSOLE, CONSOLE_WRITE, 0x100 | byte));
    return;
  }
  if (command != CONSOLE_READ)
    return;
  tn_device_lock (htif->device);
  htif->read_waits = true;
  const bool given = htif_give_character (htif);
  tn_device_unlock (htif->device);
  if (given)
    tn_chardev_accept (htif->chardev);
}

/* ---- System calls ---- */

static uint64_t
htif_syscall_write (Htif *htif, uint64_t fd, uint64_t address, uint64_t length)
{
  if (fd != 1 && fd != 2)
    return (uint64_t) -EBADF;
  length = MIN (length, HTIF_WRITE_MAX);
  g_autofree uint8_t *text = g_malloc (length + 1);
  if (tn_space_dma_read (tn_device_space (htif->device), address, text, length) != TN_BUS_OK)
    return (uint64_t) -EFAULT;
  tn_chardev_write (htif->chardev, text, length);
  return length;
}

static void
htif_syscall (Htif *htif, uint64_t address)
{
  TnSpace *space = tn_device_space (htif->device);
  uint64_t words[8];
  uint64_t result;
  if (tn_space_dma_read (space, address, words, sizeof words) != TN_BUS_OK)
    return;
  for (unsigned i = 0; i < G_N_ELEMENTS (words); i++)
    words[i] = GUINT64_FROM_LE (words[i]);
  switch (words[0]) {
  case SYSCALL_EXIT:
    tn_device_request_shutdown (htif->device, (int) (words[1] & 0xff));
    return;
  case SYSCALL_WRITE:
    result = htif_syscall_write (htif, words[1], words[2], words[3]);
    break;
  default:
    result = (uint64_t) -ENOSYS;
    break;
  }
  result = GUINT64_TO_LE (result);
  tn_space_dma_write (space, address, &result, sizeof result);
  htif_answer (htif, 1);
}

/* ---- tohost ---- */

static int
htif_exit_status (uint64_t code)
{
  /* A failure whose low byte is zero must not look like success. */
  return (code & 0xff) != 0 || code == 0 ? (int) (code & 0xff) : 1;
}

static void
htif_handle (Htif *htif, uint64_t value)
{
  const unsigned device = (unsigned) (value >> 56), command = (unsigned) (value >> 48 & 0xff);
  const uint64_t payload = value & HTIF_PAYLOAD;
  if (device == DEVICE_CONSOLE)
    htif_console (htif, command, payload);
  else if (device == DEVICE_SYSCALL && command == 0 && (payload & 1))
    tn_device_request_shutdown (htif->device, htif_exit_status (payload >> 1));
  else if (device == DEVICE_SYSCALL && command == 0)
    htif_syscall (htif, payload);
}

/* A word may be written in halves, the lower one first: it is complete with its upper half.  Old programs
 * only ever write the lower half, again and again: the second time it stands. */
static void
htif_written (void *opaque, uint64_t address, unsigned bytes)
{
  Htif *htif = opaque;
  TnSpace *space = tn_device_space (htif->device);
  uint64_t value;
  const bool whole = address + bytes >= htif->tohost + 8;
  if (!whole && !atomic_exchange (&htif->half_written, true))
    return;
  atomic_store (&htif->half_written, false);
  if (tn_space_read (space, htif->tohost, 8, &value) != TN_BUS_OK || value == 0)
    return;
  const uint64_t taken = 0;
  tn_space_dma_write (space, htif->tohost, &taken, sizeof taken);
  htif_handle (htif, value);
}

/* ---- Class ---- */

static int
htif_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnChardevHandler handler = { .size = sizeof handler,
                                            .can_receive = htif_can_receive,
                                            .receive = htif_receive };
  Htif *htif = tn_device_state (device);
  htif->device = device;
  if (!tn_device_boot_symbol (device, "tohost", &htif->tohost))
    return tn_fail (
        error, TN_MACHINE_ERROR, EINVAL,
        "the program has no symbol 'tohost': this board runs ELF programs linked for HTIF, not stripped");
  tn_device_boot_symbol (device, "fromhost", &htif->fromhost);
  htif->chardev = tn_device_chardev (device, tn_options_get (options, "chardev"), error);
  if (htif->chardev == NULL)
    return -ENOENT;
  int r = tn_chardev_connect (htif->chardev, &handler, htif, error);
  if (r < 0)
    return r;
  htif->connected = true;
  r = tn_space_watch (tn_device_space (device), htif->tohost, 8, htif_written, htif, error);
  htif->watched = r == 0;
  if (r < 0)
    tn_chardev_connect (htif->chardev, NULL, NULL, NULL);
  return r;
}

static void
htif_unrealize (TnDevice *device)
{
  Htif *htif = tn_device_state (device);
  if (htif->watched)
    tn_space_unwatch (tn_device_space (device), htif->tohost);
  if (htif->connected)
    tn_chardev_connect (htif->chardev, NULL, NULL, NULL);
}

static void
htif_reset (TnDevice *device)
{
  Htif *htif = tn_device_state (device);
  htif->read_waits = false;
  atomic_store (&htif->half_written, false);
  htif->head = htif->count = 0;
}

static int
htif_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  tn_fdt_string (fdt, "compatible", "ucb,htif0");
  return 0;
}

static const TnOption htif_options[] = {
  { .name = "chardev",
    .type = TN_OPTION_CHARDEV,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "character device for the console" },
  { .name = NULL },
};

static const TnDeviceOps htif_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (Htif),
  .bus = "system",
  .realize = htif_realize,
  .unrealize = htif_unrealize,
  .reset = htif_reset,
  .fdt = htif_fdt,
};

static const TnClass htif_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "htif",
  .summary = "console and exit of bare-metal programs (Spike's HTIF)",
  .options = htif_options,
  .ops = &htif_ops,
};

static const TnClass *const htif_classes[] = { &htif_class, NULL };

TN_PLUGIN_DEFINE (device_htif, .name = "device-htif", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-device-htif", .security = TN_SECURITY_HARDENED, .classes = htif_classes);
