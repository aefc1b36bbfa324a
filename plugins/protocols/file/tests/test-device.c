/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drivers of devices, over a host that this test plays: a regular file stands for the device, and what the
 * kernel would be asked is answered from `fake`.
 */
#include "../file.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/fs.h>
#include <ltdl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <tenon/node.h>

#define KIB 1024u
#define MIB (1024u * KIB)

typedef struct Range {
  uint64_t offset, length;
} Range;

/* The device as the test wants it. */
typedef struct Fake {
  char *path;
  dev_t device;
  uint64_t size;
  int logical, physical; /* negative: the kernel does not know */
  bool read_only;
  uint32_t zone_sectors;
  const char *zoned, *granularity, *shift, *most; /* sysfs; NULL: not there */
  /* A CD-ROM drive, unless the status is an error. */
  int status;
  bool changed, locked;
  /* What was asked. */
  int open_flags;
  unsigned opened, moved;
  GArray *discards; /* Range */
} Fake;

static Fake fake;

/* ---- The host ---- */

static int
fake_look (const char *path, struct stat *st)
{
  if (stat (path, st) < 0)
    return -errno;
  st->st_mode = S_IFBLK | 0600;
  st->st_rdev = fake.device;
  return 0;
}

static int
fake_look_at (int fd, struct stat *st)
{
  return fake_look (fake.path, st);
}

static int
fake_open (const char *path, int flags)
{
  int fd;

  fake.open_flags = flags;
  fake.opened++;
  if ((flags & O_NONBLOCK) == 0 && fake.status == CDS_NO_DISC)
    return -ENOMEDIUM;
  fd = open (path, flags | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

static int
fake_number (int value, void *argument)
{
  if (value < 0)
    return value;
  *(int *) argument = value;
  return 0;
}

static int
fake_discard (const uint64_t *range)
{
  Range asked = { range[0], range[1] };

  if (range[0] % (uint64_t) fake.logical != 0 || range[1] % (uint64_t) fake.logical != 0)
    return -EINVAL;
  g_array_append_val (fake.discards, asked);
  return 0;
}

static int
fake_move_tray (int status)
{
  if (fake.status < 0)
    return -ENOTTY;
  if (fake.locked)
    return -EBUSY;
  fake.status = status;
  fake.moved++;
  return 0;
}

static int
fake_control_cdrom (unsigned long request, uintptr_t argument)
{
  int changed = fake.changed;

  switch (request) {
  case CDROM_DRIVE_STATUS:
    g_assert_cmpint ((int) argument, ==, CDSL_CURRENT);
    return fake.status;
  case CDROM_MEDIA_CHANGED:
    fake.changed = false;
    return fake.status < 0 ? -ENOSYS : changed;
  case CDROMEJECT:
    return fake_move_tray (CDS_TRAY_OPEN);
  case CDROMCLOSETRAY:
    return fake_move_tray (CDS_DISC_OK);
  case CDROM_LOCKDOOR:
    fake.locked = argument != 0;
    return fake.status < 0 ? -EDRIVE_CANT_DO_THIS : 0;
  default:
    return -ENOTTY;
  }
}

static int
fake_control (int fd, unsigned long request, void *argument)
{
  switch (request) {
  case BLKGETSIZE64:
    *(uint64_t *) argument = fake.size;
    return 0;
  case BLKSSZGET:
    return fake_number (fake.logical, argument);
  case BLKPBSZGET:
    return fake_number (fake.physical, argument);
  case BLKROGET:
    return fake_number (fake.read_only, argument);
  case BLKGETZONESZ:
    return fake_number ((int) fake.zone_sectors, argument);
  case BLKDISCARD:
    return fake_discard (argument);
  default:
    return fake_control_cdrom (request, (uintptr_t) argument);
  }
}

static bool
fake_attribute (dev_t device, const char *name, char *text, size_t room)
{
  const char *value = strcmp (name, "queue/zoned") == 0                 ? fake.zoned
                      : strcmp (name, "queue/discard_granularity") == 0 ? fake.granularity
                      : strcmp (name, "discard_alignment") == 0         ? fake.shift
                      : strcmp (name, "queue/discard_max_bytes") == 0   ? fake.most
                                                                        : NULL;

  g_assert_cmpuint (device, ==, fake.device);
  if (value != NULL)
    g_strlcpy (text, value, room);
  return value != NULL;
}

static const FileHost fake_host = {
  .look = fake_look,
  .look_at = fake_look_at,
  .open = fake_open,
  .control = fake_control,
  .attribute = fake_attribute,
};

/* ---- The classes, with that host ---- */

static int
fake_open_device (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, FILE_DEVICE, &fake_host, flags, error);
}

static int
fake_open_cdrom (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, FILE_CDROM, &fake_host, flags, error);
}

