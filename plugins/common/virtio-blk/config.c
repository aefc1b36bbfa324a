/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Features and configuration: VIRTIO 1.2, sections 5.2.3 to 5.2.5. */
#include "virtio-blk.h"

enum {
  FEATURE_SEG_MAX = 2,
  FEATURE_RO = 5,
  FEATURE_BLK_SIZE = 6,
  FEATURE_FLUSH = 9,
  FEATURE_TOPOLOGY = 10,
  FEATURE_CONFIG_WCE = 11,
  FEATURE_MQ = 12,
  FEATURE_DISCARD = 13,
  FEATURE_WRITE_ZEROES = 14,

  CONFIG_WRITEBACK = 32,
  SEGMENTS_BESIDE_DATA = 2, /* header and status */
};

uint64_t
virtio_blk_offered (const VirtioBlk *blk)
{
  uint64_t features = 1ull << FEATURE_SEG_MAX | 1ull << FEATURE_BLK_SIZE | 1ull << FEATURE_FLUSH
                      | 1ull << FEATURE_TOPOLOGY | 1ull << FEATURE_CONFIG_WCE;

  if (blk->n_queues > 1)
    features |= 1ull << FEATURE_MQ;
  if (blk->read_only)
    return features | 1ull << FEATURE_RO;
  features |= 1ull << FEATURE_WRITE_ZEROES;
  if (tn_drive_can_discard (blk->drive))
    features |= 1ull << FEATURE_DISCARD;
  return features;
}

void
virtio_blk_config_fill (const VirtioBlk *blk, uint8_t *config)
{
  uint64_t unit = blk->block_size / VIRTIO_BLK_SECTOR;
  /* The guest sees whole blocks only. */
  uint64_t capacity = tn_drive_size (blk->drive) / blk->block_size * unit;

  memset (config, 0, VIRTIO_BLK_CONFIG_SIZE);
  tn_store_le64 (config, capacity);
  tn_store_le32 (config + 12, blk->queue_size - SEGMENTS_BESIDE_DATA);
  tn_store_le32 (config + 20, blk->block_size);
  tn_store_le16 (config + 26, 1); /* smallest good transfer, in blocks */
  config[CONFIG_WRITEBACK] = tn_drive_write_cache (blk->drive);
  tn_store_le16 (config + 34, blk->n_queues);
  tn_store_le32 (config + 36, VIRTIO_BLK_MAX_RANGE);
  tn_store_le32 (config + 40, 1);
  tn_store_le32 (config + 44, unit);
  tn_store_le32 (config + 48, VIRTIO_BLK_MAX_RANGE);
  tn_store_le32 (config + 52, 1);
  config[56] = 1; /* write-zeroes may unmap */
}

void
virtio_blk_config_write (VirtioBlk *blk, uint32_t offset, const void *data, uint32_t length)
{
  if (offset == CONFIG_WRITEBACK && length == 1 && (blk->features & (1ull << FEATURE_CONFIG_WCE)) != 0)
    tn_drive_set_write_cache (blk->drive, (*(const uint8_t *) data & 1) != 0);
}

void
virtio_blk_start (VirtioBlk *blk, uint64_t features)
{
  blk->features = features;
  /* A driver that can neither flush nor switch the cache off must not lose what it has written. */
  if ((features & (1ull << FEATURE_CONFIG_WCE)) == 0)
    tn_drive_set_write_cache (blk->drive, (features & (1ull << FEATURE_FLUSH)) != 0 && blk->wce_default);
}

void
virtio_blk_reset (VirtioBlk *blk)
{
  blk->features = 0;
  if (blk->drive != NULL)
    tn_drive_set_write_cache (blk->drive, blk->wce_default);
}
