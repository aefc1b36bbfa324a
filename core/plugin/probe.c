/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recognising images by the magic numbers in the manifests. */
#include "plugin/kinds.h"
#include "plugin/registry.h"
#include "plugin/scan.h"

#define FORMAT_PREFIX "format-"

typedef struct Image {
  const uint8_t *head, *tail;
  size_t head_length, tail_length;
  uint64_t size;
} Image;

/* The @length bytes at @offset of the image (negative: from its end), or NULL when they aren't at hand. */
static const uint8_t *
image_bytes (const Image *image, int64_t offset, uint32_t length)
{
  uint64_t back = offset < 0 ? -(uint64_t) offset : 0;
  if (back > image->size)
    return NULL;
  uint64_t at = offset < 0 ? image->size - back : (uint64_t) offset;
  if (at > image->size || length > image->size - at)
    return NULL;
  if (at <= image->head_length && length <= image->head_length - at)
    return image->head + at;
  uint64_t tail_start = image->size - MIN (image->tail_length, image->size);
  return at >= tail_start ? image->tail + (at - tail_start) : NULL;
}

static bool
magic_matches (const TnMagic *magic, const Image *image)
{
  const uint8_t *bytes = image_bytes (image, magic->offset, magic->length);
  if (!bytes)
    return false;
  for (uint32_t i = 0; i < magic->length; i++) {
    uint8_t mask = magic->mask ? magic->mask[i] : 0xff;
    if ((bytes[i] ^ magic->bytes[i]) & mask)
      return false;
  }
  return true;
}

/* Length of the longest magic that matches, or 0. */
static uint32_t
class_matches (const TnManifestClass *class, const Image *image)
{
  uint32_t longest = 0;
  for (const TnMagic *magic = class->magics; magic && magic->length; magic++) {
    if (magic->length > longest && magic_matches (magic, image))
      longest = magic->length;
  }
  return longest;
}

/* The best match so far. */
typedef struct Best {
  const char *name;
  uint32_t length;
} Best;

static void
consider_plugin (const TnManifest *manifest, const Image *image, Best *best)
{
  for (unsigned i = 0; i < manifest->n_classes; i++) {
    const TnManifestClass *class = &manifest->classes[i];
    uint32_t length = class->info.kind == TN_KIND_FORMAT ? class_matches (class, image) : 0;
    /* The longest match is the most specific; among equals the name decides, so that order doesn't. */
    if (length < best->length || length == 0
        || (length == best->length && strcmp (class->info.name, best->name) >= 0))
      continue;
    *best = (Best){ class->info.name, length };
  }
}

/* Most images are called what they are: then one manifest is read instead of all. */
static void
consider_suffix (TnRegistry *registry, const char *filename, const Image *image, Best *best)
{
  const char *dot = filename ? strrchr (filename, '.') : NULL;
  if (!dot || !tn_name_is_valid (dot + 1))
    return;
  g_autofree char *plugin = g_strconcat (FORMAT_PREFIX, dot + 1, NULL);
  tn_scan_plugin (registry, plugin);
  const TnKnown *known = tn_scan_known (registry, plugin);
  if (known)
    consider_plugin (known->manifest, image, best);
}

const char *
tn_registry_probe (TnRegistry *registry, const char *filename, const void *head, size_t head_length,
                   const void *tail, size_t tail_length, uint64_t size)
{
  Image image = { head, tail, head_length, tail_length, size };
  Best best = { NULL, 0 };
  G_GNUC_UNUSED g_autoptr (TnRegistryLocked) locked = tn_registry_lock (registry);
  consider_suffix (registry, filename, &image, &best);
  if (best.name)
    return best.name;
  tn_scan_prefix (registry, FORMAT_PREFIX, false);
  for (guint i = 0; i < registry->known->len; i++) {
    const TnKnown *known = g_ptr_array_index (registry->known, i);
    consider_plugin (known->manifest, &image, &best);
  }
  return best.name;
}
