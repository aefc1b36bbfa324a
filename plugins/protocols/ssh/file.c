/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file itself. */
#include "ssh.h"

#include <fcntl.h>
#include <inttypes.h>

#define NEW_FILE_MODE 0644
/* Every server takes packets of this size. */
#define WRITE_BYTES (32u << 10)

int
ssh_file_errno (const SshLink *link)
{
  switch (sftp_get_error (link->sftp)) {
  case SSH_FX_NO_SUCH_FILE:
    return -ENOENT;
  case SSH_FX_PERMISSION_DENIED:
    return -EACCES;
  case SSH_FX_OP_UNSUPPORTED:
    return -ENOTSUP;
  case SSH_FX_WRITE_PROTECT:
    return -EROFS;
  default:
    return -EIO;
  }
}

/* ---- Opening ---- */

static int
fail_file (const SshTarget *target, const SshLink *link, const char *what, GError **error)
{
  const int errnum = -ssh_file_errno (link);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "the %s cannot %s it: %s", target->server, what,
                  errnum == EIO ? ssh_get_error (link->session) : g_strerror (errnum));
}

static int
take_size (const SshTarget *target, const SshLink *link, uint64_t *size, GError **error)
{
  sftp_attributes attributes = sftp_fstat (link->file);
  if (!attributes)
    return fail_file (target, link, "examine", error);
  const bool regular =
      !(attributes->flags & SSH_FILEXFER_ATTR_PERMISSIONS) || attributes->type == SSH_FILEXFER_TYPE_REGULAR;
  const bool sized = (attributes->flags & SSH_FILEXFER_ATTR_SIZE) && attributes->size <= INT64_MAX;
  *size = attributes->size;
  sftp_attributes_free (attributes);
  if (!regular)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "the %s has something of that name that is no regular file", target->server);
  return sized ? 0
               : tn_fail (error, TN_BLOCK_ERROR, EPROTO, "the %s does not say how large the file is",
                          target->server);
}

int
ssh_file_open (SshTarget *target, SshLink *link, int flags, uint64_t *size, GError **error)
{
  ssh_watch_begin (target);
  link->file = sftp_open (link->sftp, tn_options_get (target->options, "path"), flags, NEW_FILE_MODE);
  const int rc = link->file ? take_size (target, link, size, error) : fail_file (target, link, "open", error);
  ssh_watch_end (target);
  return rc;
}

/* ---- Bytes ---- */

static int
write_all (SshLink *link, const uint8_t *bytes, uint64_t length, uint64_t offset)
{
  while (length) {
    sftp_seek64 (link->file, offset);
    const ssize_t put = sftp_write (link->file, bytes, MIN (length, WRITE_BYTES));
    if (put < 0)
      return ssh_file_errno (link);
    if (put == 0 || (uint64_t) put > length)
      return -EIO;
    bytes += put;
    length -= (uint64_t) put;
    offset += (uint64_t) put;
  }
  return 0;
}

int
ssh_file_write (SshLink *link, const TnRequest *request)
{
  uint64_t offset = request->offset;
  int rc = 0;
  for (uint32_t i = 0; i < request->n_iov && rc == 0; i++) {
    rc = write_all (link, request->iov[i].iov_base, request->iov[i].iov_len, offset);
    offset += request->iov[i].iov_len;
  }
  return rc;
}

int
ssh_file_flush (SshLink *link)
{
  if (!sftp_extension_supported (link->sftp, "fsync@openssh.com", "1"))
    return -ENOTSUP;
  return sftp_fsync (link->file) < 0 ? ssh_file_errno (link) : 0;
}

int
ssh_file_set_size (const SshTarget *target, const SshLink *link, uint64_t size)
{
  struct sftp_attributes_struct attributes = { .flags = SSH_FILEXFER_ATTR_SIZE, .size = size };
  const char *path = tn_options_get (target->options, "path");
  return sftp_setstat (link->sftp, path, &attributes) < 0 ? ssh_file_errno (link) : 0;
}
