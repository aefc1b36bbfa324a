/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files and block devices of the host. */
#include "file.h"

#include <tenon/inplace.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

void
file_blocking (void (*work) (void *opaque), void *opaque)
{
  if (tn_co_self () != NULL)
    tn_co_work (work, opaque);
  else
    work (opaque);
}

static int
file_parse_filename (const char *text, TnOptions *options, GError **error)
{
  if (g_str_has_prefix (text, "file:"))
    text += strlen ("file:");
  if (*text == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "The file name behind 'file:' is missing");
  tn_options_set (options, "filename", text);
  return 0;
}

/* ---- Opening ---- */

static const char *
file_open_remedy (int errnum, uint32_t flags)
{
  bool writing = (flags & TN_OPEN_WRITE) != 0;

  switch (errnum) {
  case ENOENT:
    return " (check the name)";
  case EACCES:
  case EPERM:
    return writing ? " (check its owner and mode, or open it read-only)" : " (check its owner and mode)";
  case EROFS:
    return " (open it read-only)";
  case EINVAL:
    return (flags & TN_OPEN_DIRECT) != 0 ? " (its file system has no O_DIRECT: use cache.direct=off)" : "";
  case ETXTBSY:
    return " (it is a program that runs: open it read-only)";
  case EMFILE:
    return " (raise the limit of open files: ulimit -n)";
  default:
    return "";
  }
}

static int
file_fail_open (const char *filename, int errnum, uint32_t flags, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "Could not open '%s': %s%s", filename, g_strerror (errnum),
                  file_open_remedy (errnum, flags));
}

static int
file_check_type (const char *filename, const struct stat *st, bool want_device, GError **error)
{
  if (S_ISBLK (st->st_mode) || (S_ISREG (st->st_mode) && !want_device))
    return 0;
  if (S_ISDIR (st->st_mode))
    return tn_fail (error, TN_BLOCK_ERROR, EISDIR,
                    "Could not open '%s': it is a folder (name a file inside it)", filename);
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "Could not open '%s': it is not a %s", filename,
                  want_device ? "block device (use driver 'file')" : "regular file or block device");
}

/* The type is looked at first: opening a pipe could wait for ever. */
static int
file_open_fd (const char *filename, bool want_device, uint32_t flags, struct stat *st, GError **error)
{
  int mode =
      ((flags & TN_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY) | ((flags & TN_OPEN_DIRECT) != 0 ? O_DIRECT : 0);
  int fd, r;

  if (stat (filename, st) < 0)
    return file_fail_open (filename, errno, flags, error);
  r = file_check_type (filename, st, want_device, error);
  if (r < 0)
    return r;
  do
    fd = open (filename, mode | O_CLOEXEC | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  if (fd < 0)
    return file_fail_open (filename, errno, flags, error);
  r = fstat (fd, st) < 0 ? file_fail_open (filename, errno, flags, error)
                         : file_check_type (filename, st, want_device, error);
  if (r < 0) {
    close (fd);
    return r;
  }
  return fd;
}

static TnFdEngine
file_engine_named (const char *aio)
{
  if (aio == NULL)
    return TN_FD_ENGINE_DEFAULT;
  if (strcmp (aio, "threads") == 0)
    return TN_FD_ENGINE_THREADS;
  return strcmp (aio, "io_uring") == 0 ? TN_FD_ENGINE_URING : TN_FD_ENGINE_LINUX_AIO;
}

int
file_choose_engine (const FileState *s, const char *aio, uint32_t flags, TnFdEngine *engine, GError **error)
{
  *engine = file_engine_named (aio);
  if (*engine == TN_FD_ENGINE_LINUX_AIO && (flags & TN_OPEN_DIRECT) == 0)
    return tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "aio=native was specified for '%s', but it requires cache.direct=on, which was not specified",
        s->filename);
  return aio == NULL ? 0 : tn_loop_has_engine (tn_loop_current (), *engine, error);
}

void
file_set_engine (FileState *s, TnFdEngine engine, uint32_t flags)
{
  struct statfs fs;

  s->engine = (uint8_t) engine;
  /* A look at an image's headers needs no engine, and so not to know. */
  s->in_memory = (flags & TN_OPEN_NO_IO) == 0 && engine != TN_FD_ENGINE_THREADS && fstatfs (s->fd, &fs) == 0
                 && fs.f_type == TMPFS_MAGIC;
}

static int
file_open_size (FileState *s, const struct stat *st, GError **error)
{
  int r;

  s->block_device = S_ISBLK (st->st_mode);
  if (!s->block_device) {
    s->size = (uint64_t) st->st_size;
    return 0;
  }
  r = file_device_size (s->fd, &s->size);
  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not get the size of '%s'", s->filename);
  return 0;
}

static int
file_open_checked (TnNode *node, FileState *s, const TnOptions *options, const struct stat *st,
                   uint32_t flags, GError **error)
{
  TnLimits limits;
  TnFdEngine engine;
  int r = file_choose_engine (s, tn_options_get (options, "aio"), flags, &engine, error);

  if (r == 0)
    r = file_open_size (s, st, error);
  if (r == 0)
    r = file_probe_limits (s->fd, s->filename, s->direct, &limits, error);
  if (r < 0)
    return r;
  s->alignment = limits.request_alignment;
  file_set_engine (s, engine, flags);
  tn_node_set_limits (node, &limits);
  tn_node_set_size (node, s->size);
  return 0;
}

static void
file_release (FileState *s)
{
  if (s->permissions != 0 || s->unshared != 0)
    file_unlock_all (s->fd);
  close (s->fd);
  g_mutex_clear (&s->map_lock);
  g_clear_pointer (&s->filename, g_free);
}

/* An in-place conversion was cut short: what is there is neither the old image nor the new one. */
static int
file_finish_change (const char *filename, bool locks, uint32_t flags, GError **error)
{
  if ((flags & TN_OPEN_WRITE) == 0)
    return tn_inplace_finish (filename, false, error);
  const int fd = open (filename, O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not open '%s'", filename);
  int r = locks && file_can_lock (fd)
              ? file_lock (fd, filename, 0, 0, TN_PERM_WRITE | TN_PERM_RESIZE, FILE_LOCK_ALL, error)
              : 0;
  if (r == 0)
    r = tn_inplace_finish (filename, true, error);
  file_unlock_all (fd);
  close (fd);
  return MIN (r, 0);
}

static int
file_open_as (TnNode *node, const TnOptions *options, bool want_device, uint32_t flags, GError **error)
{
  FileState *s = tn_node_state (node);
  const char *filename = tn_options_get (options, "filename");
  const char *locking = tn_options_get (options, "locking");
  struct stat st;
  int r;

  if (filename == NULL || *filename == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "A file name is missing: give filename=PATH");
  if (tn_inplace_pending (filename)) {
    r = file_finish_change (filename, g_strcmp0 (locking, "off") != 0, flags, error);
    if (r < 0)
      return r;
  }
  s->fd = file_open_fd (filename, want_device, flags, &st, error);
  if (s->fd < 0)
    return s->fd;
  s->filename = g_strdup (filename);
  s->direct = (flags & TN_OPEN_DIRECT) != 0;
  s->locks = g_strcmp0 (locking, "off") != 0 && (flags & TN_OPEN_SHARED) == 0;
  s->lock_required = g_strcmp0 (locking, "on") == 0;
  g_mutex_init (&s->map_lock);
  r = file_open_checked (node, s, options, &st, flags, error);
  if (r < 0)
    file_release (s);
  return r;
}

static int
file_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, false, flags, error);
}

