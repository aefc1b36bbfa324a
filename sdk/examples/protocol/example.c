/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The storage protocol "example": a file of the host, read and written with pread(2) and pwrite(2).  The core
 * calls these blocking functions on worker threads, so nothing here needs to be asynchronous. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tenon/protocol.h>

typedef struct ExampleState {
  int fd;
} ExampleState;

static int
example_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  ExampleState *state = tn_node_state (node);
  const char *filename = tn_options_get (options, "filename");
  struct stat st;
  state->fd = open (filename, (flags & TN_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (state->fd < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot open %s", filename);
  if (fstat (state->fd, &st) == 0 && S_ISREG (st.st_mode)) {
    tn_node_set_size (node, (uint64_t) st.st_size);
    return 0;
  }
  close (state->fd);
  return tn_fail (error, TN_IO_ERROR, EINVAL, "%s is not a regular file", filename);
}

static int
example_close (TnNode *node, GError **error)
{
  ExampleState *state = tn_node_state (node);
  if (close (state->fd) == 0)
    return 0;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot close %s", tn_node_filename (node));
}

static int64_t
example_pread (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  ssize_t n;
  do
    n = pread (state->fd, buffer, length, (off_t) offset);
  while (n < 0 && errno == EINTR);
  if (n >= 0)
    return n;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot read %s at offset %" G_GUINT64_FORMAT,
                        tn_node_filename (node), offset);
}

static int64_t
example_pwrite (TnNode *node, const void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  ssize_t n;
  do
    n = pwrite (state->fd, buffer, length, (off_t) offset);
  while (n < 0 && errno == EINTR);
  if (n >= 0)
    return n;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot write %s at offset %" G_GUINT64_FORMAT,
                        tn_node_filename (node), offset);
}

static int
example_sync (TnNode *node, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  if (fdatasync (state->fd) == 0)
    return 0;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot flush %s", tn_node_filename (node));
}

static int
example_get_size (TnNode *node, uint64_t *size, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  struct stat st;
  if (fstat (state->fd, &st) < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot look at %s", tn_node_filename (node));
  *size = (uint64_t) st.st_size;
  return 0;
}

static int
example_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  const ExampleState *state = tn_node_state (node);
  if (prealloc != TN_PREALLOC_OFF)
    return tn_fail (error, TN_IO_ERROR, ENOTSUP, "%s: this protocol cannot preallocate",
                    tn_node_filename (node));
  if (ftruncate (state->fd, (off_t) size) == 0)
    return 0;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot resize %s", tn_node_filename (node));
}

static int
example_create (const TnOptions *options, uint64_t size, GError **error)
{
  const char *filename = tn_options_get (options, "filename");
  int fd = open (filename, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot create %s", filename);
  int failed = ftruncate (fd, (off_t) size) < 0 ? errno : 0;
  close (fd);
  return failed ? tn_fail_errno (error, TN_IO_ERROR, failed, "cannot resize %s", filename) : 0;
}

static int
example_remove (const TnOptions *options, GError **error)
{
  const char *filename = tn_options_get (options, "filename");
  if (unlink (filename) == 0)
    return 0;
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot remove %s", filename);
}

static const TnProtocolOps example_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_GROWS | TN_PROTOCOL_ZERO_INIT,
  .instance_size = sizeof (ExampleState),
  .open = example_open,
  .close = example_close,
  .create = example_create,
  .remove = example_remove,
  .pread = example_pread,
  .pwrite = example_pwrite,
  .sync = example_sync,
  .get_size = example_get_size,
  .resize = example_resize,
};

static const TnOption example_options[] = {
  { .name = "filename",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_CREATE | TN_OPTION_REQUIRED,
    .help = "path of the file" },
  { .name = NULL },
};

static const TnClass example_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "example",
  .summary = "a file read with pread(2) and written with pwrite(2)",
  .options = example_options,
  .ops = &example_ops,
};

static const TnClass *const example_classes[] = { &example_class, NULL };

TN_PLUGIN_DEFINE (protocol_example, .name = "protocol-example", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-example",
                  .classes = example_classes);
