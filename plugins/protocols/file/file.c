/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of the host: the class "file", and what all classes of the plugin share. */
#include "file.h"

#include <sys/stat.h>
#include <unistd.h>

void
file_blocking (void (*work) (void *opaque), void *opaque)
{
  if (tn_co_self () != NULL)
    tn_co_work (work, opaque);
  else
    work (opaque);
}

/* A name may be a device's, which has a driver of its own. */
static int
file_parse_filename (const char *text, TnOptions *options, GError **error)
{
  const char *driver;

  if (g_str_has_prefix (text, "file:"))
    text += strlen ("file:");
  if (*text == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "The file name behind 'file:' is missing");
  tn_options_set (options, "filename", text);
  driver = file_device_driver (&file_host_kernel, text);
  if (driver != NULL)
    tn_options_set (options, "driver", driver);
  return 0;
}

/* ---- Opening ---- */

static int
file_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, FILE_REGULAR, &file_host_kernel, flags, error);
}

/* ---- Requests and properties ---- */

void
file_submit (TnNode *node, TnRequest *request)
{
  FileState *s = tn_node_state (node);

  switch (request->op) {
  case TN_REQUEST_READ:
    file_rw_start (s, request, TN_FD_READ);
    break;
  case TN_REQUEST_WRITE:
    file_rw_start (s, request, TN_FD_WRITE);
    break;
  case TN_REQUEST_FLUSH:
    file_flush_start (s, request);
    break;
  case TN_REQUEST_WRITE_ZEROES:
    file_zero_start (s, request);
    break;
  case TN_REQUEST_DISCARD:
    file_discard_start (s, request);
    break;
  default:
    request->done (request, -ENOTSUP);
  }
}

/* Another process may have made the file longer or shorter. */
static int
file_get_size (TnNode *node, uint64_t *size, GError **error)
{
  FileState *s = tn_node_state (node);
  off_t end = lseek (s->fd, 0, SEEK_END);

  if (end < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not get the size of '%s'", s->filename);
  __atomic_store_n (&s->size, (uint64_t) end, __ATOMIC_RELAXED);
  *size = (uint64_t) end;
  return 0;
}

int
file_allocated (TnNode *node, uint64_t *bytes, GError **error)
{
  FileState *s = tn_node_state (node);
  struct stat st;

  if (fstat (s->fd, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not look at '%s'", s->filename);
  *bytes = (uint64_t) st.st_blocks * 512;
  return 0;
}

/* ---- Classes ---- */

const char *const file_aio_choices[] = { "threads", "native", "io_uring", NULL };
const char *const file_locking_choices[] = { "auto", "on", "off", NULL };
static const char *const file_prealloc_choices[] = { "off", "falloc", "full", NULL };

static const TnOption file_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_CREATE | TN_OPTION_REQUIRED, NULL,
    "file to use" },
  { "aio", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_RUNTIME, NULL,
    "how requests reach the kernel (default: the best there is)", .choices = file_aio_choices },
  { "locking", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_CREATE, "auto",
    "exclude other users of the image (auto: if the file system has locks)",
    .choices = file_locking_choices },
  { "preallocation", TN_OPTION_ENUM, TN_OPTION_CREATE, "off", "set space aside at once",
    .choices = file_prealloc_choices },
  { "nocow", TN_OPTION_BOOL, TN_OPTION_CREATE, "off", "turn copy-on-write of the file system (btrfs) off" },
  { "extent_size_hint", TN_OPTION_SIZE, TN_OPTION_CREATE, "1M",
    "allocation unit to ask the file system (XFS) for" },
  { NULL },
};

static const TnProtocolOps file_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (FileState),
  .parse_filename = file_parse_filename,
  .open = file_open,
  .close = file_close,
  .create = file_create,
  .remove = file_remove,
  .submit = file_submit,
  .pread = file_pread,
  .pwrite = file_pwrite,
  .sync = file_sync,
  .get_size = file_get_size,
  .resize = file_resize,
  .map = file_map,
  .allocated = file_allocated,
  .copy_range = file_copy_range,
  .share_range = file_share_range,
  .set_permissions = file_set_permissions,
  .reopen = file_reopen,
};

static const char *const file_schemes[] = { "file", NULL };

static const TnClass file_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "file",
  .summary = "files of the host",
  .schemes = file_schemes,
  .options = file_options,
  .ops = &file_ops,
};

static const TnClass *const file_classes[] = { &file_class, &file_device_class, &file_cdrom_class, NULL };

TN_PLUGIN_DEFINE (protocol_file, .security = TN_SECURITY_HARDENED, .name = "protocol-file", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = file_classes);
