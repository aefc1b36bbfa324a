/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, flushing and closing an image. */
#include "../common/luks/luks.h"
#include "crypt.h"

#include <tenon/protocol.h>

#define DEFAULT_L2_BUDGET (32u << 20)
#define DEFAULT_SLICE_BITS 12u
#define MIN_REFCOUNT_CLUSTERS 4u

/* ---- Setting up ---- */

static void
set_geometry (Qcow2 *q, const TnOptions *options)
{
  const Qcow2Header *h = &q->header;
  const uint64_t slice = options ? tn_options_uint (options, "l2-cache-entry-size") : 0;
  q->cluster_bits = h->cluster_bits;
  q->cluster_size = 1u << h->cluster_bits;
  q->extended = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
  q->external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
  q->unit_bits = q->extended ? q->cluster_bits - 5 : q->cluster_bits;
  q->entry_bits = q->extended ? 4 : 3;
  q->l2_bits = q->cluster_bits - q->entry_bits;
  q->slice_bits = slice ? (uint32_t) g_bit_nth_msf (slice, -1) : DEFAULT_SLICE_BITS;
  q->slice_bits = MIN (q->slice_bits, q->cluster_bits);
  q->packed_shift = 62 - (q->cluster_bits - 8);
  q->packed_sectors_mask = (1ull << (q->cluster_bits - 8)) - 1;
  q->packed_offset_mask = MIN (1ull << q->packed_shift, 1ull << 56) - 1;
  q->block_bits = q->cluster_bits + 3 - h->refcount_order;
  q->refcount_max = h->refcount_order == 6 ? UINT64_MAX : (1ull << (1u << h->refcount_order)) - 1;
  q->lazy = h->version >= 3 && (h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
  if (options && tn_options_has (options, "lazy-refcounts")) {
    q->lazy = h->version >= 3 && tn_options_bool (options, "lazy-refcounts");
  }
  q->size = h->size;
  q->corrupt = h->incompatible & QCOW2_INCOMPAT_CORRUPT;
}

static int
check_slice_option (Qcow2 *q, const TnOptions *options, GError **error)
{
  const uint64_t slice = options ? tn_options_uint (options, "l2-cache-entry-size") : 0;
  if (slice && ((slice & (slice - 1)) || slice < 512 || slice > 1u << q->header.cluster_bits)) {
    return qcow2_fail (q, error, EINVAL,
                       "l2-cache-entry-size must be a power of two between 512 and the cluster size %u",
                       1u << q->header.cluster_bits);
  }
  return 0;
}

/* The sizes given by options, completed as qemu completes them. */
static int
set_budgets (Qcow2 *q, const TnOptions *options, GError **error)
{
  const uint64_t all = options ? tn_options_uint (options, "cache-size") : 0;
  const uint64_t l2 = options ? tn_options_uint (options, "l2-cache-size") : 0;
  const uint64_t counts = options ? tn_options_uint (options, "refcount-cache-size") : 0;
  const uint64_t covering = (qcow2_clusters (q, q->size) + 1) << q->entry_bits;
  const uint64_t least_counts = (uint64_t) MIN_REFCOUNT_CLUSTERS << q->cluster_bits;
  if (all && l2 && counts) {
    return qcow2_fail (q, error, EINVAL,
                       "give at most two of cache-size, l2-cache-size and refcount-cache-size");
  }
  if (all && (l2 > all || counts > all)) {
    return qcow2_fail (q, error, EINVAL, "cache-size must cover l2-cache-size and refcount-cache-size");
  }
  q->l2_budget = l2 ? l2 : MIN (DEFAULT_L2_BUDGET, MAX (covering, 2ull << q->slice_bits));
  q->refcount_budget = counts ? counts : MIN (MAX (least_counts, 256u << 10), 8u << 20);
  if (all) {
    q->refcount_budget = counts ? counts : l2 ? all - l2 : MIN (q->refcount_budget, all / 4);
    q->l2_budget = l2 ? l2 : all - q->refcount_budget;
  }
  return 0;
}

static void
make_caches (Qcow2 *q)
{
  const uint32_t slice = 1u << q->slice_bits;
  q->l2_cache = tn_meta_cache_new (q->file, "L2 table", slice, q->l2_budget);
  q->l1_cache = tn_meta_cache_new (q->file, "L1 table", slice, 64ull << 10);
  q->refcount_cache = tn_meta_cache_new (q->file, "refcount block", slice, q->refcount_budget);
  q->reftable_cache = tn_meta_cache_new (q->file, "refcount table", slice, 64ull << 10);
  tn_meta_set_events (q->l2_cache, TN_EVENT_L2_LOAD, TN_EVENT_L2_UPDATE);
  tn_meta_set_events (q->l1_cache, TN_EVENT_NONE, TN_EVENT_L1_UPDATE);
  tn_meta_set_events (q->refcount_cache, TN_EVENT_REFBLOCK_LOAD, TN_EVENT_REFBLOCK_UPDATE);
  tn_meta_set_events (q->reftable_cache, TN_EVENT_REFTABLE_LOAD, TN_EVENT_REFTABLE_UPDATE);
}

static int
load_l1 (Qcow2 *q, GError **error)
{
  const size_t bytes = (size_t) q->l1_size * 8;
  g_autofree uint64_t *table = g_try_malloc (MAX (bytes, 8));
  if (table == NULL) {
    return qcow2_fail (q, error, ENOMEM, "no memory for the L1 table of %zu bytes", bytes);
  }
  int ret = bytes ? tn_node_read (q->file, q->l1_offset, table, bytes, error) : 0;
  if (ret < 0) {
    return ret;
  }
  for (uint32_t i = 0; i < q->l1_size; i++) {
    table[i] = GUINT64_FROM_BE (table[i]);
  }
  g_free (q->l1);
  q->l1 = g_steal_pointer (&table);
  return 0;
}

int
qcow2_load_tables (Qcow2 *q, GError **error)
{
  int ret = load_l1 (q, error);
  if (ret < 0 || !q->writable) {
    return ret;
  }
  if ((ret = qcow2_snapshots_load (q, error)) < 0) {
    return q->flags & TN_OPEN_CHECK ? (g_clear_error (error), 0) : ret;
  }
  return 0;
}

static int
check_disk_size (Qcow2 *q, uint64_t size, uint32_t l1_size, GError **error)
{
  const uint64_t needed = qcow2_l1_needed (q, size);
  if (needed > l1_size) {
    return qcow2_fail (q, error, EINVAL,
                       "the L1 table of %u entries is too small for a disk of %" PRIu64 " bytes", l1_size,
                       size);
  }
  return 0;
}

int
qcow2_attach (Qcow2 *q, TnNode *file, const TnOptions *options, GError **error)
{
  q->file = q->data = file;
  int ret = qcow2_header_read (q, error);
  if (ret < 0 || (ret = check_slice_option (q, options, error)) < 0) {
    return ret;
  }
  set_geometry (q, options);
  q->l1_offset = q->header.l1_offset;
  q->l1_size = q->header.l1_size;
  const char *snapshot = options ? tn_options_get (options, "snapshot") : NULL;
  if (snapshot && (ret = qcow2_snapshot_use (q, snapshot, error)) < 0) {
    return ret;
  }
  if ((ret = check_disk_size (q, q->size, q->l1_size, error)) < 0
      || (ret = set_budgets (q, options, error)) < 0) {
    return ret;
  }
  q->freed = g_array_new (false, false, sizeof (Qcow2Freed));
  q->forgotten = g_array_new (false, false, sizeof (Qcow2Freed));
  q->inflight = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  make_caches (q);
  return 0;
}

void
qcow2_detach (Qcow2 *q)
{
  g_clear_pointer (&q->l1_cache, tn_meta_cache_free);
  g_clear_pointer (&q->l2_cache, tn_meta_cache_free);
  g_clear_pointer (&q->reftable_cache, tn_meta_cache_free);
  g_clear_pointer (&q->refcount_cache, tn_meta_cache_free);
  g_clear_pointer (&q->freed, g_array_unref);
  g_clear_pointer (&q->forgotten, g_array_unref);
  g_clear_pointer (&q->inflight, g_hash_table_unref);
  g_clear_pointer (&q->bitmaps, g_array_unref);
  g_clear_pointer (&q->l1, g_free);
  g_clear_pointer (&q->secret_id, g_free);
  g_clear_pointer (&q->reftable, g_free);
  qcow2_snapshots_free (q);
  qcow2_header_clear (q);
}

/* ---- Before writing ---- */

static bool
needs_touch (Qcow2 *q)
{
  const uint64_t foreign = q->header.autoclear & ~QCOW2_AUTOCLEAR_KNOWN;
  const bool lost_bitmaps = (q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS) && q->bitmap_count == 0;
  return foreign || lost_bitmaps || q->bitmap_count;
}

/* After a crash with lazy reference counts they are made right before anything is allocated. */
static int
repair_dirty (Qcow2 *q, GError **error)
{
  TnCheck check = { .size = sizeof check };
  int ret = qcow2_check_state (q, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, &check, error);
  if (ret < 0) {
    return ret;
  }
  if (check.corruptions || check.check_errors) {
    return qcow2_fail (q, error, EIO, "repairing the reference counts left after a crash failed");
  }
  return qcow2_clear_dirty (q, error);
}

static int
prepare_writing (Qcow2 *q, GError **error)
{
  q->touched = !needs_touch (q);
  if (q->flags & TN_OPEN_CHECK) {
    return 0;
  }
  if (q->corrupt) {
    return qcow2_fail (q, error, EACCES,
                       "it is marked corrupt: open it read-only, or repair it with check -r all");
  }
  int ret = qcow2_reftable_load (q, error);
  if (ret < 0) {
    return ret;
  }
  return q->header.incompatible & QCOW2_INCOMPAT_DIRTY ? repair_dirty (q, error) : 0;
}

/* Only a leaf says what its new bytes hold. */
static bool
grows_with_zeroes (TnNode *file)
{
  const TnClass *class = tn_node_class (file);
  if (class == NULL || class->kind != TN_KIND_PROTOCOL) {
    return false;
  }
  const TnProtocolOps *ops = class->ops;
  return ops->size >= 2 * sizeof (uint32_t) && (ops->flags & TN_PROTOCOL_ZERO_INIT)
         && (ops->flags & TN_PROTOCOL_GROWS);
}

/* ---- Callbacks ---- */

static int
open_state (Qcow2 *q, const TnOptions *options, GError **error)
{
  const bool no_io = q->flags & TN_OPEN_NO_IO;
  q->writable = (q->flags & TN_OPEN_WRITE) && !no_io;
  int ret = qcow2_attach (q, tn_node_child (q->node, "file"), options, error);
  if (ret < 0) {
    return ret;
  }
  q->zero_tail = q->writable && grows_with_zeroes (q->file);
  tn_node_set_size (q->node, q->size);
  tn_node_set_allocation_unit (q->node, 1u << q->unit_bits);
  tn_node_set_pack_unit (q->node, q->cluster_size);
  if (q->backing_name) {
    tn_node_set_backing (q->node, q->backing_name, q->backing_format);
  }
  if (no_io) {
    return 0;
  }
  if ((ret = qcow2_open_data_file (q, error)) < 0 || (ret = qcow2_crypt_open (q, options, error)) < 0
      || (ret = qcow2_load_tables (q, error)) < 0) {
    return ret;
  }
  return q->writable ? prepare_writing (q, error) : 0;
}

static int
qcow2_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  q->node = node;
  q->flags = flags;
  int ret = open_state (q, options, error);
  if (ret < 0) {
    q->writable = false;
    qcow2_detach (q);
  }
  return ret;
}

