/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making images, and saying beforehand how large they will be. */
#include "block/internal.h"

#include <sys/stat.h>

static const TnOption no_options[] = { { NULL } };

typedef struct Create {
  const char *filename, *format;
  const TnOptions *options;
  uint64_t size;

  const TnClass *format_class, *protocol_class;
  TnFormatOps format_ops;
  TnProtocolOps protocol_ops;
  TnOptions *format_options;
  TnOptions *protocol_options; /* to create with */
  TnOptions *place;            /* to open with: driver and where */
  bool existed;
} Create;

/* ---- Options ---- */

static const TnOption *
find_row (const TnClass *class, const char *name)
{
  for (const TnOption *row = class->options; row && row->name;
       row = (const TnOption *) ((const char *) row + class->option_size))
    if (g_str_equal (row->name, name) && (row->when & TN_OPTION_CREATE))
      return row;
  return NULL;
}

static int
check_options (TnOptions *options, const TnClass *class, GError **error)
{
  g_autofree char *what =
      g_strdup_printf ("%s '%s'", class->kind == TN_KIND_FORMAT ? "format" : "protocol", class->name);
  return tn_options_check (options, class->options ? class->options : no_options,
                           class->options ? class->option_size : sizeof *no_options, TN_OPTION_CREATE, what,
                           error);
}

/* What the format does not know may be the protocol's. */
static void
divide_options (Create *create)
{
  for (size_t i = 0; i < tn_options_count (create->options); i++) {
    const char *key, *value;
    tn_options_pair (create->options, i, &key, &value);
    if (g_str_equal (key, "driver") || g_str_equal (key, "filename"))
      continue;
    bool own = find_row (create->format_class, key);
    if (g_str_equal (key, "size") && !own)
      continue;
    bool below = !own && find_row (create->protocol_class, key);
    tn_options_set (below ? create->protocol_options : create->format_options, key, value);
  }
}

static int
find_classes (Create *create, GError **error)
{
  create->format_class = tn_class_find (TN_KIND_FORMAT, create->format, error);
  if (!create->format_class)
    return -ENOENT;
  const TnFormatOps *ops = create->format_class->ops;
  memcpy (&create->format_ops, ops, MIN (ops->size, sizeof create->format_ops));
  if (!create->format_ops.create)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "format '%s' cannot create images", create->format);

  int rc = tn_node_parse_filename (create->filename, NULL, &create->place, error);
  if (rc)
    return rc;
  const char *driver = tn_options_get (create->place, "driver");
  create->protocol_class = driver ? tn_class_find (TN_KIND_PROTOCOL, driver, error) : NULL;
  if (!driver)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: says no driver: an image is created by a protocol",
                    create->filename);
  if (!create->protocol_class)
    return -ENOENT;
  const TnProtocolOps *protocol = create->protocol_class->ops;
  memcpy (&create->protocol_ops, protocol, MIN (protocol->size, sizeof create->protocol_ops));
  if (!create->protocol_ops.create)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "%s: protocol '%s' cannot create files", create->filename,
                    driver);
  return 0;
}

static int
prepare_options (Create *create, GError **error)
{
  create->format_options = tn_options_new ();
  create->protocol_options = tn_options_copy (create->place);
  tn_options_set (create->protocol_options, "driver", NULL);
  divide_options (create);
  int rc = check_options (create->format_options, create->format_class, error);
  return rc ? rc : check_options (create->protocol_options, create->protocol_class, error);
}

/* ---- The backing file ---- */

static bool
same_file (const char *a, const char *b)
{
  struct stat one, two;
  if (stat (a, &one) || stat (b, &two))
    return g_str_equal (a, b);
  return one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

static int
open_backing (const char *path, const char *format, uint64_t *size, GError **error)
{
  g_autoptr (TnNode) backing = NULL;
  int rc = tn_node_open_file (path, format, NULL, TN_OPEN_NO_BACKING | TN_OPEN_SHARED, &backing, error);
  if (rc) {
    g_prefix_error (error, "cannot use the backing file: ");
    return rc;
  }
  *size = tn_node_size (backing);
  return 0;
}

static int
examine_backing (Create *create, GError **error)
{
  const char *name = tn_options_get (create->format_options, "backing_file");
  if (!name || !*name) {
    if (create->size != UINT64_MAX)
      return 0;
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "%s: no size was given, and there is no backing file to take it from", create->filename);
  }
  g_autofree char *path = tn_filename_combine (create->filename, name);
  if (same_file (path, create->filename))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: cannot be its own backing file", create->filename);
  if (create->size != UINT64_MAX)
    return 0;
  return open_backing (path, tn_options_get (create->format_options, "backing_fmt"), &create->size, error);
}

/* ---- Doing it ---- */

/* An existing file must be free to be overwritten before it is. */
static int
examine_target (Create *create, GError **error)
{
  g_autoptr (TnNode) node = NULL;
  create->existed = tn_node_open (create->place, TN_OPEN_SHARED | TN_OPEN_NO_IO, &node, NULL) == 0;
  g_clear_pointer (&node, tn_node_unref);
  if (!create->existed)
    return 0;
  return tn_node_open (create->place, TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, error);
}

struct TnRenewal {
  const Create *create;
};

