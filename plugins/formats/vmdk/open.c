/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, flushing and closing an image; the plugin. */
#include "vmdk.h"

#include <stdarg.h>

/* ---- Errors ---- */

int
vmdk_fail (const Vmdk *v, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "VMDK image '%s': %s", tn_node_filename (v->file), text);
}

int
vmdk_corrupt (const VmdkExtent *e, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "VMDK extent '%s' is corrupt: %s (check -r all may repair it)",
                  tn_node_filename (e->file), text);
}

int
vmdk_need_writable (const Vmdk *v, GError **error)
{
  return v->writable ? 0 : vmdk_fail (v, error, EROFS, "it is open read-only");
}

/* ---- The descriptor on the disk ---- */

static int
vmdk_take_text (Vmdk *v, uint64_t offset, uint64_t length, GError **error)
{
  char *text = g_malloc0 (length + 1);
  int ret = length ? tn_node_read (v->file, offset, text, length, error) : 0;
  if (ret < 0) {
    g_free (text);
    return ret;
  }
  v->has_descriptor = true;
  g_autofree char *where = g_strdup_printf ("VMDK image '%s'", tn_node_filename (v->file));
  return vmdk_descriptor_parse (&v->descriptor, text, where, error);
}

static int
vmdk_read_text_file (Vmdk *v, GError **error)
{
  const uint64_t size = tn_node_size (v->file);
  if (size > VMDK_MAX_DESCRIPTOR) {
    return vmdk_fail (v, error, EFBIG, "a descriptor of %" PRIu64 " bytes is too long: at most %u are read",
                      size, VMDK_MAX_DESCRIPTOR);
  }
  char head[1024] = { 0 };
  const size_t n = MIN (size, sizeof head - 1);
  int ret = n ? tn_node_read (v->file, 0, head, n, error) : 0;
  if (ret < 0) {
    return ret;
  }
  if (!vmdk_descriptor_looks_right (head, n)) {
    return vmdk_fail (v, error, EINVAL, "it is neither a sparse extent nor a descriptor");
  }
  return vmdk_take_text (v, 0, size, error);
}

int
vmdk_write_descriptor (Vmdk *v, char *text, GError **error)
{
  const size_t length = strlen (text);
  const size_t old_length = strlen (v->descriptor.text);
  if (v->descriptor_bytes && length > v->descriptor_bytes) {
    g_free (text);
    return vmdk_fail (v, error, ENOSPC, "its descriptor has no room for %zu bytes", length);
  }
  /* What is left of a longer text becomes zeroes; a text file is cut. */
  const size_t bytes = v->descriptor_bytes ? MAX (length, old_length) : length;
  g_autofree char *padded = g_malloc0 (bytes + 1);
  memcpy (padded, text, length);
  int ret = tn_node_write (v->file, v->descriptor_offset, padded, bytes, error);
  if (ret == 0 && v->descriptor_bytes == 0 && length < old_length) {
    ret = tn_node_resize (v->file, length, TN_PREALLOC_OFF, error);
  }
  if (ret < 0) {
    g_free (text);
    return ret;
  }
  g_free (v->descriptor.text);
  v->descriptor.text = text;
  return 0;
}

int
vmdk_touch (Vmdk *v, GError **error)
{
  if (v->touched || !v->has_descriptor) {
    v->touched = true;
    return 0;
  }
  uint32_t cid = g_random_int ();
  while (cid == VMDK_NO_PARENT || cid == v->descriptor.cid || cid == 0) {
    cid = g_random_int ();
  }
  g_autofree char *value = g_strdup_printf ("%08x", cid);
  int ret = vmdk_write_descriptor (v, vmdk_descriptor_with (v->descriptor.text, "CID", value, false), error);
  if (ret < 0) {
    return ret;
  }
  v->descriptor.cid = cid;
  v->descriptor.has_cid = true;
  v->touched = true;
  return 0;
}

/* ---- The parent ---- */

bool
vmdk_has_backing (const Vmdk *v)
{
  return tn_node_child (v->node, "backing")
         || (v->descriptor.parent_hint && v->descriptor.parent_cid != VMDK_NO_PARENT);
}