/* Everything dirty to the disk in its order; @barrier: to stable storage. */
static int
write_caches (Qcow2 *q, bool barrier, GError **error)
{
  TnMetaCache *const caches[] = { q->refcount_cache, q->reftable_cache, q->l2_cache, q->l1_cache };
  return barrier ? tn_meta_flush (caches, G_N_ELEMENTS (caches), error)
                 : tn_meta_write (caches, G_N_ELEMENTS (caches), error);
}

int
qcow2_sync (Qcow2 *q, GError **error)
{
  return write_caches (q, true, error);
}

static void
note_settled (Qcow2 *q)
{
  q->freed_settled = q->freed->len;
  q->forgotten_settled = q->forgotten->len;
}

int
qcow2_settle (Qcow2 *q, GError **error)
{
  int ret = qcow2_sync (q, error);
  if (ret < 0 || (q->freed->len == 0 && q->forgotten->len == 0)) {
    return ret;
  }
  note_settled (q);
  ret = qcow2_apply_freed (q, error);
  return ret < 0 ? ret : qcow2_sync (q, error);
}

static int
qcow2_flush (TnNode *node, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return 0;
  }
  int ret = write_caches (q, false, error);
  if (ret == 0) {
    note_settled (q);
  }
  return ret;
}

static int
qcow2_flushed (TnNode *node, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return 0;
  }
  tn_meta_written_is_stable (q->l2_cache);
  return qcow2_apply_freed (q, error);
}

