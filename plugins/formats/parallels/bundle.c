/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * .hdd bundles: a folder with DiskDescriptor.xml, which is what one opens, and images.  The disk is one or
 * several parts, each a raw or an expanding image, or a chain of them where there are snapshots.
 */
#include "bundle.h"

#include <tenon/json.h>

#include <inttypes.h>
#include <string.h>

#define MAX_DESCRIPTOR (1u << 20)
#define MAX_CHAIN 100u
#define SECTOR 512u
/* The state that a bundle without a named one is in. */
#define DEFAULT_TOP "{5fbaabe3-6958-40ff-92a7-860e329aab41}"

typedef struct Bundle {
  TnNode *node, *file;
  BundleDescriptor *descriptor;
  TnNode **parts; /* opened; as many as the descriptor has */
  bool writable;
} Bundle;

static int
bundle_probe (const void *head, size_t head_length, const void *tail, size_t tail_length, uint64_t file_size)
{
  return g_strstr_len (head, (gssize) head_length, "<Parallels_disk_image") ? 100 : 0;
}

static int bundle_fail (const Bundle *b, GError **error, int errnum, const char *format, ...)
    TN_PRINTF (4, 5);

static int
bundle_fail (const Bundle *b, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "Parallels bundle '%s': %s", tn_node_filename (b->file),
                  text);
}

/* ---- The descriptor ---- */

static int
bundle_read_descriptor (Bundle *b, GError **error)
{
  const uint64_t size = tn_node_size (b->file);
  g_autoptr (GError) cause = NULL;
  if (size > MAX_DESCRIPTOR) {
    return bundle_fail (b, error, EINVAL, "a descriptor of %" PRIu64 " bytes is too large", size);
  }
  g_autofree char *text = g_malloc0 (size + 1);
  int ret = size ? tn_node_read (b->file, 0, text, size, error) : 0;
  if (ret < 0) {
    return ret;
  }
  /* The last sector of a file may be filled up. */
  b->descriptor = bundle_descriptor_parse (text, strlen (text), &cause);
  if (b->descriptor == NULL) {
    return bundle_fail (b, error, EINVAL, "the descriptor cannot be read: %s", cause->message);
  }
  if (b->descriptor->encryption && *b->descriptor->encryption) {
    return bundle_fail (b, error, ENOTSUP, "it is encrypted, which is not supported");
  }
  if (b->descriptor->sector_size && b->descriptor->sector_size != SECTOR) {
    return bundle_fail (b, error, ENOTSUP, "sectors of %" PRIu64 " bytes are not supported",
                        b->descriptor->sector_size);
  }
  return 0;
}

/* ---- Chains ---- */

static const char *
bundle_parent (const BundleDescriptor *descriptor, const char *guid)
{
  for (guint i = 0; i < descriptor->shots->len; i++) {
    const BundleShot *shot = &g_array_index (descriptor->shots, BundleShot, i);
    if (shot->guid && strcmp (shot->guid, guid) == 0) {
      return shot->parent;
    }
  }
  return NULL;
}

static const BundleImage *
bundle_image (const BundlePart *part, const char *guid)
{
  for (guint i = 0; guid && i < part->images->len; i++) {
    const BundleImage *image = &g_array_index (part->images, BundleImage, i);
    if (strcmp (image->guid, guid) == 0) {
      return image;
    }
  }
  return NULL;
}

static const BundleImage *
bundle_top (const BundleDescriptor *descriptor, const BundlePart *part)
{
  if (descriptor->top) {
    return bundle_image (part, descriptor->top);
  }
  /* A single image needs no name. */
  return part->images->len == 1 ? &g_array_index (part->images, BundleImage, 0)
                                : bundle_image (part, DEFAULT_TOP);
}

