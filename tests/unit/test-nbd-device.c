/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-nbd -c and -d with something in the kernel's place: it takes the connection that it is given, and
 * uses it as the kernel's driver does.  The NBD server is the real one. */
#include "../../tools/nbd/device.h"
#include "block-fixture.h"

#include <tenon/export.h>

#include <linux/fs.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICE "/dev/nbd7"
#define DEVICE_FD 12345
#define DISK_SIZE (1u << 20)
#define MAX_CALLS 32

/* ---- The kernel's part ---- */

typedef struct Fake {
  GMutex lock;
  GCond changed;
  unsigned long calls[MAX_CALLS], arguments[MAX_CALLS];
  unsigned n_calls;
  unsigned long refused; /* this call fails with */
  int with;
  int open_result;
  int sock;
  bool read_only, leave, broken, deaf;
  int result; /* of NBD_DEVICE_DO_IT */
  bool data_good;
  unsigned opened, closed;
} Fake;

static Fake fake;

static int
fake_open (const char *path)
{
  g_assert_cmpstr (path, ==, DEVICE);
  if (fake.open_result < 0)
    return fake.open_result;
  fake.opened++;
  return DEVICE_FD;
}

static void
fake_close (int fd)
{
  g_assert_cmpint (fd, ==, DEVICE_FD);
  fake.closed++;
}

static void
send_request (unsigned type, uint64_t offset, uint32_t length)
{
  uint8_t request[28];
  tn_store_be32 (request, NBD_REQUEST_MAGIC);
  tn_store_be32 (request + 4, type);
  memcpy (request + 8, "cookie!!", 8);
  tn_store_be64 (request + 16, offset);
  tn_store_be32 (request + 24, length);
  g_assert_cmpint (send (fake.sock, request, sizeof request, MSG_NOSIGNAL), ==, sizeof request);
}

static void
take (void *bytes, size_t length)
{
  for (size_t done = 0; done < length;) {
    const ssize_t got = recv (fake.sock, (char *) bytes + done, length - done, 0);
    g_assert_cmpint (got, >, 0);
    done += (size_t) got;
  }
}

static unsigned
take_reply (void)
{
  uint8_t reply[16];
  take (reply, sizeof reply);
  g_assert_cmpuint (tn_load_be32 (reply), ==, NBD_SIMPLE_REPLY_MAGIC);
  g_assert_cmpint (memcmp (reply + 8, "cookie!!", 8), ==, 0);
  return tn_load_be32 (reply + 4);
}

/* What was written is read. */
static bool
use_device (void)
{
  uint8_t out[4096], in[4096] = { 0 };
  memset (out, 0x5a, sizeof out);
  send_request (NBD_CMD_WRITE, 8192, sizeof out);
  g_assert_cmpint (send (fake.sock, out, sizeof out, MSG_NOSIGNAL), ==, sizeof out);
  const unsigned written = take_reply ();
  send_request (NBD_CMD_READ, 8192, sizeof in);
  g_assert_cmpuint (take_reply (), ==, 0);
  take (in, sizeof in);
  send_request (NBD_CMD_FLUSH, 0, 0);
  g_assert_cmpuint (take_reply (), ==, 0);
  return fake.read_only ? written != 0 && in[0] == 0 : written == 0 && memcmp (in, out, sizeof in) == 0;
}

/* NBD_DEVICE_DO_IT: stays until somebody disconnects the device. */
static int
serve_device (void)
{
  char byte;
  const bool good = use_device ();
  g_mutex_lock (&fake.lock);
  fake.data_good = good;
  while (!fake.leave)
    g_cond_wait (&fake.changed, &fake.lock);
  g_mutex_unlock (&fake.lock);
  if (!fake.deaf)
    send_request (NBD_CMD_DISC, 0, 0);
  while (recv (fake.sock, &byte, 1, 0) > 0)
    continue;
  return fake.result;
}

static void
leave (void)
{
  g_mutex_lock (&fake.lock);
  fake.leave = true;
  g_cond_signal (&fake.changed);
  g_mutex_unlock (&fake.lock);
}

