/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening a graph.
 *
 * open_node() opens one node and the children that its options describe, but not its backing node;
 * open_chain() then walks down the backing files one by one, so that a long chain does not recurse.
 */
#include "block/internal.h"

#include <sys/stat.h>

#define MAX_NESTING 16

/* Flags that a child has from its parent. */
#define INHERITED                                                                                            \
  (TN_OPEN_NO_IO | TN_OPEN_CHECK | TN_OPEN_DIRECT | TN_OPEN_SHARED | TN_OPEN_NO_FLUSH | TN_OPEN_UNTRUSTED)

static int open_node (TnOpening *opening, TnOptions *options, uint32_t flags, bool is_child, TnNode **node,
                      GError **error);
static int open_chain (TnOpening *opening, TnNode *node, GError **error);

/* ---- Classes ---- */

static const TnClass *
find_class (const char *driver, GError **error)
{
  g_autoptr (GError) no_format = NULL, no_protocol = NULL;
  const TnClass *class = tn_class_find (TN_KIND_FORMAT, driver, &no_format);
  if (!class)
    class = tn_class_find (TN_KIND_PROTOCOL, driver, &no_protocol);
  if (class)
    return class;
  /* A plugin that is there but cannot be used says more than that there is none. */
  bool format_says_more = no_format->code != ENOENT || no_protocol->code == ENOENT;
  GError **best = format_says_more ? &no_format : &no_protocol;
  g_propagate_error (error, g_steal_pointer (best));
  return NULL;
}

static int
check_class_options (TnNode *node, TnOptions *options, GError **error)
{
  static const TnOption nothing[] = { { NULL } };
  const TnClass *class = node->class;
  g_autofree char *what = g_strdup_printf ("%s '%s'", node->is_format ? "format" : "protocol", class->name);
  return tn_options_check (options, class->options ? class->options : nothing,
                           class->options ? class->option_size : sizeof *nothing, TN_OPTION_OPEN, what,
                           error);
}

/* ---- Identity and locks ---- */

/* Two leaves with equal identity are the same storage. */
static char *
make_identity (TnNode *leaf)
{
  const char *filename = tn_options_get (leaf->options, "filename");
  struct stat st;
  if (filename && !stat (filename, &st)) {
    if (S_ISBLK (st.st_mode))
      return g_strdup_printf ("device %u", (unsigned) st.st_rdev);
    if (S_ISREG (st.st_mode))
      return g_strdup_printf ("file %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64) st.st_dev,
                              (guint64) st.st_ino);
    return NULL;
  }
  return filename ? g_strdup_printf ("%s %s", leaf->class->name, filename) : NULL;
}

static int
check_identity (TnOpening *opening, TnNode *leaf, GError **error)
{
  leaf->identity = make_identity (leaf);
  if (!leaf->identity)
    return 0;
  for (guint i = 0; i < opening->identities->len; i++)
    if (g_str_equal (g_ptr_array_index (opening->identities, i), leaf->identity))
      return tn_fail (error, TN_BLOCK_ERROR, ELOOP,
                      "%s: refers to itself, directly or through its backing files: set another backing file",
                      leaf->filename);
  g_ptr_array_add (opening->identities, g_strdup (leaf->identity));
  return 0;
}

/* ---- Children ---- */

static bool
has_prefix_options (const TnOptions *options, const char *role)
{
  g_autofree char *prefix = g_strdup_printf ("%s.", role);
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *key, *value;
    tn_options_pair (options, i, &key, &value);
    if (g_str_has_prefix (key, prefix))
      return true;
  }
  return false;
}

static int
refer (const char *name, const char *role, TnNode **child, GError **error)
{
  TnNode *found = tn_node_find (name);
  if (!found)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT,
                    "%s=%s: there is no node of that name; a file is given as %s.filename=%s", role, name,
                    role, name);
  *child = tn_node_ref (found);
  return 0;
}

