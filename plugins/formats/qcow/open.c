/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, flushing and closing an image; the plugin. */
#include "qcow.h"

#include <stdarg.h>

#define QCOW_L1_BUDGET (1u << 20)
#define QCOW_L2_BUDGET (16u << 20)

/* ---- Errors ---- */

int
qcow_fail (const Qcow *q, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "qcow image '%s': %s", tn_node_filename (q->file), text);
}

int
qcow_corrupt (const Qcow *q, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "qcow image '%s' is corrupt: %s (check -r all may repair it)",
                  tn_node_filename (q->file), text);
}

int
qcow_need_writable (const Qcow *q, GError **error)
{
  return q->writable ? 0 : qcow_fail (q, error, EROFS, "it is open read-only");
}

/* ---- Opening ---- */

static void
qcow_detach (Qcow *q)
{
  g_clear_pointer (&q->l1_cache, tn_meta_cache_free);
  g_clear_pointer (&q->l2_cache, tn_meta_cache_free);
  tail_space_clear (&q->space);
  g_clear_pointer (&q->backing_name, g_free);
}

static int
qcow_attach (Qcow *q, const TnOptions *options, GError **error)
{
  int ret = qcow_header_read (q, error);
  if (ret < 0) {
    return ret;
  }
  tn_node_set_size (q->node, q->size);
  tn_node_set_allocation_unit (q->node, q->cluster_size);
  if (q->backing_name) {
    tn_node_set_backing (q->node, q->backing_name, NULL);
  }
  if (q->flags & TN_OPEN_NO_IO) {
    return 0;
  }
  if ((ret = qcow_crypt_open (q, options, error)) < 0) {
    return ret;
  }
  const uint64_t file_size = tn_node_size (q->file);
  tail_space_init (&q->space, (file_size + QCOW_SECTOR - 1) & ~(uint64_t) (QCOW_SECTOR - 1));
  q->l1_cache = tn_meta_cache_new (q->file, "L1 table", QCOW_SECTOR, QCOW_L1_BUDGET);
  q->l2_cache = tn_meta_cache_new (q->file, "L2 table", q->slice_bytes, QCOW_L2_BUDGET);
  q->zero_tail = q->writable && tail_space_grows_with_zeroes (q->file);
  return 0;
}

static int
qcow_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qcow *q = tn_node_state (node);
  q->node = node;
  q->file = tn_node_child (node, "file");
  q->flags = flags;
  q->writable = (flags & TN_OPEN_WRITE) && !(flags & TN_OPEN_NO_IO);
  int ret = qcow_attach (q, options, error);
  if (ret < 0) {
    qcow_detach (q);
  }
  return ret;
}

int
qcow_sync (Qcow *q, GError **error)
{
  TnMetaCache *const caches[] = { q->l2_cache, q->l1_cache };
  return tn_meta_flush (caches, G_N_ELEMENTS (caches), error);
}

static int
qcow_flush (TnNode *node, GError **error)
{
  Qcow *q = tn_node_state (node);
  return q->writable ? qcow_sync (q, error) : 0;
}

static int
qcow_close (TnNode *node, GError **error)
{
  Qcow *q = tn_node_state (node);
  int ret = q->writable ? qcow_sync (q, error) : 0;
  qcow_detach (q);
  return ret;
}

static int
qcow_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qcow *q = tn_node_state (node);
  const bool want = (flags & TN_OPEN_WRITE) && !(q->flags & TN_OPEN_NO_IO);
  int ret = q->writable && !want ? qcow_sync (q, error) : 0;
  if (ret < 0) {
    return ret;
  }
  q->flags = flags;
  q->writable = want;
  q->zero_tail = want && tail_space_grows_with_zeroes (q->file);
  return 0;
}

static int
qcow_info (TnNode *node, TnInfo *info, GError **error)
{
  Qcow *q = tn_node_state (node);
  info->cluster_size = q->cluster_size;
  info->encrypted = q->header.crypt_method != QCOW_CRYPT_NONE;
  return 0;
}

/* ---- The plugin ---- */

static const TnFormatOps qcow_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_PACKS | TN_FORMAT_GROWS,
  .instance_size = sizeof (Qcow),
  .open = qcow_open,
  .close = qcow_close,
  .create = qcow_create,
  .map = qcow_map,
  .reserve = qcow_reserve,
  .commit = qcow_commit,
  .cancel = qcow_cancel,
  .pack = qcow_pack,
  .unpack = qcow_unpack,
  .flush = qcow_flush,
  .check = qcow_check,
  .info = qcow_info,
  .measure = qcow_measure,
  .reopen = qcow_reopen,
};

static const char *const qcow_crypt_choices[] = { "aes", NULL };

static const TnOption qcow_options[] = {
  { .name = "backing_file",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "file name of a base image" },
  { .name = "backing_fmt",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "format of the base image; the image does not record it" },
  { .name = "encryption", .type = TN_OPTION_BOOL, .when = TN_OPTION_CREATE, .help = "not available" },
  { .name = "encrypt.format",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_OPEN | TN_OPTION_CREATE,
    .choices = qcow_crypt_choices,
    .help = "how guest data is encrypted (opening read-only)" },
  { .name = "encrypt.key-secret",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_CREATE,
    .help = "id of the secret that holds the passphrase (opening read-only)" },
  { .name = NULL },
};

static const char *const qcow_suffixes[] = { "qcow", NULL };
static const char *const qcow_codecs[] = { "deflate", NULL };

static const TnMagic qcow_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "QFI\xfb\0\0\0\1" },
  { .length = 0 },
};

static const TnClass qcow_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "qcow",
  .summary = "QEMU's first copy-on-write image format",
  .suffixes = qcow_suffixes,
  .magics = qcow_magics,
  .options = qcow_options,
  .ops = &qcow_ops,
};

static const TnClass *const qcow_classes[] = { &qcow_class, NULL };

TN_PLUGIN_DEFINE (format_qcow, .security = TN_SECURITY_HARDENED, .name = "format-qcow", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-qcow",
                  .requires_codecs = qcow_codecs, .classes = qcow_classes);