static int
fake_control (int fd, unsigned long request, unsigned long argument)
{
  g_assert_cmpint (fd, ==, DEVICE_FD);
  g_mutex_lock (&fake.lock);
  g_assert_cmpuint (fake.n_calls, <, MAX_CALLS);
  fake.arguments[fake.n_calls] = argument;
  fake.calls[fake.n_calls++] = request;
  g_mutex_unlock (&fake.lock);
  if (request == fake.refused)
    return fake.with;
  if (request == NBD_DEVICE_SET_SOCK)
    fake.sock = (int) argument;
  else if (request == BLKROSET)
    fake.read_only = *(const int *) (uintptr_t) argument;
  else if (request == NBD_DEVICE_DO_IT)
    return serve_device ();
  else if (request == NBD_DEVICE_DISCONNECT)
    leave ();
  return 0;
}

static const NbdDeviceOps fake_ops = { fake_open, fake_control, fake_close };

/* The argument of the first such call; fails when there was none. */
static unsigned long
called (unsigned long request)
{
  for (unsigned i = 0; i < fake.n_calls; i++)
    if (fake.calls[i] == request)
      return fake.arguments[i];
  g_error ("no call %#lx", request);
}

static unsigned
position (unsigned long request)
{
  unsigned i = 0;
  while (i < fake.n_calls && fake.calls[i] != request)
    i++;
  return i;
}

/* ---- The server's part ---- */

typedef struct Bench {
  TnDrive *drive;
  TnExportServer *server;
  TnExport *export;
  NbdAttachment *attachment;
  bool ended;
  char *why;
} Bench;

static void
ended (const char *why, void *opaque)
{
  Bench *bench = opaque;
  bench->ended = true;
  bench->why = g_strdup (why);
}

static void
start_server (Bench *bench, int fd, uint64_t size, bool writable)
{
  g_autoptr (TnOptions) server = tn_options_new (), export = tn_options_new ();
  g_autoptr (GError) error = NULL;
  mem_disk ("disk", size);
  TnNode *node = open_node_text ("driver=raw,file.driver=mem,file.filename=disk", TN_OPEN_WRITE);
  bench->drive = tn_drive_new (node, TN_CACHE_WRITEBACK, true);
  tn_node_unref (node);
  tn_options_set_uint (server, "peer-fd", (uint64_t) fd);
  tn_options_set_uint (server, "max-connections", 1);
  tn_export_server_new ("nbd", server, &bench->server, &error);
  g_assert_no_error (error);
  tn_options_set (export, "name", "x");
  tn_options_set (export, "writable", writable ? "on" : "off");
  tn_export_new ("nbd", bench->server, bench->drive, export, &bench->export, &error);
  g_assert_no_error (error);
}

/* Attaches; false when that failed with *@error. */
static bool
attach (Bench *bench, uint64_t size, bool writable, const char *name, GError **error)
{
  int fd;
  *bench = (Bench){ 0 };
  fake.n_calls = fake.opened = fake.closed = 0;
  fake.leave = fake.read_only = fake.data_good = false;
  if (nbd_attach_new (&fake_ops, DEVICE, &bench->attachment, &fd, error) < 0)
    return false;
  start_server (bench, fd, size, writable);
  return nbd_attach_start (bench->attachment, name, ended, bench, error) == 0;
}

static void
finish (Bench *bench)
{
  nbd_attach_free (bench->attachment);
  tn_export_server_free (bench->server);
  tn_drive_free (bench->drive);
  g_free (bench->why);
  mem_disks_free ();
  g_assert_cmpuint (fake.opened, ==, fake.closed);
  fake.refused = 0;
  fake.deaf = false;
  fake.result = 0;
}

/* ---- Tests ---- */

