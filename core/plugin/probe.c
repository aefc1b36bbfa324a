/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recognising images by the magic numbers in the manifests. */
#include "plugin/registry.h"
#include "plugin/scan.h"

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

const char *
tn_registry_probe (TnRegistry *registry, const void *head, size_t head_length, const void *tail,
                   size_t tail_length, uint64_t size)
{
  Image image = { head, tail, head_length, tail_length, size };
  const char *best = NULL;
  uint32_t longest = 0;
  G_GNUC_UNUSED g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&registry->lock);
  tn_scan_prefix (registry, "format-", false);
  for (guint i = 0; i < registry->known->len; i++) {
    const TnKnown *known = g_ptr_array_index (registry->known, i);
    for (unsigned j = 0; j < known->manifest->n_classes; j++) {
      const TnManifestClass *class = &known->manifest->classes[j];
      uint32_t length = class->info.kind == TN_KIND_FORMAT ? class_matches (class, &image) : 0;
      /* The longest match is the most specific; among equals the name decides, so that order doesn't. */
      if (length < longest || length == 0 || (length == longest && strcmp (class->info.name, best) >= 0))
        continue;
      best = class->info.name;
      longest = length;
    }
  }
  return best;
}
