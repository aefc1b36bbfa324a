/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sources of a copy, cut into pieces. */
#include "copy-private.h"

/* ---- Reading the sources ---- */

TnNode *
copy_locate (const CopyJob *job, uint64_t offset, uint64_t *source_offset, uint64_t *left)
{
  uint64_t at = offset + job->copy.offset;
  size_t i = 0;
  while (i + 1 < job->copy.n_sources && at >= tn_node_size (job->copy.sources[i]))
    at -= tn_node_size (job->copy.sources[i++]);
  *source_offset = at;
  *left = tn_node_size (job->copy.sources[i]) - at;
  return job->copy.sources[i];
}

static int
copy_salvage (CopyJob *job, TnNode *source, uint64_t offset, unsigned char *buffer, uint64_t length,
              uint64_t target_offset)
{
  for (uint64_t at = 0; at < length; at += COPY_SECTOR) {
    g_autoptr (GError) why = NULL;
    uint64_t n = MIN (length - at, COPY_SECTOR);
    if (tn_node_read (source, offset + at, buffer + at, n, &why) >= 0)
      continue;
    memset (buffer + at, 0, n);
    if (job->copy.unreadable)
      job->copy.unreadable (target_offset + job->copy.offset + at, n, why, job->copy.opaque);
  }
  return 0;
}

int
copy_read (CopyJob *job, uint64_t offset, unsigned char *buffer, uint64_t length, GError **error)
{
  while (length > 0) {
    uint64_t source_offset, left;
    TnNode *source = copy_locate (job, offset, &source_offset, &left);
    uint64_t n = MIN (length, left);
    bool salvage = job->copy.flags & TN_COPY_SALVAGE;
    int ret = tn_node_read (source, source_offset, buffer, n, salvage ? NULL : error);
    if (ret < 0 && salvage)
      ret = copy_salvage (job, source, source_offset, buffer, n, offset);
    if (ret < 0)
      return ret;
    offset += n;
    buffer += n;
    length -= n;
  }
  return 0;
}

/* ---- The cursor ---- */

static int
copy_look (CopyJob *job, uint64_t at, GError **error)
{
  uint64_t source_offset, left;
  TnNode *source = copy_locate (job, at, &source_offset, &left);
  left = MIN (left, job->total - at);
  TnStatus status = { 0 };
  g_autoptr (GError) why = NULL;
  int ret = tn_node_status (source, job->copy.base, source_offset, left, &status, &why);
  if (ret < 0 && (job->copy.flags & TN_COPY_SALVAGE)) {
    /* Where nobody knows, reading will tell. */
    status = (TnStatus){ .length = MIN (left, job->unit), .data = true, .allocated = true };
  } else if (ret < 0) {
    g_propagate_error (error, g_steal_pointer (&why));
    return ret;
  }
  if (status.length == 0)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "%s: no block status at offset %" G_GUINT64_FORMAT,
                    tn_node_filename (source), source_offset);
  job->status_end = at + MIN (status.length, left);
  if (job->copy.base && !status.allocated)
    job->status_kind = COPY_SKIP;
  else
    job->status_kind = status.zero && job->copy.sparse ? COPY_ZERO : COPY_DATA;
  return 0;
}

/* What stands at @at (a multiple of the unit) and how many whole units on.  A unit of which only a part is
 * zero or not to be copied is data: the target would have to put it together otherwise. */
static int
copy_classify (CopyJob *job, uint64_t at, CopyKind *kind, uint64_t *end, GError **error)
{
  if (job->status_end <= at) {
    int ret = copy_look (job, at, error);
    if (ret < 0)
      return ret;
  }
  *kind = job->status_kind;
  *end = job->status_end;
  if (*end == job->total)
    return 0;
  uint64_t down = *end - *end % job->unit;
  if (*kind != COPY_DATA && down > at) {
    *end = down;
    return 0;
  }
  *kind = COPY_DATA;
  if (*end % job->unit)
    *end = MIN (job->total, down + job->unit);
  return 0;
}

