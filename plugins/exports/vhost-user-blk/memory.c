/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's memory, as the front end shares it. */
#include "vhost-user.h"

#include <unistd.h>

#define REGION_SIZE 32 /* of its description */

static VuRegion
parse_region (const uint8_t *raw, int fd)
{
  uint64_t fields[4];
  memcpy (fields, raw, sizeof fields);
  return (
      VuRegion){ .guest = fields[0], .size = fields[1], .user = fields[2], .offset = fields[3], .fd = fd };
}

static bool
overlaps (const VuRegion *a, const VuRegion *b)
{
  return a->user <= b->user + (b->size - 1) && b->user <= a->user + (a->size - 1);
}

/* What the address space does not check by itself. */
static int
check_region (const VuRegion *region, const VuRegion *others, unsigned n, GError **error)
{
  if (region->size == 0 || region->size - 1 > UINT64_MAX - region->user)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a region of memory does not fit the address space");
  for (unsigned i = 0; i < n; i++)
    if (overlaps (region, &others[i]))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "two regions of memory lie at the same address");
  return 0;
}

static int
map_region (TnSpace *space, const VuRegion *region, GError **error)
{
  return tn_space_add_shared (space, "shared", region->guest, region->size, region->fd, region->offset,
                              error);
}

/* A new space with these regions. */
static int
map_all (const VuRegion *regions, unsigned n, TnSpace **space, GError **error)
{
  TnSpace *made = tn_space_new ("vhost-user");
  int rc = 0;
  for (unsigned i = 0; i < n && rc == 0; i++) {
    rc = check_region (&regions[i], regions, i, error);
    if (rc == 0)
      rc = map_region (made, &regions[i], error);
  }
  if (rc < 0)
    tn_space_free (made);
  else
    *space = made;
  return rc;
}

/* Puts @space, made of @regions, in place of what there was; the rings move along. */
static int
replace (VuExport *export, TnSpace *space, const VuRegion *regions, unsigned n, GError **error)
{
  TnSpace *before = export->space;
  export->space = space;
  memmove (export->regions, regions, n * sizeof *regions);
  export->n_regions = n;
  const int rc = vu_rings_renew (export, error);
  tn_space_free (before);
  return rc;
}

static void
close_regions (VuExport *export)
{
  for (unsigned i = 0; i < export->n_regions; i++)
    close (export->regions[i].fd);
  export->n_regions = 0;
}

int
vu_set_mem_table (VuExport *export, const VuMessage *message, GError **error)
{
  VuInput *input = &export->input;
  VuRegion regions[VU_MAX_FDS];
  uint32_t n = 0;
  TnSpace *space = NULL;
  if (message->size >= 8)
    memcpy (&n, message->payload, sizeof n);
  if (n > VU_MAX_FDS || n != input->n_fds || message->size != 8 + n * REGION_SIZE)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO,
                    "SET_MEM_TABLE has %u regions, %u descriptors and %u bytes", n, input->n_fds,
                    message->size);
  for (uint32_t i = 0; i < n; i++)
    regions[i] = parse_region (message->payload + 8 + (size_t) i * REGION_SIZE, input->fds[i]);
  const int rc = map_all (regions, n, &space, error);
  if (rc < 0)
    return rc;
  input->n_fds = 0; /* they are the regions' now */
  close_regions (export);
  return replace (export, space, regions, n, error);
}

/* ---- Slots ---- */

static int
check_slot_message (const VuMessage *message, GError **error)
{
  if (message->size != 8 + REGION_SIZE)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "a message on a memory slot has %u bytes", message->size);
  return 0;
}

int
vu_add_mem_region (VuExport *export, const VuMessage *message, GError **error)
{
  int rc = check_slot_message (message, error);
  if (rc < 0)
    return rc;
  if (export->n_regions == VU_MAX_REGIONS || export->input.n_fds != 1)
    return tn_fail (error, TN_BLOCK_ERROR, EPROTO, "ADD_MEM_REG beyond %d slots, or without a descriptor",
                    VU_MAX_REGIONS);
  const VuRegion region = parse_region (message->payload + 8, export->input.fds[0]);
  rc = check_region (&region, export->regions, export->n_regions, error);
  if (rc < 0)
    return rc;
  if (!export->space)
    export->space = tn_space_new ("vhost-user");
  rc = map_region (export->space, &region, error);
  if (rc < 0)
    return rc;
  export->input.n_fds = 0;
  export->regions[export->n_regions++] = region;
  return 0;
}

static bool
same_region (const VuRegion *a, const VuRegion *b)
{
  return a->guest == b->guest && a->size == b->size && a->user == b->user;
}

int
vu_remove_mem_region (VuExport *export, const VuMessage *message, GError **error)
{
  VuRegion regions[VU_MAX_REGIONS];
  TnSpace *space = NULL;
  unsigned n = 0;
  int removed = -1, rc = check_slot_message (message, error);
  if (rc < 0)
    return rc;
  const VuRegion wanted = parse_region (message->payload + 8, -1);
  for (unsigned i = 0; i < export->n_regions; i++)
    if (removed < 0 && same_region (&export->regions[i], &wanted))
      removed = export->regions[i].fd;
    else
      regions[n++] = export->regions[i];
  if (removed < 0)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "REM_MEM_REG names a region that is not there");
  rc = map_all (regions, n, &space, error);
  if (rc < 0)
    return rc;
  close (removed);
  return replace (export, space, regions, n, error);
}

/* ---- Use ---- */

bool
vu_guest_address (const VuExport *export, uint64_t user, uint64_t *guest)
{
  for (unsigned i = 0; i < export->n_regions; i++) {
    const VuRegion *region = &export->regions[i];
    if (user >= region->user && user - region->user < region->size) {
      *guest = region->guest + (user - region->user);
      return true;
    }
  }
  return false;
}

void
vu_memory_clear (VuExport *export)
{
  close_regions (export);
  g_clear_pointer (&export->space, tn_space_free);
}
