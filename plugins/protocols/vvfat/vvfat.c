/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and reading; the plugin. */
#include "vvfat.h"

#include <tenon/sandbox.h>

#include <fcntl.h>
#include <unistd.h>

/* ---- Opening ---- */

static int
copy_label (Vvfat *v, const char *text, GError **error)
{
  if (strlen (text) > 11)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vvfat: the label '%s' is longer than 11 bytes", text);
  v->label = g_strdup_printf ("%-11s", text);
  return 0;
}

static int
vvfat_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Vvfat *v = tn_node_state (node);
  const bool floppy = tn_options_bool (options, "floppy");
  const uint64_t type = tn_options_uint (options, "fat-type");
  if ((flags & TN_OPEN_WRITE) || tn_options_bool (options, "rw"))
    return tn_fail (error, TN_BLOCK_ERROR, EROFS,
                    "vvfat: writing to a folder is not supported: open it with read-only=on, without rw");
  if (type != 0 && type != 12 && type != 16 && type != 32)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vvfat: fat-type must be 12, 16 or 32");
  v->bits = type ? (unsigned) type : floppy ? 12 : 16;
  v->items = g_ptr_array_new ();
  int ret = copy_label (v, tn_options_get (options, "label"), error);
  if (ret < 0)
    return ret;
  v->root = vvfat_list (v, tn_options_get (options, "dir"), error);
  if (!v->root)
    return -EIO;
  ret = tn_sandbox_keep (tn_options_get (options, "dir"), TN_SANDBOX_READ, error);
  if (ret == 0)
    ret = vvfat_choose_layout (v, floppy, error);
  if (ret < 0)
    return ret;
  tn_node_set_limits (node, &(TnLimits){ .request_alignment = 1, .memory_alignment = 1 });
  tn_node_set_size (node, (v->start + v->sectors) * VVFAT_SECTOR);
  return 0;
}

static int
vvfat_close (TnNode *node, GError **error)
{
  Vvfat *v = tn_node_state (node);
  g_clear_pointer (&v->root, vvfat_item_free);
  g_clear_pointer (&v->items, g_ptr_array_unref);
  g_clear_pointer (&v->label, g_free);
  return 0;
}

/* ---- Reading ---- */

static uint64_t
read_meta (const Vvfat *v, uint64_t offset, uint64_t length, uint8_t *out)
{
  uint8_t sector[VVFAT_SECTOR];
  const uint64_t skip = offset % VVFAT_SECTOR, part = MIN (length, VVFAT_SECTOR - skip);
  vvfat_meta_sector (v, offset / VVFAT_SECTOR, sector);
  memcpy (out, sector + skip, part);
  return part;
}

/* What a file has lost since it was listed reads as zeroes. */
static int
read_file (const VvfatItem *item, uint64_t at, uint64_t length, uint8_t *out, GError **error)
{
  const int fd = open (item->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "vvfat: cannot open '%s'", item->path);
  uint64_t done = 0;
  ssize_t got = 1;
  while (done < length && (got = pread (fd, out + done, length - done, (off_t) (at + done))) > 0)
    done += (uint64_t) got;
  const int ret =
      got < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, errno, "vvfat: cannot read '%s'", item->path) : 0;
  close (fd);
  memset (out + done, 0, length - done);
  return ret;
}

static int
read_item (const VvfatItem *item, uint64_t at, uint64_t length, uint8_t *out, GError **error)
{
  const uint64_t size = item->is_folder ? item->entries->len : item->size;
  const uint64_t part = at < size ? MIN (length, size - at) : 0;
  memset (out + part, 0, length - part);
  if (part && item->is_folder)
    memcpy (out, item->entries->data + at, part);
  return part && !item->is_folder ? read_file (item, at, part, out, error) : 0;
}

/* Items follow one another without a gap: behind the last there are zeroes. */
static int64_t
read_data (const Vvfat *v, uint64_t offset, uint64_t length, uint8_t *out, GError **error)
{
  guint from = 0, to = v->items->len;
  const uint64_t cluster = vvfat_cluster_bytes (v);
  while (from < to) {
    const guint middle = from + (to - from) / 2;
    const VvfatItem *item = g_ptr_array_index (v->items, middle);
    if ((item->first - 2 + (uint64_t) item->count) * cluster <= offset)
      from = middle + 1;
    else
      to = middle;
  }
  if (from == v->items->len) {
    memset (out, 0, length);
    return (int64_t) length;
  }
  const VvfatItem *item = g_ptr_array_index (v->items, from);
  const uint64_t begin = (item->first - 2ull) * cluster, end = begin + item->count * cluster,
                 part = MIN (length, end - offset);
  const int ret = read_item (item, offset - begin, part, out, error);
  return ret < 0 ? ret : (int64_t) part;
}