/* Opens what the options say below @role; *child stays NULL when they say nothing. */
static int
open_described_as (TnOpening *opening, TnOptions *options, const char *role, uint32_t flags, bool is_child,
                   TnNode **child, GError **error)
{
  *child = NULL;
  g_autofree char *name = g_strdup (tn_options_get (options, role));
  if (name) {
    tn_options_set (options, role, NULL);
    return refer (name, role, child, error);
  }
  if (!has_prefix_options (options, role))
    return 0;
  if (opening->depth >= MAX_NESTING)
    return tn_fail (error, TN_BLOCK_ERROR, E2BIG, "nodes are nested more than %d deep", MAX_NESTING);
  g_autoptr (TnOptions) below = tn_options_take_prefix (options, role);
  opening->depth++;
  int rc = open_node (opening, below, flags, is_child, child, error);
  /* What this child is to read may lie in its own backing files. */
  if (!rc && (*child)->opening)
    rc = open_chain (opening, *child, error);
  opening->depth--;
  if (rc)
    g_clear_pointer (child, tn_node_unref);
  return rc;
}

static int
open_described (TnOpening *opening, TnOptions *options, const char *role, uint32_t flags, TnNode **child,
                GError **error)
{
  return open_described_as (opening, options, role, flags, true, child, error);
}

static uint32_t
file_flags (uint32_t flags)
{
  /* A format knows when to discard and to flush; its file obeys. */
  uint32_t below = (flags & (INHERITED | TN_OPEN_WRITE)) | TN_OPEN_UNMAP;
  /* Which of them really grows is known once the format is. */
  return flags & TN_OPEN_WRITE ? below | TN_OPEN_RESIZE : below;
}

bool
tn_node_child_described (TnNode *node, const char *role)
{
  return node->open_options
         && (tn_options_has (node->open_options, role) || has_prefix_options (node->open_options, role));
}

/* Whether the children that a driver opens are images, to be probed. */
static bool
holds_images (const TnNode *node)
{
  return !node->is_format && !node->is_filter && (node->protocol.flags & TN_PROTOCOL_OVER_IMAGE);
}

int
tn_node_open_child (TnNode *node, const char *role, const TnOptions *options, TnNode **child, GError **error)
{
  TnOpening alone = { 0 };
  TnOpening *opening = node->context;
  if (!opening) {
    alone.identities = g_ptr_array_new_with_free_func (g_free);
    opening = &alone;
  }
  g_autoptr (TnOptions) described = tn_options_new ();
  if (options)
    for (size_t i = 0; i < tn_options_count (options); i++) {
      const char *key, *value;
      tn_options_pair (options, i, &key, &value);
      g_autofree char *full = g_strdup_printf ("%s.%s", role, key);
      tn_options_set (described, full, value);
    }
  TnNode *opened = NULL;
  TnOptions *from = options || !node->open_options ? described : node->open_options;
  int rc = 0;
  if (options && (tn_node_flags_now (node) & TN_OPEN_UNTRUSTED))
    rc = tn_fail (error, TN_BLOCK_ERROR, EPERM,
                  "%s: names another file (%s), which is refused for untrusted images",
                  tn_node_filename (node), role);
  if (!rc)
    rc = open_described_as (opening, from, role, file_flags (tn_node_flags_now (node)), !holds_images (node),
                            &opened, error);
  if (!rc && !opened)
    rc = tn_fail (error, TN_BLOCK_ERROR, ENOENT, "%s: the child '%s' is not described: add %s.filename=FILE",
                  tn_node_filename (node), role, role);
  if (!rc) {
    tn_node_attach (node, role, opened);
    rc = tn_leaf_set_permissions (opened, error);
    if (rc)
      tn_node_unref (tn_node_detach (node, role));
    else
      *child = opened;
  }
  if (alone.identities)
    g_ptr_array_unref (alone.identities);
  return rc;
}

/* ---- One node ---- */

static int
call_open (TnNode *node, GError **error)
{
  uint32_t flags = tn_node_flags_now (node);
  int rc = node->is_format ? node->format.open (node, node->options, flags, error)
                           : node->protocol.open (node, node->options, flags, error);
  if (rc < 0)
    return rc;
  node->opened = true;
  return 0;
}

static int
check_unit (TnNode *node, GError **error)
{
  if (node->unit <= TN_MAX_UNIT)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: allocation units of %u bytes are too large",
                  tn_node_filename (node), node->unit);
}

/* What is left in the set once the node's own and its children's options are known is a mistake. */
static int
set_up_options (TnNode *node, TnOptions *options, GError **error)
{
  g_autoptr (TnOptions) own = tn_options_copy (options);
  if (node->is_format)
    tn_options_free (tn_options_take_prefix (own, "backing"));
  tn_options_set (own, "backing", NULL);
  for (const TnOption *row = node->class->options; row && row->name;
       row = (const TnOption *) ((const char *) row + node->class->option_size)) {
    if (row->type != TN_OPTION_NODE)
      continue;
    tn_options_set (own, row->name, NULL);
    tn_options_free (tn_options_take_prefix (own, row->name));
  }
  int rc = check_class_options (node, own, error);
  if (rc)
    return rc;
  node->options = g_steal_pointer (&own);
  node->open_options = tn_options_copy (options);
  return 0;
}