static int
finish_writing (Qcow2 *q, GError **error)
{
  int ret = qcow2_settle (q, error);
  if (ret < 0 || (q->flags & TN_OPEN_CHECK) || q->corrupt) {
    return ret;
  }
  ret = qcow2_bitmaps_end (q, error);
  return ret < 0 ? ret : qcow2_clear_dirty (q, error);
}

static int
qcow2_close (TnNode *node, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  int ret = q->writable ? finish_writing (q, error) : 0;
  qcow2_detach (q);
  return ret;
}

static int
qcow2_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  const bool want = (flags & TN_OPEN_WRITE) && !(q->flags & TN_OPEN_NO_IO);
  if (want && q->l1_offset != q->header.l1_offset) {
    return qcow2_fail (q, error, EROFS, "a snapshot can only be opened read-only");
  }
  int ret = set_budgets (q, options, error);
  if (ret < 0) {
    return ret;
  }
  if (q->writable && !want) {
    if ((ret = finish_writing (q, error)) < 0) {
      return ret;
    }
    q->writable = false;
  }
  const uint32_t old = q->flags;
  q->flags = flags;
  if (!q->writable && want) {
    q->writable = true;
    if ((ret = qcow2_snapshots_load (q, error)) < 0 || (ret = prepare_writing (q, error)) < 0) {
      q->writable = false;
      q->flags = old;
      return ret;
    }
  }
  tn_meta_set_budget (q->l2_cache, q->l2_budget);
  tn_meta_set_budget (q->refcount_cache, q->refcount_budget);
  return 0;
}

