/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dirty bitmaps, as they are when the export begins. */
#include "server.h"

/* 64 MiB of memory. */
#define MAX_RUNS (4u << 20)

typedef struct Gathering {
  GArray *runs;
  const char *name;
} Gathering;

static int
add_run (uint64_t offset, uint64_t length, void *opaque, GError **error)
{
  const Gathering *gathering = opaque;
  GArray *runs = gathering->runs;
  NbdRun *last = runs->len ? &g_array_index (runs, NbdRun, runs->len - 1) : NULL;
  if (last && last->end == offset) {
    last->end = offset + length;
    return 0;
  }
  if (runs->len >= MAX_RUNS)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "the dirty bitmap '%s' has more than %u separate runs: it cannot be exported",
                    gathering->name, MAX_RUNS);
  const NbdRun run = { offset, offset + length };
  g_array_append_val (runs, run);
  return 0;
}

int
nbd_bitmap_new (TnDrive *drive, const char *name, NbdBitmap **bitmap, GError **error)
{
  Gathering gathering = { g_array_new (FALSE, FALSE, sizeof (NbdRun)), name };
  const int rc = tn_node_bitmap_visit (tn_drive_node (drive), name, add_run, &gathering, error);
  if (rc < 0) {
    g_array_unref (gathering.runs);
    return rc;
  }
  *bitmap = g_new0 (NbdBitmap, 1);
  **bitmap = (NbdBitmap){ g_strconcat (NBD_CONTEXT_BITMAP, name, NULL), gathering.runs };
  return 0;
}

void
nbd_bitmap_free (NbdBitmap *bitmap)
{
  g_free (bitmap->context);
  g_array_unref (bitmap->runs);
  g_free (bitmap);
}

bool
nbd_bitmap_at (const NbdBitmap *bitmap, uint64_t offset, uint64_t limit, uint64_t *length)
{
  guint from = 0, to = bitmap->runs->len;
  while (from < to) {
    const guint middle = from + (to - from) / 2;
    if (g_array_index (bitmap->runs, NbdRun, middle).end <= offset)
      from = middle + 1;
    else
      to = middle;
  }
  const NbdRun *run = from < bitmap->runs->len ? &g_array_index (bitmap->runs, NbdRun, from) : NULL;
  const bool marked = run && run->offset <= offset;
  const uint64_t end = marked ? run->end : run ? run->offset : UINT64_MAX;
  *length = MIN (limit, end - offset);
  return marked;
}
