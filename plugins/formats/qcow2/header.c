/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header and its extensions. */
#include "crypt.h"

#define EXTENSION_END 0x00000000u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_FEATURE_NAMES 0x6803f857u
#define EXTENSION_BITMAPS 0x23852875u
#define EXTENSION_DATA_FILE 0x44415441u

#define HEADER_V2_LENGTH 72u
#define HEADER_V3_MIN_LENGTH 104u
#define HEADER_KNOWN_LENGTH 112u
#define FIRST_READ 4096u
#define FEATURE_NAME_LENGTH 46u
#define MAX_BACKING_NAME 1023u
#define MAX_FORMAT_NAME 15u

typedef struct FeatureName {
  uint8_t type, bit;
  const char *name;
} FeatureName;

static const FeatureName feature_names[] = {
  { 0, 0, "dirty bit" },        { 0, 1, "corrupt bit" },         { 0, 2, "external data file" },
  { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
  { 2, 0, "bitmaps" },          { 2, 1, "raw external data" },
};

static void
extension_clear (void *p)
{
  g_bytes_unref (((Qcow2Extension *) p)->data);
}

void
qcow2_header_clear (Qcow2 *q)
{
  g_clear_pointer (&q->header.tail, g_bytes_unref);
  g_clear_pointer (&q->extensions, g_array_unref);
  g_clear_pointer (&q->backing_name, g_free);
  g_clear_pointer (&q->backing_format, g_free);
  g_clear_pointer (&q->data_file_name, g_free);
  q->bitmap_count = 0;
}

/* ---- Reading ---- */

static int
parse_fixed (Qcow2 *q, const uint8_t *p, size_t length, GError **error)
{
  Qcow2Header *h = &q->header;
  if (length < HEADER_V2_LENGTH) {
    return qcow2_fail (q, error, EINVAL, "the header is cut off after %zu bytes", length);
  }
  if (tn_load_be32 (p) != QCOW2_MAGIC) {
    return qcow2_fail (q, error, EINVAL, "there is no qcow2 header");
  }
  h->version = tn_load_be32 (p + 4);
  h->backing_offset = tn_load_be64 (p + 8);
  h->backing_length = tn_load_be32 (p + 16);
  h->cluster_bits = tn_load_be32 (p + 20);
  h->size = tn_load_be64 (p + 24);
  h->crypt_method = tn_load_be32 (p + 32);
  h->l1_size = tn_load_be32 (p + 36);
  h->l1_offset = tn_load_be64 (p + 40);
  h->reftable_offset = tn_load_be64 (p + 48);
  h->reftable_clusters = tn_load_be32 (p + 56);
  h->snapshot_count = tn_load_be32 (p + 60);
  h->snapshots_offset = tn_load_be64 (p + 64);
  h->incompatible = h->compatible = h->autoclear = 0;
  h->refcount_order = 4;
  h->length = HEADER_V2_LENGTH;
  h->compression_type = 0;
  if (h->version != 2 && h->version != 3) {
    return qcow2_fail (q, error, ENOTSUP, "version %u of the format is not known (2 and 3 are)", h->version);
  }
  if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
    return qcow2_fail (q, error, EINVAL, "the cluster size 2^%u is not between 2^%d and 2^%d",
                       h->cluster_bits, QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
  }
  return 0;
}

static int
parse_version3 (Qcow2 *q, const uint8_t *p, size_t length, GError **error)
{
  Qcow2Header *h = &q->header;
  if (h->version < 3) {
    return 0;
  }
  if (length < HEADER_V3_MIN_LENGTH) {
    return qcow2_fail (q, error, EINVAL, "the header is cut off after %zu bytes", length);
  }
  h->incompatible = tn_load_be64 (p + 72);
  h->compatible = tn_load_be64 (p + 80);
  h->autoclear = tn_load_be64 (p + 88);
  h->refcount_order = tn_load_be32 (p + 96);
  h->length = tn_load_be32 (p + 100);
  if (h->length < HEADER_V3_MIN_LENGTH || h->length > (1u << h->cluster_bits)) {
    return qcow2_fail (q, error, EINVAL, "the header's length %u is not between %u and a cluster", h->length,
                       HEADER_V3_MIN_LENGTH);
  }
  if (h->refcount_order > 6) {
    return qcow2_fail (q, error, EINVAL, "reference counts of 2^%u bits are not known (64 is the most)",
                       h->refcount_order);
  }
  return 0;
}

static int
check_tables (Qcow2 *q, GError **error)
{
  const Qcow2Header *h = &q->header;
  const uint64_t mask = (1ull << h->cluster_bits) - 1, end = tn_node_size (q->file);
  const bool tolerant = q->flags & TN_OPEN_CHECK;
  if (h->reftable_clusters == 0 && !tolerant) {
    return qcow2_fail (q, error, EINVAL, "there is no refcount table");
  }
  if ((uint64_t) h->reftable_clusters << h->cluster_bits > MAX (QCOW2_MAX_REFTABLE_BYTES, mask + 1)) {
    return qcow2_fail (q, error, EINVAL, "the refcount table of %u clusters is larger than 8 MiB",
                       h->reftable_clusters);
  }
  if (h->reftable_offset & mask) {
    return qcow2_fail (q, error, EINVAL, "the refcount table's offset 0x%" PRIx64 " is not cluster aligned",
                       h->reftable_offset);
  }
  if (h->reftable_clusters && !tolerant && (h->reftable_offset == 0 || h->reftable_offset >= end)) {
    return qcow2_fail (q, error, EINVAL, "the refcount table's offset 0x%" PRIx64 " is not within the file",
                       h->reftable_offset);
  }
  if (h->l1_size > QCOW2_MAX_L1_BYTES / 8) {
    return qcow2_fail (q, error, EFBIG, "the L1 table of %u entries is larger than 32 MiB", h->l1_size);
  }
  if (h->l1_offset & mask) {
    return qcow2_fail (q, error, EINVAL, "the L1 table's offset 0x%" PRIx64 " is not cluster aligned",
                       h->l1_offset);
  }
  if (h->l1_size && (h->l1_offset == 0 || h->l1_offset > end || end - h->l1_offset < h->l1_size * 8ull)) {
    return qcow2_fail (q, error, EINVAL,
                       "the L1 table (offset 0x%" PRIx64 ", %u entries) is not within the file of %" PRIu64
                       " bytes",
                       h->l1_offset, h->l1_size, end);
  }
  if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS) {
    return qcow2_fail (q, error, EINVAL, "%u snapshots are more than %u", h->snapshot_count,
                       QCOW2_MAX_SNAPSHOTS);
  }
  if (h->snapshot_count
      && ((h->snapshots_offset & mask) || h->snapshots_offset == 0 || h->snapshots_offset >= end)) {
    return qcow2_fail (q, error, EINVAL, "the snapshot table's offset 0x%" PRIx64 " is not usable",
                       h->snapshots_offset);
  }
  return 0;
}

