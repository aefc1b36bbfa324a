/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The footer, big-endian, and what it says of the size of the disk. */
#include "vpc.h"

#define VERSION_1_0 0x00010000u
#define EPOCH_2000 INT64_C (946684800)
#define OLD_FOOTER_SIZE 511u
#define MAX_TRIES 2000u /* a larger size has a geometry long before */

/* Places in the footer. */
#define AT_FEATURES 8
#define AT_VERSION 12
#define AT_DATA_OFFSET 16
#define AT_TIME 24
#define AT_CREATOR 28
#define AT_CREATOR_VERSION 32
#define AT_CREATOR_OS 36
#define AT_ORIGINAL_SIZE 40
#define AT_CURRENT_SIZE 48
#define AT_CYLINDERS 56
#define AT_HEADS 58
#define AT_SECTORS 59
#define AT_TYPE 60
#define AT_CHECKSUM 64
#define AT_UUID 68

uint32_t
vpc_checksum (const uint8_t *bytes, size_t length, size_t at)
{
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i++)
    sum += i >= at && i < at + 4 ? 0 : bytes[i];
  return ~sum;
}

uint32_t
vpc_time (int64_t unix_seconds)
{
  return (uint32_t) MAX (unix_seconds - EPOCH_2000, 0);
}

bool
vpc_footer_decode (const uint8_t bytes[VPC_SECTOR], VpcFooter *footer)
{
  if (memcmp (bytes, "conectix", 8) != 0
      || vpc_checksum (bytes, VPC_SECTOR, AT_CHECKSUM) != tn_load_be32 (bytes + AT_CHECKSUM))
    return false;
  *footer = (VpcFooter){
    .data_offset = tn_load_be64 (bytes + AT_DATA_OFFSET),
    .original_size = tn_load_be64 (bytes + AT_ORIGINAL_SIZE),
    .current_size = tn_load_be64 (bytes + AT_CURRENT_SIZE),
    .time_stamp = tn_load_be32 (bytes + AT_TIME),
    .geometry = { tn_load_be16 (bytes + AT_CYLINDERS), bytes[AT_HEADS], bytes[AT_SECTORS] },
    .type = tn_load_be32 (bytes + AT_TYPE),
  };
  memcpy (footer->creator, bytes + AT_CREATOR, 4);
  memcpy (footer->uuid, bytes + AT_UUID, 16);
  return true;
}

void
vpc_footer_encode (const VpcFooter *footer, uint8_t bytes[VPC_SECTOR])
{
  memset (bytes, 0, VPC_SECTOR);
  memcpy (bytes, "conectix", 8);
  tn_store_be32 (bytes + AT_FEATURES, 2);
  tn_store_be32 (bytes + AT_VERSION, VERSION_1_0);
  tn_store_be64 (bytes + AT_DATA_OFFSET, footer->data_offset);
  tn_store_be32 (bytes + AT_TIME, footer->time_stamp);
  memcpy (bytes + AT_CREATOR, footer->creator, 4);
  tn_store_be32 (bytes + AT_CREATOR_VERSION, VERSION_1_0);
  memcpy (bytes + AT_CREATOR_OS, "Wi2k", 4);
  tn_store_be64 (bytes + AT_ORIGINAL_SIZE, footer->original_size);
  tn_store_be64 (bytes + AT_CURRENT_SIZE, footer->current_size);
  tn_store_be16 (bytes + AT_CYLINDERS, footer->geometry.cylinders);
  bytes[AT_HEADS] = footer->geometry.heads;
  bytes[AT_SECTORS] = footer->geometry.sectors;
  tn_store_be32 (bytes + AT_TYPE, footer->type);
  memcpy (bytes + AT_UUID, footer->uuid, 16);
  tn_store_be32 (bytes + AT_CHECKSUM, vpc_checksum (bytes, VPC_SECTOR, AT_CHECKSUM));
}

/* ---- Finding it ---- */

/* Virtual PC before 2004 left out the last, zero, byte. */
static int
vpc_read_tail (Vpc *v, uint64_t file_size, uint8_t *bytes, VpcFooter *footer, bool *found, GError **error)
{
  int ret = tn_node_read (v->file, file_size - VPC_SECTOR, bytes, VPC_SECTOR, error);
  if (ret < 0 || (*found = vpc_footer_decode (bytes, footer)))
    return ret;
  memmove (bytes, bytes + 1, OLD_FOOTER_SIZE);
  bytes[OLD_FOOTER_SIZE] = 0;
  *found = vpc_footer_decode (bytes, footer) && footer->type == VPC_FIXED;
  return 0;
}

int
vpc_footer_read (Vpc *v, bool *at_end, GError **error)
{
  const uint64_t file_size = tn_node_size (v->file);
  uint8_t head[VPC_SECTOR], tail[VPC_SECTOR];
  VpcFooter first;
  if (file_size < VPC_SECTOR)
    return vpc_fail (v, error, EINVAL, "%" PRIu64 " bytes are too few for a footer", file_size);
  int ret = tn_node_read (v->file, 0, head, sizeof head, error);
  if (ret < 0 || (ret = vpc_read_tail (v, file_size, tail, &v->footer, at_end, error)) < 0)
    return ret;
  memcpy (v->footer_bytes, tail, sizeof tail);
  /* The copy in front is written once and never touched again: it is the better one. */
  if (vpc_footer_decode (head, &first) && first.type != VPC_FIXED) {
    v->footer = first;
    memcpy (v->footer_bytes, head, sizeof head);
    *at_end = *at_end && memcmp (head, tail, sizeof head) == 0;
  } else if (!*at_end) {
    return vpc_fail (v, error, EINVAL,
                     "it has no footer with a right checksum, neither at its end nor in front: it is damaged "
                     "or no VHD");
  }
  if (v->footer.type != VPC_FIXED && v->footer.type != VPC_DYNAMIC && v->footer.type != VPC_DIFFERENCING)
    return vpc_fail (v, error, ENOTSUP, "images of type %u are not supported", v->footer.type);
  return 0;
}