static char *
leaf_filename (const TnNode *node)
{
  if (node->is_filter && node->file)
    return g_strdup (tn_node_filename (node->file));
  char *own = node->protocol.filename ? node->protocol.filename (node->options) : NULL;
  return own ? own : tn_filename_from_options (node->class->name, node->options);
}

static int
open_leaf (TnOpening *opening, TnNode *node, GError **error)
{
  node->filename = leaf_filename (node);
  if (!node->protocol.open)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "protocol '%s' cannot open anything", node->class->name);
  if (!node->is_filter) {
    int rc = check_identity (opening, node, error);
    if (rc)
      return rc;
  }
  return call_open (node, error);
}

/* A file that was opened under a name of its own does not know yet that what stands on it makes it grow; one
 * opened for this format alone may do no more than the format needs. */
static void
settle_growth (TnNode *file, bool grows)
{
  bool shared = file->parents->next;
  if (file->is_format || !(tn_node_flags_now (file) & TN_OPEN_WRITE) || (!grows && shared))
    return;
  file->flags = grows ? file->flags | TN_OPEN_RESIZE : file->flags & ~TN_OPEN_RESIZE;
  tn_node_settle (file);
}

static int
open_format (TnNode *node, GError **error)
{
  node->filename = g_strdup (tn_node_filename (node->file));
  if (!node->format.open || !node->format.map)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "format '%s' cannot open images", node->class->name);
  uint32_t flags = tn_node_flags_now (node);
  bool grows = (node->format.flags & TN_FORMAT_GROWS) || (flags & TN_OPEN_RESIZE);
  settle_growth (node->file, (flags & TN_OPEN_WRITE) && grows);
  int rc = tn_leaf_set_permissions (node->file, error);
  if (!rc)
    rc = call_open (node, error);
  return rc ? rc : check_unit (node, error);
}

/* Makes a node of @class over @file (which it takes over; NULL for leaves) with @options. */
static int
build_node (TnOpening *opening, const TnClass *class, TnNode *file, TnOptions *options,
            const TnOptions *common, uint32_t flags, TnNode **out, GError **error)
{
  g_autoptr (TnNode) node = tn_node_alloc (class, flags);
  if (file)
    tn_node_attach (node, "file", file);
  if ((node->is_format || node->is_filter) && !file)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "driver '%s' needs a file: add file.filename=FILE",
                    class->name);
  int rc = tn_node_register (node, tn_options_get (common, "node-name"), error);
  if (!rc)
    rc = set_up_options (node, options, error);
  if (rc)
    return rc;
  node->context = opening;
  node->detect_zeroes = tn_block_detect_zeroes (common);
  rc = node->is_format ? open_format (node, error) : open_leaf (opening, node, error);
  node->context = NULL;
  if (rc)
    return rc;
  tn_node_settle (node);
  *out = g_steal_pointer (&node);
  return 0;
}

/* A node without `driver`: its file says what it is. */
static int
open_probed (TnOpening *opening, TnOptions *options, const TnOptions *common, uint32_t flags, TnNode **node,
             GError **error)
{
  TnNode *file = NULL;
  int rc = open_described (opening, options, "file", file_flags (flags), &file, error);
  if (rc)
    return rc;
  if (!file)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "no image is named: add driver=NAME or file.filename=FILE");
  const char *format = NULL;
  rc = tn_probe_node (file, &format, error);
  const TnClass *class =
      rc ? NULL : tn_class_find (TN_KIND_FORMAT, format ? format : TN_DEFAULT_FORMAT, error);
  if (!class) {
    tn_node_unref (file);
    return rc ? rc : -ENOENT;
  }
  rc = build_node (opening, class, file, options, common, flags, node, error);
  if (!rc)
    (*node)->probed_raw = !format;
  return rc;
}