static int
file_open_device (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, true, flags, error);
}

static int
file_close (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = __atomic_load_n (&s->flush_error, __ATOMIC_RELAXED);

  if (r < 0)
    tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Some of what was written to '%s' is lost", s->filename);
  file_release (s);
  return r;
}

/* ---- Requests and properties -----------------------------------------------------------------------------
 */

static void
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

static int
file_allocated (TnNode *node, uint64_t *bytes, GError **error)
{
  FileState *s = tn_node_state (node);
  struct stat st;

  if (fstat (s->fd, &st) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not look at '%s'", s->filename);
  *bytes = (uint64_t) st.st_blocks * 512;
  return 0;
}

/* ---- Classes
 * ------------------------------------------------------------------------------------------------ */

static const char *const file_aio_choices[] = { "threads", "native", "io_uring", NULL };
static const char *const file_locking_choices[] = { "auto", "on", "off", NULL };
static const char *const file_prealloc_choices[] = { "off", "falloc", "full", NULL };

static const TnOption file_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_CREATE | TN_OPTION_REQUIRED, NULL,
    "file or block device to use" },
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

static const TnProtocolOps file_device_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = 0,
  .instance_size = sizeof (FileState),
  .open = file_open_device,
  .close = file_close,
  .create = file_create,
  .submit = file_submit,
  .pread = file_pread,
  .pwrite = file_pwrite,
  .sync = file_sync,
  .get_size = file_get_size,
  .resize = file_resize,
  .map = file_map,
  .allocated = file_allocated,
  .set_permissions = file_set_permissions,
  .reopen = file_reopen,
};

static const char *const file_schemes[] = { "file", NULL };

static const TnClass file_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "file",
  .summary = "files and block devices of the host",
  .schemes = file_schemes,
  .options = file_options,
  .ops = &file_ops,
};

static const TnClass file_device_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "host_device",
  .summary = "block devices of the host",
  .options = file_options,
  .ops = &file_device_ops,
};

static const TnClass *const file_classes[] = { &file_class, &file_device_class, NULL };

TN_PLUGIN_DEFINE (protocol_file, .security = TN_SECURITY_HARDENED, .name = "protocol-file", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = file_classes);
