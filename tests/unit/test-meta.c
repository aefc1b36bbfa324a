/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metadata service: what is read is what was written, and the declared order holds in the log of writes
 * and flushes, whatever the workload.
 */
#include "block-fixture.h"

#define SLICE 512
#define N_CACHES 3
#define N_SLICES 16 /* per cache */

/* Each slice's first word is a version.  `needs` are the versions of other slices, and the data, that had to
 * be stable before this version could be on the disk. */
typedef struct Need {
  unsigned cache, slice;
  uint64_t version;
} Need;

typedef struct Version {
  GArray *needs;       /* Need */
  uint64_t needs_data; /* data write number */
} Version;

typedef struct World {
  GRand *rand;
  MemDisk *disk;
  TnNode *node;
  TnMetaCache *caches[N_CACHES];
  uint64_t next_version, data_written;
  uint64_t current[N_CACHES][N_SLICES];
  bool dirty[N_CACHES][N_SLICES];
  GHashTable *versions; /* version number → Version */
  /* What slices dirtied from now on need. */
  GArray *pending[N_CACHES]; /* Need */
  uint64_t pending_data[N_CACHES];
} World;

#define DATA_OFFSET (1u << 20)

static uint64_t
slice_offset (unsigned cache, unsigned slice)
{
  /* Of different caches side by side, so that their writes may be joined. */
  return (slice * N_CACHES + cache) * (uint64_t) SLICE;
}

/* ---- Basics ---- */

static void
in_coroutine (void (*fn) (void *), void *opaque)
{
  tn_co_run (fn, opaque);
}

