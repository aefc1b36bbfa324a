/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Grains whose bytes stand in the file already; grain tables for them go to the end of the file. */
#include "vmdk.h"

/* Links what the entries in memory of one grain table cover: *length bytes. */
static int
vmdk_adopt_run (VmdkExtent *e, uint64_t at, uint64_t *length, uint64_t place, GError **error)
{
  const VmdkSparse *s = &e->sparse;
  const uint64_t index = at / s->grain % s->gt_entries;
  uint64_t table, n = 0;
  VmdkEntries entries;
  int ret = vmdk_table_make (e, at, &table, error);
  if (ret < 0
      || (ret = vmdk_entries_get (e, e->gt, table + index * 4, s->gt_entries - index, false, &entries, error))
             < 0) {
    return ret;
  }
  const uint64_t most = MIN (*length / s->grain, entries.n);
  while (n < most && vmdk_entry (e, entries.bytes, (unsigned) n) == 0) {
    n++;
  }
  vmdk_entries_put (&entries);
  *length = n * s->grain;
  return n == 0 ? -ERANGE
                : vmdk_set_entries (e, at, n, (uint32_t) (place / VMDK_SECTOR),
                                    (uint32_t) (s->grain / VMDK_SECTOR), error);
}

int
vmdk_adopt (TnNode *node, uint64_t offset, uint64_t length, uint64_t place, GError **error)
{
  Vmdk *v = tn_node_state (node);
  VmdkExtent *e = v->extents;
  if (v->n_extents != 1 || e->type != VMDK_SPARSE || e->file != v->file || v->stream || e->sparse.sesparse
      || e->sparse.cowd || place % VMDK_SECTOR || place < e->sparse.overhead || place + length > e->end
      || (place + length) / VMDK_SECTOR > UINT32_MAX) {
    return -ERANGE;
  }
  int ret = vmdk_need_writable (v, error);
  if (ret == 0) {
    ret = vmdk_touch (v, error);
  }
  for (uint64_t done = 0; ret == 0 && done < length;) {
    uint64_t part = length - done;
    ret = vmdk_adopt_run (e, offset + done, &part, place + done, error);
    done += part;
  }
  return ret;
}
