/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img info */
#include "img.h"
#include "units.h"

#include <tenon/json.h>

#define MAX_CHAIN 200

/* ---- For people ---- */

/* Prints a format's own JSON as indented "key: value" lines. */
typedef struct Details {
  CliArgs *args;
  unsigned depth;     /* of nested values; the outermost object is 1 */
  bool in_data;       /* below the member "data" of the outermost object */
  unsigned items[66]; /* members seen at each depth */
  bool is_array[66];
} Details;

static void
print_key (Details *details, const char *name, bool nested)
{
  unsigned indent = details->depth - 1;
  cli_print (details->args, "%*s", indent * 4, "");
  if (details->is_array[details->depth])
    cli_print (details->args, "[%u]:%c", details->items[details->depth], nested ? '\n' : ' ');
  else {
    g_autofree char *words = g_strdup (name ? name : "");
    cli_print (details->args, "%s:%c", g_strdelimit (words, "-", ' '), nested ? '\n' : ' ');
  }
  details->items[details->depth]++;
}

static int
print_event (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Details *details = opaque;
  bool begins = type == TN_JSON_OBJECT_BEGIN || type == TN_JSON_ARRAY_BEGIN;
  bool ends = type == TN_JSON_OBJECT_END || type == TN_JSON_ARRAY_END;
  if (ends) {
    details->depth--;
    details->in_data = details->in_data && details->depth > 1;
    return 0;
  }
  bool is_data = details->depth == 1 && g_strcmp0 (name, "data") == 0;
  if (details->in_data)
    print_key (details, name, begins);
  if (details->in_data && !begins)
    cli_print (details->args, "%s\n", value ? value : "null");
  if (begins && details->depth + 1 < G_N_ELEMENTS (details->items)) {
    details->depth++;
    details->items[details->depth] = 0;
    details->is_array[details->depth] = type == TN_JSON_ARRAY_BEGIN;
    details->in_data |= is_data;
  }
  return 0;
}

static void
print_specific (CliArgs *args, const char *json)
{
  Details details = { .args = args };
  cli_print (args, "Format specific information:\n");
  tn_json_read (json, print_event, &details, NULL);
}

static void
print_human (CliArgs *args, TnNode *node, const TnInfo *info, const char *specific)
{
  cli_print (args, "image: %s\nfile format: %s\nvirtual size: %s (%" G_GUINT64_FORMAT " bytes)\n",
             tn_node_filename (node), tn_node_class_name (node), cli_human_size (info->virtual_size).text,
             info->virtual_size);
  cli_print (args, "disk size: %s\n",
             info->allocated == UINT64_MAX ? "unavailable" : cli_human_size (info->allocated).text);
  if (info->encrypted)
    cli_print (args, "encrypted: yes\n");
  if (info->cluster_size)
    cli_print (args, "cluster_size: %u\n", info->cluster_size);
  if (info->dirty)
    cli_print (args, "cleanly shut down: no\n");
  const char *backing = tn_node_backing_name (node), *format = tn_node_backing_format (node);
  if (backing) {
    g_autofree char *path = tn_node_backing_path (node);
    cli_print (args, "backing file: %s", backing);
    if (path && strcmp (path, backing) != 0)
      cli_print (args, " (actual path: %s)", path);
    cli_print (args, "\n");
  }
  if (backing && format)
    cli_print (args, "backing file format: %s\n", format);
  img_print_snapshots (args, node, NULL);
  if (specific)
    print_specific (args, specific);
}

/* ---- For programs ---- */

static void
write_snapshot (const TnSnapshot *snapshot, void *opaque)
{
  TnJson *json = opaque;
  tn_json_object_begin (json, NULL);
  if (snapshot->icount != UINT64_MAX)
    tn_json_uint (json, "icount", snapshot->icount);
  tn_json_uint (json, "vm-clock-nsec", snapshot->vm_clock_nsec % 1000000000);
  tn_json_string (json, "name", snapshot->name);
  tn_json_uint (json, "date-sec", snapshot->date_sec);
  tn_json_uint (json, "date-nsec", snapshot->date_nsec);
  tn_json_uint (json, "vm-clock-sec", snapshot->vm_clock_nsec / 1000000000);
  tn_json_string (json, "id", snapshot->id);
  tn_json_uint (json, "vm-state-size", snapshot->vm_state_size);
  tn_json_object_end (json);
}

