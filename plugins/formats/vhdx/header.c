/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two headers, little-endian. */
#include "vhdx.h"

#include "../common/crc32c.h"

#define AT_CHECKSUM 4
#define AT_SEQUENCE 8
#define AT_FILE_GUID 16
#define AT_DATA_GUID 32
#define AT_LOG_GUID 48
#define AT_LOG_VERSION 64
#define AT_VERSION 66
#define AT_LOG_LENGTH 68
#define AT_LOG_OFFSET 72

static uint64_t
vhdx_header_place (unsigned slot)
{
  return (slot + 1) * UINT64_C (65536);
}

static bool
vhdx_header_decode (const uint8_t *page, VhdxHeader *header)
{
  if (memcmp (page, "head", 4) != 0
      || crc32c_without (page, VHDX_PAGE, AT_CHECKSUM) != tn_load_le32 (page + AT_CHECKSUM))
    return false;
  *header = (VhdxHeader){
    .sequence = tn_load_le64 (page + AT_SEQUENCE),
    .log_version = tn_load_le16 (page + AT_LOG_VERSION),
    .version = tn_load_le16 (page + AT_VERSION),
    .log_length = tn_load_le32 (page + AT_LOG_LENGTH),
    .log_offset = tn_load_le64 (page + AT_LOG_OFFSET),
  };
  memcpy (header->file_guid, page + AT_FILE_GUID, 16);
  memcpy (header->data_guid, page + AT_DATA_GUID, 16);
  memcpy (header->log_guid, page + AT_LOG_GUID, 16);
  return true;
}

void
vhdx_header_encode (const VhdxHeader *header, uint8_t page[VHDX_PAGE])
{
  memset (page, 0, VHDX_PAGE);
  memcpy (page, "head", 4);
  tn_store_le64 (page + AT_SEQUENCE, header->sequence);
  memcpy (page + AT_FILE_GUID, header->file_guid, 16);
  memcpy (page + AT_DATA_GUID, header->data_guid, 16);
  memcpy (page + AT_LOG_GUID, header->log_guid, 16);
  tn_store_le16 (page + AT_LOG_VERSION, header->log_version);
  tn_store_le16 (page + AT_VERSION, header->version);
  tn_store_le32 (page + AT_LOG_LENGTH, header->log_length);
  tn_store_le64 (page + AT_LOG_OFFSET, header->log_offset);
  tn_store_le32 (page + AT_CHECKSUM, crc32c_without (page, VHDX_PAGE, AT_CHECKSUM));
}

static int
vhdx_check_header (const Vhdx *v, GError **error)
{
  const VhdxHeader *h = &v->header;
  if (h->version != 1)
    return vhdx_fail (v, error, ENOTSUP, "version %u is not supported", h->version);
  if (h->log_length % VHDX_MIB || h->log_offset % VHDX_MIB || h->log_offset > (uint64_t) INT64_MAX / 2
      || (h->log_length && h->log_offset < VHDX_MIB))
    return vhdx_fail (v, error, EINVAL, "a log of %u bytes at %" PRIu64 " is impossible", h->log_length,
                      h->log_offset);
  return 0;
}

int
vhdx_headers_read (Vhdx *v, GError **error)
{
  uint8_t page[VHDX_PAGE];
  bool found = false;
  int ret = tn_node_size (v->file) < VHDX_MIB
                ? vhdx_fail (v, error, EINVAL, "%" PRIu64 " bytes are too few: it has been truncated",
                             tn_node_size (v->file))
                : tn_node_read (v->file, 0, page, 8, error);
  if (ret < 0)
    return ret;
  if (memcmp (page, "vhdxfile", 8) != 0)
    return vhdx_fail (v, error, EINVAL, "it is no VHDX image");
  for (unsigned slot = 0; slot < 2; slot++) {
    VhdxHeader header;
    if ((ret = tn_node_read (v->file, vhdx_header_place (slot), page, sizeof page, error)) < 0)
      return ret;
    if (!vhdx_header_decode (page, &header) || (found && header.sequence <= v->header.sequence))
      continue;
    v->header = header;
    v->header_slot = slot;
    found = true;
  }
  if (!found)
    return vhdx_fail (v, error, EINVAL, "neither of its two headers has a right checksum");
  return vhdx_check_header (v, error);
}

/* The other header, which from then on is the one that counts. */
static int
vhdx_header_write (Vhdx *v, const VhdxHeader *header, GError **error)
{
  uint8_t page[VHDX_PAGE];
  vhdx_header_encode (header, page);
  int ret = tn_node_write (v->file, vhdx_header_place (!v->header_slot), page, sizeof page, error);
  if (ret < 0 || (ret = tn_node_flush (v->file, error)) < 0)
    return ret;
  v->header = *header;
  v->header_slot = !v->header_slot;
  return 0;
}

int
vhdx_touch (Vhdx *v, GError **error)
{
  VhdxHeader header = v->header;
  if (v->touched)
    return 0;
  int ret = vhdx_overlay_is_empty (&v->overlay) ? 0 : vhdx_overlay_write (v, error);
  if (ret < 0)
    return ret;
  header.sequence++;
  uuid_random (header.file_guid, true);
  uuid_random (header.data_guid, true);
  memset (header.log_guid, 0, sizeof header.log_guid); /* there is nothing to replay any more */
  if ((ret = vhdx_header_write (v, &header, error)) < 0)
    return ret;
  vhdx_overlay_clear (&v->overlay);
  vhdx_overlay_init (&v->overlay);
  v->touched = true;
  return 0;
}