static int
check_features (Qcow2 *q, GError **error)
{
  const Qcow2Header *h = &q->header;
  if ((h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE)) {
    return qcow2_fail (q, error, EINVAL,
                       "the raw external data feature is set without an external data file");
  }
  if ((h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14) {
    return qcow2_fail (q, error, EINVAL, "extended L2 entries need clusters of at least 16 KiB");
  }
  if (!!(h->incompatible & QCOW2_INCOMPAT_COMPRESSION) != (h->compression_type != 0)) {
    return qcow2_fail (q, error, EINVAL, "the compression type %u contradicts the feature bit",
                       h->compression_type);
  }
  if (h->compression_type > 1) {
    return qcow2_fail (q, error, ENOTSUP, "the compression type %u is not known (0 is zlib, 1 is zstd)",
                       h->compression_type);
  }
  if (h->crypt_method > 2) {
    return qcow2_fail (q, error, ENOTSUP, "the encryption method %u is not known", h->crypt_method);
  }
  if (h->size > (uint64_t) INT64_MAX) {
    return qcow2_fail (q, error, EFBIG, "the disk size %" PRIu64 " is not sensible", h->size);
  }
  return 0;
}

/* What the image's own feature name table calls the unknown bits. */
static int
refuse_unknown_features (Qcow2 *q, uint64_t unknown, const uint8_t *table, size_t length, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (unsigned bit = 0; bit < 64; bit++) {
    const char *name = NULL;
    size_t name_length = 0;
    if (!(unknown & (1ull << bit))) {
      continue;
    }
    for (size_t at = 0; at + 48 <= length && name == NULL; at += 48) {
      if (table[at] == 0 && table[at + 1] == bit && table[at + 2]) {
        name = (const char *) table + at + 2;
        name_length = strnlen (name, FEATURE_NAME_LENGTH);
      }
    }
    g_autofree char *text =
        name ? g_utf8_make_valid (name, (gssize) name_length) : g_strdup_printf ("bit %u", bit);
    for (char *c = text; *c; c++) {
      *c = (unsigned char) *c < ' ' ? '?' : *c;
    }
    g_string_append_printf (names, "%s'%s'", names->len ? ", " : "", text);
  }
  return qcow2_fail (q, error, ENOTSUP, "unknown incompatible features %s: a newer version may know them",
                     names->str);
}

static int
parse_bitmaps_extension (Qcow2 *q, const uint8_t *p, uint32_t length, GError **error)
{
  const uint64_t mask = (1ull << q->header.cluster_bits) - 1;
  if (length != 24) {
    return qcow2_fail (q, error, EINVAL, "the bitmaps extension is %u bytes long instead of 24", length);
  }
  if (!(q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
    return 0; /* some program wrote without keeping the bitmaps: they count for nothing */
  }
  q->bitmap_count = tn_load_be32 (p);
  q->bitmap_directory_size = tn_load_be64 (p + 8);
  q->bitmap_directory_offset = tn_load_be64 (p + 16);
  if (q->bitmap_count == 0 || q->bitmap_count > QCOW2_MAX_BITMAPS
      || q->bitmap_directory_size > QCOW2_MAX_BITMAP_DIRECTORY || (q->bitmap_directory_offset & mask)
      || q->bitmap_directory_size < q->bitmap_count * 24ull
      || q->bitmap_directory_offset >= tn_node_size (q->file)) {
    return qcow2_fail (q, error, EINVAL, "the bitmaps extension is not valid");
  }
  return 0;
}

static int
parse_extension (Qcow2 *q, uint32_t type, const uint8_t *p, uint32_t length, GError **error)
{
  switch (type) {
  case EXTENSION_BACKING_FORMAT:
    if (length > MAX_FORMAT_NAME) {
      return qcow2_fail (q, error, EINVAL, "the backing format's name of %u bytes is too long", length);
    }
    g_free (q->backing_format);
    q->backing_format = g_strndup ((const char *) p, length);
    return 0;
  case EXTENSION_DATA_FILE:
    if (length == 0 || length > MAX_BACKING_NAME) {
      return qcow2_fail (q, error, EINVAL, "the data file's name of %u bytes is not usable", length);
    }
    g_free (q->data_file_name);
    q->data_file_name = g_strndup ((const char *) p, length);
    return 0;
  case EXTENSION_BITMAPS:
    if (parse_bitmaps_extension (q, p, length, error) < 0) {
      return -EINVAL;
    }
    break; /* kept as it is, too */
  case QCOW2_EXTENSION_CRYPT:
    if (qcow2_crypt_extension (q, p, length, error) < 0) {
      return -EINVAL;
    }
    break;
  case EXTENSION_FEATURE_NAMES:
    return 0; /* written anew */
  default:
    break;
  }
  Qcow2Extension extension = { type, g_bytes_new (p, length) };
  g_array_append_val (q->extensions, extension);
  return 0;
}

/* Walks the extensions within @p[0, length); *more is set when they go on behind. */
static int
parse_extensions (Qcow2 *q, const uint8_t *p, size_t length, bool *more, GError **error)
{
  const Qcow2Header *h = &q->header;
  const uint64_t cluster = 1ull << h->cluster_bits, end = h->backing_offset ? h->backing_offset : cluster;
  const uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;
  uint64_t at = h->length;
  *more = false;
  while (at + 8 <= end) {
    if (at + 8 > length) {
      *more = length < cluster && length < tn_node_size (q->file);
      break;
    }
    const uint32_t type = tn_load_be32 (p + at), size = tn_load_be32 (p + at + 4);
    at += 8;
    if (type == EXTENSION_END) {
      break;
    }
    if (size > end - at) {
      return qcow2_fail (q, error, EINVAL,
                         "header extension 0x%08x of %u bytes is longer than the room for it", type, size);
    }
    if (at + size > length) {
      if (length >= cluster || length >= tn_node_size (q->file)) {
        return qcow2_fail (q, error, EINVAL, "header extension 0x%08x is cut off", type);
      }
      *more = true;
      return 0;
    }
    if (unknown && type == EXTENSION_FEATURE_NAMES) {
      return refuse_unknown_features (q, unknown, p + at, size, error);
    }
    int ret = parse_extension (q, type, p + at, size, error);
    if (ret < 0) {
      return ret;
    }
    at += ((uint64_t) size + 7) & ~7ull;
  }
  return unknown && !*more ? refuse_unknown_features (q, unknown, NULL, 0, error) : 0;
}

static int
parse_backing_name (Qcow2 *q, const uint8_t *p, size_t length, bool *more, GError **error)
{
  const Qcow2Header *h = &q->header;
  const uint64_t cluster = 1ull << h->cluster_bits;
  if (h->backing_offset == 0) {
    return 0;
  }
  if (h->backing_offset > cluster) {
    return qcow2_fail (q, error, EINVAL,
                       "the backing file name at 0x%" PRIx64 " is outside the first cluster",
                       h->backing_offset);
  }
  if (h->backing_length > MAX_BACKING_NAME || h->backing_length > cluster - h->backing_offset) {
    return qcow2_fail (q, error, EINVAL, "the backing file name of %u bytes is too long", h->backing_length);
  }
  if (h->backing_offset + h->backing_length > length) {
    if (length >= cluster || length >= tn_node_size (q->file)) {
      return qcow2_fail (q, error, EINVAL, "the backing file name is cut off");
    }
    *more = true;
    return 0;
  }
  if (h->backing_length) {
    q->backing_name = g_strndup ((const char *) p + h->backing_offset, h->backing_length);
  }
  return 0;
}

static int
parse (Qcow2 *q, const uint8_t *p, size_t length, bool *more, GError **error)
{
  Qcow2Header *h = &q->header;
  int ret = parse_fixed (q, p, length, error);
  if (ret < 0 || (ret = parse_version3 (q, p, length, error)) < 0) {
    return ret;
  }
  if (h->length > length) {
    *more = length < tn_node_size (q->file);
    return *more ? 0 : qcow2_fail (q, error, EINVAL, "the header is cut off after %zu bytes", length);
  }
  if (h->length > 104) {
    h->compression_type = p[104];
  }
  if (h->length > HEADER_KNOWN_LENGTH) {
    h->tail = g_bytes_new (p + HEADER_KNOWN_LENGTH, h->length - HEADER_KNOWN_LENGTH);
  }
  q->extensions = g_array_new (false, false, sizeof (Qcow2Extension));
  g_array_set_clear_func (q->extensions, extension_clear);
  /* Unknown features first: what they change may be what else would look wrong. */
  if ((ret = parse_extensions (q, p, length, more, error)) < 0 || *more
      || (ret = parse_backing_name (q, p, length, more, error)) < 0 || *more) {
    return ret;
  }
  if ((ret = check_features (q, error)) < 0) {
    return ret;
  }
  return check_tables (q, error);
}

int
qcow2_header_read (Qcow2 *q, GError **error)
{
  size_t length = FIRST_READ;
  for (;;) {
    bool more = false;
    length = MIN (length, tn_node_size (q->file));
    g_autofree uint8_t *buffer = g_malloc0 (MAX (length, 1));
    int ret = length ? tn_node_read (q->file, 0, buffer, length, error) : 0;
    if (ret < 0 || (ret = parse (q, buffer, length, &more, error)) < 0 || !more) {
      return ret;
    }
    qcow2_header_clear (q);
    length = 1u << q->header.cluster_bits;
  }
}

void
qcow2_header_set_bitmaps (Qcow2 *q)
{
  uint8_t p[24] = { 0 };
  for (guint i = 0; i < q->extensions->len; i++) {
    if (g_array_index (q->extensions, Qcow2Extension, i).type == EXTENSION_BITMAPS) {
      g_array_remove_index (q->extensions, i--);
    }
  }
  q->header.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
  if (q->bitmap_count == 0) {
    return;
  }
  q->header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
  tn_store_be32 (p, q->bitmap_count);
  tn_store_be64 (p + 8, q->bitmap_directory_size);
  tn_store_be64 (p + 16, q->bitmap_directory_offset);
  const Qcow2Extension extension = { EXTENSION_BITMAPS, g_bytes_new (p, sizeof p) };
  g_array_append_val (q->extensions, extension);
}

/* ---- Writing ---- */

static void
put_tables (const Qcow2Header *h, uint8_t *p)
{
  tn_store_be64 (p + 24, h->size);
  tn_store_be32 (p + 32, h->crypt_method);
  tn_store_be32 (p + 36, h->l1_size);
  tn_store_be64 (p + 40, h->l1_offset);
  tn_store_be64 (p + 48, h->reftable_offset);
  tn_store_be32 (p + 56, h->reftable_clusters);
  tn_store_be32 (p + 60, h->snapshot_count);
  tn_store_be64 (p + 64, h->snapshots_offset);
}

int
qcow2_header_write_tables (Qcow2 *q, GError **error)
{
  uint8_t p[72];
  put_tables (&q->header, p);
  return tn_node_write (q->file, 24, p + 24, sizeof p - 24, error);
}

int
qcow2_header_write_features (Qcow2 *q, GError **error)
{
  uint8_t p[24];
  g_return_val_if_fail (q->header.version >= 3, -EINVAL);
  tn_store_be64 (p, q->header.incompatible);
  tn_store_be64 (p + 8, q->header.compatible);
  tn_store_be64 (p + 16, q->header.autoclear);
  return tn_node_write (q->file, 72, p, sizeof p, error);
}

static void
append_extension (GByteArray *out, uint32_t type, const void *data, uint32_t length)
{
  static const uint8_t padding[8];
  uint8_t head[8];
  tn_store_be32 (head, type);
  tn_store_be32 (head + 4, length);
  g_byte_array_append (out, head, sizeof head);
  if (length) {
    g_byte_array_append (out, data, length);
  }
  g_byte_array_append (out, padding, (8 - length % 8) % 8);
}

static void
append_feature_names (GByteArray *out)
{
  uint8_t table[G_N_ELEMENTS (feature_names) * 48] = { 0 };
  for (size_t i = 0; i < G_N_ELEMENTS (feature_names); i++) {
    uint8_t *p = table + i * 48;
    p[0] = feature_names[i].type;
    p[1] = feature_names[i].bit;
    memcpy (p + 2, feature_names[i].name, strlen (feature_names[i].name));
  }
  append_extension (out, EXTENSION_FEATURE_NAMES, table, sizeof table);
}

static void
append_fixed (Qcow2 *q, GByteArray *out)
{
  Qcow2Header *h = &q->header;
  uint8_t p[HEADER_KNOWN_LENGTH] = { 0 };
  h->length = h->version < 3 ? HEADER_V2_LENGTH : MAX (h->length, HEADER_KNOWN_LENGTH);
  tn_store_be32 (p, QCOW2_MAGIC);
  tn_store_be32 (p + 4, h->version);
  tn_store_be32 (p + 20, h->cluster_bits);
  put_tables (h, p);
  tn_store_be64 (p + 72, h->incompatible);
  tn_store_be64 (p + 80, h->compatible);
  tn_store_be64 (p + 88, h->autoclear);
  tn_store_be32 (p + 96, h->refcount_order);
  tn_store_be32 (p + 100, h->length);
  p[104] = (uint8_t) h->compression_type;
  g_byte_array_append (out, p, MIN (h->length, sizeof p));
  if (h->tail) {
    gsize length;
    const uint8_t *data = g_bytes_get_data (h->tail, &length);
    g_byte_array_append (out, data, (guint) length);
  }
}

int
qcow2_header_write (Qcow2 *q, GError **error)
{
  Qcow2Header *h = &q->header;
  g_autoptr (GByteArray) out = g_byte_array_new ();
  append_fixed (q, out);
  if (q->backing_format) {
    append_extension (out, EXTENSION_BACKING_FORMAT, q->backing_format,
                      (uint32_t) strlen (q->backing_format));
  }
  if (q->data_file_name) {
    append_extension (out, EXTENSION_DATA_FILE, q->data_file_name, (uint32_t) strlen (q->data_file_name));
  }
  if (h->version >= 3 && q->cluster_size >= 4096) {
    append_feature_names (out);
  }
  for (guint i = 0; q->extensions && i < q->extensions->len; i++) {
    const Qcow2Extension *extension = &g_array_index (q->extensions, Qcow2Extension, i);
    gsize length;
    const void *data = g_bytes_get_data (extension->data, &length);
    append_extension (out, extension->type, data, (uint32_t) length);
  }
  append_extension (out, EXTENSION_END, NULL, 0);
  h->backing_offset = q->backing_name ? out->len : 0;
  h->backing_length = q->backing_name ? (uint32_t) strlen (q->backing_name) : 0;
  if (q->backing_name) {
    g_byte_array_append (out, (const uint8_t *) q->backing_name, h->backing_length);
  }
  if (out->len > q->cluster_size || h->backing_length > MAX_BACKING_NAME) {
    return qcow2_fail (q, error, ENOSPC,
                       "the header with its backing file name does not fit a cluster: use a shorter name%s",
                       q->cluster_size < 65536 ? " or larger clusters" : "");
  }
  tn_store_be64 (out->data + 8, h->backing_offset);
  tn_store_be32 (out->data + 16, h->backing_length);
  const guint used = out->len;
  g_byte_array_set_size (out, q->cluster_size);
  memset (out->data + used, 0, q->cluster_size - used);
  return tn_node_write (q->file, 0, out->data, out->len, error);
}