/* Data may lie in many small extents: one piece takes up to @most bytes of them. */
static int
copy_gather (CopyJob *job, uint64_t most, uint64_t *end, GError **error)
{
  uint64_t limit = MIN (job->total, job->position + most);
  while (*end < limit) {
    CopyKind kind;
    uint64_t next;
    int ret = copy_classify (job, *end, &kind, &next, error);
    if (ret < 0)
      return ret;
    if (kind != COPY_DATA)
      return 0;
    *end = next;
  }
  *end = limit;
  return 0;
}

static CopyPiece
copy_cut (CopyJob *job, uint64_t offset, uint64_t end, CopyKind kind)
{
  return (CopyPiece){ .offset = offset, .length = end - offset, .kind = kind, .ticket = job->next_ticket++ };
}

static bool
copy_may_share (const CopyJob *job)
{
  const TnCopy *copy = &job->copy;
  return (copy->flags & TN_COPY_SHARE) && !job->no_share && !copy->content && !copy->rate
         && !(copy->flags & TN_COPY_PACKED);
}

/* Shares data from job->position up to @end at most, right here: there is nothing to wait for.  How much. */
static uint64_t
copy_share (CopyJob *job, uint64_t end)
{
  uint64_t source_offset, left, unit = MAX (job->unit, 4096);
  TnNode *source = copy_locate (job, job->position, &source_offset, &left);
  uint64_t length = MIN (end - job->position, left) / unit * unit;
  if (length == 0)
    return 0;
  int64_t shared = tn_node_share_range (source, source_offset, job->copy.target, job->position, length, NULL);
  job->no_share = shared <= 0;
  return MAX (shared, 0);
}

/* Once enough has been handed out, waits until all of it is written and tells the caller. */
static int
copy_checkpoint (CopyJob *job, GError **error)
{
  const TnCopy *copy = &job->copy;
  if (!copy->checkpoint || job->unsafe < copy->checkpoint_bytes)
    return 0;
  job->unsafe = 0;
  if (job->active > 0) {
    job->quiescing = tn_co_self ();
    tn_co_yield ();
  }
  return job->result < 0 ? 0 : copy->checkpoint (job->position, copy->opaque, error);
}

int
copy_next_locked (CopyJob *job, CopyPiece *piece, GError **error)
{
  int ret = copy_checkpoint (job, error);
  if (ret < 0)
    return ret;
  while (job->position < job->total && job->result >= 0) {
    CopyKind kind;
    uint64_t end;
    ret = copy_classify (job, job->position, &kind, &end, error);
    if (ret >= 0 && kind == COPY_DATA)
      ret = copy_gather (job, copy_may_share (job) ? COPY_SHARED / job->unit * job->unit : job->chunk, &end,
                         error);
    if (ret < 0)
      return ret;
    if (kind == COPY_DATA && copy_may_share (job)) {
      uint64_t shared = copy_share (job, end);
      /* What is known is about bytes further on than those that come next. */
      job->status_end = shared == end - job->position ? job->status_end : 0;
      job->position += shared;
      job->unsafe += shared;
      if (shared) {
        copy_advance (job, shared);
        continue;
      }
      end = MIN (end, job->position + job->chunk);
    }
    if (kind == COPY_ZERO)
      end = MIN (end, job->position + COPY_ZEROES / job->unit * job->unit);
    if (kind == COPY_SKIP && job->copy.content)
      end = MIN (end, job->position + job->chunk);
    uint64_t offset = job->position;
    job->position = end;
    bool nothing = kind == COPY_SKIP || (kind == COPY_ZERO && (job->copy.flags & TN_COPY_TARGET_ZERO));
    if (nothing && !job->copy.content) {
      copy_advance (job, end - offset);
      continue;
    }
    *piece = copy_cut (job, offset, end, kind);
    job->active++;
    job->unsafe += kind == COPY_DATA ? piece->length : 0;
    return 1;
  }
  return 0;
}