/* Only to learn whether there is any. */
static void
note_snapshot (const TnSnapshot *snapshot, void *opaque)
{
  bool *any = opaque;
  *any = true;
}

static void
write_snapshots (TnJson *json, TnNode *node)
{
  bool any = false;
  if (tn_node_snapshots (node, note_snapshot, &any, NULL) < 0 || !any)
    return;
  tn_json_array_begin (json, "snapshots");
  tn_node_snapshots (node, write_snapshot, json, NULL);
  tn_json_array_end (json);
}

static void
write_json (TnJson *json, TnNode *node, const TnInfo *info, const char *specific)
{
  const char *backing = tn_node_backing_name (node), *format = tn_node_backing_format (node);
  g_autofree char *path = tn_node_backing_path (node);
  tn_json_object_begin (json, NULL);
  write_snapshots (json, node);
  if (backing && format)
    tn_json_string (json, "backing-filename-format", format);
  tn_json_uint (json, "virtual-size", info->virtual_size);
  tn_json_string (json, "filename", tn_node_filename (node));
  if (info->cluster_size)
    tn_json_uint (json, "cluster-size", info->cluster_size);
  tn_json_string (json, "format", tn_node_class_name (node));
  if (info->allocated != UINT64_MAX)
    tn_json_uint (json, "actual-size", info->allocated);
  if (info->encrypted)
    tn_json_bool (json, "encrypted", true);
  if (info->compressed)
    tn_json_bool (json, "compressed", true);
  if (specific)
    tn_json_text (json, "format-specific", specific, NULL);
  if (path)
    tn_json_string (json, "full-backing-filename", path);
  if (backing)
    tn_json_string (json, "backing-filename", backing);
  tn_json_bool (json, "dirty-flag", info->dirty);
  tn_json_object_end (json);
}

/* ---- The chain ---- */

typedef struct Branch {
  CliArgs *args;
  char *indent;
} Branch;

static void
print_snapshot_line (const TnSnapshot *snapshot, void *opaque)
{
  Branch *branch = opaque;
  cli_print (branch->args, "%s· snapshot %s '%s', %s\n", branch->indent, snapshot->id, snapshot->name,
             cli_human_size (snapshot->virtual_size).text);
}

/* One image of the chain, its snapshots below it. */
static void
print_tree (CliArgs *args, TnNode *node, const TnInfo *info, unsigned depth)
{
  if (depth)
    cli_print (args, "%*s└─ ", (int) (depth - 1) * 3, "");
  cli_print (args, "%s: %s, %s", tn_node_filename (node), tn_node_class_name (node),
             cli_human_size (info->virtual_size).text);
  if (info->allocated != UINT64_MAX)
    cli_print (args, ", %s on disk", cli_human_size (info->allocated).text);
  cli_print (args, "%s%s%s\n", info->encrypted ? ", encrypted" : "",
             info->dirty ? ", not cleanly shut down" : "", info->corrupt ? ", corrupt" : "");
  g_autofree char *indent = g_strnfill (depth * 3, ' ');
  Branch branch = { .args = args, .indent = indent };
  tn_node_snapshots (node, print_snapshot_line, &branch, NULL);
}

static int
describe (CliArgs *args, TnNode *node, TnJson *json, unsigned depth, GError **error)
{
  TnInfo info = { .size = sizeof info };
  int ret = tn_node_info (node, &info, error);
  if (ret < 0)
    return ret;
  if (cli_flag (args, "tree")) {
    print_tree (args, node, &info, depth);
    return 0;
  }
  g_autofree char *specific = tn_node_info_specific (node, NULL);
  if (json) {
    write_json (json, node, &info, specific);
    return 0;
  }
  if (depth)
    cli_print (args, "\n");
  print_human (args, node, &info, specific);
  return 0;
}

