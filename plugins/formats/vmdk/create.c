/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making an image: its descriptor and the files that this names. */
#include "vmdk.h"

#include <unistd.h>

#define SPLIT_BYTES (UINT64_C (2) << 30)

typedef enum VmdkForm { FORM_SPARSE, FORM_FLAT, FORM_SPLIT_SPARSE, FORM_SPLIT_FLAT, FORM_STREAM } VmdkForm;

typedef struct VmdkCreate {
  TnNode *file;
  const TnOptions *options;
  VmdkForm form;
  const char *form_name;
  uint64_t size;
  const char *backing;
  uint32_t parent_cid;
  bool zeroed;
  GPtrArray *made; /* files that are removed again after a failure */
} VmdkCreate;

static int
vmdk_refuse (GError **error, const char *why)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vmdk: %s", why);
}

/* ---- The parent ---- */

/* The content id of the image @name, relative to the folder of @file. */
static int
vmdk_read_parent_cid (TnNode *file, const char *name, uint32_t *cid, GError **error)
{
  g_autoptr (TnOptions) where = NULL;
  g_autoptr (TnNode) parent = NULL;
  int ret = tn_node_parse_filename (name, tn_node_filename (file), &where, error);
  if (ret < 0) {
    return ret;
  }
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "driver", "vmdk");
  for (size_t i = 0; i < tn_options_count (where); i++) {
    const char *key, *value;
    tn_options_pair (where, i, &key, &value);
    g_autofree char *full = g_strdup_printf ("file.%s", key);
    tn_options_set (options, full, value);
  }
  ret = tn_node_open (options, TN_OPEN_NO_BACKING | TN_OPEN_SHARED | TN_OPEN_NO_IO, &parent, error);
  if (ret < 0) {
    g_prefix_error (error, "vmdk: the content id of the backing file is needed: ");
    return ret;
  }
  return vmdk_node_cid (parent, cid) ? 0 : vmdk_refuse (error, "the backing file has no content id");
}

int
vmdk_set_backing (TnNode *node, const char *filename, const char *format, GError **error)
{
  Vmdk *v = tn_node_state (node);
  const bool has = filename && *filename;
  uint32_t cid = VMDK_NO_PARENT;
  int ret = vmdk_need_writable (v, error);
  if (ret < 0) {
    return ret;
  }
  if (!v->has_descriptor || v->stream || v->grain == 0) {
    return vmdk_fail (v, error, ENOTSUP, "only an image with plain sparse extents can have a backing file");
  }
  if (has && format && *format && strcmp (format, "vmdk") != 0) {
    return vmdk_fail (v, error, EINVAL, "its backing file must be a vmdk image, not %s", format);
  }
  if (has && strpbrk (filename, "\"\n\r")) {
    return vmdk_fail (v, error, EINVAL,
                      "a backing file name with quotes or ends of lines cannot be written down");
  }
  if (has && (ret = vmdk_read_parent_cid (v->file, filename, &cid, error)) < 0) {
    return ret;
  }
  g_autofree char *value = g_strdup_printf ("%08x", cid);
  g_autofree char *text = vmdk_descriptor_with (v->descriptor.text, "parentCID", value, false);
  char *whole = vmdk_descriptor_with (text, "parentFileNameHint", has ? filename : NULL, true);
  if ((ret = vmdk_sync (v, error)) < 0 || (ret = vmdk_touch (v, error)) < 0) {
    g_free (whole);
    return ret;
  }
  g_free (whole);
  g_autofree char *now = vmdk_descriptor_with (v->descriptor.text, "parentCID", value, false);
  whole = vmdk_descriptor_with (now, "parentFileNameHint", has ? filename : NULL, true);
  if ((ret = vmdk_write_descriptor (v, whole, error)) < 0) {
    return ret;
  }
  v->descriptor.parent_cid = cid;
  g_free (v->descriptor.parent_hint);
  v->descriptor.parent_hint = has ? g_strdup (filename) : NULL;
  v->parent_checked = false;
  return tn_node_flush (v->file, error);
}

/* ---- Options ---- */

static int
vmdk_take_form (VmdkCreate *c, GError **error)
{
  static const char *const names[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                                       "twoGbMaxExtentFlat", "streamOptimized" };
  const char *form = tn_options_get (c->options, "subformat");
  c->form_name = form ? form : names[0];
  for (unsigned i = 0; i < G_N_ELEMENTS (names); i++) {
    if (strcmp (c->form_name, names[i]) == 0) {
      c->form = (VmdkForm) i;
      return 0;
    }
  }
  return vmdk_refuse (error, "unknown subformat");
}