static TnProtocolOps device_ops, cdrom_ops;
static TnClass device_class, cdrom_class;
static const TnClass *const fake_classes[] = { &device_class, &cdrom_class, NULL };

static void
make_classes (void)
{
  device_ops = *(const TnProtocolOps *) file_device_class.ops;
  device_ops.open = fake_open_device;
  device_class = file_device_class;
  device_class.name = "fake_device";
  device_class.ops = &device_ops;
  cdrom_ops = *(const TnProtocolOps *) file_cdrom_class.ops;
  cdrom_ops.open = fake_open_cdrom;
  cdrom_class = file_cdrom_class;
  cdrom_class.name = "fake_cdrom";
  cdrom_class.ops = &cdrom_ops;
}

TN_PLUGIN_DEFINE (protocol_fake, .name = "protocol-fake", .version = "1", .licence = "LGPL-2.1-or-later",
                  .package = "none", .classes = fake_classes);

/* Takes the place of the table that the build makes. */
extern const TnPlugin protocol_file_LTX_tenon_plugin, format_raw_LTX_tenon_plugin;
extern const lt_dlsymlist tn_static_symbols[];
const lt_dlsymlist tn_static_symbols[] = {
  { "libtenon", NULL },
  { "protocol-fake", NULL },
  { "protocol_fake_LTX_tenon_plugin", (void *) &protocol_fake_LTX_tenon_plugin },
  { "protocol-file", NULL },
  { "protocol_file_LTX_tenon_plugin", (void *) &protocol_file_LTX_tenon_plugin },
  { "format-raw", NULL },
  { "format_raw_LTX_tenon_plugin", (void *) &format_raw_LTX_tenon_plugin },
  { NULL, NULL },
};

/* ---- Tools ---- */

static void
fake_begin (uint64_t size)
{
  int fd = g_file_open_tmp ("tenon-device-XXXXXX", &fake.path, NULL);
  g_autofree char *bytes = g_malloc (size);

  g_assert_cmpint (fd, >=, 0);
  memset (bytes, 0x5a, size);
  g_assert_cmpint (write (fd, bytes, size), ==, (ssize_t) size);
  close (fd);
  fake.device = makedev (8, 0);
  fake.size = size;
  fake.logical = 512;
  fake.physical = 4096;
  fake.status = -ENOTTY;
  fake.discards = g_array_new (FALSE, FALSE, sizeof (Range));
}

static void
fake_begin_cdrom (int status)
{
  fake_begin (MIB);
  fake.device = makedev (11, 0);
  fake.logical = fake.physical = 2048;
  fake.status = status;
}

static void
fake_end (void)
{
  g_unlink (fake.path);
  g_free (fake.path);
  g_array_unref (fake.discards);
  fake = (Fake){ 0 };
}

static int
try_open (const char *driver, const char *more, uint32_t flags, TnNode **node, GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  bool below = strcmp (driver, "raw") == 0;

  g_assert_cmpint (tn_options_parse (options, more, NULL, NULL), ==, 0);
  tn_options_set (options, "driver", driver);
  if (below)
    tn_options_set (options, "file.driver", "fake_device");
  tn_options_set (options, below ? "file.filename" : "filename", fake.path);
  return tn_node_open (options, flags, node, error);
}

static TnNode *
open_fake (const char *driver, const char *more, uint32_t flags)
{
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  try_open (driver, more, flags, &node, &error);
  g_assert_no_error (error);
  return node;
}

