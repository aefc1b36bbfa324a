/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Targets: images that a command makes or fills. */
#include "stream.h"

#include <sys/stat.h>
#include <unistd.h>

static bool
is_regular (const char *name)
{
  struct stat st;
  return stat (name, &st) == 0 && S_ISREG (st.st_mode);
}

static int
open_target (ImgTarget *target, const TnOptions *more, GError **error)
{
  uint32_t flags = TN_OPEN_WRITE | TN_OPEN_RESIZE | target->cache.open_flags;
  /* An image that did not exist before needs no order among its writes: it is whole at the end or removed. */
  target->late_flush = target->made && !target->resumable && !(flags & TN_OPEN_NO_FLUSH);
  if (target->late_flush)
    flags |= TN_OPEN_NO_FLUSH;
  /* A new file may have been preallocated. */
  if (target->unmap && !(target->made && is_regular (target->name)))
    flags |= TN_OPEN_UNMAP;
  return cli_open_as (target->args, target->name, target->image_opts, target->format, more, flags,
                      &target->node, error);
}

int
img_target_open (ImgTarget *target, GError **error)
{
  target->made = false;
  return open_target (target, NULL, error);
}

/* An encrypted image that was made with a secret is opened with it. */
static TnOptions *
key_secrets (const TnOptions *options)
{
  TnOptions *secrets = tn_options_new ();
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (g_str_has_suffix (key, "key-secret"))
      tn_options_set (secrets, key, value);
  }
  return secrets;
}

int
img_target_create (ImgTarget *target, TnOptions *options, uint64_t size, GError **error)
{
  int ret = tn_image_create (target->name, target->format, options, size, error);
  if (ret < 0)
    return ret;
  target->made = true;
  tn_options_free (target->secrets);
  target->secrets = key_secrets (options);
  return open_target (target, target->secrets, error);
}

int
img_target_reopen (ImgTarget *target, const TnOptions *options, GError **error)
{
  target->secrets = key_secrets (options);
  return open_target (target, target->secrets, error);
}

int
img_target_stream (ImgTarget *target, uint64_t size, GError **error)
{
  target->keep = true;
  if (strcmp (target->format, "raw") != 0) {
    int ret = img_spool_make (&target->spool, &target->spool_name, error);
    if (ret >= 0)
      target->name = target->spool_name;
    return ret;
  }
  g_autofree char *options = g_strdup_printf ("driver=null-co,size=%" G_GUINT64_FORMAT, size);
  return cli_open_as (target->args, options, true, NULL, NULL, TN_OPEN_WRITE, &target->node, error);
}

/* What is in the temporary file is what was asked for. */
static int
finish_stream (ImgTarget *target, int status)
{
  GError *error = NULL;
  if (!target->spool_name)
    return status;
  if (status == EXIT_SUCCESS && img_stream_file (target->spool, &error) < 0)
    status = cli_fail (target->args, EXIT_FAILURE, &error);
  close (target->spool);
  g_clear_pointer (&target->spool_name, g_free);
  return status;
}

/* What remains is to remove it when filling it fails, to open it @anew, or to note how far it is. */
int
img_target_seal (const ImgTarget *target, bool anew, GError **error)
{
  uint32_t access = TN_SANDBOX_REMOVE;
  /* A file that has no name any more cannot be opened anew under a rule for names. */
  if (anew && target->spool_name)
    return 0;
  if (anew || target->resumable)
    access |= TN_SANDBOX_READ | TN_SANDBOX_WRITE;
  if (target->resumable)
    access |= TN_SANDBOX_MAKE;
  return cli_seal (target->args, TN_SANDBOX_PLUGINS, target->name, access, error);
}

bool
img_target_is_zero (const ImgTarget *target)
{
  /* What else could be behind the name (a block device) keeps its old contents. */
  if (!target->made || !is_regular (target->name))
    return false;
  /* A new encrypted disk may hold noise. */
  TnStatus status;
  uint64_t size = tn_node_size (target->node);
  return size == 0 || (tn_node_status (target->node, NULL, 0, size, &status, NULL) == 0 && status.zero);
}

static int
flush_target (ImgTarget *target, GError **error)
{
  if (target->late_flush) {
    int ret =
        tn_node_reopen (target->node, NULL, (tn_node_open_flags (target->node) & ~TN_OPEN_NO_FLUSH), error);
    if (ret < 0)
      return ret;
  }
  return tn_node_flush (target->node, error);
}

int
img_target_settle (ImgTarget *target, GError **error)
{
  int ret = flush_target (target, error);
  if (ret < 0)
    return ret;
  ret = tn_node_close (g_steal_pointer (&target->node), error);
  target->late_flush = false;
  if (ret < 0)
    return ret;
  return cli_open_as (target->args, target->name, target->image_opts, target->format, target->secrets,
                      target->cache.open_flags & ~(uint32_t) TN_OPEN_NO_FLUSH, &target->node, error);
}

static void
remove_target (ImgTarget *target)
{
  struct stat st;
  if (lstat (target->name, &st) < 0)
    return;
  if (!S_ISREG (st.st_mode))
    cli_error (target->args, "'%s' is incomplete", target->name);
  else if (unlink (target->name) < 0)
    cli_error (target->args, "'%s' is incomplete and cannot be removed: %s", target->name,
               g_strerror (errno));
}

int
img_target_finish (ImgTarget *target, int status)
{
  GError *error = NULL;
  g_clear_pointer (&target->secrets, tn_options_free);
  bool writable = target->node && !tn_node_is_read_only (target->node);
  if (writable && status == EXIT_SUCCESS && flush_target (target, &error) < 0)
    status = cli_fail (target->args, EXIT_FAILURE, &error);
  if (target->node && tn_node_close (target->node, &error) < 0) {
    if (status == EXIT_SUCCESS)
      status = cli_fail (target->args, EXIT_FAILURE, &error);
    g_clear_error (&error);
  }
  target->node = NULL;
  status = finish_stream (target, status);
  if (status != EXIT_SUCCESS && target->made && !target->keep)
    remove_target (target);
  return status;
}