int
vmdk_check_parent (Vmdk *v, GError **error)
{
  TnNode *backing = tn_node_child (v->node, "backing");
  uint32_t cid;
  if (v->descriptor.parent_cid == VMDK_NO_PARENT || (v->flags & (TN_OPEN_NO_BACKING | TN_OPEN_CHECK))) {
    v->parent_checked = true;
    return 0;
  }
  if (backing == NULL) {
    return vmdk_fail (
        v, error, ENOENT,
        "it is a differencing image (parent content id %08x) whose parent is not known: name it with "
        "backing.filename=…",
        v->descriptor.parent_cid);
  }
  if (!vmdk_node_cid (backing, &cid)) {
    return vmdk_fail (v, error, EINVAL, "its parent '%s' is not a VMDK image with a content id",
                      tn_node_filename (backing));
  }
  if (cid != v->descriptor.parent_cid) {
    return vmdk_fail (
        v, error, EINVAL,
        "its parent '%s' has content id %08x instead of %08x: it was changed since, or is another image",
        tn_node_filename (backing), cid, v->descriptor.parent_cid);
  }
  v->parent_checked = true;
  return 0;
}

/* ---- Opening ---- */

static void
vmdk_detach (Vmdk *v)
{
  g_clear_pointer (&v->stream, vmdk_stream_free);
  vmdk_close_extents (v);
  vmdk_descriptor_clear (&v->descriptor);
}

/* Sets *head to NULL where the extents are files of their own. */
static int
vmdk_read_descriptor (Vmdk *v, const uint8_t **head, GError **error)
{
  VmdkSparse sparse;
  if (*head == NULL || !vmdk_sparse_known (*head)) {
    *head = NULL;
    return vmdk_read_text_file (v, error);
  }
  int ret = vmdk_sparse_read (v->file, *head, &sparse, error);
  if (ret < 0) {
    return ret;
  }
  if (sparse.capacity == 0 && sparse.descriptor_offset) {
    *head = NULL;
  }
  if (sparse.descriptor_offset == 0) {
    return 0;
  }
  v->descriptor_offset = sparse.descriptor_offset;
  v->descriptor_bytes = sparse.descriptor_bytes;
  return vmdk_take_text (v, v->descriptor_offset, v->descriptor_bytes, error);
}

static int
vmdk_attach (Vmdk *v, GError **error)
{
  uint8_t bytes[VMDK_HEADER_BYTES];
  const uint8_t *head = tn_node_size (v->file) >= sizeof bytes ? bytes : NULL;
  int ret = head ? tn_node_read (v->file, 0, bytes, sizeof bytes, error) : 0;
  if (ret < 0 || (ret = vmdk_read_descriptor (v, &head, error)) < 0
      || (ret = vmdk_open_extents (v, head, error)) < 0) {
    return ret;
  }
  tn_node_set_size (v->node, v->size);
  if (v->grain) {
    tn_node_set_allocation_unit (v->node, v->grain);
  }
  if (v->descriptor.parent_hint && v->descriptor.parent_cid != VMDK_NO_PARENT) {
    tn_node_set_backing (v->node, v->descriptor.parent_hint, "vmdk");
  }
  return 0;
}

static int
vmdk_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vmdk *v = tn_node_state (node);
  v->node = node;
  v->file = tn_node_child (node, "file");
  v->flags = flags;
  v->writable = (flags & TN_OPEN_WRITE) && !(flags & TN_OPEN_NO_IO);
  v->allow_outside = tn_options_bool (options, "allow-outside");
  v->descriptor.parent_cid = VMDK_NO_PARENT;
  int ret = vmdk_attach (v, error);
  if (ret < 0) {
    vmdk_detach (v);
  }
  return ret;
}

/* ---- Flushing and closing ---- */

static int
vmdk_sync_extent (VmdkExtent *e, GError **error)
{
  TnMetaCache *const caches[] = { e->gt, e->gd, e->rgt, e->rgd };
  return e->gt ? tn_meta_flush (caches, e->rgt ? 4 : 2, error) : 0;
}

int
vmdk_sync (Vmdk *v, GError **error)
{
  int ret = v->stream ? vmdk_stream_finish (v, error) : 0;
  for (size_t i = 0; ret == 0 && i < v->n_extents; i++) {
    VmdkExtent *e = &v->extents[i];
    ret = e->writable ? vmdk_sync_extent (e, error) : 0;
  }
  if (ret == 0) {
    vmdk_release_freed (v);
  }
  return ret;
}

static int
vmdk_flush (TnNode *node, GError **error)
{
  Vmdk *v = tn_node_state (node);
  return v->writable ? vmdk_sync (v, error) : 0;
}

static int
vmdk_close (TnNode *node, GError **error)
{
  Vmdk *v = tn_node_state (node);
  int ret = v->writable ? vmdk_sync (v, error) : 0;
  vmdk_detach (v);
  return ret;
}

static int
vmdk_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vmdk *v = tn_node_state (node);
  const bool want = (flags & TN_OPEN_WRITE) && !(v->flags & TN_OPEN_NO_IO);
  int ret = v->writable ? vmdk_sync (v, error) : 0;
  if (ret < 0 || (want != v->writable && (ret = vmdk_set_writing (v, want, error)) < 0)) {
    return ret;
  }
  v->flags = flags;
  return 0;
}