static int
qcow2_probe (const void *head, size_t head_length, const void *tail, size_t tail_length, uint64_t file_size)
{
  if (head_length < 8 || tn_load_be32 (head) != QCOW2_MAGIC) {
    return 0;
  }
  const uint32_t version = tn_load_be32 ((const uint8_t *) head + 4);
  return version == 2 || version == 3 ? 100 : 0;
}

/* ---- The plugin ---- */

static const TnFormatOps qcow2_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_PACKS | TN_FORMAT_GROWS,
  .instance_size = sizeof (Qcow2),
  .probe = qcow2_probe,
  .open = qcow2_open,
  .close = qcow2_close,
  .create = qcow2_create,
  .map = qcow2_map,
  .reserve = qcow2_reserve,
  .commit = qcow2_commit,
  .cancel = qcow2_cancel,
  .unmap = qcow2_unmap,
  .pack = qcow2_pack,
  .unpack = qcow2_unpack,
  .flush = qcow2_flush,
  .resize = qcow2_resize,
  .check = qcow2_check,
  .info = qcow2_info,
  .info_specific = qcow2_info_specific,
  .measure = qcow2_measure,
  .set_backing = qcow2_set_backing,
  .make_empty = qcow2_make_empty,
  .snapshots = qcow2_snapshots,
  .amend = qcow2_amend,
  .reopen = qcow2_reopen,
  .flushed = qcow2_flushed,
  .snapshot = qcow2_snapshot_change,
  .bitmap = qcow2_bitmap_change,
  .bitmap_visit = qcow2_bitmap_visit,
  .bitmap_mark = qcow2_bitmap_mark,
  .adopt = qcow2_adopt,
  .bitmaps = qcow2_bitmaps,
};

static const char *const compat_choices[] = { "0.10", "1.1", "v2", "v3", NULL };
static const char *const compression_choices[] = { "zlib", "zstd", NULL };
static const char *const prealloc_choices[] = { "off", "metadata", "falloc", "full", NULL };

static const char *const state_choices[] = { "active", "inactive", NULL };
static const char *const crypt_choices[] = { "luks", "aes", NULL };