static int
vmdk_take_options (VmdkCreate *c, GError **error)
{
  const char *backing = tn_options_get (c->options, "backing_file"),
             *format = tn_options_get (c->options, "backing_fmt");
  int ret = vmdk_take_form (c, error);
  if (ret < 0) {
    return ret;
  }
  const bool flat = c->form == FORM_FLAT || c->form == FORM_SPLIT_FLAT;
  c->backing = backing && *backing ? backing : NULL;
  c->zeroed = tn_options_bool (c->options, "zeroed_grain");
  c->parent_cid = VMDK_NO_PARENT;
  if (c->zeroed && (flat || c->form == FORM_STREAM)) {
    return vmdk_refuse (error, "zeroed_grain is for monolithicSparse and twoGbMaxExtentSparse");
  }
  if (c->backing && (flat || c->form == FORM_STREAM)) {
    return vmdk_refuse (error, "a backing file needs subformat=monolithicSparse or twoGbMaxExtentSparse");
  }
  if (tn_options_bool (c->options, "compat6") && tn_options_get (c->options, "hwversion")) {
    return vmdk_refuse (error, "compat6 and hwversion exclude each other");
  }
  if (c->backing && format && *format && strcmp (format, "vmdk") != 0) {
    return vmdk_refuse (error, "the backing file must be a vmdk image (backing_fmt=vmdk)");
  }
  static const char *const texts[] = { "backing_file", "hwversion", "toolsversion" };
  for (unsigned i = 0; i < G_N_ELEMENTS (texts); i++) {
    const char *text = tn_options_get (c->options, texts[i]);
    if (text && strpbrk (text, "\"\n\r")) {
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "vmdk: %s has quotes or ends of lines, which cannot be written down", texts[i]);
    }
  }
  return c->backing ? vmdk_read_parent_cid (c->file, c->backing, &c->parent_cid, error) : 0;
}

/* ---- The descriptor ---- */

static void
vmdk_append_database (GString *text, const VmdkCreate *c)
{
  const char *adapter = tn_options_get (c->options, "adapter_type");
  const char *hardware = tn_options_get (c->options, "hwversion");
  const char *tools = tn_options_get (c->options, "toolsversion");
  adapter = adapter ? adapter : "ide";
  hardware = hardware ? hardware : tn_options_bool (c->options, "compat6") ? "6" : "4";
  const unsigned heads = strcmp (adapter, "ide") == 0 ? 16 : 255;
  g_string_append (text, "\n# The Disk Data Base\n#DDB\n\n");
  g_string_append_printf (text, "ddb.virtualHWVersion = \"%s\"\n", hardware);
  g_string_append_printf (text, "ddb.geometry.cylinders = \"%" PRIu64 "\"\n",
                          c->size / (63u * heads * (uint64_t) VMDK_SECTOR));
  g_string_append_printf (text, "ddb.geometry.heads = \"%u\"\nddb.geometry.sectors = \"63\"\n", heads);
  g_string_append_printf (text, "ddb.adapterType = \"%s\"\nddb.toolsVersion = \"%s\"\n", adapter,
                          tools ? tools : "2147483647");
}

static char *
vmdk_compose (const VmdkCreate *c, const char *lines)
{
  uint32_t cid = g_random_int ();
  while (cid == VMDK_NO_PARENT || cid == 0) {
    cid = g_random_int ();
  }
  GString *text = g_string_new ("# Disk DescriptorFile\nversion=1\n");
  g_string_append_printf (text, "CID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", cid, c->parent_cid,
                          c->form_name);
  if (c->backing) {
    g_string_append_printf (text, "parentFileNameHint=\"%s\"\n", c->backing);
  }
  g_string_append_printf (text, "\n# Extent description\n%s", lines);
  vmdk_append_database (text, c);
  return g_string_free (text, false);
}

/* ---- Files of extents ---- */

static char *
vmdk_stem (const char *path)
{
  return g_str_has_suffix (path, ".vmdk") ? g_strndup (path, strlen (path) - 5) : g_strdup (path);
}

static int
vmdk_make_file (VmdkCreate *c, const char *path, uint64_t bytes, GError **error)
{
  if (!g_file_test (path, G_FILE_TEST_EXISTS)) {
    g_ptr_array_add (c->made, g_strdup (path));
  }
  return tn_image_create (path, "raw", NULL, bytes, error);
}