/* What a filter stands on is named as its class says, and is a file or an image as the filter itself is. */
static int
open_filtered (TnOpening *opening, const TnClass *class, TnOptions *options, uint32_t flags, bool is_child,
               TnNode **file, GError **error)
{
  const TnProtocolOps *ops = class->ops;
  const bool named = ops->size > offsetof (TnProtocolOps, file_option) && ops->file_option;
  const char *role = named ? ops->file_option : "file";
  is_child = is_child && !(ops->flags & TN_PROTOCOL_OVER_IMAGE);
  uint32_t below = is_child ? file_flags (flags) : flags;
  if (flags & TN_OPEN_WRITE)
    below |= TN_OPEN_RESIZE;
  int rc = open_described_as (opening, options, role, below, is_child, file, error);
  if (rc || *file)
    return rc;
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "driver '%s' needs an image: add %s.filename=FILE",
                  class->name, role);
}

static int
open_driver (TnOpening *opening, const char *driver, TnOptions *options, const TnOptions *common,
             uint32_t flags, bool is_child, TnNode **node, GError **error)
{
  const TnClass *class = find_class (driver, error);
  if (!class)
    return -ENOENT;
  TnNode *file = NULL;
  int rc = 0;
  if (class->kind == TN_KIND_FORMAT)
    rc = open_described (opening, options, "file", file_flags (flags), &file, error);
  else if (((const TnProtocolOps *) class->ops)->flags & TN_PROTOCOL_FILTER)
    rc = open_filtered (opening, class, options, flags, is_child, &file, error);
  if (rc)
    return rc;
  return build_node (opening, class, file, options, common, flags, node, error);
}

/* `filename` without `driver` is a name to be parsed: of the file itself in a child, else of the image. */
static int
expand_filename (TnOptions *options, bool is_child, GError **error)
{
  g_autofree char *filename = g_strdup (tn_options_get (options, "filename"));
  if (!filename || tn_options_has (options, "driver"))
    return 0;
  tn_options_set (options, "filename", NULL);
  g_autoptr (TnOptions) parsed = NULL;
  int rc = is_child ? tn_node_parse_filename (filename, NULL, &parsed, error)
                    : tn_filename_to_graph (filename, NULL, NULL, &parsed, error);
  if (rc)
    return rc;
  tn_options_merge (parsed, options);
  tn_options_merge (options, parsed);
  return 0;
}

static int
open_once (TnOpening *opening, TnOptions *options, const TnOptions *common, uint32_t flags, bool is_child,
           TnNode **node, GError **error)
{
  const char *driver = tn_options_get (common, "driver");
  if (driver)
    return open_driver (opening, driver, options, common, flags, is_child, node, error);
  if (is_child)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a child node needs driver=NAME or filename=FILE");
  return open_probed (opening, options, common, flags, node, error);
}

static bool
may_read_only_help (int rc)
{
  return rc == -EACCES || rc == -EPERM || rc == -EROFS;
}

static int
open_node (TnOpening *opening, TnOptions *options, uint32_t flags, bool is_child, TnNode **node,
           GError **error)
{
  int rc = expand_filename (options, is_child, error);
  if (rc)
    return rc;
  g_autoptr (TnOptions) common = NULL;
  rc = tn_block_take_common (options, &common, error);
  if (rc)
    return rc;
  flags = tn_block_apply_common (common, flags);
  if (!tn_options_bool (common, "auto-read-only") || !(flags & TN_OPEN_WRITE))
    return open_once (opening, options, common, flags, is_child, node, error);

  g_autoptr (TnOptions) kept = tn_options_copy (options);
  g_autoptr (GError) why = NULL;
  guint known = opening->identities->len;
  rc = open_once (opening, options, common, flags, is_child, node, &why);
  if (!rc)
    return 0;
  if (!may_read_only_help (rc)) {
    g_propagate_error (error, g_steal_pointer (&why));
    return rc;
  }
  g_ptr_array_set_size (opening->identities, (int) known);
  return open_once (opening, kept, common, flags & ~(TN_OPEN_WRITE | TN_OPEN_RESIZE), is_child, node, error);
}

/* ---- The chain ---- */

static int
named_backing (TnNode *node, const TnOptions *more, TnOptions **options, GError **error)
{
  if (tn_node_flags_now (node) & TN_OPEN_UNTRUSTED)
    return tn_fail (error, TN_BLOCK_ERROR, EPERM,
                    "%s: names the backing file '%s', which is refused for untrusted images", node->filename,
                    node->backing_name);
  g_autoptr (TnOptions) parsed = NULL;
  if (g_str_has_prefix (node->backing_name, "json:")) {
    int rc = tn_node_parse_filename (node->backing_name, NULL, &parsed, error);
    if (rc)
      return rc;
    tn_options_merge (parsed, more);
    *options = g_steal_pointer (&parsed);
    return 0;
  }
  g_autofree char *base = tn_node_backing_path (node);
  return tn_filename_to_graph (base, node->backing_format, more, options, error);
}

