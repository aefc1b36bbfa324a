/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A block device as VIRTIO 1.2, section 5.2, describes it, whoever brings its requests: the emulated device
 * and the vhost-user export.
 */
#ifndef COMMON_VIRTIO_BLK_H
#define COMMON_VIRTIO_BLK_H

#include <tenon/drive.h>
#include <tenon/virtio.h>

#define VIRTIO_BLK_SECTOR 512u
#define VIRTIO_BLK_ID_LENGTH 20
#define VIRTIO_BLK_CONFIG_SIZE 60
#define VIRTIO_BLK_MAX_RANGE ((uint32_t) 4 << 20) /* sectors in one discard or write-zeroes: 2 GiB */

typedef struct VirtioBlk {
  TnDrive *drive;
  uint64_t features; /* negotiated; 0 while there is no driver */
  uint32_t block_size;
  uint16_t queue_size; /* what it tells of the longest request */
  uint16_t n_queues;
  bool read_only;
  bool wce_default; /* write cache as the drive came */
  char serial[VIRTIO_BLK_ID_LENGTH];
  /* The guest has broken the protocol. */
  void (*broken) (void *opaque, const char *why);
  void *opaque;
} VirtioBlk;

/* ---- request.c ---- */

/* Pops and serves all there is. */
void virtio_blk_serve (VirtioBlk *blk, TnVirtq *queue);

/* ---- config.c ---- */

/* What is offered, beside what the core and transports add. */
uint64_t virtio_blk_offered (const VirtioBlk *blk);
/* A driver has come that knows these features. */
void virtio_blk_start (VirtioBlk *blk, uint64_t features);
/* It has gone. */
void virtio_blk_reset (VirtioBlk *blk);
/* The configuration space, VIRTIO_BLK_CONFIG_SIZE bytes. */
void virtio_blk_config_fill (const VirtioBlk *blk, uint8_t *config);
/* What cannot be written is ignored. */
void virtio_blk_config_write (VirtioBlk *blk, uint32_t offset, const void *data, uint32_t length);

#endif