static void
basics_main (void *unused)
{
  MemDisk *disk = mem_disk ("m", 65536);
  memset (disk->bytes + 1024, 5, 512);
  TnNode *node = open_node_text ("driver=mem,filename=m", TN_OPEN_WRITE);
  TnMetaCache *cache = tn_meta_cache_new (node, "table", 512, 4 * 512);
  GError *error = NULL;
  TnMetaSlice *slice;
  g_assert_null (tn_meta_peek (cache, 1024));
  tn_meta_get (cache, 1024, &slice, &error);
  g_assert_no_error (error);
  g_assert_cmpint (((char *) tn_meta_data (slice))[511], ==, 5);
  g_assert_true (tn_meta_peek (cache, 1024) == tn_meta_data (slice));
  ((char *) tn_meta_data (slice))[0] = 6;
  tn_meta_dirty (slice);
  tn_meta_put (slice);
  g_assert_true (tn_meta_is_dirty (cache));
  g_assert_cmpint (disk->bytes[1024], ==, 5);
  tn_meta_flush (&cache, 1, &error);
  g_assert_no_error (error);
  g_assert_false (tn_meta_is_dirty (cache));
  g_assert_cmpint (disk->bytes[1024], ==, 6);
  g_assert_cmpuint (disk->flushes, ==, 1);
  /* Nothing was written since. */
  tn_meta_flush (&cache, 1, &error);
  g_assert_cmpuint (disk->flushes, ==, 1);

  /* The budget holds four. */
  for (unsigned i = 0; i < 20; i++) {
    tn_meta_new (cache, 8192 + i * 512, &slice, &error);
    g_assert_no_error (error);
    memset (tn_meta_data (slice), (int) i, 512);
    tn_meta_put (slice);
  }
  g_assert_null (tn_meta_peek (cache, 1024));
  g_assert_cmpint (disk->bytes[8192 + 5 * 512], ==, 5);
  /* A forgotten slice is not written. */
  tn_meta_forget (cache, 8192 + 19 * 512, 512);
  tn_meta_flush (&cache, 1, &error);
  g_assert_no_error (error);
  g_assert_cmpint (disk->bytes[8192 + 18 * 512], ==, 18);
  g_assert_cmpint (disk->bytes[8192 + 19 * 512], ==, 0);
  g_assert_cmpint (tn_meta_get (cache, 100, &slice, &error), ==, -EIO);
  g_clear_error (&error);
  tn_meta_cache_free (cache);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_basics (void)
{
  in_coroutine (basics_main, NULL);
}

static void
barriers_main (void *unused)
{
  MemDisk *disk = mem_disk ("m", 65536);
  TnNode *node = open_node_text ("driver=mem,filename=m", TN_OPEN_WRITE);
  TnMetaCache *caches[2] = { tn_meta_cache_new (node, "refcounts", 512, 8192),
                             tn_meta_cache_new (node, "L2", 512, 8192) };
  GError *error = NULL;
  TnMetaSlice *slice;
  disk->log = true;
  for (unsigned i = 0; i < 4; i++) {
    tn_meta_new (caches[0], i * 512, &slice, &error);
    tn_meta_put (slice);
    tn_meta_after_data (caches[1]);
    tn_meta_order (caches[1], caches[0], &error);
    tn_meta_new (caches[1], 8192 + i * 512, &slice, &error);
    tn_meta_put (slice);
  }
  tn_meta_flush (caches, 2, &error);
  g_assert_no_error (error);
  /* One joined write each, a barrier between, and one at the end. */
  static const uint8_t wanted[] = { TN_REQUEST_WRITE, TN_REQUEST_FLUSH, TN_REQUEST_WRITE, TN_REQUEST_FLUSH };
  g_assert_cmpuint (disk->ops->len, ==, G_N_ELEMENTS (wanted));
  for (unsigned i = 0; i < G_N_ELEMENTS (wanted); i++)
    g_assert_cmpint (g_array_index (disk->ops, MemOp, i).op, ==, wanted[i]);
  g_assert_cmpuint (g_array_index (disk->ops, MemOp, 0).offset, ==, 0);
  g_assert_cmpuint (g_array_index (disk->ops, MemOp, 0).length, ==, 2048);
  g_assert_cmpuint (g_array_index (disk->ops, MemOp, 2).offset, ==, 8192);
  tn_meta_cache_free (caches[0]);
  tn_meta_cache_free (caches[1]);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_barriers (void)
{
  in_coroutine (barriers_main, NULL);
}

static int
fail_writes (MemDisk *disk, const TnRequest *request)
{
  return request->op == TN_REQUEST_WRITE ? -ENOSPC : 0;
}

static int
fail_flushes (MemDisk *disk, const TnRequest *request)
{
  return request->op == TN_REQUEST_FLUSH ? -EIO : 0;
}

static void
failures_main (void *unused)
{
  MemDisk *disk = mem_disk ("m", 65536);
  TnNode *node = open_node_text ("driver=mem,filename=m", TN_OPEN_WRITE);
  TnMetaCache *cache = tn_meta_cache_new (node, "table", 512, 1024);
  GError *error = NULL;
  TnMetaSlice *slice;
  disk->fault = fail_writes;
  for (unsigned i = 0; i < 2; i++) {
    tn_meta_new (cache, i * 512, &slice, &error);
    g_assert_no_error (error);
    memset (tn_meta_data (slice), 9, 512);
    tn_meta_put (slice);
  }
  /* No room can be made; nothing is lost; each flush says so. */
  g_assert_cmpint (tn_meta_get (cache, 4096, &slice, &error), ==, -ENOSPC);
  g_clear_error (&error);
  for (unsigned i = 0; i < 2; i++) {
    g_assert_cmpint (tn_meta_flush (&cache, 1, &error), ==, -ENOSPC);
    g_assert_nonnull (strstr (error->message, "table"));
    g_clear_error (&error);
  }
  disk->fault = fail_flushes;
  for (unsigned i = 0; i < 2; i++) {
    g_assert_cmpint (tn_meta_flush (&cache, 1, &error), ==, -EIO);
    g_clear_error (&error);
  }
  disk->fault = NULL;
  g_assert_cmpint (tn_meta_flush (&cache, 1, &error), ==, 0);
  g_assert_cmpint (disk->bytes[600], ==, 9);
  tn_meta_cache_free (cache);
  tn_node_unref (node);
  mem_disks_free ();
}

static void
test_failures (void)
{
  in_coroutine (failures_main, NULL);
}

/* ---- Random order ---- */

static void
free_version (void *data)
{
  Version *version = data;
  g_array_unref (version->needs);
  g_free (version);
}

/* A new version of a slice: it needs what its cache's declarations say, and what the version that it replaces
 * needed if that is not on the disk. */
static uint64_t
new_version (World *world, unsigned cache, unsigned slice)
{
  Version *version = g_new0 (Version, 1);
  version->needs = g_array_copy (world->pending[cache]);
  version->needs_data = world->pending_data[cache];
  uint64_t number = ++world->next_version;
  g_hash_table_insert (world->versions, GSIZE_TO_POINTER (number), version);
  world->current[cache][slice] = number;
  world->dirty[cache][slice] = true;
  return number;
}

static void
change_slice (World *world, unsigned cache, unsigned slice)
{
  GError *error = NULL;
  TnMetaSlice *pinned;
  bool fresh = g_rand_int_range (world->rand, 0, 4) == 0;
  if (fresh)
    tn_meta_new (world->caches[cache], slice_offset (cache, slice), &pinned, &error);
  else
    tn_meta_get (world->caches[cache], slice_offset (cache, slice), &pinned, &error);
  g_assert_no_error (error);
  uint8_t *bytes = tn_meta_data (pinned);
  if (!fresh)
    g_assert_cmpuint (tn_load_be64 (bytes), ==, world->current[cache][slice]);
  tn_store_be64 (bytes, new_version (world, cache, slice));
  tn_meta_dirty (pinned);
  tn_meta_put (pinned);
}

/* The model's view: all versions of @before that exist now are needed; being already stable, a need is void,
 * so there is no harm in naming too many. */
static void
declare_order (World *world, unsigned after, unsigned before)
{
  GError *error = NULL;
  tn_meta_order (world->caches[after], world->caches[before], &error);
  g_assert_no_error (error);
  for (unsigned i = 0; i < N_SLICES; i++) {
    if (!world->current[before][i])
      continue;
    Need need = { before, i, world->current[before][i] };
    g_array_append_val (world->pending[after], need);
  }
}

static void
write_data (World *world)
{
  uint8_t number[8];
  tn_store_be64 (number, ++world->data_written);
  tn_node_write (world->node, DATA_OFFSET + world->data_written * 8, number, 8, NULL);
}

static void
random_step (World *world)
{
  unsigned a = (unsigned) g_rand_int_range (world->rand, 0, N_CACHES);
  unsigned b = (a + (unsigned) g_rand_int_range (world->rand, 1, N_CACHES)) % N_CACHES;
  GError *error = NULL;
  switch (g_rand_int_range (world->rand, 0, 12)) {
  case 0:
    tn_meta_flush (world->caches, N_CACHES, &error);
    break;
  case 1:
    tn_meta_flush (&world->caches[a], 1, &error);
    break;
  case 2:
    declare_order (world, a, b);
    break;
  case 3:
    write_data (world);
    break;
  case 4:
    tn_meta_after_data (world->caches[a]);
    world->pending_data[a] = world->data_written;
    break;
  case 5:
    tn_meta_drop (world->caches[a]);
    break;
  default:
    change_slice (world, a, (unsigned) g_rand_int_range (world->rand, 0, N_SLICES));
    break;
  }
  g_assert_no_error (error);
}

/* What stands on the disk after a prefix of the log: written, and written before the last flush. */
typedef struct Replay {
  uint64_t written[N_CACHES][N_SLICES], stable[N_CACHES][N_SLICES];
  uint64_t data_written, data_stable;
} Replay;

static void
check_version (World *world, const Replay *replay, uint64_t number)
{
  Version *version = g_hash_table_lookup (world->versions, GSIZE_TO_POINTER (number));
  g_assert_nonnull (version);
  g_assert_cmpuint (replay->data_stable, >=, version->needs_data);
  for (guint i = 0; i < version->needs->len; i++) {
    Need *need = &g_array_index (version->needs, Need, i);
    /* Versions rise, so a later one on the disk means that this one had been there or was replaced in memory.
     */
    g_assert_cmpuint (replay->stable[need->cache][need->slice], >=, need->version);
  }
}

static void
replay_slice (World *world, Replay *replay, uint64_t offset, const uint8_t *bytes)
{
  uint64_t index = offset / SLICE;
  unsigned cache = (unsigned) (index % N_CACHES), slice = (unsigned) (index / N_CACHES);
  uint64_t number = tn_load_be64 (bytes);
  if (number != replay->written[cache][slice])
    check_version (world, replay, number);
  replay->written[cache][slice] = number;
}

static void
replay_log (World *world)
{
  g_autofree Replay *replay = g_new0 (Replay, 1);
  for (guint i = 0; i < world->disk->ops->len; i++) {
    const MemOp *op = &g_array_index (world->disk->ops, MemOp, i);
    if (op->op == TN_REQUEST_FLUSH) {
      memcpy (replay->stable, replay->written, sizeof replay->stable);
      replay->data_stable = replay->data_written;
    } else if (op->op == TN_REQUEST_WRITE && op->offset >= DATA_OFFSET) {
      replay->data_written = tn_load_be64 (op->bytes);
    } else if (op->op == TN_REQUEST_WRITE) {
      for (uint64_t done = 0; done < op->length; done += SLICE)
        replay_slice (world, replay, op->offset + done, op->bytes + done);
    }
  }
  for (unsigned cache = 0; cache < N_CACHES; cache++)
    for (unsigned slice = 0; slice < N_SLICES; slice++)
      g_assert_cmpuint (replay->stable[cache][slice], ==, world->current[cache][slice]);
}

static void
random_main (void *opaque)
{
  World *world = opaque;
  GError *error = NULL;
  world->disk = mem_disk ("m", 2 << 20);
  world->disk->log = true;
  world->disk->defer = 3;
  world->node = open_node_text ("driver=mem,filename=m", TN_OPEN_WRITE);
  for (unsigned i = 0; i < N_CACHES; i++) {
    world->caches[i] = tn_meta_cache_new (world->node, "table", SLICE, (2 + i * 3) * SLICE);
    world->pending[i] = g_array_new (FALSE, FALSE, sizeof (Need));
  }
  for (unsigned i = 0; i < 300; i++)
    random_step (world);
  tn_meta_flush (world->caches, N_CACHES, &error);
  g_assert_no_error (error);
  replay_log (world);
  for (unsigned i = 0; i < N_CACHES; i++) {
    tn_meta_cache_free (world->caches[i]);
    g_array_unref (world->pending[i]);
  }
  tn_node_unref (world->node);
}

static void
test_random_order (void)
{
  for (unsigned i = 0; i < 100; i++) {
    World world = { .rand = g_rand_new_with_seed ((guint32) g_test_rand_int ()) };
    world.versions = g_hash_table_new_full (g_direct_hash, g_direct_equal, NULL, free_version);
    in_coroutine (random_main, &world);
    g_hash_table_unref (world.versions);
    g_rand_free (world.rand);
    mem_disks_free ();
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/meta/basics", test_basics);
  g_test_add_func ("/meta/barriers", test_barriers);
  g_test_add_func ("/meta/failures", test_failures);
  g_test_add_func ("/meta/random-order", test_random_order);
  return g_test_run ();
}
