/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * copy-on-read: what is read from the backing files of the image below is written into that image, so that
 * next time it is there.
 *
 * A read whose bytes are in the image, by a map that is in memory, is only passed on.
 */
#include "../common/pass.h"
#include "../common/ranges.h"

#include <tenon/format.h>

#define COR_CHUNK (UINT64_C (1) << 20)

typedef struct CorState {
  TnPassPool pool;
  TnRanges ranges;
  TnNode *file;
  uint64_t unit; /* of allocation; 0: nothing can be copied */
} CorState;

G_STATIC_ASSERT (sizeof (TnRange) <= TN_PASS_WORDS * sizeof (uintptr_t));

static TnRange *
cor_range (TnPass *pass)
{
  return (TnRange *) (void *) pass->words;
}

/* ---- Copying ---- */

static int
cor_copy_chunk (CorState *s, uint64_t offset, uint64_t length)
{
  char *buffer = g_try_malloc (length);
  int r;

  if (buffer == NULL)
    return -ENOMEM;
  r = tn_node_read (s->file, offset, buffer, length, NULL);
  if (r >= 0)
    r = tn_node_write (s->file, offset, buffer, length, NULL);
  g_free (buffer);
  return r;
}

static int
cor_copy_run (CorState *s, uint64_t offset, uint64_t length)
{
  uint64_t step = MAX (COR_CHUNK, s->unit);
  int r = 0;

  for (uint64_t done = 0; r >= 0 && done < length; done += step)
    r = cor_copy_chunk (s, offset + done, MIN (step, length - done));
  return r;
}

/* Copies what the image itself does not have of a range of whole units. */
static int
cor_copy (CorState *s, const TnRange *range)
{
  TnNode *backing = tn_node_child (s->file, "backing");

  for (uint64_t at = range->start; at < range->end;) {
    TnStatus status;
    int r = tn_node_status (s->file, backing, at, range->end - at, &status, NULL);

    if (r >= 0 && !status.allocated) {
      TnStatus below = { 0 };

      r = tn_node_status (s->file, NULL, at, status.length, &below, NULL);
      status.length = r >= 0 ? below.length : status.length;
      if (r >= 0)
        r = below.zero ? tn_node_write_zeroes (s->file, at, status.length, 0, NULL)
                       : cor_copy_run (s, at, status.length);
    }
    if (r < 0)
      return r;
    at += status.length;
  }
  return 0;
}

/* ---- Reads ---- */

/* Whether a map in memory says that all of the request is in the image. */
static bool
cor_is_there (CorState *s, const TnRequest *request)
{
  TnExtent extent;

  if (tn_node_map (s->file, request->offset, request->length, TN_MAP_NOWAIT, &extent, NULL) < 0)
    return false;
  return extent.kind != TN_EXTENT_UNALLOCATED && extent.offset <= request->offset
         && extent.length - (request->offset - extent.offset) >= request->length;
}

static void
cor_set_units (const CorState *s, TnPass *pass)
{
  uint64_t end = pass->request.offset + pass->request.length;
  TnRange *range = cor_range (pass);

  range->start = pass->request.offset / s->unit * s->unit;
  range->end = MIN ((end + s->unit - 1) / s->unit * s->unit, tn_node_size (s->file));
  range->copies = true;
}

static void
cor_read_main (void *opaque)
{
  TnPass *pass = opaque;
  CorState *s = tn_node_state (pass->node);
  int r;

  cor_set_units (s, pass);
  tn_ranges_enter (&s->ranges, cor_range (pass));
  r = cor_copy (s, cor_range (pass));
  tn_ranges_leave (&s->ranges, cor_range (pass));
  if (r < 0)
    tn_pass_end (pass, r);
  else
    tn_node_submit (s->file, &pass->request);
}

/* ---- Writes ---- */

static void
cor_write_done (TnRequest *request, int result)
{
  TnPass *pass = tn_pass_of (request);
  CorState *s = tn_node_state (pass->node);

  tn_ranges_leave (&s->ranges, cor_range (pass));
  tn_pass_end (pass, result);
}

static void
cor_write_main (void *opaque)
{
  TnPass *pass = opaque;
  CorState *s = tn_node_state (pass->node);

  tn_ranges_enter (&s->ranges, cor_range (pass));
  tn_node_submit (s->file, &pass->request);
}

static void
cor_write (CorState *s, TnPass *pass)
{
  TnRange *range = cor_range (pass);

  range->start = pass->request.offset;
  range->end = pass->request.offset + pass->request.length;
  pass->request.done = cor_write_done;
  if (tn_ranges_try (&s->ranges, range))
    tn_node_submit (s->file, &pass->request);
  else
    tn_co_start (cor_write_main, pass);
}

static void
cor_submit (TnNode *node, TnRequest *request)
{
  CorState *s = tn_node_state (node);
  TnPass *pass = tn_pass_new (&s->pool, node, request, tn_pass_done);
  bool copies = s->unit != 0 && !tn_node_is_read_only (node) && tn_node_child (s->file, "backing") != NULL;

  if (pass == NULL)
    return;
  if (!copies || request->op == TN_REQUEST_FLUSH)
    tn_node_submit (s->file, &pass->request);
  else if (request->op != TN_REQUEST_READ)
    cor_write (s, pass);
  else if (cor_is_there (s, request))
    tn_node_submit (s->file, &pass->request);
  else
    tn_co_start (cor_read_main, pass);
}

/* ---- Opening ---- */

static int
cor_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  CorState *s = tn_node_state (node);

  s->file = tn_node_child (node, "file");
  if (tn_node_class (s->file)->kind == TN_KIND_FORMAT
      && (((const TnFormatOps *) tn_node_class (s->file)->ops)->flags & TN_FORMAT_BACKING) != 0)
    s->unit = MAX (tn_node_allocation_unit (s->file), 1);
  if ((flags & TN_OPEN_WRITE) != 0 && tn_node_is_read_only (s->file))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS,
                    "%s: copy-on-read writes to what it reads: open it for writing", tn_node_filename (node));
  tn_pass_pool_init (&s->pool);
  g_mutex_init (&s->ranges.lock);
  return 0;
}

static int
cor_close (TnNode *node, GError **error)
{
  CorState *s = tn_node_state (node);

  g_mutex_clear (&s->ranges.lock);
  tn_pass_pool_clear (&s->pool);
  return 0;
}

static const TnOption cor_options[] = {
  { "file", TN_OPTION_NODE, TN_OPTION_OPEN, NULL, "the image with its backing files" },
  { NULL },
};

static const TnProtocolOps cor_ops = {
  .size = sizeof (TnProtocolOps),
  .flags = TN_PROTOCOL_FILTER | TN_PROTOCOL_FUA,
  .instance_size = sizeof (CorState),
  .open = cor_open,
  .close = cor_close,
  .submit = cor_submit,
};

static const TnClass cor_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "copy-on-read",
  .summary = "filter: keeps what is read from backing files",
  .options = cor_options,
  .ops = &cor_ops,
};

static const TnClass *const cor_classes[] = { &cor_class, NULL };

TN_PLUGIN_DEFINE (filter_copy_on_read, .name = "filter-copy-on-read", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = cor_classes);
