/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, flushing and closing an image; the plugin. */
#include "qed.h"

#include <stdarg.h>

#define QED_L1_BUDGET (1u << 20)
#define QED_L2_BUDGET (32u << 20)

/* ---- Errors ---- */

int
qed_fail (const Qed *q, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "QED image '%s': %s", tn_node_filename (q->file), text);
}

int
qed_corrupt (const Qed *q, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "QED image '%s' is corrupt: %s (check -r all may repair it)",
                  tn_node_filename (q->file), text);
}

int
qed_need_writable (const Qed *q, GError **error)
{
  return q->writable ? 0 : qed_fail (q, error, EROFS, "it is open read-only");
}

/* ---- The header's flags ---- */

static int
qed_set_header (Qed *q, uint64_t features, uint64_t autoclear, GError **error)
{
  const QedHeader old = q->header;
  q->header.features = features;
  q->header.autoclear_features = autoclear;
  int ret = qed_header_write (q, error);
  if (ret < 0) {
    q->header = old;
    return ret;
  }
  return tn_node_flush (q->file, error);
}

int
qed_touch (Qed *q, GError **error)
{
  /* Who writes without knowing what these bits stand for must say so. */
  int ret = q->header.autoclear_features ? qed_set_header (q, q->header.features, 0, error) : 0;
  q->touched |= ret == 0;
  return ret;
}

int
qed_mark_need_check (Qed *q, GError **error)
{
  if (q->header.features & QED_F_NEED_CHECK) {
    return 0;
  }
  return qed_set_header (q, q->header.features | QED_F_NEED_CHECK, q->header.autoclear_features, error);
}

/* After a crash, before anything is allocated. */
static int
qed_recover (Qed *q, GError **error)
{
  TnCheck check = { .size = sizeof check };
  int ret = qed_check_image (q, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, &check, error);
  if (ret < 0) {
    return ret;
  }
  if (check.corruptions || check.check_errors) {
    return qed_fail (q, error, EIO,
                     "it was not closed properly and has %" PRIu64
                     " errors that only check -r all may repair",
                     check.corruptions + check.check_errors);
  }
  return 0;
}

/* ---- Opening ---- */

static void
qed_detach (Qed *q)
{
  g_clear_pointer (&q->l1_cache, tn_meta_cache_free);
  g_clear_pointer (&q->l2_cache, tn_meta_cache_free);
  tail_space_clear (&q->space);
  g_clear_pointer (&q->backing_name, g_free);
}

static int
qed_prepare_writing (Qed *q, GError **error)
{
  q->touched = q->header.autoclear_features == 0;
  q->zero_tail = tail_space_grows_with_zeroes (q->file);
  if ((q->flags & TN_OPEN_CHECK) || !(q->header.features & QED_F_NEED_CHECK)) {
    return 0;
  }
  return qed_recover (q, error);
}

static int
qed_attach (Qed *q, GError **error)
{
  int ret = qed_header_read (q, error);
  if (ret < 0) {
    return ret;
  }
  q->l1_cache = tn_meta_cache_new (q->file, "L1 table", QED_SLICE, QED_L1_BUDGET);
  q->l2_cache = tn_meta_cache_new (q->file, "L2 table", QED_SLICE, QED_L2_BUDGET);
  tn_node_set_size (q->node, q->header.size);
  tn_node_set_allocation_unit (q->node, q->cluster_size);
  if (q->backing_name) {
    tn_node_set_backing (q->node, q->backing_name, q->header.features & QED_F_BACKING_RAW ? "raw" : NULL);
  }
  return q->writable ? qed_prepare_writing (q, error) : 0;
}

static int
qed_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qed *q = tn_node_state (node);
  q->node = node;
  q->file = tn_node_child (node, "file");
  q->flags = flags;
  q->writable = (flags & TN_OPEN_WRITE) && !(flags & TN_OPEN_NO_IO);
  int ret = qed_attach (q, error);
  if (ret < 0) {
    qed_detach (q);
  }
  return ret;
}