/* The protocol makes the file anew, through a handle of its own, which our locks would exclude. */
static int
make_anew (TnNode *file, const Create *create, GError **error)
{
  if (file->protocol.set_permissions) {
    int rc = tn_failure (file->protocol.set_permissions (file, 0, TN_SHARED_ALL, error));
    if (rc)
      return rc;
    file->permissions = 0;
    file->shared = TN_SHARED_ALL;
  }
  int rc = tn_failure (create->protocol_ops.create (create->protocol_options, 0, error));
  int locked = tn_leaf_set_permissions (file, rc ? NULL : error);
  return rc ? rc : locked;
}

/* The handle that was open before has to learn of it, too. */
static int
renew (TnNode *file, const Create *create, GError **error)
{
  int rc = make_anew (file, create, error);
  if (!rc && file->grows && file->protocol.resize)
    rc = tn_failure (file->protocol.resize (file, 0, TN_PREALLOC_OFF, error));
  return rc;
}

int
tn_node_renew (TnNode *node, GError **error)
{
  int rc = 0;
  tn_co_mutex_lock (&node->flush_mutex);
  TnRenewal *renewal = __atomic_load_n (&node->renewal, __ATOMIC_ACQUIRE);
  if (renewal)
    rc = renew (node, renewal->create, error);
  if (!rc)
    __atomic_store_n (&node->renewal, NULL, __ATOMIC_RELEASE);
  tn_co_mutex_unlock (&node->flush_mutex);
  return rc;
}

/* To the format an existing file is empty from the start. */
static void
treat_as_new (TnNode *file, TnRenewal *renewal)
{
  if (file->grows)
    tn_node_set_size (file, 0);
  __atomic_store_n (&file->renewal, renewal, __ATOMIC_RELEASE);
}

static int
format_file (Create *create, GError **error)
{
  TnNode *file = NULL;
  TnRenewal renewal = { create };
  int rc = tn_node_open (create->place, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP, &file, error);
  if (rc)
    return rc;
  if (create->existed)
    treat_as_new (file, &renewal);
  rc = tn_failure (create->format_ops.create (file, create->format_options, create->size, error));
  if (!rc && tn_node_is_stale (file))
    rc = tn_node_renew (file, error);
  int closed = tn_node_close (file, rc ? NULL : error);
  return rc ? rc : closed;
}

/* What exists keeps its contents until the format first writes: whatever is refused before, nothing is lost.
 */
static int
make (Create *create, GError **error)
{
  int rc = 0;
  if (!create->existed)
    rc = tn_failure (create->protocol_ops.create (create->protocol_options, 0, error));
  if (rc)
    return rc;
  rc = format_file (create, error);
  if (rc && !create->existed && create->protocol_ops.remove)
    create->protocol_ops.remove (create->protocol_options, NULL);
  return rc;
}

static int
create_main (TnNode *unused, void *opaque, GError **error)
{
  Create *create = opaque;
  int rc = find_classes (create, error);
  if (!rc)
    rc = prepare_options (create, error);
  if (!rc)
    rc = examine_backing (create, error);
  if (!rc && create->size > INT64_MAX)
    rc = tn_fail (error, TN_BLOCK_ERROR, EFBIG, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large",
                  create->filename, create->size);
  if (!rc)
    rc = examine_target (create, error);
  return rc ? rc : make (create, error);
}

int
tn_image_create (const char *filename, const char *format, const TnOptions *options, uint64_t size,
                 GError **error)
{
  g_autoptr (TnOptions) none = tn_options_new ();
  Create create = {
    .filename = filename, .format = format, .options = options ? options : none, .size = size
  };
  if (!create.format)
    create.format = tn_options_get (create.options, "driver");
  if (!create.format)
    create.format = TN_DEFAULT_FORMAT;
  const char *size_text = tn_options_get (create.options, "size");
  int rc = 0;
  if (size == UINT64_MAX && size_text)
    rc = tn_parse_size (size_text, &create.size, error);
  if (!rc)
    rc = tn_node_co_run (NULL, create_main, &create, error);
  tn_options_free (create.format_options);
  tn_options_free (create.protocol_options);
  tn_options_free (create.place);
  return rc;
}

/* ---- Measuring ---- */

typedef struct MeasureCall {
  const TnFormatOps *ops;
  const TnOptions *options;
  uint64_t size;
  TnMeasure *measure;
} MeasureCall;

static int
measure_main (TnNode *source, void *opaque, GError **error)
{
  MeasureCall *call = opaque;
  return tn_failure (call->ops->measure (call->options, source, call->size, call->measure, error));
}

int
tn_image_measure (const char *format, const TnOptions *options, TnNode *source, uint64_t size,
                  TnMeasure *measure, GError **error)
{
  const TnClass *class = tn_class_find (TN_KIND_FORMAT, format, error);
  if (!class)
    return -ENOENT;
  TnFormatOps ops = { 0 };
  const TnFormatOps *offered = class->ops;
  memcpy (&ops, offered, MIN (offered->size, sizeof ops));
  if (!ops.measure)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "format '%s' cannot say how large an image will be",
                    format);
  g_autoptr (TnOptions) checked = options ? tn_options_copy (options) : tn_options_new ();
  int rc = check_options (checked, class, error);
  if (rc)
    return rc;
  TnMeasure now = { .size = sizeof now, .bitmaps = UINT64_MAX };
  MeasureCall call = { &ops, checked, size, &now };
  rc = tn_node_co_run (source, measure_main, &call, error);
  if (rc)
    return rc;
  uint32_t room = measure->size;
  memcpy (measure, &now, MIN (room, sizeof now));
  measure->size = room;
  return 0;
}