/* The next image of the chain, NULL behind the last. */
static int
open_backing (CliArgs *args, TnNode *node, GPtrArray *seen, TnNode **backing, GError **error)
{
  *backing = NULL;
  g_autofree char *path = tn_node_backing_path (node);
  if (!path)
    return 0;
  for (unsigned i = 0; i < seen->len; i++)
    if (strcmp (seen->pdata[i], path) == 0 || cli_same_file (seen->pdata[i], path))
      return tn_fail (error, TN_BLOCK_ERROR, ELOOP,
                      "backing file '%s' of '%s' is above it in the chain: the chain has no end", path,
                      tn_node_filename (node));
  if (seen->len >= MAX_CHAIN)
    return tn_fail (error, TN_BLOCK_ERROR, ELOOP, "the backing chain is longer than %d images", MAX_CHAIN);
  int ret = cli_open_as (args, path, false, tn_node_backing_format (node), NULL,
                         TN_OPEN_NO_BACKING | TN_OPEN_NO_IO, backing, error);
  g_ptr_array_add (seen, g_steal_pointer (&path));
  return ret;
}

static int
describe_all (CliArgs *args, TnJson *json, GError **error)
{
  g_autoptr (TnNode) node = NULL;
  g_autoptr (GPtrArray) seen = g_ptr_array_new_with_free_func (g_free);
  bool chain = cli_flag (args, "backing-chain") || cli_flag (args, "tree");
  int ret = cli_open (args, args->words[0], TN_OPEN_NO_BACKING | TN_OPEN_NO_IO, &node, error);
  if (ret >= 0 && !chain)
    ret = cli_seal (args, 0, NULL, 0, error);
  if (ret < 0)
    return ret;
  g_ptr_array_add (seen, g_strdup (tn_node_filename (node)));
  for (unsigned depth = 0; node; depth++) {
    ret = describe (args, node, json, depth, error);
    TnNode *backing = NULL;
    if (ret >= 0 && chain)
      ret = open_backing (args, node, seen, &backing, error);
    tn_node_unref (g_steal_pointer (&node));
    node = backing;
    if (ret < 0)
      return ret;
  }
  return 0;
}

static int
info_run (CliArgs *args)
{
  GError *error = NULL;
  if (cli_json (args) && cli_flag (args, "tree")) {
    cli_error (args, "info: --tree is for people; with --output=json give --backing-chain");
    return EXIT_FAILURE;
  }
  if (!cli_json (args)) {
    if (describe_all (args, NULL, &error) >= 0)
      return EXIT_SUCCESS;
    /* A description that lacks the end of the chain is none. */
    cli_discard (args);
    return cli_fail (args, EXIT_FAILURE, &error);
  }
  g_autoptr (GString) text = g_string_sized_new (1024);
  g_autoptr (TnJson) json = tn_json_new (text, true);
  bool chain = cli_flag (args, "backing-chain");
  if (chain)
    tn_json_array_begin (json, NULL);
  if (describe_all (args, json, &error) < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  if (chain)
    tn_json_array_end (json);
  cli_print_text (args, text->str, text->len);
  cli_print_text (args, "\n", 1);
  return EXIT_SUCCESS;
}

static const CliOption info_options[] = {
  { "backing-chain", 0, NULL, "describe the backing files too", NULL },
  { "tree", 0, NULL, "show the backing chain as a tree, a line for each image", NULL },
  { 0 }
};

const CliCommand img_info = {
  .name = "info",
  .summary = "describe an image",
  .words = "FILENAME",
  .min_words = 1,
  .max_words = 1,
  .standard = CLI_SANDBOX | CLI_OPEN | CLI_OUTPUT,
  .options = info_options,
  .run = info_run,
};