static void
assert_refused (const char *driver, uint32_t flags, int code, const char *text)
{
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  g_assert_cmpint (try_open (driver, "", flags, &node, &error), ==, -code);
  g_assert_nonnull (strstr (error->message, text));
  g_assert_nonnull (strstr (error->message, fake.path));
}

static int
status_of_read (TnNode *node, uint64_t offset)
{
  g_autofree char *bytes = g_malloc (4096);

  return tn_node_read (node, offset, bytes, 4096, NULL);
}

/* ---- Which driver ---- */

static void
test_driver (void)
{
  fake_begin (MIB);
  g_assert_cmpstr (file_device_driver (&fake_host, fake.path), ==, "host_device");
  g_assert_cmpint (fake.open_flags, ==, O_RDONLY | O_NONBLOCK);
  fake.status = CDS_NO_DISC;
  g_assert_cmpstr (file_device_driver (&fake_host, fake.path), ==, "host_cdrom");
  fake.opened = 0;
  fake.device = makedev (11, 1);
  fake.status = -ENOTTY;
  g_assert_cmpstr (file_device_driver (&fake_host, fake.path), ==, "host_cdrom");
  fake.device = makedev (7, 1); /* a loop device might let go of its file */
  g_assert_cmpstr (file_device_driver (&fake_host, fake.path), ==, "host_device");
  g_assert_cmpuint (fake.opened, ==, 0);
  g_assert_null (file_device_driver (&file_host_kernel, fake.path));
  g_assert_null (file_device_driver (&file_host_kernel, "/nonexistent"));
  fake_end ();
}

/* ---- Devices ---- */

static void
test_blocks (void)
{
  static const struct {
    int logical, physical;
    uint32_t wanted_logical, wanted_physical;
  } cases[] = {
    { 512, 512, 512, 512 },         { 512, 4096, 512, 4096 },   { 4096, 4096, 4096, 4096 },
    { -ENOTTY, -ENOTTY, 512, 512 }, { 0, 0, 512, 512 },         { 520, 4160, 512, 512 },
    { 4096, 512, 4096, 4096 },      { 512, 1 << 30, 512, 512 },
  };

  for (unsigned i = 0; i < G_N_ELEMENTS (cases); i++) {
    uint32_t logical, physical;
    TnNode *node;

    fake_begin (MIB);
    fake.logical = cases[i].logical;
    fake.physical = cases[i].physical;
    node = open_fake ("raw", "", 0);
    tn_node_block_sizes (node, &logical, &physical);
    g_assert_cmpuint (logical, ==, cases[i].wanted_logical);
    g_assert_cmpuint (physical, ==, cases[i].wanted_physical);
    g_assert_cmpuint (tn_node_size (node), ==, MIB);
    tn_node_unref (node);
    fake_end ();
  }
}

static void
test_no_blocks (void)
{
  uint32_t logical = 1, physical = 1;
  TnNode *node;

  fake_begin (MIB);
  node = open_fake ("file", "", 0);
  tn_node_block_sizes (node, &logical, &physical);
  g_assert_cmpuint (logical + physical, ==, 0);
  tn_node_unref (node);
  fake_end ();
}

static void
assert_discards (uint64_t offset, uint64_t length, const Range *wanted, unsigned n)
{
  TnNode *node = open_fake ("fake_device", "", TN_OPEN_WRITE | TN_OPEN_UNMAP);

  g_assert_cmpint (tn_node_discard (node, offset, length, NULL), ==, 0);
  g_assert_cmpuint (fake.discards->len, ==, n);
  for (unsigned i = 0; i < n; i++) {
    g_assert_cmpuint (g_array_index (fake.discards, Range, i).offset, ==, wanted[i].offset);
    g_assert_cmpuint (g_array_index (fake.discards, Range, i).length, ==, wanted[i].length);
  }
  g_array_set_size (fake.discards, 0);
  tn_node_unref (node);
}