static void
test_attach (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  g_assert_true (attach (&bench, DISK_SIZE + 100, true, "x", &error));
  g_assert_no_error (error);
  nbd_attach_free (g_steal_pointer (&bench.attachment));
  g_assert_true (fake.data_good);
  g_assert_false (bench.ended);
  const unsigned long block = called (NBD_DEVICE_SET_BLKSIZE), flags = called (NBD_DEVICE_SET_FLAGS);
  g_assert_cmpuint (block, ==, 512);
  g_assert_cmpuint (called (NBD_DEVICE_SET_SIZE_BLOCKS), ==, DISK_SIZE / block);
  g_assert_cmpuint (flags
                        & (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM),
                    ==, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM);
  g_assert_cmpuint (flags & (NBD_FLAG_READ_ONLY | NBD_FLAG_CAN_MULTI_CONN), ==, 0);
  g_assert_cmpuint (position (NBD_DEVICE_SET_SOCK), ==, 0);
  g_assert_cmpuint (position (BLKROSET), <, position (NBD_DEVICE_DO_IT));
  g_assert_cmpuint (position (NBD_DEVICE_DISCONNECT), <, position (NBD_DEVICE_CLEAR_SOCK));
  finish (&bench);
}

static void
test_read_only (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  g_assert_true (attach (&bench, DISK_SIZE, false, "x", &error));
  g_assert_true (fake.read_only);
  g_assert_cmpuint (called (NBD_DEVICE_SET_FLAGS) & NBD_FLAG_READ_ONLY, !=, 0);
  nbd_attach_free (g_steal_pointer (&bench.attachment));
  g_assert_true (fake.data_good);
  finish (&bench);
}

/* tenon-nbd -d in another process. */
static void
test_disconnected (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  g_assert_true (attach (&bench, DISK_SIZE, true, "x", &error));
  leave ();
  while (!bench.ended)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_null (bench.why);
  finish (&bench);
}

static void
test_fails_later (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  fake.result = -EIO;
  g_assert_true (attach (&bench, DISK_SIZE, true, "x", &error));
  leave ();
  while (!bench.ended)
    tn_loop_iterate (tn_loop_current (), true);
  g_assert_nonnull (strstr (bench.why, DEVICE));
  finish (&bench);
}

/* The server works on this loop meanwhile. */
static void
pump_until_used (void)
{
  for (bool good = false; !good;) {
    tn_loop_iterate (tn_loop_current (), false);
    g_mutex_lock (&fake.lock);
    good = fake.data_good;
    g_mutex_unlock (&fake.lock);
  }
}

/* The device does not say goodbye: the connection is cut. */
static void
test_deaf (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  fake.deaf = true;
  g_assert_true (attach (&bench, DISK_SIZE, true, "x", &error));
  pump_until_used ();
  fake.refused = NBD_DEVICE_DISCONNECT;
  fake.with = -EINVAL;
  leave ();
  finish (&bench);
}

static void
assert_fails (unsigned long call, int with, const char *text)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  fake.refused = call;
  fake.with = with;
  g_assert_false (attach (&bench, DISK_SIZE, true, "x", &error));
  g_assert_nonnull (error);
  g_assert_nonnull (strstr (error->message, text));
  g_assert_nonnull (strstr (error->message, DEVICE));
  g_assert_null (strchr (error->message, '\n'));
  g_assert_cmpuint (position (NBD_DEVICE_DO_IT), ==, fake.n_calls);
  if (call != NBD_DEVICE_SET_SOCK)
    g_assert_cmpuint (position (NBD_DEVICE_CLEAR_SOCK), <, fake.n_calls);
  finish (&bench);
}

static void
test_refused (void)
{
  assert_fails (NBD_DEVICE_SET_SOCK, -EBUSY, "tenon-nbd -d");
  assert_fails (NBD_DEVICE_SET_SOCK, -ENOTTY, "NBD");
  assert_fails (NBD_DEVICE_SET_SOCK, -EPERM, "root");
  assert_fails (NBD_DEVICE_SET_SIZE_BLOCKS, -EINVAL, "cannot connect");
  assert_fails (BLKROSET, -EPERM, "root");
}

