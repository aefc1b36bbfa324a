/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * CD-ROM drives of the host: the class "host_cdrom".
 *
 * A node keeps the size that it was opened with.  When the medium is taken out or exchanged for a smaller
 * one, reads of what is not there fail; what the new one holds is seen by opening it anew.
 */
#include "file.h"

#include <fcntl.h>
#include <linux/cdrom.h>
#include <unistd.h>

/* One question to the drive, or one movement of it: that can take seconds. */
typedef struct FileCdromCall {
  FileState *state;
  unsigned long request;
  uintptr_t argument;
  int result;
} FileCdromCall;

static void
file_cdrom_work (void *opaque)
{
  FileCdromCall *call = opaque;

  call->result = call->state->host->control (call->state->fd, call->request, (void *) call->argument);
}

static int
file_cdrom_control (FileState *s, unsigned long request, uintptr_t argument)
{
  FileCdromCall call = { s, request, argument, 0 };

  file_blocking (file_cdrom_work, &call);
  return call.result;
}

static bool
file_cdrom_holds_medium (int status)
{
  /* Some drives can't tell: then it is for the reads to show. */
  return status == CDS_DISC_OK || status == CDS_NO_INFO;
}

/* ---- Opening ---- */

int
file_cdrom_begin (FileState *s, uint32_t flags, GError **error)
{
  int status, r = 0;

  if ((flags & TN_OPEN_WRITE) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EROFS, "Drive '%s' can't be written to: open it read-only",
                    s->filename);
  /* It was for opening; io_uring would not wait for data. */
  r = fcntl (s->fd, F_GETFL);
  if (r < 0 || fcntl (s->fd, F_SETFL, r & ~O_NONBLOCK) < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "Could not set up '%s'", s->filename);
  status = s->host->control (s->fd, CDROM_DRIVE_STATUS, (void *) (uintptr_t) CDSL_CURRENT);
  if (status < 0)
    return tn_fail (error, TN_BLOCK_ERROR, -status,
                    "'%s' does not answer as a CD-ROM drive does (%s): use driver 'host_device'", s->filename,
                    g_strerror (-status));
  if (!file_cdrom_holds_medium (status))
    return 0; /* of 0 bytes */
  r = file_device_size (s->host, s->fd, &s->size);
  if (r < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not get the size of '%s'", s->filename);
  return 0;
}

/* ---- The medium ---- */

static int
file_cdrom_is_inserted (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  int status = file_cdrom_control (s, CDROM_DRIVE_STATUS, CDSL_CURRENT);

  if (status < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -status, "Drive '%s' does not tell its state", s->filename);
  return file_cdrom_holds_medium (status);
}

static int
file_cdrom_medium_changed (TnNode *node, GError **error)
{
  FileState *s = tn_node_state (node);
  int changed = file_cdrom_control (s, CDROM_MEDIA_CHANGED, CDSL_CURRENT);

  if (changed < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, -changed,
                          "Drive '%s' can't tell whether its medium was changed", s->filename);
  return changed != 0;
}

static int
file_cdrom_eject (TnNode *node, bool open, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = file_cdrom_control (s, open ? CDROMEJECT : CDROMCLOSETRAY, 0);

  if (r >= 0)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, -r, "Could not %s the tray of '%s': %s%s", open ? "open" : "close",
                  s->filename, g_strerror (-r),
                  r == -EBUSY ? " (it is locked, or mounted: free it first)" : "");
}

static int
file_cdrom_lock_medium (TnNode *node, bool locked, GError **error)
{
  FileState *s = tn_node_state (node);
  int r = file_cdrom_control (s, CDROM_LOCKDOOR, locked ? 1 : 0);

  if (r >= 0)
    return 0;
  return tn_fail_errno (error, TN_BLOCK_ERROR, -r, "Could not %s the door of '%s'",
                        locked ? "lock" : "unlock", s->filename);
}

static int
file_cdrom_get_size (TnNode *node, uint64_t *size, GError **error)
{
  FileState *s = tn_node_state (node);
  int inserted = file_cdrom_is_inserted (node, error), fd;

  *size = 0;
  if (inserted <= 0)
    return inserted;
  /* The kernel looks at a new medium when somebody opens the drive. */
  fd = s->host->open (s->filename, O_RDONLY | O_NONBLOCK);
  if (fd >= 0)
    close (fd);
  return file_device_get_size (node, size, error);
}

/* ---- The class ---- */

static int
file_cdrom_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  return file_open_as (node, options, FILE_CDROM, &file_host_kernel, flags, error);
}

static const TnOption file_cdrom_options[] = {
  { "filename", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_REQUIRED, NULL, "CD-ROM drive to use" },
  { "aio", TN_OPTION_ENUM, TN_OPTION_OPEN | TN_OPTION_RUNTIME, NULL,
    "how requests reach the kernel (default: the best there is)", .choices = file_aio_choices },
  { "locking", TN_OPTION_ENUM, TN_OPTION_OPEN, "auto", "exclude programs that write to the medium",
    .choices = file_locking_choices },
  { NULL },
};

static const TnProtocolOps file_cdrom_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = 0,
  .instance_size = sizeof (FileState),
  .open = file_cdrom_open,
  .close = file_close,
  .submit = file_submit,
  .pread = file_pread,
  .get_size = file_cdrom_get_size,
  .map = file_map,
  .allocated = file_allocated,
  .set_permissions = file_set_permissions,
  .reopen = file_reopen,
  .filename = file_device_filename,
  .is_inserted = file_cdrom_is_inserted,
  .medium_changed = file_cdrom_medium_changed,
  .eject = file_cdrom_eject,
  .lock_medium = file_cdrom_lock_medium,
};

const TnClass file_cdrom_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "host_cdrom",
  .summary = "CD-ROM drives of the host",
  .options = file_cdrom_options,
  .ops = &file_cdrom_ops,
};
