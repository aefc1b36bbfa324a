/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The "raw" format: the bytes of the file are the bytes of the disk.  With `offset` and `size` the disk is a
 * window on the file, as when a partition or an image inside an archive is wanted.
 */
#include <tenon/format.h>

#define RAW_SECTOR 512

typedef struct RawState {
  TnNode *file;
  uint64_t offset;
  bool sized; /* the window's size was given: it does not follow the file's */
} RawState;

/* Every file is a raw image, if nothing better is known about it. */
static int
raw_probe (const void *head, size_t head_length, const void *tail, size_t tail_length, uint64_t file_size)
{
  return 1;
}

static int
raw_window (TnNode *file, const TnOptions *options, uint64_t *offset, uint64_t *size, GError **error)
{
  uint64_t file_size = tn_node_size (file);

  *offset = tn_options_uint (options, "offset");
  if (*offset > file_size)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "Offset %" G_GUINT64_FORMAT " is behind the end of '%s', which has %" G_GUINT64_FORMAT
                    " bytes: give a smaller offset",
                    *offset, tn_node_filename (file), file_size);
  *size = tn_options_has (options, "size") ? tn_options_uint (options, "size") : file_size - *offset;
  if (*size > file_size - *offset)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "The sum of offset (%" G_GUINT64_FORMAT ") and size (%" G_GUINT64_FORMAT
                    ") has to be smaller or equal to the actual size of '%s' (%" G_GUINT64_FORMAT ")",
                    *offset, *size, tn_node_filename (file), file_size);
  return 0;
}

static int
raw_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  RawState *s = tn_node_state (node);
  uint64_t size;
  int r;

  s->file = tn_node_child (node, "file");
  s->sized = tn_options_has (options, "size");
  r = raw_window (s->file, options, &s->offset, &size, error);
  if (r < 0)
    return r;
  tn_node_set_allocation_unit (node, 1);
  tn_node_set_size (node, size);
  return 0;
}

static int
raw_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  RawState *s = tn_node_state (node);
  uint64_t offset, size;
  int r;

  if (!tn_options_has (options, "offset") && !tn_options_has (options, "size"))
    return 0;
  r = raw_window (s->file, options, &offset, &size, error);
  if (r < 0)
    return r;
  s->offset = offset;
  s->sized = tn_options_has (options, "size");
  tn_node_set_size (node, size);
  tn_node_bump_generation (node);
  return 0;
}

static int
raw_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  RawState *s = tn_node_state (node);

  *extent = (TnExtent){ .length = tn_node_size (node),
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_WRITABLE,
                        .source = s->file,
                        .source_offset = s->offset };
  return 0;
}

static int
raw_unmap (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error)
{
  RawState *s = tn_node_state (node);

  if ((flags & TN_UNMAP_ZERO) == 0)
    return tn_node_discard (s->file, s->offset + offset, length, error);
  return tn_node_write_zeroes (s->file, s->offset + offset, length,
                               (flags & TN_UNMAP_RELEASE) != 0 ? TN_REQUEST_MAY_UNMAP : 0, error);
}

/* A device that is large enough agrees to any size, and stays as it is. */
static int
raw_check_resized (TnNode *file, uint64_t wanted, GError **error)
{
  uint64_t size = wanted;
  int r = tn_node_current_size (file, &size, error);

  if (r < 0 || size == wanted)
    return r;
  tn_node_resize (file, size, TN_PREALLOC_OFF, NULL);
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                  "Cannot resize '%s' to %" G_GUINT64_FORMAT " bytes: it is a device of %" G_GUINT64_FORMAT
                  ", and can have no other size",
                  tn_node_filename (file), wanted, size);
}

static int
raw_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  RawState *s = tn_node_state (node);
  int r;

  if (s->sized)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "Cannot resize '%s': its size was fixed with the option size", tn_node_filename (node));
  if (size > INT64_MAX - s->offset)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "Disk size too big: '%s' can't have %" G_GUINT64_FORMAT " bytes", tn_node_filename (node),
                    size);
  r = tn_node_resize (s->file, s->offset + size, prealloc, error);
  return r < 0 ? r : raw_check_resized (s->file, s->offset + size, error);
}

static TnPrealloc
raw_prealloc (const TnOptions *options)
{
  const char *text = tn_options_get (options, "preallocation");

  if (g_strcmp0 (text, "falloc") == 0)
    return TN_PREALLOC_FALLOC;
  return g_strcmp0 (text, "full") == 0 ? TN_PREALLOC_FULL : TN_PREALLOC_OFF;
}

/* Disks have whole sectors. */
static int
raw_round_up (uint64_t size, uint64_t *rounded, GError **error)
{
  if (size > INT64_MAX - RAW_SECTOR)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG,
                    "A disk of %" G_GUINT64_FORMAT " bytes is too large: choose a smaller size", size);
  *rounded = (size + RAW_SECTOR - 1) / RAW_SECTOR * RAW_SECTOR;
  return 0;
}

static int
raw_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  uint64_t rounded = 0;
  int r = raw_round_up (size, &rounded, error);

  return r < 0 ? r : tn_node_resize (file, rounded, raw_prealloc (options), error);
}

static int
raw_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  uint64_t rounded = 0;
  int r = raw_round_up (source != NULL ? tn_node_size (source) : size, &rounded, error);

  if (r < 0)
    return r;
  measure->required = rounded;
  measure->fully_allocated = rounded;
  measure->bitmaps = UINT64_MAX;
  return 0;
}

static const char *const raw_prealloc_choices[] = { "off", "falloc", "full", NULL };

static const TnOption raw_options[] = {
  { "offset", TN_OPTION_SIZE, TN_OPTION_OPEN | TN_OPTION_RUNTIME, NULL, "where the disk begins in the file",
    0, INT64_MAX },
  { "size", TN_OPTION_SIZE, TN_OPTION_OPEN | TN_OPTION_RUNTIME, NULL,
    "size of the disk (default: to the file's end)", 0, INT64_MAX },
  { "preallocation", TN_OPTION_ENUM, TN_OPTION_CREATE, "off", "set space aside at once",
    .choices = raw_prealloc_choices },
  { NULL },
};

static const TnFormatOps raw_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_STATIC_MAP | TN_FORMAT_CONCURRENT_MAP,
  .instance_size = sizeof (RawState),
  .probe = raw_probe,
  .open = raw_open,
  .create = raw_create,
  .map = raw_map,
  .unmap = raw_unmap,
  .resize = raw_resize,
  .measure = raw_measure,
  .reopen = raw_reopen,
};

static const char *const raw_suffixes[] = { "raw", "img", "iso", NULL };

static const TnClass raw_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "raw",
  .summary = "plain bytes, or a window on them",
  .suffixes = raw_suffixes,
  .options = raw_options,
  .ops = &raw_ops,
};

static const TnClass *const raw_classes[] = { &raw_class, NULL };

TN_PLUGIN_DEFINE (format_raw, .security = TN_SECURITY_HARDENED, .name = "format-raw", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon", .classes = raw_classes);