static void
test_discard (void)
{
  fake_begin (MIB);
  /* Without a word from sysfs: sectors. */
  assert_discards (100, 2000, &(Range){ 512, 1536 }, 1);
  fake.granularity = "65536";
  fake.most = "4294966784";
  fake.shift = "0";
  assert_discards (10 * KIB, 200 * KIB, &(Range){ 64 * KIB, 128 * KIB }, 1);
  assert_discards (10 * KIB, 50 * KIB, NULL, 0);
  /* No more at a time than the device takes, in whole units. */
  fake.most = "200000";
  assert_discards (0, 512 * KIB,
                   (const Range[]){ { 0, 192 * KIB }, { 192 * KIB, 192 * KIB }, { 384 * KIB, 128 * KIB } },
                   3);
  /* Units that are no power of two: thin volumes have such. */
  fake.granularity = "196608";
  fake.most = "0x";
  assert_discards (0, 512 * KIB, &(Range){ 0, 384 * KIB }, 1);
  /* Units that begin elsewhere, or that cannot be. */
  fake.shift = "3072";
  assert_discards (1 * KIB, 8 * KIB, &(Range){ KIB, 8 * KIB }, 1);
  fake.shift = NULL;
  fake.granularity = "700";
  assert_discards (1 * KIB, 8 * KIB, &(Range){ KIB, 8 * KIB }, 1);
  fake.granularity = "18446744073709551615";
  assert_discards (1 * KIB, 8 * KIB, &(Range){ KIB, 8 * KIB }, 1);
  /* A device that cannot is not asked. */
  fake.granularity = NULL;
  fake.most = "0";
  assert_discards (0, 512 * KIB, NULL, 0);
  fake_end ();
}

static void
test_read_only (void)
{
  TnNode *node;

  fake_begin (MIB);
  fake.read_only = true;
  assert_refused ("fake_device", TN_OPEN_WRITE, EROFS, "is read-only");
  tn_node_unref (open_fake ("fake_device", "", 0));
  node = open_fake ("fake_device", "auto-read-only=on", TN_OPEN_WRITE);
  g_assert_true (tn_node_is_read_only (node));
  g_assert_cmpint (tn_node_reopen (node, NULL, TN_OPEN_WRITE, NULL), ==, -EROFS);
  fake.read_only = false;
  g_assert_cmpint (tn_node_reopen (node, NULL, TN_OPEN_WRITE, NULL), ==, 0);
  g_assert_false (tn_node_is_read_only (node));
  tn_node_unref (node);
  fake_end ();
}

static void
test_zoned (void)
{
  fake_begin (MIB);
  fake.zoned = "host-managed";
  fake.zone_sectors = 524288;
  assert_refused ("fake_device", TN_OPEN_WRITE, ENOTSUP, "is zoned");
  tn_node_unref (open_fake ("fake_device", "", 0));
  fake.zoned = "host-aware";
  tn_node_unref (open_fake ("fake_device", "", TN_OPEN_WRITE));
  fake.zoned = NULL;
  assert_refused ("fake_device", TN_OPEN_WRITE, ENOTSUP, "is zoned");
  fake.zone_sectors = 0;
  tn_node_unref (open_fake ("fake_device", "", TN_OPEN_WRITE));
  fake_end ();
}

