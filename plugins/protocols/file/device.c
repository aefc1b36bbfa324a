/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block devices of the host: the class "host_device". */
#include "file.h"

#include <tenon/json.h>

#include <fcntl.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FILE_DEVICE_SECTOR 512
#define FILE_DEVICE_MAX_BLOCK (32u << 20)

/* ---- Which driver ---- */

/* A device of another kind does not know the question. */
static bool
file_device_answers_as_cdrom (const FileHost *host, const char *path)
{
  int fd = host->open (path, O_RDONLY | O_NONBLOCK);
  bool answers;

  if (fd < 0)
    return false;
  answers = host->control (fd, CDROM_DRIVE_STATUS, (void *) (uintptr_t) CDSL_CURRENT) >= 0;
  close (fd);
  return answers;
}

const char *
file_device_driver (const FileHost *host, const char *path)
{
  struct stat st;

  if (host->look (path, &st) < 0 || !S_ISBLK (st.st_mode))
    return NULL;
  if (major (st.st_rdev) == SCSI_CDROM_MAJOR)
    return file_cdrom_class.name;
  /* A loop device can be set to let go of its file when it is closed: it is not opened just to be asked. */
  if (major (st.st_rdev) != LOOP_MAJOR && file_device_answers_as_cdrom (host, path))
    return file_cdrom_class.name;
  return file_device_class.name;
}

/* ---- What the device says of itself ---- */

int
file_device_size (const FileHost *host, int fd, uint64_t *size)
{
  return MIN (host->control (fd, BLKGETSIZE64, size), 0);
}

/* A block size that the kernel tells, if it can be one. */
static uint32_t
file_device_block (const FileState *s, unsigned long request, uint32_t otherwise)
{
  unsigned int size = 0;

  if (s->host->control (s->fd, request, &size) < 0 || size == 0 || (size & (size - 1)) != 0
      || size > FILE_DEVICE_MAX_BLOCK)
    return otherwise;
  return size;
}

static uint32_t
file_device_logical (const FileState *s)
{
  return file_device_block (s, BLKSSZGET, FILE_DEVICE_SECTOR);
}

/* Never less than the logical one. */
static uint32_t
file_device_physical (const FileState *s)
{
  uint32_t logical = file_device_logical (s);

  return MAX (file_device_block (s, BLKPBSZGET, logical), logical);
}

static bool
file_device_number (const FileHost *host, int fd, const char *attribute, uint64_t *number)
{
  struct stat st;
  char text[32], *end;

  if (host->look_at (fd, &st) < 0 || !host->attribute (st.st_rdev, attribute, text, sizeof text))
    return false;
  *number = g_ascii_strtoull (text, &end, 10);
  return end != text && *end == '\0';
}

/* Host-managed zones take writes in sequence only; host-aware ones take any. */
static bool
file_device_is_zoned (const FileHost *host, int fd)
{
  struct stat st;
  char text[32];
  uint32_t sectors = 0;

  if (host->look_at (fd, &st) == 0 && host->attribute (st.st_rdev, "queue/zoned", text, sizeof text))
    return strcmp (text, "host-managed") == 0;
  return host->control (fd, BLKGETZONESZ, &sectors) >= 0 && sectors != 0;
}

static bool
file_device_is_read_only (const FileHost *host, int fd)
{
  int read_only = 0;

  return host->control (fd, BLKROGET, &read_only) >= 0 && read_only != 0;
}

int
file_device_check_writable (const FileHost *host, int fd, const char *filename, GError **error)
{
  if (file_device_is_read_only (host, fd))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS,
                    "Device '%s' is read-only: open it read-only, or make it writable (blockdev --setrw)",
                    filename);
  if (file_device_is_zoned (host, fd))
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "Device '%s' is zoned and takes writes in sequence only, which no image can keep to: open it "
        "read-only",
        filename);
  return 0;
}

/* ---- Opening ---- */

int
file_device_begin (FileState *s, uint32_t flags, GError **error)
{
  int r = 0;

  if ((flags & TN_OPEN_WRITE) != 0)
    r = file_device_check_writable (s->host, s->fd, s->filename, error);
  if (r < 0)
    return r;
  r = file_device_size (s->host, s->fd, &s->size);
  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not get the size of '%s'", s->filename);
  return 0;
}

/* The unit in which the device gives space back, where it begins at the device's beginning. */
static uint32_t
file_device_discard_unit (const FileState *s)
{
  uint32_t sector = file_device_logical (s);
  uint64_t unit = 0, shift = 0;

  if (file_device_number (s->host, s->fd, "discard_alignment", &shift) && shift != 0)
    return sector;
  if (!file_device_number (s->host, s->fd, "queue/discard_granularity", &unit) || unit == 0
      || unit % sector != 0 || unit > INT32_MAX)
    return sector;
  return (uint32_t) unit;
}

void
file_device_limits (FileState *s, TnLimits *limits)
{
  uint64_t most = 0;

  limits->discard_alignment = file_device_discard_unit (s);
  if (!file_device_number (s->host, s->fd, "queue/discard_max_bytes", &most))
    return;
  if (most == 0)
    file_set_lacks (s, FILE_LACKS_DISCARD);
  limits->max_discard = most - most % limits->discard_alignment;
}

void
file_device_tell_blocks (TnNode *node, FileState *s)
{
  tn_node_set_block_sizes (node, file_device_logical (s), file_device_physical (s));
}

/* ---- Properties ---- */

int
file_device_get_size (TnNode *node, uint64_t *size, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = file_device_size (s->host, s->fd, size);

  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not get the size of '%s'", s->filename);
  return 0;
}

char *
file_device_filename (const TnOptions *options)
{
  return g_strdup (tn_options_get (options, "filename"));
}

static char *
file_device_info (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  GString *text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  TnLimits limits;

  tn_node_limits (node, &limits);
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "logical-block-size", file_device_logical (s));
  tn_json_uint (json, "physical-block-size", file_device_physical (s));
  tn_json_bool (json, "discards", !file_lacks (s, FILE_LACKS_DISCARD));
  tn_json_uint (json, "discard-granularity", limits.discard_alignment);
  tn_json_bool (json, "read-only", file_device_is_read_only (s->host, s->fd));
  tn_json_bool (json, "zoned", file_device_is_zoned (s->host, s->fd));
  tn_json_object_end (json);
  return g_string_free (text, FALSE);
}

/* ---- The class ---- */

static int
file_device_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, FILE_DEVICE, &file_host_kernel, flags, error);
}

static const TnOption file_device_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_CREATE | TN_OPTION_REQUIRED, NULL,
    "block device to use" },
  { "aio", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_RUNTIME, NULL,
    "how requests reach the kernel (default: the best there is)", .choices = file_aio_choices },
  { "locking", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_CREATE, "auto",
    "exclude other users of the device (off: a new image even where the kernel has it in use)",
    .choices = file_locking_choices },
  { NULL },
};

static const TnProtocolOps file_device_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = 0,
  .instance_size = sizeof (FileState),
  .open = file_device_open,
  .close = file_close,
  .create = file_device_create,
  .submit = file_submit,
  .pread = file_pread,
  .pwrite = file_pwrite,
  .sync = file_sync,
  .get_size = file_device_get_size,
  .resize = file_device_resize,
  .map = file_map,
  .allocated = file_allocated,
  .set_permissions = file_set_permissions,
  .reopen = file_reopen,
  .info_specific = file_device_info,
  .filename = file_device_filename,
};

const TnClass file_device_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "host_device",
  .summary = "block devices of the host",
  .options = file_device_options,
  .ops = &file_device_ops,
};