static int
vmdk_make_sparse_file (VmdkCreate *c, const char *path, uint64_t bytes, GError **error)
{
  TnNode *node = NULL;
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "driver", "file");
  tn_options_set (options, "filename", path);
  int ret = vmdk_make_file (c, path, 0, error);
  if (ret < 0 || (ret = tn_node_open (options, TN_OPEN_WRITE | TN_OPEN_RESIZE, &node, error)) < 0) {
    return ret;
  }
  ret = vmdk_write_sparse (node, NULL, bytes, c->zeroed, error);
  int closed = tn_node_close (node, ret < 0 ? NULL : error);
  return ret < 0 ? ret : closed;
}

static int
vmdk_make_extents (VmdkCreate *c, GString *lines, GError **error)
{
  const bool sparse = c->form == FORM_SPLIT_SPARSE, split = c->form != FORM_FLAT;
  const uint64_t most = split ? SPLIT_BYTES : UINT64_MAX;
  const char *path = tn_node_filename (c->file);
  if (g_strcmp0 (tn_node_class_name (c->file), "file") != 0) {
    return vmdk_refuse (error, "subformats with several files need a local file");
  }
  if (c->size / SPLIT_BYTES >= VMDK_MAX_EXTENTS && split) {
    return vmdk_refuse (error, "the disk is too large to be split into files of 2 GiB");
  }
  g_autofree char *stem = vmdk_stem (path);
  uint64_t done = 0;
  for (unsigned i = 1; done < c->size || i == 1; i++) {
    const uint64_t bytes = MIN (most, c->size - done);
    g_autofree char *extent = split ? g_strdup_printf ("%s-%c%03u.vmdk", stem, sparse ? 's' : 'f', i)
                                    : g_strdup_printf ("%s-flat.vmdk", stem);
    g_autofree char *name = g_path_get_basename (extent);
    int ret =
        sparse ? vmdk_make_sparse_file (c, extent, bytes, error) : vmdk_make_file (c, extent, bytes, error);
    if (ret < 0) {
      return ret;
    }
    g_string_append_printf (lines, "RW %" PRIu64 " %s \"%s\"%s\n", bytes / VMDK_SECTOR,
                            sparse ? "SPARSE" : "FLAT", name, sparse ? "" : " 0");
    done += bytes;
  }
  return 0;
}

/* ---- Making ---- */

static int
vmdk_create_single (VmdkCreate *c, GError **error)
{
  g_autofree char *name = g_path_get_basename (tn_node_filename (c->file));
  g_autofree char *line = g_strdup_printf ("RW %" PRIu64 " SPARSE \"%s\"\n", c->size / VMDK_SECTOR, name);
  g_autofree char *text = vmdk_compose (c, line);
  return c->form == FORM_STREAM ? vmdk_write_stream (c->file, text, c->size, error)
                                : vmdk_write_sparse (c->file, text, c->size, c->zeroed, error);
}

static int
vmdk_create_several (VmdkCreate *c, GError **error)
{
  GString *lines = g_string_new (NULL);
  int ret = vmdk_make_extents (c, lines, error);
  if (ret == 0) {
    g_autofree char *text = vmdk_compose (c, lines->str);
    ret = tn_node_write (c->file, 0, text, strlen (text), error);
  }
  g_string_free (lines, true);
  return ret;
}

static int
vmdk_check_name (const VmdkCreate *c, GError **error)
{
  g_autofree char *name = g_path_get_basename (tn_node_filename (c->file));
  return strpbrk (name, "\"\n\r") ? vmdk_refuse (
             error, "a file name with quotes or ends of lines cannot be written into the descriptor")
                                  : 0;
}

int
vmdk_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  if (size > (uint64_t) INT64_MAX - VMDK_SECTOR) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "vmdk: a disk of %" PRIu64 " bytes is too large", size);
  }
  VmdkCreate c = { .file = file,
                   .options = options,
                   .size = (size + VMDK_SECTOR - 1) / VMDK_SECTOR * VMDK_SECTOR };
  int ret = vmdk_take_options (&c, error);
  if (ret < 0 || (ret = vmdk_check_name (&c, error)) < 0) {
    return ret;
  }
  if (c.size == 0 && (c.form == FORM_SPARSE || c.form == FORM_STREAM || c.form == FORM_SPLIT_SPARSE)) {
    return vmdk_refuse (error, "a disk of 0 bytes needs subformat=monolithicFlat");
  }
  c.made = g_ptr_array_new_with_free_func (g_free);
  ret = c.form == FORM_SPARSE || c.form == FORM_STREAM ? vmdk_create_single (&c, error)
                                                       : vmdk_create_several (&c, error);
  for (guint i = 0; ret < 0 && i < c.made->len; i++) {
    unlink (g_ptr_array_index (c.made, i));
  }
  g_ptr_array_unref (c.made);
  return ret;
}
