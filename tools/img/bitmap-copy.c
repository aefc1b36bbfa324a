/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copying the dirty bitmaps of an image into another. */
#include "img.h"

typedef struct Listed {
  char *name;
  uint64_t granularity;
  bool recording;
} Listed;

typedef struct Listing {
  CliArgs *args;
  GArray *bitmaps; /* Listed */
  char *broken;    /* the first that nobody trusts */
  bool skip;       /* those are left out with a word */
} Listing;

static void
free_listed (void *p)
{
  Listed *listed = p;
  g_free (listed->name);
}

static void
list_bitmap (const TnBitmap *bitmap, void *opaque)
{
  Listing *listing = opaque;
  if (bitmap->inconsistent && listing->skip)
    cli_warning (listing->args, "bitmap '%s' is inconsistent and is not copied", bitmap->name);
  else if (bitmap->inconsistent && !listing->broken)
    listing->broken = g_strdup (bitmap->name);
  if (bitmap->inconsistent)
    return;
  Listed listed = { g_strdup (bitmap->name), bitmap->granularity, bitmap->recording };
  g_array_append_val (listing->bitmaps, listed);
}

/* Without recording at first, so that nothing but what the source has marked gets in. */
static int
copy_bitmap (TnNode *source, TnNode *target, const Listed *listed, GError **error)
{
  int ret = tn_node_bitmap (target, TN_BITMAP_ADD, listed->name, listed->granularity, error);
  if (ret >= 0)
    ret = tn_node_bitmap_merge (target, listed->name, source, listed->name, error);
  if (ret >= 0 && !listed->recording)
    ret = tn_node_bitmap (target, TN_BITMAP_DISABLE, listed->name, 0, error);
  return ret;
}

static int
list_bitmaps (Listing *listing, TnNode *source, GError **error)
{
  listing->bitmaps = g_array_new (FALSE, FALSE, sizeof (Listed));
  g_array_set_clear_func (listing->bitmaps, free_listed);
  return tn_node_bitmaps (source, list_bitmap, listing, error);
}

static void
clear_listing (Listing *listing)
{
  g_array_unref (listing->bitmaps);
  g_free (listing->broken);
}

int
img_bitmaps_check (CliArgs *args, TnNode *source, GError **error)
{
  Listing listing = { .args = args, .skip = cli_flag (args, "skip-broken-bitmaps") };
  int ret = list_bitmaps (&listing, source, error);
  if (ret >= 0 && listing.broken)
    ret = tn_fail (
        error, TN_BLOCK_ERROR, EINVAL,
        "bitmap '%s' of '%s' is inconsistent and cannot be copied; give --skip-broken-bitmaps or remove "
        "it with tenon-img bitmap --remove",
        listing.broken, tn_node_filename (source));
  clear_listing (&listing);
  return ret;
}

int
img_bitmaps_copy (TnNode *source, TnNode *target, GError **error)
{
  Listing listing = { 0 };
  int ret = list_bitmaps (&listing, source, error);
  for (guint i = 0; i < listing.bitmaps->len && ret >= 0; i++)
    ret = copy_bitmap (source, target, &g_array_index (listing.bitmaps, Listed, i), error);
  clear_listing (&listing);
  return ret;
}
