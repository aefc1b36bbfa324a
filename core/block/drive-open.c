/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drives as the command line describes them. */
#include "block/drive-private.h"

#include <fcntl.h>
#include <unistd.h>

static const char *const write_policies[] = { "report", "ignore", "stop", "enospc", NULL };
static const char *const read_policies[] = { "report", "ignore", "stop", NULL };
static const char *const aio_choices[] = { "threads", "native", "io_uring", NULL };
static const char *const discard_choices[] = { "ignore", "unmap", "off", "on", NULL };
static const char *const detect_choices[] = { "off", "on", "unmap", NULL };

/* In the order of TnErrorPolicy above. */
static const TnOption drive_options[] = {
  { "file", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "image file", 0, 0, NULL },
  { "format", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "format of the image; without it, it is found out", 0,
    0, NULL },
  { "cache", TN_OPTION_STRING, TN_OPTION_OPEN, NULL, "writeback, none, writethrough, directsync or unsafe", 0,
    0, NULL },
  { "cache.writeback", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "the guest sees a write cache", 0, 0, NULL },
  { "aio", TN_OPTION_ENUM, TN_OPTION_OPEN, NULL, "how the file is read and written", 0, 0, aio_choices },
  { "readonly", TN_OPTION_BOOL, TN_OPTION_OPEN, NULL, "refuse writes", 0, 0, NULL },
  { "discard", TN_OPTION_ENUM, TN_OPTION_OPEN, "ignore", "what becomes of discards", 0, 0, discard_choices },
  { "detect-zeroes", TN_OPTION_ENUM, TN_OPTION_OPEN, "off", "turn writes of zeroes into zero areas", 0, 0,
    detect_choices },
  { "werror", TN_OPTION_ENUM, TN_OPTION_OPEN, "enospc", "what follows a failed write", 0, 0, write_policies },
  { "rerror", TN_OPTION_ENUM, TN_OPTION_OPEN, "report", "what follows a failed read", 0, 0, read_policies },
  { "snapshot", TN_OPTION_BOOL, TN_OPTION_OPEN, "off", "write to a temporary file that is thrown away", 0, 0,
    NULL },
  { NULL },
};

/* ---- Temporary overlays ---- */

static bool
can_be_overlay (const TnClass *class)
{
  TnFormatOps ops = { 0 };
  const TnFormatOps *offered = class->ops;
  memcpy (&ops, offered, MIN (offered->size, sizeof ops));
  return (ops.flags & TN_FORMAT_BACKING) && ops.create && ops.reserve;
}

static void
try_overlay (const TnClassInfo *info, void *opaque)
{
  const char **name = opaque;
  const TnClass *class = *name ? NULL : tn_class_find (TN_KIND_FORMAT, info->name, NULL);
  if (class && can_be_overlay (class))
    *name = class->name;
}

/* The image's own format if it can, else the first that can. */
static const char *
overlay_format (TnNode *base)
{
  const char *name = NULL;
  if (base->is_format && can_be_overlay (base->class))
    return base->class->name;
  tn_plugins_foreach (TN_KIND_FORMAT, try_overlay, NULL, &name, NULL);
  return name;
}

static int
make_temporary (char **path, GError **error)
{
  const char *folder = g_getenv ("TMPDIR");
  *path = g_build_filename (folder && *folder ? folder : "/var/tmp", "tenon-snapshot-XXXXXX", NULL);
  int fd = g_mkstemp_full (*path, O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "cannot make the temporary file %s for snapshot=on",
                          *path);
  close (fd);
  return 0;
}

/* Opens a new image at @path over @base. */
static int
open_overlay (const char *path, TnNode *base, uint32_t flags, TnNode **overlay, GError **error)
{
  const char *format = overlay_format (base);
  if (!format)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "snapshot=on needs a format with backing files; no such plugin is there");
  g_autoptr (TnOptions) none = tn_options_new ();
  int rc = tn_image_create (path, format, none, tn_node_size (base), error);
  if (rc)
    return rc;
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "driver", format);
  tn_options_set (options, "file.driver", TN_DEFAULT_PROTOCOL);
  tn_options_set (options, "file.filename", path);
  tn_options_set (options, "backing", tn_node_name (base));
  return tn_node_open (options, flags | TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, overlay, error);
}

