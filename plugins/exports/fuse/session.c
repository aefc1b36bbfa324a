/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection to the kernel. */
#include "fuse-export.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* Requests fetched at a time: other exports want their turn. */
#define BATCH 16

/* ---- Requests ---- */

static void requests_ready (int fd, short events, void *opaque);

/* With too many under way the kernel has to wait. */
static void
update_watch (FuseExport *export)
{
  const bool wanted = export->mounted && export->in_flight < FUSE_MAX_OPS;
  if (wanted == export->watching)
    return;
  export->watching = wanted;
  tn_loop_watch_fd (export->loop, fuse_session_fd (export->session), wanted ? POLLIN : 0, requests_ready,
                    export, NULL);
}

static void
requests_ready (int fd, short events, void *opaque)
{
  FuseExport *export = opaque;
  for (unsigned i = 0; i < BATCH && export->watching; i++) {
    const int got = fuse_session_receive_buf (export->session, &export->input);
    if (got == -EINTR)
      continue;
    if (got == -EAGAIN)
      return;
    if (got <= 0) {
      /* It has been unmounted by someone else. */
      export->mounted = false;
      update_watch (export);
      tn_export_notify (export->base, &(TnExportNotice){ .event = TN_EXPORT_DISCONNECTED, .attached = true });
      return;
    }
    export->taken = false;
    fuse_session_process_buf (export->session, &export->input);
    if (export->taken)
      export->input.mem = NULL;
  }
}

FuseOp *
fuse_op_new (fuse_req_t request)
{
  FuseOp *op = g_new0 (FuseOp, 1);
  op->request = request;
  op->export = fuse_req_userdata (request);
  op->export->in_flight++;
  update_watch (op->export);
  return op;
}

void
fuse_op_free (FuseOp *op)
{
  FuseExport *export = op->export;
  export->in_flight--;
  free (op->buffer);
  g_free (op);
  update_watch (export);
}

void
export_size_changed (FuseExport *export)
{
  /* A negative offset: attributes, and nothing that is cached. */
  if (export->mounted && !export->growing)
    (void) fuse_lowlevel_notify_inval_inode (export->session, FUSE_ROOT_ID, -1, 0);
}

/* ---- Mounting ---- */

static void
fuse_op_init (void *opaque, struct fuse_conn_info *connection)
{
  connection->max_write = MIN (connection->max_write, FUSE_MAX_TRANSFER);
  connection->max_background = 128;
  connection->congestion_threshold = 96;
}

static const struct fuse_lowlevel_ops operations = {
  .init = fuse_op_init,
  .getattr = fuse_op_getattr,
  .setattr = fuse_op_setattr,
  .open = fuse_op_open,
  .read = fuse_op_read,
  .write = fuse_op_write,
  .fsync = fuse_op_fsync,
  .fallocate = fuse_op_fallocate,
  .lseek = fuse_op_lseek,
};

/* The library would write to standard error; what fails is reported by its caller. */
static void
say_nothing (enum fuse_log_level level, const char *format, va_list list)
{
}

static int
try_mount (FuseExport *export, bool allow_other)
{
  char *words[] = { "tenon", "-o",
                    allow_other ? "fsname=tenon,default_permissions,allow_other"
                                : "fsname=tenon,default_permissions",
                    NULL };
  struct fuse_args args = FUSE_ARGS_INIT (3, words);
  export->session = fuse_session_new (&args, &operations, sizeof operations, export);
  fuse_opt_free_args (&args);
  if (!export->session)
    return -ENOMEM;
  errno = 0;
  if (fuse_session_mount (export->session, export->mountpoint) == 0)
    return 0;
  const int why = errno ? errno : EPERM;
  fuse_session_destroy (export->session);
  export->session = NULL;
  return -why;
}

int
export_mount (FuseExport *export, GError **error)
{
  fuse_set_log_func (say_nothing);
  int rc = try_mount (export, export->allow_other);
  if (rc < 0)
    return tn_fail_errno (
        error, TN_BLOCK_ERROR, -rc,
        "cannot mount on '%s' (which takes /dev/fuse, the right to mount or fusermount3, and "
        "no sandbox)",
        export->mountpoint);
  const int fd = fuse_session_fd (export->session);
  fcntl (fd, F_SETFL, fcntl (fd, F_GETFL) | O_NONBLOCK);
  fcntl (fd, F_SETFD, FD_CLOEXEC);
  export->mounted = true;
  update_watch (export);
  return 0;
}

void
export_unmount (FuseExport *export)
{
  export->mounted = false;
  update_watch (export);
  while (export->in_flight > 0)
    tn_loop_iterate (export->loop, true);
  fuse_session_unmount (export->session);
  fuse_session_destroy (export->session);
  free (export->input.mem);
}
