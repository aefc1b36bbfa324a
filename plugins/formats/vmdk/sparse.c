/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Headers of sparse extents. */
#include "vmdk.h"

#define SESPARSE_MAGIC UINT64_C (0xcafebabe)
#define SESPARSE_VOLATILE_MAGIC UINT64_C (0xcafecafe)
#define SESPARSE_VERSION UINT64_C (0x0000000200000001)
#define COWD_GT_ENTRIES 4096u
#define MAX_SECTOR (INT64_MAX / VMDK_SECTOR)

bool
vmdk_sparse_known (const uint8_t *head)
{
  return memcmp (head, "KDMV", 4) == 0 || memcmp (head, "COWD", 4) == 0
         || tn_load_le64 (head) == SESPARSE_MAGIC;
}

static int vmdk_header_fail (TnNode *file, GError **error, int errnum, const char *format, ...)
    TN_PRINTF (4, 5);

static int
vmdk_header_fail (TnNode *file, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "VMDK extent '%s': %s", tn_node_filename (file), text);
}

/* ---- Checks that all kinds need ---- */

static int
vmdk_check_geometry (TnNode *file, VmdkSparse *s, GError **error)
{
  if (s->grain < VMDK_MIN_GRAIN || s->grain > VMDK_MAX_GRAIN || (s->grain & (s->grain - 1))) {
    return vmdk_header_fail (file, error, EINVAL,
                             "the header gives a grain size of %" PRIu64
                             " bytes: a power of two from %u to %u is possible",
                             s->grain, VMDK_MIN_GRAIN, VMDK_MAX_GRAIN);
  }
  if (s->gt_entries == 0 || s->gt_entries > 65536 || (s->gt_entries & (s->gt_entries - 1))
      || s->gt_entries * s->entry_bytes < VMDK_SECTOR) {
    return vmdk_header_fail (file, error, EINVAL, "the header gives grain tables of %u entries",
                             s->gt_entries);
  }
  const uint64_t span = s->grain * s->gt_entries;
  s->gd_entries = s->capacity / span + (s->capacity % span != 0);
  if (s->gd_entries > VMDK_MAX_GD_ENTRIES) {
    return vmdk_header_fail (
        file, error, EFBIG, "a disk of %" PRIu64 " bytes would need a grain directory of %" PRIu64 " entries",
        s->capacity, s->gd_entries);
  }
  return 0;
}

static int
vmdk_check_directory (TnNode *file, const VmdkSparse *s, uint64_t at, const char *what, GError **error)
{
  const uint64_t size = tn_node_size (file), bytes = s->gd_entries * s->entry_bytes;
  if (at < VMDK_SECTOR || at > size || bytes > size - at) {
    return vmdk_header_fail (file, error, EINVAL,
                             "the %s (%" PRIu64 " bytes at 0x%" PRIx64 ") is not within the file of %" PRIu64
                             " bytes: is it truncated?",
                             what, bytes, at, size);
  }
  return 0;
}

static int
vmdk_sectors (TnNode *file, uint64_t sectors, const char *what, uint64_t *bytes, GError **error)
{
  if (sectors > MAX_SECTOR) {
    return vmdk_header_fail (file, error, EINVAL, "the header gives %s as 0x%" PRIx64 " sectors", what,
                             sectors);
  }
  *bytes = sectors * VMDK_SECTOR;
  return 0;
}

/* ---- Hosted: KDMV ---- */

static int
vmdk_check_hosted_form (TnNode *file, const uint8_t *p, const VmdkSparse *s, GError **error)
{
  const uint16_t algorithm = tn_load_le16 (p + 77);
  if (s->version < 1 || s->version > 3) {
    return vmdk_header_fail (file, error, ENOTSUP, "the header is of version %u: 1 to 3 are known",
                             s->version);
  }
  if ((s->flags & VMDK_F_NEWLINES) && memcmp (p + 73, "\n \r\n", 4) != 0) {
    return vmdk_header_fail (file, error, EINVAL,
                             "ends of lines were converted in this file, as in a text: it is damaged");
  }
  if (s->compressed && algorithm != 1) {
    return vmdk_header_fail (file, error, ENOTSUP, "compression method %u is not known: only 1, deflate",
                             algorithm);
  }
  return 0;
}

static int
vmdk_decode_hosted (TnNode *file, const uint8_t *p, VmdkSparse *s, GError **error)
{
  const uint64_t gd = tn_load_le64 (p + 56), rgd = tn_load_le64 (p + 48);
  *s = (VmdkSparse){
    .version = tn_load_le32 (p + 4),
    .flags = tn_load_le32 (p + 8),
    .gt_entries = tn_load_le32 (p + 44),
    .entry_bytes = 4,
    .at_end = gd == VMDK_GD_AT_END,
  };
  s->compressed = s->flags & VMDK_F_COMPRESSED;
  s->markers = s->flags & VMDK_F_MARKERS;
  s->zeroed = s->flags & VMDK_F_ZEROED;
  int ret = vmdk_check_hosted_form (file, p, s, error);
  if (ret < 0 || (ret = vmdk_sectors (file, tn_load_le64 (p + 12), "the disk", &s->capacity, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 20), "a grain", &s->grain, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 28), "the descriptor", &s->descriptor_offset, error))
             < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 36), "the descriptor", &s->descriptor_bytes, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 64), "the overhead", &s->overhead, error)) < 0) {
    return ret;
  }
  if (!s->at_end && (ret = vmdk_sectors (file, gd, "the grain directory", &s->gd_offset, error)) < 0) {
    return ret;
  }
  if ((s->flags & VMDK_F_REDUNDANT) && !s->compressed
      && (ret = vmdk_sectors (file, rgd, "the second grain directory", &s->rgd_offset, error)) < 0) {
    return ret;
  }
  return 0;
}