/* Files beside the descriptor only: bundles come from strangers. */
static int
bundle_open_image (Bundle *b, const BundleImage *image, const char *role, bool is_top, TnNode **node,
                   GError **error)
{
  g_autoptr (TnOptions) options = tn_options_new (), place = NULL;
  if (strchr (image->file, '/') || strchr (image->file, ':') || *image->file == '.') {
    return bundle_fail (b, error, EPERM, "it names the image '%s', which is not in its folder", image->file);
  }
  int ret = tn_node_parse_filename (image->file, tn_node_filename (b->file), &place, error);
  for (size_t i = 0; ret >= 0 && i < tn_options_count (place); i++) {
    const char *key, *value;
    tn_options_pair (place, i, &key, &value);
    g_autofree char *full = g_strconcat ("file.", key, NULL);
    tn_options_set (options, full, value);
  }
  if (ret < 0) {
    return ret;
  }
  tn_options_set (options, "driver", image->plain ? "raw" : "parallels");
  if (!is_top) {
    tn_options_set (options, "read-only", "on");
  }
  return tn_node_open_child (b->node, role, options, node, error);
}

/* Opens what lies below @node, the image @image of part @number, down to the first snapshot. */
static int
bundle_open_below (Bundle *b, guint number, const BundleImage *image, TnNode *node, GError **error)
{
  const BundlePart *part = &g_array_index (b->descriptor->parts, BundlePart, number);
  for (unsigned depth = 1;; depth++) {
    const BundleImage *below = bundle_image (part, bundle_parent (b->descriptor, image->guid));
    g_autofree char *role = g_strdup_printf ("part%u-below%u", number, depth);
    TnNode *lower = NULL;
    if (below == NULL) {
      return 0;
    }
    if (depth == MAX_CHAIN || below == image) {
      return bundle_fail (b, error, EINVAL, "more than %u images lie over each other", MAX_CHAIN);
    }
    if (image->plain) {
      return bundle_fail (b, error, EINVAL, "the plain image '%s' lies over another", image->file);
    }
    int ret = bundle_open_image (b, below, role, false, &lower, error);
    if (ret < 0 || (ret = tn_node_replace_backing (node, lower, error)) < 0) {
      return ret;
    }
    image = below;
    node = lower;
  }
}

static int
bundle_open_part (Bundle *b, guint number, GError **error)
{
  const BundlePart *part = &g_array_index (b->descriptor->parts, BundlePart, number);
  const BundleImage *top = bundle_top (b->descriptor, part);
  const uint64_t bytes = (part->end - part->start) * SECTOR;
  g_autofree char *role = g_strdup_printf ("part%u", number);
  if (top == NULL) {
    return bundle_fail (b, error, EINVAL, "it has no image of its current state for sector %" PRIu64,
                        part->start);
  }
  int ret = bundle_open_image (b, top, role, true, &b->parts[number], error);
  if (ret < 0 || (ret = bundle_open_below (b, number, top, b->parts[number], error)) < 0) {
    return ret;
  }
  if (tn_node_size (b->parts[number]) < bytes) {
    return bundle_fail (b, error, EINVAL, "the image '%s' has %" PRIu64 " bytes, not %" PRIu64,
                        tn_node_filename (b->parts[number]), tn_node_size (b->parts[number]), bytes);
  }
  return 0;
}

/* ---- Callbacks ---- */

static void
bundle_detach (Bundle *b)
{
  g_clear_pointer (&b->descriptor, bundle_descriptor_free);
  g_clear_pointer (&b->parts, g_free);
}

static int
bundle_attach (Bundle *b, uint32_t flags, GError **error)
{
  int ret = bundle_read_descriptor (b, error);
  if (ret < 0) {
    return ret;
  }
  const guint n = b->descriptor->parts->len;
  tn_node_set_size (b->node, b->descriptor->sectors * SECTOR);
  tn_node_set_allocation_unit (b->node, 1);
  b->parts = g_new0 (TnNode *, n);
  for (guint i = 0; ret == 0 && i < n && !(flags & TN_OPEN_NO_IO); i++) {
    ret = bundle_open_part (b, i, error);
  }
  return ret;
}