static const TnOption qcow2_options[] = {
  { .name = "l2-cache-size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_OPEN | TN_OPTION_RUNTIME,
    .help = "most bytes of L2 tables to keep in memory (default: as the disk needs, up to 32M)" },
  { .name = "refcount-cache-size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_OPEN | TN_OPTION_RUNTIME,
    .help = "most bytes of refcount blocks to keep in memory" },
  { .name = "cache-size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_OPEN | TN_OPTION_RUNTIME,
    .help = "most bytes of L2 tables and refcount blocks together" },
  { .name = "l2-cache-entry-size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_OPEN,
    .help = "bytes of an L2 table read at a time (default: 4k)" },
  { .name = "lazy-refcounts",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_OPEN,
    .help = "let reference counts lag behind (default: as the image says)" },
  { .name = "snapshot",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN,
    .help = "id or name of the internal snapshot to read instead of the current state" },
  { .name = "data-file",
    .type = TN_OPTION_NODE,
    .when = TN_OPTION_OPEN,
    .help = "the external data file, instead of the one that the image names" },
  { .name = "compat",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .value = "1.1",
    .choices = compat_choices,
    .help = "version of the format: 0.10 (2) or 1.1 (3)" },
  { .name = "cluster_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "64k",
    .min = 512,
    .max = 2u << 20,
    .help = "cluster size, a power of two from 512 to 2M" },
  { .name = "backing_file",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .help = "file name of a base image" },
  { .name = "backing_fmt",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .help = "format of the base image" },
  { .name = "lazy_refcounts",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .value = "off",
    .help = "postpone refcount updates" },
  { .name = "refcount_bits",
    .type = TN_OPTION_UINT,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .value = "16",
    .min = 1,
    .max = 64,
    .help = "width of a reference count: 1, 2, 4, 8, 16, 32 or 64" },
  { .name = "compression_type",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .value = "zlib",
    .choices = compression_choices,
    .help = "how clusters are compressed" },
  { .name = "extended_l2",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_CREATE,
    .value = "off",
    .help = "allocate in subclusters of 1/32 cluster" },
  { .name = "data_file",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .help = "file name of an external data file, made anew" },
  { .name = "data_file_raw",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_CREATE,
    .value = "off",
    .help = "the data file must stay valid as a raw image" },
  { .name = "preallocation",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .value = "off",
    .choices = prealloc_choices,
    .help = "what to allocate at once" },
  { .name = "encryption", .type = TN_OPTION_BOOL, .when = TN_OPTION_CREATE, .help = "not made any more" },
  { .name = "encrypt.format",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_OPEN | TN_OPTION_CREATE,
    .choices = crypt_choices,
    .help = "how guest data is encrypted (aes: opening only)" },
  { .name = "encrypt.key-secret",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_CREATE,
    .help = "id of the secret that holds the passphrase" },
  { .name = "encrypt.cipher-alg",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .choices = luks_cipher_choices,
    .help = "cipher and key length (default: aes-256)" },
  { .name = "encrypt.cipher-mode",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .choices = luks_mode_choices,
    .help = "mode of the cipher (default: xts)" },
  { .name = "encrypt.ivgen-alg",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .choices = luks_iv_choices,
    .help = "what makes the sectors' IVs (default: plain64)" },
  { .name = "encrypt.ivgen-hash-alg",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .choices = luks_digest_choices,
    .help = "digest for ivgen-alg=essiv (default: sha256)" },
  { .name = "encrypt.hash-alg",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .choices = luks_digest_choices,
    .help = "digest for key derivation (default: sha256)" },
  { .name = "encrypt.iter-time",
    .type = TN_OPTION_UINT,
    .when = TN_OPTION_CREATE | TN_OPTION_AMEND,
    .min = 1,
    .max = 600000,
    .help = "milliseconds that trying a passphrase shall take (default: 2000)" },
  { "encrypt.state", TN_OPTION_ENUM, TN_OPTION_AMEND, NULL, "what is to become of a key slot",
    .choices = state_choices },
  { "encrypt.keyslot", TN_OPTION_UINT, TN_OPTION_AMEND, NULL, "its number (default: a free one)", 0, 7 },
  { "encrypt.new-secret", TN_OPTION_STRING, TN_OPTION_AMEND, NULL, "id of the secret that it is made for" },
  { "encrypt.old-secret", TN_OPTION_STRING, TN_OPTION_AMEND, NULL,
    "id of the secret that opens the image, or whose key slots are erased" },
  { "force", TN_OPTION_BOOL, TN_OPTION_AMEND, "off", "erase the last key slot, overwrite one in use" },
  { .name = NULL },
};

static const char *const qcow2_suffixes[] = { "qcow2", NULL };
static const char *const qcow2_codecs[] = { "deflate", "zstd", NULL };

static const TnMagic qcow2_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "QFI\xfb\0\0\0\2" },
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "QFI\xfb\0\0\0\3" },
  { .length = 0 },
};

static const TnClass qcow2_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "qcow2",
  .summary = "QEMU's copy-on-write image format, versions 2 and 3",
  .suffixes = qcow2_suffixes,
  .magics = qcow2_magics,
  .options = qcow2_options,
  .ops = &qcow2_ops,
};

static const TnClass *const qcow2_classes[] = { &qcow2_class, NULL };

TN_PLUGIN_DEFINE (format_qcow2, .security = TN_SECURITY_HARDENED, .name = "format-qcow2", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-qcow2",
                  .requires_codecs = qcow2_codecs, .classes = qcow2_classes);