/* ---- The plugin ---- */

static const TnFormatOps vmdk_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_BACKING | TN_FORMAT_PACKS | TN_FORMAT_GROWS | TN_FORMAT_NO_GAPS,
  .instance_size = sizeof (Vmdk),
  .open = vmdk_open,
  .close = vmdk_close,
  .create = vmdk_create,
  .map = vmdk_map,
  .reserve = vmdk_reserve,
  .commit = vmdk_commit,
  .adopt = vmdk_adopt,
  .cancel = vmdk_cancel,
  .unmap = vmdk_unmap,
  .pack = vmdk_pack,
  .unpack = vmdk_unpack,
  .flush = vmdk_flush,
  .resize = vmdk_resize,
  .check = vmdk_check,
  .info = vmdk_info,
  .info_specific = vmdk_info_specific,
  .measure = vmdk_measure,
  .set_backing = vmdk_set_backing,
  .make_empty = vmdk_make_empty,
  .reopen = vmdk_reopen,
};

static const char *const vmdk_subformats[] = { "monolithicSparse",     "monolithicFlat",
                                               "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
                                               "streamOptimized",      NULL };
static const char *const vmdk_adapters[] = { "ide", "lsilogic", "buslogic", "legacyESX", NULL };

static const TnOption vmdk_options[] = {
  { .name = "extents",
    .type = TN_OPTION_NODE,
    .when = TN_OPTION_OPEN,
    .help = "extents.N: the file of extent N" },
  { .name = "allow-outside",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_OPEN,
    .value = "off",
    .help = "let the image name extents outside its own folder" },
  { .name = "adapter_type",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .value = "ide",
    .choices = vmdk_adapters,
    .help = "disk controller that the descriptor names" },
  { .name = "backing_file",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "file name of a base image" },
  { .name = "backing_fmt",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "format of the base image, which must be vmdk" },
  { .name = "compat6",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_CREATE,
    .value = "off",
    .help = "virtual hardware version 6" },
  { .name = "hwversion",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .help = "virtual hardware version (default: 4)" },
  { .name = "subformat",
    .type = TN_OPTION_ENUM,
    .when = TN_OPTION_CREATE,
    .value = "monolithicSparse",
    .choices = vmdk_subformats,
    .help = "how the disk is laid out in files" },
  { .name = "toolsversion",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_CREATE,
    .value = "2147483647",
    .help = "VMware guest tools version" },
  { .name = "zeroed_grain",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_CREATE,
    .value = "off",
    .help = "mark zero areas in the tables" },
  { .name = NULL },
};

static const char *const vmdk_suffixes[] = { "vmdk", NULL };

/* "# Disk DescriptorFile", letters in either case. */
static const uint8_t vmdk_text_mask[] = { 0xff, 0xff, 0xdf, 0xdf, 0xdf, 0xdf, 0xff, 0xdf, 0xdf, 0xdf, 0xdf,
                                          0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf, 0xdf };

static const TnMagic vmdk_magics[] = {
  { .offset = 0, .length = 4, .bytes = (const uint8_t *) "KDMV" },
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "COWD\1\0\0\0" },
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "\xbe\xba\xfe\xca\0\0\0\0" },
  { .offset = 0,
    .length = sizeof vmdk_text_mask,
    .bytes = (const uint8_t *) "# DISK DESCRIPTORFILE",
    .mask = vmdk_text_mask },
  { .length = 0 },
};

static const TnClass vmdk_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "vmdk",
  .summary = "VMware virtual disk",
  .suffixes = vmdk_suffixes,
  .magics = vmdk_magics,
  .options = vmdk_options,
  .ops = &vmdk_ops,
};

bool
vmdk_node_cid (TnNode *node, uint32_t *cid)
{
  const TnClass *class = tn_node_class (node);
  if (class == NULL || class->kind != TN_KIND_FORMAT || g_strcmp0 (class->name, vmdk_class.name) != 0) {
    return false;
  }
  const Vmdk *v = tn_node_state (node);
  *cid = v->descriptor.cid;
  return v->descriptor.has_cid;
}

static const TnClass *const vmdk_classes[] = { &vmdk_class, NULL };
static const char *const vmdk_codecs[] = { "zlib", NULL };

TN_PLUGIN_DEFINE (format_vmdk, .security = TN_SECURITY_HARDENED, .name = "format-vmdk", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-vmdk",
                  .requires_codecs = vmdk_codecs, .classes = vmdk_classes);