/* Footer marker, a copy of the header that knows the place of the directory, end marker. */
static int
vmdk_read_footer (TnNode *file, VmdkSparse *s, GError **error)
{
  const uint64_t size = tn_node_size (file) / VMDK_SECTOR * VMDK_SECTOR;
  uint8_t tail[3 * VMDK_SECTOR];
  VmdkSparse footer;
  if (size < 4 * VMDK_SECTOR) {
    return vmdk_header_fail (file, error, EINVAL, "its footer is missing: is it truncated?");
  }
  int ret = tn_node_read (file, size - sizeof tail, tail, sizeof tail, error);
  if (ret < 0) {
    return ret;
  }
  const uint8_t *head = tail + VMDK_SECTOR, *end = tail + 2 * VMDK_SECTOR;
  if (tn_load_le32 (tail + 8) != 0 || tn_load_le32 (tail + 12) != VMDK_MARKER_FOOTER
      || memcmp (head, "KDMV", 4) != 0 || tn_load_le64 (end) != 0 || tn_load_le32 (end + 8) != 0
      || tn_load_le32 (end + 12) != VMDK_MARKER_END) {
    return vmdk_header_fail (file, error, EINVAL, "its footer is missing or damaged: is it truncated?");
  }
  ret = vmdk_decode_hosted (file, head, &footer, error);
  if (ret < 0) {
    return ret;
  }
  if (footer.at_end || footer.capacity != s->capacity || footer.grain != s->grain
      || footer.gt_entries != s->gt_entries || footer.compressed != s->compressed) {
    return vmdk_header_fail (file, error, EINVAL, "its footer does not fit its header");
  }
  s->gd_offset = footer.gd_offset;
  s->footer_offset = size - sizeof tail;
  return 0;
}

static int
vmdk_check_embedded (TnNode *file, const VmdkSparse *s, GError **error)
{
  const uint64_t size = tn_node_size (file);
  if (s->descriptor_offset == 0) {
    return 0;
  }
  if (s->descriptor_bytes == 0 || s->descriptor_bytes > VMDK_MAX_DESCRIPTOR || s->descriptor_offset > size
      || s->descriptor_bytes > size - s->descriptor_offset) {
    return vmdk_header_fail (file, error, EINVAL,
                             "the descriptor (%" PRIu64 " bytes at 0x%" PRIx64
                             ") is longer than %u bytes or not within the file",
                             s->descriptor_bytes, s->descriptor_offset, VMDK_MAX_DESCRIPTOR);
  }
  return 0;
}

static int
vmdk_read_hosted (TnNode *file, const uint8_t *head, VmdkSparse *s, GError **error)
{
  int ret = vmdk_decode_hosted (file, head, s, error);
  if (ret < 0 || (ret = vmdk_check_geometry (file, s, error)) < 0
      || (ret = vmdk_check_embedded (file, s, error)) < 0) {
    return ret;
  }
  /* Capacity 0: nothing but a descriptor. */
  if (s->capacity == 0) {
    return 0;
  }
  if ((s->at_end && (ret = vmdk_read_footer (file, s, error)) < 0)
      || (ret = vmdk_check_directory (file, s, s->gd_offset, "grain directory", error)) < 0) {
    return ret;
  }
  if (s->rgd_offset) {
    ret = vmdk_check_directory (file, s, s->rgd_offset, "second grain directory", error);
  }
  return ret;
}

/* ---- ESX: COWD ---- */

static int
vmdk_read_cowd (TnNode *file, const uint8_t *p, VmdkSparse *s, GError **error)
{
  *s = (VmdkSparse){
    .version = tn_load_le32 (p + 4),
    .capacity = (uint64_t) tn_load_le32 (p + 12) * VMDK_SECTOR,
    .grain = (uint64_t) tn_load_le32 (p + 16) * VMDK_SECTOR,
    .gd_offset = (uint64_t) tn_load_le32 (p + 20) * VMDK_SECTOR,
    .gt_entries = COWD_GT_ENTRIES,
    .entry_bytes = 4,
    .cowd = true,
  };
  if (s->version != 1) {
    return vmdk_header_fail (file, error, ENOTSUP, "the header is of version %u: 1 is known", s->version);
  }
  int ret = vmdk_check_geometry (file, s, error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_le32 (p + 24) < s->gd_entries) {
    return vmdk_header_fail (file, error, EINVAL,
                             "a grain directory of %u entries is too short for a disk of %" PRIu64 " bytes",
                             tn_load_le32 (p + 24), s->capacity);
  }
  return vmdk_check_directory (file, s, s->gd_offset, "grain directory", error);
}