static int
put_overlay (TnNode **node, uint32_t flags, GError **error)
{
  g_autofree char *path = NULL;
  int rc = make_temporary (&path, error);
  if (rc)
    return rc;
  TnNode *overlay = NULL;
  rc = open_overlay (path, *node, flags | TN_OPEN_NO_FLUSH, &overlay, error);
  unlink (path);
  if (rc)
    return rc;
  tn_node_unref (*node);
  *node = overlay;
  return 0;
}

/* ---- Options ---- */

typedef struct Description {
  TnOptions *own;  /* of the drive */
  TnOptions *node; /* of the node */
  TnCacheMode cache;
  bool writable, snapshot;
} Description;

static bool
is_own (const char *key)
{
  for (const TnOption *row = drive_options; row->name; row++)
    if (g_str_equal (row->name, key))
      return true;
  return false;
}

static void
divide (const TnOptions *options, Description *description)
{
  description->own = tn_options_new ();
  description->node = tn_options_new ();
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (g_str_equal (key, "read-only"))
      key = "readonly";
    tn_options_set (is_own (key) ? description->own : description->node, key, value);
  }
}

static int
read_description (const TnOptions *options, Description *description, GError **error)
{
  divide (options, description);
  int rc = tn_options_check (description->own, drive_options, sizeof *drive_options, TN_OPTION_OPEN, "drive",
                             error);
  const char *cache = tn_options_get (description->own, "cache");
  if (!rc && cache)
    rc = tn_cache_mode_parse (cache, &description->cache, error);
  if (rc)
    return rc;
  description->writable = !tn_options_bool (description->own, "readonly");
  description->snapshot = tn_options_bool (description->own, "snapshot");
  tn_options_set (description->node, "detect-zeroes", tn_options_get (description->own, "detect-zeroes"));
  return 0;
}

static uint32_t
open_flags (const Description *description)
{
  uint32_t flags = tn_cache_mode_open_flags (description->cache);
  const char *discard = tn_options_get (description->own, "discard");
  if (g_str_equal (discard, "unmap") || g_str_equal (discard, "on"))
    flags |= TN_OPEN_UNMAP;
  if (description->writable && !description->snapshot)
    flags |= TN_OPEN_WRITE | TN_OPEN_RESIZE;
  return flags;
}

static int
describe_graph (const Description *description, TnOptions **graph, GError **error)
{
  const char *file = tn_options_get (description->own, "file");
  const char *format = tn_options_get (description->own, "format");
  const char *aio = tn_options_get (description->own, "aio");
  g_autoptr (TnOptions) made = NULL;
  if (file) {
    int rc = tn_filename_to_graph (file, format, description->node, &made, error);
    if (rc)
      return rc;
  } else {
    made = tn_options_copy (description->node);
    if (format)
      tn_options_set (made, "driver", format);
    if (!tn_options_has (made, "file.filename") && !tn_options_has (made, "file.driver")
        && !tn_options_has (made, "driver"))
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "drive without an image: add file=NAME");
  }
  if (aio)
    tn_options_set (made, "file.aio", aio);
  *graph = g_steal_pointer (&made);
  return 0;
}

static TnErrorPolicy
policy (const TnOptions *options, const char *key)
{
  const char *value = tn_options_get (options, key);
  for (unsigned i = 0; write_policies[i]; i++)
    if (g_str_equal (value, write_policies[i]))
      return (TnErrorPolicy) i;
  return TN_ERROR_REPORT;
}

static int
open_described (const Description *description, TnDrive **drive, GError **error)
{
  g_autoptr (TnOptions) graph = NULL;
  g_autoptr (TnNode) root = NULL;
  int rc = describe_graph (description, &graph, error);
  if (!rc)
    rc = tn_node_open (graph, open_flags (description), &root, error);
  if (!rc && description->snapshot)
    rc = put_overlay (&root, tn_cache_mode_open_flags (description->cache), error);
  if (rc)
    return rc;
  TnDrive *made = tn_drive_new (root, description->cache, description->writable);
  if (tn_options_has (description->own, "cache.writeback"))
    made->write_cache = tn_options_bool (description->own, "cache.writeback");
  tn_drive_set_error_policy (made, policy (description->own, "rerror"), policy (description->own, "werror"));
  *drive = made;
  return 0;
}

int
tn_drive_open (const TnOptions *options, TnDrive **drive, GError **error)
{
  Description description = { 0 };
  int rc = read_description (options, &description, error);
  if (!rc)
    rc = open_described (&description, drive, error);
  tn_options_free (description.own);
  tn_options_free (description.node);
  return rc;
}