int
qed_sync (Qed *q, GError **error)
{
  TnMetaCache *const caches[] = { q->l2_cache, q->l1_cache };
  return tn_meta_flush (caches, G_N_ELEMENTS (caches), error);
}

static int
qed_flush (TnNode *node, GError **error)
{
  Qed *q = tn_node_state (node);
  return q->writable ? qed_sync (q, error) : 0;
}

/* Everything is in its place: no check is needed any more. */
static int
qed_finish_writing (Qed *q, GError **error)
{
  int ret = qed_sync (q, error);
  if (ret < 0 || (q->flags & TN_OPEN_CHECK) || !(q->header.features & QED_F_NEED_CHECK)) {
    return ret;
  }
  if ((ret = tail_space_cut (&q->space, q->file, error)) < 0) {
    return ret;
  }
  return qed_set_header (q, q->header.features & ~QED_F_NEED_CHECK, q->header.autoclear_features, error);
}

static int
qed_close (TnNode *node, GError **error)
{
  Qed *q = tn_node_state (node);
  int ret = q->writable ? qed_finish_writing (q, error) : 0;
  qed_detach (q);
  return ret;
}

static int
qed_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qed *q = tn_node_state (node);
  const bool want = (flags & TN_OPEN_WRITE) && !(q->flags & TN_OPEN_NO_IO);
  const uint32_t old = q->flags;
  int ret = q->writable && !want ? qed_finish_writing (q, error) : 0;
  if (ret < 0) {
    return ret;
  }
  q->flags = flags;
  if (want && !q->writable) {
    q->writable = true;
    ret = qed_prepare_writing (q, error);
  }
  q->writable = want && ret == 0;
  q->flags = ret < 0 ? old : flags;
  return ret;
}

static int
qed_info (TnNode *node, TnInfo *info, GError **error)
{
  Qed *q = tn_node_state (node);
  info->cluster_size = q->cluster_size;
  info->dirty = q->header.features & QED_F_NEED_CHECK;
  return 0;
}

/* ---- The plugin ---- */

static const TnFormatOps qed_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_GROWS | TN_FORMAT_NO_GAPS,
  .instance_size = sizeof (Qed),
  .open = qed_open,
  .close = qed_close,
  .create = qed_create,
  .map = qed_map,
  .reserve = qed_reserve,
  .commit = qed_commit,
  .adopt = qed_adopt,
  .cancel = qed_cancel,
  .unmap = qed_unmap,
  .flush = qed_flush,
  .resize = qed_resize,
  .check = qed_check,
  .info = qed_info,
  .measure = qed_measure,
  .set_backing = qed_set_backing,
  .make_empty = qed_make_empty,
  .reopen = qed_reopen,
};

static const TnOption qed_options[] = {
  { .name = "backing_file",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "file name of a base image" },
  { .name = "backing_fmt",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "format of the base image; the image records only whether it is raw" },
  { .name = "cluster_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "64k",
    .min = QED_MIN_CLUSTER,
    .max = QED_MAX_CLUSTER,
    .help = "cluster size, a power of two from 4k to 64M" },
  { .name = "table_size",
    .type = TN_OPTION_UINT,
    .when = TN_OPTION_CREATE,
    .value = "4",
    .min = 2,
    .max = QED_MAX_TABLE_CLUSTERS,
    .help = "clusters in an L1 or L2 table: 2, 4, 8 or 16" },
  { .name = NULL },
};

static const char *const qed_suffixes[] = { "qed", NULL };

static const TnMagic qed_magics[] = {
  { .offset = 0, .length = 4, .bytes = (const uint8_t *) "QED\0" },
  { .length = 0 },
};

static const TnClass qed_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "qed",
  .summary = "QEMU Enhanced Disk, an earlier copy-on-write format",
  .suffixes = qed_suffixes,
  .magics = qed_magics,
  .options = qed_options,
  .ops = &qed_ops,
};

static const TnClass *const qed_classes[] = { &qed_class, NULL };

TN_PLUGIN_DEFINE (format_qed, .security = TN_SECURITY_HARDENED, .name = "format-qed", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-qed", .classes = qed_classes);