/* ---- ESX: seSparse ---- */

static int
vmdk_check_volatile (TnNode *file, uint64_t at, GError **error)
{
  uint8_t head[VMDK_SECTOR];
  if (at > tn_node_size (file) || tn_node_size (file) - at < sizeof head) {
    return vmdk_header_fail (file, error, EINVAL, "its second header at 0x%" PRIx64 " is not within the file",
                             at);
  }
  int ret = tn_node_read (file, at, head, sizeof head, error);
  if (ret < 0) {
    return ret;
  }
  if (tn_load_le64 (head) != SESPARSE_VOLATILE_MAGIC) {
    return vmdk_header_fail (file, error, EINVAL, "its second header at 0x%" PRIx64 " is damaged", at);
  }
  if (tn_load_le64 (head + 24)) {
    return vmdk_header_fail (
        file, error, ENOTSUP,
        "it was not closed properly and its journal is to be replayed, which only ESX does");
  }
  return 0;
}

static int
vmdk_read_sesparse (TnNode *file, const uint8_t *p, VmdkSparse *s, GError **error)
{
  uint64_t table_bytes = 0, volatile_offset = 0, gd_bytes = 0;
  *s = (VmdkSparse){ .entry_bytes = 8, .sesparse = true, .zeroed = true };
  if (tn_load_le64 (p + 8) != SESPARSE_VERSION) {
    return vmdk_header_fail (file, error, ENOTSUP, "seSparse version 0x%" PRIx64 " is not known",
                             tn_load_le64 (p + 8));
  }
  int ret = vmdk_sectors (file, tn_load_le64 (p + 16), "the disk", &s->capacity, error);
  if (ret < 0 || (ret = vmdk_sectors (file, tn_load_le64 (p + 24), "a grain", &s->grain, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 32), "a grain table", &table_bytes, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 80), "the second header", &volatile_offset, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 128), "the directory", &s->gd_offset, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 136), "the directory", &gd_bytes, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 144), "the tables", &s->tables_offset, error)) < 0
      || (ret = vmdk_sectors (file, tn_load_le64 (p + 192), "the grains", &s->grains_offset, error)) < 0) {
    return ret;
  }
  s->gt_entries = table_bytes <= 65536 * 8 ? (uint32_t) (table_bytes / 8) : 0;
  if ((ret = vmdk_check_geometry (file, s, error)) < 0) {
    return ret;
  }
  if (gd_bytes / 8 < s->gd_entries) {
    return vmdk_header_fail (file, error, EINVAL,
                             "a grain directory of %" PRIu64 " bytes is too short for a disk of %" PRIu64
                             " bytes",
                             gd_bytes, s->capacity);
  }
  if ((ret = vmdk_check_directory (file, s, s->gd_offset, "grain directory", error)) < 0) {
    return ret;
  }
  return vmdk_check_volatile (file, volatile_offset, error);
}

int
vmdk_sparse_read (TnNode *file, const uint8_t *head, VmdkSparse *sparse, GError **error)
{
  if (memcmp (head, "COWD", 4) == 0) {
    return vmdk_read_cowd (file, head, sparse, error);
  }
  if (tn_load_le64 (head) == SESPARSE_MAGIC) {
    return vmdk_read_sesparse (file, head, sparse, error);
  }
  if (memcmp (head, "KDMV", 4) == 0) {
    return vmdk_read_hosted (file, head, sparse, error);
  }
  return vmdk_header_fail (file, error, EINVAL, "it does not begin as a sparse extent does");
}

void
vmdk_sparse_encode (const VmdkSparse *s, uint64_t gd_offset, uint8_t *head)
{
  memset (head, 0, VMDK_HEADER_BYTES);
  memcpy (head, "KDMV", 4);
  tn_store_le32 (head + 4, s->version);
  tn_store_le32 (head + 8, s->flags);
  tn_store_le64 (head + 12, s->capacity / VMDK_SECTOR);
  tn_store_le64 (head + 20, s->grain / VMDK_SECTOR);
  tn_store_le64 (head + 28, s->descriptor_offset / VMDK_SECTOR);
  tn_store_le64 (head + 36, s->descriptor_bytes / VMDK_SECTOR);
  tn_store_le32 (head + 44, s->gt_entries);
  tn_store_le64 (head + 48, s->rgd_offset / VMDK_SECTOR);
  tn_store_le64 (head + 56, gd_offset == VMDK_GD_AT_END ? gd_offset : gd_offset / VMDK_SECTOR);
  tn_store_le64 (head + 64, s->overhead / VMDK_SECTOR);
  memcpy (head + 73, "\n \r\n", 4);
  tn_store_le16 (head + 77, s->compressed ? 1 : 0);
}
