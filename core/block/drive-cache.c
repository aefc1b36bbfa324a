/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cache modes of a drive, and moving between them while requests go on.
 *
 * A guest that switches its write cache off sends no flushes any more for what it wrote before, and may write
 * at once what relies on that.  So the drive flushes by itself; until that has ended, changes that come wait,
 * and a change that was under way is flushed before its requester hears of it (drive.c).
 */
#include "block/drive-private.h"

/* ---- Modes ---- */

typedef struct Mode {
  const char *name;
  uint32_t flags;
  bool write_cache;
} Mode;

static const Mode modes[] = {
  [TN_CACHE_WRITEBACK] = { "writeback", 0, true },
  [TN_CACHE_NONE] = { "none", TN_OPEN_DIRECT, true },
  [TN_CACHE_WRITETHROUGH] = { "writethrough", 0, false },
  [TN_CACHE_DIRECTSYNC] = { "directsync", TN_OPEN_DIRECT, false },
  [TN_CACHE_UNSAFE] = { "unsafe", TN_OPEN_NO_FLUSH, true },
};

int
tn_cache_mode_parse (const char *text, TnCacheMode *mode, GError **error)
{
  if (g_str_equal (text, "off"))
    text = "none";
  for (unsigned i = 0; i < G_N_ELEMENTS (modes); i++)
    if (g_str_equal (text, modes[i].name)) {
      *mode = (TnCacheMode) i;
      return 0;
    }
  return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                  "there is no cache mode '%s': use writeback, none, writethrough, directsync or unsafe",
                  text);
}

uint32_t
tn_cache_mode_open_flags (TnCacheMode mode)
{
  return modes[mode].flags;
}

const char *
tn_cache_mode_name (TnCacheMode mode)
{
  return modes[mode].name;
}

void
tn_drive_adopt_mode (TnDrive *drive, TnCacheMode mode)
{
  __atomic_store_n (&drive->ignores_flush, mode == TN_CACHE_UNSAFE, __ATOMIC_RELAXED);
  __atomic_store_n (&drive->write_cache, modes[mode].write_cache, __ATOMIC_SEQ_CST);
}

TnCacheMode
tn_drive_cache_mode (TnDrive *drive)
{
  const bool direct = tn_node_flags_now (drive->root) & TN_OPEN_DIRECT;
  if (tn_drive_ignores_flush (drive))
    return TN_CACHE_UNSAFE;
  if (tn_drive_write_cache (drive))
    return direct ? TN_CACHE_NONE : TN_CACHE_WRITEBACK;
  return direct ? TN_CACHE_DIRECTSYNC : TN_CACHE_WRITETHROUGH;
}

/* ---- Making good what a write cache held ---- */

static void
settle_begin (TnDrive *drive)
{
  tn_underway_enter (&drive->underway);
  __atomic_add_fetch (&drive->settling, 1, __ATOMIC_SEQ_CST);
}

static void
settle_end (TnDrive *drive)
{
  tn_spin_lock (&drive->settle_spin);
  const bool last = !__atomic_sub_fetch (&drive->settling, 1, __ATOMIC_SEQ_CST);
  GSList *later = last ? g_steal_pointer (&drive->settle_later) : NULL;
  tn_spin_unlock (&drive->settle_spin);
  tn_drive_go_on (g_slist_reverse (later));
  tn_underway_leave (&drive->underway);
}

bool
tn_drive_settle_first (TnDrive *drive, TnRequest *request)
{
  TnDriveKept *kept = tn_drive_kept_new (drive, request);
  tn_spin_lock (&drive->settle_spin);
  const bool waits = __atomic_load_n (&drive->settling, __ATOMIC_SEQ_CST);
  if (waits)
    drive->settle_later = g_slist_prepend (drive->settle_later, kept);
  tn_spin_unlock (&drive->settle_spin);
  if (!waits)
    g_free (kept);
  return waits;
}

static void
settled (TnRequest *request, int result)
{
  TnDrive *drive = request->opaque;
  if (result < 0)
    tn_count (&drive->counters.errors[TN_REQUEST_FLUSH], 1);
  g_free (request);
  settle_end (drive);
}

static void
settle (void *opaque)
{
  TnDrive *drive = opaque;
  TnRequest *flush = g_new0 (TnRequest, 1);
  flush->op = TN_REQUEST_FLUSH;
  flush->done = settled;
  flush->opaque = drive;
  tn_node_submit (drive->root, flush);
}

bool
tn_drive_write_cache (TnDrive *drive)
{
  return __atomic_load_n (&drive->write_cache, __ATOMIC_RELAXED);
}

void
tn_drive_set_write_cache (TnDrive *drive, bool enabled)
{
  const bool settles =
      !enabled && tn_drive_write_cache (drive) && drive->writable && !tn_drive_ignores_flush (drive);
  if (settles)
    settle_begin (drive);
  __atomic_store_n (&drive->write_cache, enabled, __ATOMIC_SEQ_CST);
  if (settles)
    tn_loop_post (drive->loop, settle, drive);
}

/* ---- Moving ---- */

static int
move (TnDrive *drive, TnCacheMode mode, const TnOptions *options, GError **error)
{
  const uint32_t changeable = TN_OPEN_DIRECT | TN_OPEN_NO_FLUSH, before = tn_node_flags_now (drive->root);
  const uint32_t after = (before & ~changeable) | modes[mode].flags;
  const bool same = before == after && (!options || !tn_options_count (options));
  int rc = same ? 0 : tn_node_reopen (drive->root, options, after, error);
  if (rc)
    return rc;
  tn_drive_adopt_mode (drive, mode);
  /* What was written under the old mode's promise is made good now. */
  return drive->writable ? tn_node_flush (drive->root, error) : 0;
}

static int
move_holding (TnDrive *drive, TnCacheMode mode, const TnOptions *options, GError **error)
{
  const bool cached = tn_drive_write_cache (drive) || tn_drive_ignores_flush (drive);
  const bool settles = drive->writable && !modes[mode].write_cache && cached;
  if (settles)
    settle_begin (drive);
  int rc = move (drive, mode, options, error);
  if (settles)
    settle_end (drive);
  return rc;
}

int
tn_drive_set_cache_mode (TnDrive *drive, TnCacheMode mode, GError **error)
{
  return move_holding (drive, mode, NULL, error);
}

/* "file.file.aio": the node that stands at the end of the files. */
static char *
name_engine_option (TnDrive *drive)
{
  GString *name = g_string_new (NULL);
  for (const TnNode *node = drive->root; node->file; node = node->file)
    g_string_append (name, "file.");
  g_string_append (name, "aio");
  return g_string_free (name, FALSE);
}

int
tn_drive_reopen (TnDrive *drive, const TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) nodes = tn_options_copy (options);
  const char *cache = tn_options_get (options, "cache"), *aio = tn_options_get (options, "aio");
  TnCacheMode mode = tn_drive_cache_mode (drive);
  int rc = cache ? tn_cache_mode_parse (cache, &mode, error) : 0;
  if (rc)
    return rc;
  tn_options_set (nodes, "cache", NULL);
  tn_options_set (nodes, "aio", NULL);
  if (aio) {
    g_autofree char *name = name_engine_option (drive);
    tn_options_set (nodes, name, aio);
  }
  return move_holding (drive, mode, nodes, error);
}