/* The negotiation fails: the kernel is not asked for anything. */
static void
test_no_export (void)
{
  g_autoptr (GError) error = NULL;
  Bench bench;
  g_assert_false (attach (&bench, DISK_SIZE, true, "another", &error));
  g_assert_nonnull (strstr (error->message, "another"));
  g_assert_cmpuint (fake.n_calls, ==, 0);
  finish (&bench);
}

static void
assert_not_opened (int with, const char *text)
{
  g_autoptr (GError) error = NULL;
  NbdAttachment *attachment;
  int fd;
  fake.open_result = with;
  g_assert_cmpint (nbd_attach_new (&fake_ops, DEVICE, &attachment, &fd, &error), <, 0);
  g_assert_nonnull (strstr (error->message, text));
  g_assert_nonnull (strstr (error->message, DEVICE));
  fake.open_result = 0;
}

static void
test_open (void)
{
  g_autoptr (GError) error = NULL;
  NbdAttachment *attachment;
  int fd;
  assert_not_opened (-ENOENT, "modprobe nbd");
  assert_not_opened (-ENXIO, "modprobe nbd");
  assert_not_opened (-EACCES, "root");
  assert_not_opened (-ENOTBLK, "no block device");
  assert_not_opened (-EMFILE, "cannot open");
  g_assert_cmpint (nbd_attach_new (&nbd_device_kernel, "/dev/null", &attachment, &fd, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "no block device"));
  g_clear_error (&error);
  g_assert_cmpint (nbd_attach_new (&nbd_device_kernel, "/nowhere/nbd0", &attachment, &fd, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "modprobe nbd"));
}

static void
test_disconnect (void)
{
  g_autoptr (GError) error = NULL;
  fake.n_calls = fake.opened = fake.closed = 0;
  g_assert_cmpint (nbd_device_disconnect (&fake_ops, DEVICE, &error), ==, 0);
  g_assert_cmpuint (position (NBD_DEVICE_DISCONNECT), <, position (NBD_DEVICE_CLEAR_SOCK));
  g_assert_cmpuint (position (NBD_DEVICE_CLEAR_SOCK), <, fake.n_calls);
  fake.refused = NBD_DEVICE_DISCONNECT;
  fake.with = -EINVAL;
  g_assert_cmpint (nbd_device_disconnect (&fake_ops, DEVICE, &error), ==, -ENOTCONN);
  g_assert_nonnull (strstr (error->message, "not connected"));
  g_assert_cmpuint (fake.opened, ==, 2);
  g_assert_cmpuint (fake.closed, ==, 2);
  fake.refused = 0;
}

/* The block that an image needs is told to the kernel. */
static void
test_blocks (void)
{
  g_autoptr (GError) error = NULL;
  NbdOffer offer = { .size = DISK_SIZE, .flags = NBD_FLAG_HAS_FLAGS, .min_block = 4096 };
  fake.n_calls = 0;
  g_assert_cmpint (nbd_device_set_up (&fake_ops, DEVICE_FD, DEVICE, 3, &offer, &error), ==, 0);
  g_assert_cmpuint (called (NBD_DEVICE_SET_BLKSIZE), ==, 4096);
  offer.min_block = 65536;
  g_assert_cmpint (nbd_device_set_up (&fake_ops, DEVICE_FD, DEVICE, 3, &offer, &error), ==, -ENOTSUP);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/nbd-device/attach", test_attach);
  g_test_add_func ("/nbd-device/read-only", test_read_only);
  g_test_add_func ("/nbd-device/disconnected", test_disconnected);
  g_test_add_func ("/nbd-device/fails-later", test_fails_later);
  g_test_add_func ("/nbd-device/deaf", test_deaf);
  g_test_add_func ("/nbd-device/refused", test_refused);
  g_test_add_func ("/nbd-device/no-export", test_no_export);
  g_test_add_func ("/nbd-device/open", test_open);
  g_test_add_func ("/nbd-device/disconnect", test_disconnect);
  g_test_add_func ("/nbd-device/blocks", test_blocks);
  return g_test_run ();
}