static void
test_size (void)
{
  g_autoptr (GError) error = NULL;
  uint64_t size;
  TnNode *node;

  fake_begin (MIB);
  node = open_fake ("raw", "", TN_OPEN_WRITE | TN_OPEN_RESIZE);
  g_assert_cmpint (tn_node_resize (node, 2 * MIB, TN_PREALLOC_OFF, &error), ==, -EINVAL);
  g_assert_nonnull (strstr (error->message, "resize the device itself first"));
  g_clear_error (&error);
  g_assert_cmpint (tn_node_resize (node, MIB / 2, TN_PREALLOC_OFF, &error), ==, -ENOTSUP);
  g_assert_nonnull (strstr (error->message, "can have no other size"));
  g_clear_error (&error);
  g_assert_cmpuint (tn_node_size (node), ==, MIB);
  g_assert_cmpuint (tn_node_size (tn_node_child (node, "file")), ==, MIB);
  fake.size = 2 * MIB;
  g_assert_cmpint (truncate (fake.path, 2 * MIB), ==, 0);
  g_assert_cmpint (tn_node_current_size (tn_node_child (node, "file"), &size, NULL), ==, 0);
  g_assert_cmpuint (size, ==, 2 * MIB);
  g_assert_cmpuint (tn_node_size (node), ==, MIB);
  g_assert_cmpint (tn_node_resize (node, 2 * MIB, TN_PREALLOC_FULL, NULL), ==, -ENOTSUP);
  g_assert_cmpint (tn_node_resize (node, 2 * MIB, TN_PREALLOC_OFF, NULL), ==, 0);
  g_assert_cmpint (tn_node_write (node, 2 * MIB - 512, fake.path, 6, NULL), ==, 0);
  /* Made smaller by somebody: what is gone does not read as zeroes. */
  g_assert_cmpint (truncate (fake.path, MIB), ==, 0);
  g_assert_cmpint (status_of_read (node, MIB - 4096), ==, 0);
  g_assert_cmpint (status_of_read (node, MIB), ==, -EIO);
  g_assert_cmpint (status_of_read (node, MIB - 2048), ==, -EIO);
  tn_node_unref (node);
  fake_end ();
}

static void
test_info (void)
{
  g_autofree char *text = NULL;
  TnNode *node;

  fake_begin (MIB);
  fake.granularity = "65536";
  node = open_fake ("fake_device", "", 0);
  text = tn_node_info_specific (node, NULL);
  g_assert_nonnull (strstr (text, "\"physical-block-size\": 4096"));
  g_assert_nonnull (strstr (text, "\"discard-granularity\": 65536"));
  tn_node_unref (node);
  fake_end ();
}

/* ---- CD-ROM drives ---- */

static void
test_medium (void)
{
  g_autofree char *bytes = g_malloc (4096);
  TnNode *node;

  fake_begin_cdrom (CDS_DISC_OK);
  node = open_fake ("fake_cdrom", "", 0);
  g_assert_cmpint (fake.open_flags & (O_ACCMODE | O_NONBLOCK), ==, O_RDONLY | O_NONBLOCK);
  g_assert_cmpint (fcntl (((FileState *) tn_node_state (node))->fd, F_GETFL) & O_NONBLOCK, ==, 0);
  g_assert_cmpuint (tn_node_size (node), ==, MIB);
  g_assert_cmpint (tn_node_is_inserted (node, NULL), ==, 1);
  g_assert_cmpint (tn_node_read (node, 4096, bytes, 4096, NULL), ==, 0);
  g_assert_cmpint (bytes[4095], ==, 0x5a);
  g_assert_cmpint (tn_node_medium_changed (node, NULL), ==, 0);
  fake.changed = true;
  g_assert_cmpint (tn_node_medium_changed (node, NULL), ==, 1);
  g_assert_cmpint (tn_node_medium_changed (node, NULL), ==, 0);
  /* The new one is smaller. */
  g_assert_cmpint (truncate (fake.path, 8192), ==, 0);
  g_assert_cmpint (status_of_read (node, 4096), ==, 0);
  g_assert_cmpint (status_of_read (node, 8192), ==, -EIO);
  tn_node_unref (node);
  fake_end ();
}

static void
test_tray (void)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;

  fake_begin_cdrom (CDS_DISC_OK);
  tn_options_set (options, "driver", "raw");
  tn_options_set (options, "file.driver", "fake_cdrom");
  tn_options_set (options, "file.filename", fake.path);
  tn_node_open (options, 0, &node, &error);
  g_assert_no_error (error);
  g_assert_cmpint (tn_node_lock_medium (node, true, NULL), ==, 0);
  g_assert_true (fake.locked);
  g_assert_cmpint (tn_node_eject (node, true, &error), ==, -EBUSY);
  g_assert_nonnull (strstr (error->message, "locked"));
  g_assert_cmpuint (fake.moved, ==, 0);
  g_assert_cmpint (tn_node_lock_medium (node, false, NULL), ==, 0);
  g_assert_cmpint (tn_node_eject (node, true, NULL), ==, 0);
  g_assert_cmpint (fake.status, ==, CDS_TRAY_OPEN);
  g_assert_cmpint (tn_node_is_inserted (node, NULL), ==, 0);
  g_assert_cmpint (tn_node_eject (node, false, NULL), ==, 0);
  g_assert_cmpint (tn_node_is_inserted (node, NULL), ==, 1);
  tn_node_unref (node);
  fake_end ();
}

