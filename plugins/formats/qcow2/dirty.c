/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the header says while an image is written to: features of others, and the dirty bit. */
#include "qcow2.h"

int
qcow2_barrier (Qcow2 *q, GError **error)
{
  return q->creating ? 0 : tn_node_flush (q->file, error);
}

int
qcow2_touch (Qcow2 *q, GError **error)
{
  if (q->corrupt && !(q->flags & TN_OPEN_CHECK)) {
    return qcow2_fail (q, error, EIO, "it is marked corrupt: repair it with check -r all before writing");
  }
  if (q->touched) {
    return 0;
  }
  int ret = qcow2_bitmaps_begin (q, error);
  if (ret < 0) {
    return ret;
  }
  const uint64_t keep = QCOW2_AUTOCLEAR_DATA_FILE_RAW | (q->bitmap_count ? QCOW2_AUTOCLEAR_BITMAPS : 0);
  if (q->header.autoclear & ~keep) {
    q->header.autoclear &= keep;
    if ((ret = qcow2_header_write_features (q, error)) < 0) {
      return ret;
    }
  }
  if ((ret = qcow2_barrier (q, error)) < 0) {
    return ret;
  }
  q->touched = true;
  return 0;
}

static int
set_dirty_bit (Qcow2 *q, bool dirty, GError **error)
{
  const uint64_t old = q->header.incompatible;
  q->header.incompatible = (old & ~QCOW2_INCOMPAT_DIRTY) | (dirty ? QCOW2_INCOMPAT_DIRTY : 0);
  int ret = qcow2_header_write_features (q, error);
  if (ret < 0) {
    q->header.incompatible = old;
    return ret;
  }
  return qcow2_barrier (q, error);
}

int
qcow2_mark_dirty (Qcow2 *q, GError **error)
{
  if (!q->lazy || (q->header.incompatible & QCOW2_INCOMPAT_DIRTY)) {
    return 0;
  }
  return set_dirty_bit (q, true, error);
}

int
qcow2_clear_dirty (Qcow2 *q, GError **error)
{
  /* A change that failed half way is repaired by the next who opens the image. */
  const bool dirty = q->header.incompatible & QCOW2_INCOMPAT_DIRTY;
  return dirty && q->unfinished == 0 ? set_dirty_bit (q, false, error) : 0;
}

int
qcow2_begin_change (Qcow2 *q, GError **error)
{
  q->unfinished++;
  return q->header.version < 3 || (q->header.incompatible & QCOW2_INCOMPAT_DIRTY)
             ? 0
             : set_dirty_bit (q, true, error);
}

int
qcow2_end_change (Qcow2 *q, GError **error)
{
  const int ret = qcow2_settle (q, error);
  if (ret < 0) {
    return ret;
  }
  q->unfinished--;
  return q->lazy ? 0 : qcow2_clear_dirty (q, error);
}