/* What the backing node is to be opened from: *options stays NULL when there is none to be opened. */
static int
describe_backing (TnNode *node, TnOptions **options, GError **error)
{
  g_autoptr (TnOptions) given = tn_options_take_prefix (node->open_options, "backing");
  *options = NULL;
  if (tn_options_has (given, "driver") || tn_options_has (given, "file")
      || tn_options_has (given, "file.filename") || tn_options_has (given, "file.driver")
      || tn_options_has (given, "filename")) {
    *options = g_steal_pointer (&given);
    return 0;
  }
  if (!node->backing_name || !*node->backing_name)
    return tn_options_count (given)
               ? tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                          "%s: backing options are given, but it has no backing file", node->filename)
               : 0;
  return named_backing (node, given, options, error);
}

static int
open_one_backing (TnOpening *opening, TnNode *node, TnNode **backing, GError **error)
{
  uint32_t flags = tn_node_flags_now (node);
  *backing = NULL;
  const char *name = tn_options_get (node->open_options, "backing");
  if (!node->is_format || (flags & (TN_OPEN_NO_BACKING | TN_OPEN_NO_IO)) || (name && !*name))
    return 0;
  if (name)
    return refer (name, "backing", backing, error);
  g_autoptr (TnOptions) options = NULL;
  int rc = describe_backing (node, &options, error);
  if (rc || !options)
    return rc;
  rc = open_node (opening, options, flags & INHERITED & ~TN_OPEN_CHECK, false, backing, error);
  if (rc)
    g_prefix_error (error, "cannot open the backing file of '%s': ", node->filename);
  return rc;
}

static int
open_chain (TnOpening *opening, TnNode *node, GError **error)
{
  for (unsigned length = 1;; length++) {
    if (length > TN_MAX_CHAIN)
      return tn_fail (error, TN_BLOCK_ERROR, ELOOP, "%s: the backing chain is longer than %d files",
                      node->filename, TN_MAX_CHAIN);
    TnNode *backing;
    int rc = open_one_backing (opening, node, &backing, error);
    g_clear_pointer (&node->open_options, tn_options_free);
    if (rc || !backing)
      return rc;
    bool shared = !backing->opening;
    tn_node_attach (node, "backing", backing);
    if (shared)
      return 0;
    node = backing;
  }
}

static void
end_opening (TnNode *node)
{
  if (!node->opening)
    return;
  node->opening = false;
  g_clear_pointer (&node->open_options, tn_options_free);
  for (guint i = 0; i < node->children->len; i++) {
    TnNode *child = g_array_index (node->children, TnChild, i).node;
    for (TnNode *each = child; child != node->backing && each; each = each->backing)
      end_opening (each);
  }
}

typedef struct Open {
  const TnOptions *options;
  uint32_t flags;
  TnNode **node;
} Open;

static int
open_main (TnNode *unused, void *opaque, GError **error)
{
  Open *open = opaque;
  TnOpening opening = { .identities = g_ptr_array_new_with_free_func (g_free) };
  g_autoptr (TnOptions) options = tn_options_copy (open->options);
  g_autoptr (TnNode) node = NULL;
  int rc = open_node (&opening, options, open->flags, false, &node, error);
  if (!rc)
    rc = open_chain (&opening, node, error);
  if (!rc)
    rc = tn_leaf_set_permissions (node, error); /* a protocol that is used by itself */
  g_ptr_array_unref (opening.identities);
  if (rc)
    return rc;
  for (TnNode *each = node; each; each = each->backing)
    end_opening (each);
  *open->node = g_steal_pointer (&node);
  return 0;
}

int
tn_node_open (const TnOptions *options, uint32_t flags, TnNode **node, GError **error)
{
  Open open = { options, flags, node };
  return tn_node_co_run (NULL, open_main, &open, error);
}

int
tn_node_open_file (const char *filename, const char *format, const TnOptions *options, uint32_t flags,
                   TnNode **node, GError **error)
{
  g_autoptr (TnOptions) graph = NULL;
  int rc = tn_filename_to_graph (filename, format, options, &graph, error);
  return rc ? rc : tn_node_open (graph, flags, node, error);
}