static void
test_empty_drive (void)
{
  static const int states[] = { CDS_NO_DISC, CDS_TRAY_OPEN, CDS_DRIVE_NOT_READY };

  for (unsigned i = 0; i < G_N_ELEMENTS (states); i++) {
    uint64_t size = 1;
    TnNode *node;

    fake_begin_cdrom (states[i]);
    node = open_fake ("fake_cdrom", "", 0);
    g_assert_cmpuint (tn_node_size (node), ==, 0);
    g_assert_cmpint (tn_node_is_inserted (node, NULL), ==, 0);
    g_assert_cmpint (tn_node_current_size (node, &size, NULL), ==, 0);
    g_assert_cmpuint (size, ==, 0);
    fake.status = CDS_DISC_OK;
    fake.opened = 0;
    g_assert_cmpint (tn_node_current_size (node, &size, NULL), ==, 0);
    g_assert_cmpuint (size, ==, MIB);
    g_assert_cmpuint (fake.opened, ==, 1); /* so that the kernel looks */
    tn_node_unref (node);
    fake_end ();
  }
}

static void
test_only_reads (void)
{
  g_autoptr (GError) error = NULL;
  TnNode *node;

  fake_begin_cdrom (CDS_DISC_OK);
  assert_refused ("fake_cdrom", TN_OPEN_WRITE, EROFS, "can't be written to");
  node = open_fake ("fake_cdrom", "auto-read-only=on", TN_OPEN_WRITE);
  g_assert_true (tn_node_is_read_only (node));
  g_assert_cmpint (tn_node_reopen (node, NULL, TN_OPEN_WRITE, &error), ==, -EROFS);
  g_assert_nonnull (strstr (error->message, "can't be written to"));
  tn_node_unref (node);
  fake_end ();
}

static void
test_no_drive (void)
{
  g_autoptr (GError) error = NULL;
  TnNode *node;

  fake_begin (MIB);
  assert_refused ("fake_cdrom", 0, ENOTTY, "use driver 'host_device'");
  node = open_fake ("raw", "", 0);
  g_assert_cmpint (tn_node_is_inserted (node, NULL), ==, 1);
  g_assert_cmpint (tn_node_eject (node, true, &error), ==, -ENOTSUP);
  g_assert_nonnull (strstr (error->message, "is not in a drive"));
  g_assert_cmpint (tn_node_lock_medium (node, true, NULL), ==, -ENOTSUP);
  g_assert_cmpint (tn_node_medium_changed (node, NULL), ==, -ENOTSUP);
  tn_node_unref (node);
  fake_end ();
}

int
main (int argc, char **argv)
{
  int status;

  if (g_getenv ("TN_UNDER_VALGRIND") != NULL)
    g_setenv ("TENON_LOOP", "epoll", TRUE);
  g_test_init (&argc, &argv, NULL);
  make_classes ();
  g_test_add_func ("/device/driver", test_driver);
  g_test_add_func ("/device/blocks", test_blocks);
  g_test_add_func ("/device/no-blocks", test_no_blocks);
  g_test_add_func ("/device/discard", test_discard);
  g_test_add_func ("/device/read-only", test_read_only);
  g_test_add_func ("/device/zoned", test_zoned);
  g_test_add_func ("/device/size", test_size);
  g_test_add_func ("/device/info", test_info);
  g_test_add_func ("/cdrom/medium", test_medium);
  g_test_add_func ("/cdrom/tray", test_tray);
  g_test_add_func ("/cdrom/empty", test_empty_drive);
  g_test_add_func ("/cdrom/only-reads", test_only_reads);
  g_test_add_func ("/cdrom/no-drive", test_no_drive);
  status = g_test_run ();
  tn_loop_free (tn_loop_current ());
  return status;
}