static int
bundle_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Bundle *b = tn_node_state (node);
  b->node = node;
  b->file = tn_node_child (node, "file");
  b->writable = (flags & TN_OPEN_WRITE) && !(flags & TN_OPEN_NO_IO);
  int ret = bundle_attach (b, flags, error);
  if (ret < 0) {
    bundle_detach (b);
  }
  return ret;
}

static int
bundle_close (TnNode *node, GError **error)
{
  bundle_detach (tn_node_state (node));
  return 0;
}

/* The part that has the byte at @offset. */
static guint
bundle_find (const Bundle *b, uint64_t offset)
{
  guint low = 0, high = b->descriptor->parts->len;
  while (high - low > 1) {
    const guint middle = (low + high) / 2;
    if (g_array_index (b->descriptor->parts, BundlePart, middle).start * SECTOR <= offset) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

static int
bundle_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Bundle *b = tn_node_state (node);
  const guint number = bundle_find (b, offset);
  const BundlePart *part = &g_array_index (b->descriptor->parts, BundlePart, number);
  if (b->parts[number] == NULL) {
    return flags & TN_MAP_NOWAIT ? -EAGAIN : bundle_fail (b, error, EBADF, "its images are not open");
  }
  *extent = (TnExtent){ .offset = part->start * SECTOR,
                        .length = (part->end - part->start) * SECTOR,
                        .kind = TN_EXTENT_DATA,
                        .flags = b->writable ? TN_EXTENT_WRITABLE : 0,
                        .source = b->parts[number] };
  return 0;
}

static int
bundle_unmap_part (TnNode *part, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  if (!(flags & TN_UNMAP_ZERO)) {
    return tn_node_discard (part, offset, length, error);
  }
  return tn_node_write_zeroes (part, offset, length, flags & TN_UNMAP_RELEASE ? TN_REQUEST_MAY_UNMAP : 0,
                               error);
}

static int
bundle_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  const Bundle *b = tn_node_state (node);
  const uint64_t end = offset + length;
  int ret = 0;
  for (guint i = bundle_find (b, offset); ret == 0 && offset < end; i++) {
    const BundlePart *part = &g_array_index (b->descriptor->parts, BundlePart, i);
    const uint64_t step = MIN (end, part->end * SECTOR) - offset;
    ret = bundle_unmap_part (b->parts[i], offset - part->start * SECTOR, step, flags, error);
    offset += step;
  }
  return ret;
}

static int
bundle_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Bundle *b = tn_node_state (node);
  if ((flags & TN_OPEN_WRITE) && !b->writable) {
    return bundle_fail (b, error, ENOTSUP, "it was opened read-only: open it anew to write");
  }
  return 0;
}

static char *
bundle_info_specific (TnNode *node, GError **error)
{
  const Bundle *b = tn_node_state (node);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  tn_json_object_begin (json, NULL);
  tn_json_array_begin (json, "parts");
  for (guint i = 0; i < b->descriptor->parts->len; i++) {
    const BundlePart *part = &g_array_index (b->descriptor->parts, BundlePart, i);
    const BundleImage *image = bundle_top (b->descriptor, part);
    tn_json_object_begin (json, NULL);
    tn_json_string (json, "filename", image ? image->file : NULL);
    tn_json_string (json, "format", image && image->plain ? "raw" : "parallels");
    tn_json_uint (json, "start", part->start * SECTOR);
    tn_json_uint (json, "size", (part->end - part->start) * SECTOR);
    tn_json_object_end (json);
  }
  tn_json_array_end (json);
  tn_json_object_end (json);
  return g_strdup (text->str);
}

const TnFormatOps bundle_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_STATIC_MAP | TN_FORMAT_CONCURRENT_MAP,
  .instance_size = sizeof (Bundle),
  .probe = bundle_probe,
  .open = bundle_open,
  .close = bundle_close,
  .map = bundle_map,
  .unmap = bundle_unmap,
  .info_specific = bundle_info_specific,
  .reopen = bundle_reopen,
};