/* ---- Geometry and size ---- */

uint64_t
vpc_geometry_sectors (const VpcGeometry *geometry)
{
  return (uint64_t) geometry->cylinders * geometry->heads * geometry->sectors;
}

/* As the specification has it: sectors per track of 17, 31, 63 and 255, heads from 4 to 16. */
VpcGeometry
vpc_geometry (uint64_t sectors)
{
  sectors = MIN (sectors, VPC_MAX_GEOMETRY);
  if (sectors >= UINT64_C (65535) * 16 * 63)
    return (VpcGeometry){ (uint16_t) (sectors / 255 / 16), 16, 255 };
  uint64_t per_track = 17, tracks = sectors / per_track, heads = MAX ((tracks + 1023) / 1024, 4);
  if (tracks >= heads * 1024 || heads > 16) {
    per_track = 31;
    heads = 16;
    tracks = sectors / per_track;
  }
  if (tracks >= heads * 1024) {
    per_track = 63;
    heads = 16;
    tracks = sectors / per_track;
  }
  return (VpcGeometry){ (uint16_t) (tracks / heads), (uint8_t) heads, (uint8_t) per_track };
}

VpcGeometry
vpc_geometry_for (uint64_t sectors)
{
  const VpcGeometry largest = { VPC_MAX_CYLINDERS, VPC_MAX_HEADS, VPC_MAX_SPT };
  for (unsigned more = 0; more < MAX_TRIES && sectors <= VPC_MAX_GEOMETRY; more++) {
    const VpcGeometry geometry = vpc_geometry (sectors + more);
    if (vpc_geometry_sectors (&geometry) >= sectors)
      return geometry;
  }
  return largest;
}

/* Virtual PC and QEMU without force_size take the disk to be as large as its geometry says; these programs,
 * as large as the footer says. */
static bool
vpc_creator_means_size (const char *creator)
{
  static const char known[][4] = { "win ", "d2v ", "qem2", "tap", "CTXS", "wa" };
  for (unsigned i = 0; i < G_N_ELEMENTS (known); i++)
    if (memcmp (creator, known[i], 4) == 0)
      return true;
  return false;
}

/* Where the geometry counts it must be exactly the size, or the largest, which says that it does not.  The
 * original size is for information by the specification, but some readers (libvhdi) go by it. */
void
vpc_footer_resized (const Vpc *v, uint64_t size, uint8_t bytes[VPC_SECTOR])
{
  const VpcGeometry largest = { VPC_MAX_CYLINDERS, VPC_MAX_HEADS, VPC_MAX_SPT };
  const uint64_t sectors = size / VPC_SECTOR;
  VpcGeometry geometry = vpc_geometry_for (sectors);
  if (vpc_creator_means_size (v->footer.creator))
    geometry = vpc_geometry (sectors);
  else if (vpc_geometry_sectors (&geometry) != sectors)
    geometry = largest;
  memcpy (bytes, v->footer_bytes, VPC_SECTOR);
  tn_store_be64 (bytes + AT_ORIGINAL_SIZE, size);
  tn_store_be64 (bytes + AT_CURRENT_SIZE, size);
  tn_store_be16 (bytes + AT_CYLINDERS, geometry.cylinders);
  bytes[AT_HEADS] = geometry.heads;
  bytes[AT_SECTORS] = geometry.sectors;
  tn_store_be32 (bytes + AT_CHECKSUM, vpc_checksum (bytes, VPC_SECTOR, AT_CHECKSUM));
}

int
vpc_choose_size (Vpc *v, const char *rule, GError **error)
{
  const uint64_t by_geometry = vpc_geometry_sectors (&v->footer.geometry),
                 by_footer = v->footer.current_size / VPC_SECTOR, file_size = tn_node_size (v->file);
  if (rule)
    v->size_by_geometry = strcmp (rule, "chs") == 0;
  else
    v->size_by_geometry =
        by_geometry != 0 && by_geometry != VPC_MAX_GEOMETRY && !vpc_creator_means_size (v->footer.creator);
  const uint64_t sectors = v->size_by_geometry ? by_geometry : by_footer;
  if (sectors > VPC_MAX_SECTORS)
    return vpc_fail (v, error, EFBIG, "a disk of %" PRIu64 " sectors is larger than 2040 GiB", sectors);
  v->size = sectors * VPC_SECTOR;
  if (v->footer.type == VPC_FIXED && v->size > file_size - OLD_FOOTER_SIZE)
    return vpc_fail (v, error, EINVAL,
                     "a disk of %" PRIu64 " bytes does not fit its file of %" PRIu64
                     ": it has been truncated",
                     v->size, file_size);
  return 0;
}