static int64_t
vvfat_pread (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error)
{
  const Vvfat *v = tn_node_state (node);
  const uint64_t data = vvfat_data_start (v) * VVFAT_SECTOR;
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = offset + done, left = length - done;
    uint8_t *out = (uint8_t *) buffer + done;
    const int64_t part = at < data ? (int64_t) read_meta (v, at, MIN (left, data - at), out)
                                   : read_data (v, at - data, left, out, error);
    if (part < 0)
      return part;
    done += (uint64_t) part;
  }
  return (int64_t) length;
}

/* Behind the last file there is nothing. */
static int
vvfat_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  const Vvfat *v = tn_node_state (node);
  const VvfatItem *last = v->items->len ? g_ptr_array_index (v->items, v->items->len - 1) : NULL;
  const uint64_t used = last ? last->first - 2 + (uint64_t) last->count : 0,
                 end = vvfat_data_start (v) * VVFAT_SECTOR + used * vvfat_cluster_bytes (v);
  *extent = offset < end
                ? (TnExtent){ .length = end, .kind = TN_EXTENT_DATA }
                : (TnExtent){ .offset = end, .length = tn_node_size (node) - end, .kind = TN_EXTENT_ZERO };
  return 0;
}

/* ---- Names: fat:[floppy:][12:|16:|32:][rw:]FOLDER ---- */

static int
vvfat_parse_filename (const char *text, TnOptions *options, GError **error)
{
  static const char *const types[] = { "12:", "16:", "32:" };
  if (g_str_has_prefix (text, "floppy:")) {
    tn_options_set (options, "floppy", "on");
    text += strlen ("floppy:");
  }
  for (unsigned i = 0; i < G_N_ELEMENTS (types); i++) {
    if (g_str_has_prefix (text, types[i])) {
      tn_options_set_uint (options, "fat-type", 12 + 4 * i + (i == 2 ? 12 : 0));
      text += strlen (types[i]);
    }
  }
  if (g_str_has_prefix (text, "rw:")) {
    tn_options_set (options, "rw", "on");
    text += strlen ("rw:");
  }
  if (*text == '\0')
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "vvfat: name a folder: fat:FOLDER");
  tn_options_set (options, "dir", text);
  return 0;
}

static const TnOption vvfat_options[] = {
  { .name = "dir",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN | TN_OPTION_REQUIRED,
    .help = "the folder to show" },
  { .name = "fat-type",
    .type = TN_OPTION_UINT,
    .when = TN_OPTION_OPEN,
    .value = "0",
    .max = 32,
    .help = "12, 16 or 32 (default: 16, for a floppy 12)" },
  { .name = "floppy",
    .type = TN_OPTION_BOOL,
    .when = TN_OPTION_OPEN,
    .value = "off",
    .help = "a disk without a partition table" },
  { .name = "label",
    .type = TN_OPTION_STRING,
    .when = TN_OPTION_OPEN,
    .value = "TENON VVFAT",
    .help = "name of the volume, up to 11 bytes" },
  { .name = "rw", .type = TN_OPTION_BOOL, .when = TN_OPTION_OPEN, .value = "off", .help = "not supported" },
  { .name = NULL },
};

static const TnProtocolOps vvfat_ops = {
  .size = sizeof (TnProtocolOps),
  .instance_size = sizeof (Vvfat),
  .parse_filename = vvfat_parse_filename,
  .open = vvfat_open,
  .close = vvfat_close,
  .pread = vvfat_pread,
  .map = vvfat_map,
};

static const char *const vvfat_aliases[] = { "fat", NULL };

static const TnClass vvfat_class = {
  TN_CLASS_HEAD (TN_KIND_PROTOCOL, TN_PROTOCOL_MAJOR, TN_PROTOCOL_MINOR),
  .name = "vvfat",
  .summary = "a folder of the host as a FAT disk, read-only",
  .aliases = vvfat_aliases,
  .schemes = vvfat_aliases,
  .options = vvfat_options,
  .ops = &vvfat_ops,
};

static const TnClass *const vvfat_classes[] = { &vvfat_class, NULL };

TN_PLUGIN_DEFINE (protocol_vvfat, .security = TN_SECURITY_HARDENED, .name = "protocol-vvfat",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-protocol-vvfat",
                  .classes = vvfat_classes);
