/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes, their names, their edges, their end. */
#include "block/internal.h"

#include <sys/stat.h>

/* ---- Names ---- */

/* Users refer to nodes by name from anywhere, so there is one set of names per process. */
static GMutex names_lock;
static GHashTable *names;
static uint64_t names_made;

int
tn_node_register (TnNode *node, const char *name, GError **error)
{
  g_mutex_lock (&names_lock);
  if (!names)
    names = g_hash_table_new (g_str_hash, g_str_equal);
  bool taken = name && g_hash_table_contains (names, name);
  if (!taken) {
    node->name = name ? g_strdup (name) : g_strdup_printf ("#block%03" G_GUINT64_FORMAT, ++names_made);
    g_hash_table_insert (names, node->name, node);
  }
  g_mutex_unlock (&names_lock);
  if (taken)
    return tn_fail (error, TN_BLOCK_ERROR, EEXIST,
                    "there is a node called '%s' already: choose another node-name", name);
  return 0;
}

static void
unregister (TnNode *node)
{
  if (!node->name)
    return;
  g_mutex_lock (&names_lock);
  g_hash_table_remove (names, node->name);
  if (!g_hash_table_size (names))
    g_clear_pointer (&names, g_hash_table_unref);
  g_mutex_unlock (&names_lock);
}

TnNode *
tn_node_find (const char *name)
{
  g_mutex_lock (&names_lock);
  TnNode *node = names ? g_hash_table_lookup (names, name) : NULL;
  g_mutex_unlock (&names_lock);
  return node;
}

/* ---- Making ---- */

static void
copy_ops (void *to, size_t size, const void *from)
{
  memcpy (to, from, MIN (size, *(const uint32_t *) from));
}

static void
clear_child (void *child)
{
  g_free (((TnChild *) child)->role);
}

TnNode *
tn_node_alloc (const TnClass *class, uint32_t flags)
{
  TnNode *node = g_new0 (TnNode, 1);
  node->class = class;
  node->references = 1;
  node->flags = flags;
  node->is_format = class->kind == TN_KIND_FORMAT;
  node->opening = true;
  node->children = g_array_new (FALSE, TRUE, sizeof (TnChild));
  g_array_set_clear_func (node->children, clear_child);
  if (node->is_format)
    copy_ops (&node->format, sizeof node->format, class->ops);
  else
    copy_ops (&node->protocol, sizeof node->protocol, class->ops);
  node->is_filter = !node->is_format && (node->protocol.flags & TN_PROTOCOL_FILTER);
  uint32_t state_size = node->is_format ? node->format.instance_size : node->protocol.instance_size;
  node->state = g_malloc0 (MAX (state_size, 1));
  return node;
}

static void
set_default (uint32_t *value, uint32_t standard)
{
  if (!tn_is_power_of_2 (*value))
    *value = standard;
}

static void
settle_limits (TnNode *node)
{
  TnLimits *limits = &node->limits;
  if (node->is_filter && !node->own_limits && node->file)
    *limits = node->file->limits;
  if (node->is_format && !node->own_limits && node->file)
    limits->memory_alignment = node->file->limits.memory_alignment;
  set_default (&limits->request_alignment, 1);
  set_default (&limits->memory_alignment, 1);
  if (!limits->discard_alignment)
    limits->discard_alignment = node->is_format ? MAX (node->unit, 1) : 1;
}

void
tn_node_settle (TnNode *node)
{
  uint32_t flags = tn_node_flags_now (node);
  if (node->is_filter && node->file && node->opening)
    node->size = tn_node_size_now (node->file);
  settle_limits (node);
  if (node->is_format) {
    node->locks_map = !(node->format.flags & (TN_FORMAT_STATIC_MAP | TN_FORMAT_CONCURRENT_MAP));
    node->tracked = (flags & TN_OPEN_WRITE) && !(node->format.flags & TN_FORMAT_STATIC_MAP);
    return;
  }
  const TnLimits *limits = &node->limits;
  node->bends = limits->request_alignment > 1 || limits->memory_alignment > 1 || limits->max_transfer
                || limits->max_iov;
  node->tracked = (flags & TN_OPEN_WRITE) && limits->request_alignment > 1;
  bool can_grow =
      node->is_filter ? node->file && node->file->grows : node->protocol.flags & TN_PROTOCOL_GROWS;
  node->grows = can_grow && (flags & TN_OPEN_WRITE) && (flags & TN_OPEN_RESIZE);
}

TnNode *
tn_node_leaf (TnNode *node)
{
  while (node->file)
    node = node->file;
  return node;
}

/* ---- Edges ---- */

void
tn_node_attach (TnNode *node, const char *role, TnNode *child)
{
  TnChild edge = { g_strdup (role), child };
  g_array_append_val (node->children, edge);
  child->parents = g_slist_prepend (child->parents, node);
  if (g_str_equal (role, "file"))
    node->file = child;
  if (g_str_equal (role, "backing"))
    node->backing = child;
}

static TnNode *
detach_at (TnNode *node, guint index)
{
  TnNode *child = g_array_index (node->children, TnChild, index).node;
  child->parents = g_slist_remove (child->parents, node);
  if (node->file == child)
    node->file = NULL;
  if (node->backing == child)
    node->backing = NULL;
  g_array_remove_index (node->children, index);
  return child;
}

TnNode *
tn_node_detach (TnNode *node, const char *role)
{
  for (guint i = 0; i < node->children->len; i++)
    if (g_str_equal (g_array_index (node->children, TnChild, i).role, role))
      return detach_at (node, i);
  return NULL;
}

TnNode *
tn_node_child (TnNode *node, const char *role)
{
  for (guint i = 0; i < node->children->len; i++) {
    TnChild *child = &g_array_index (node->children, TnChild, i);
    if (g_str_equal (child->role, role))
      return child->node;
  }
  return NULL;
}

void
tn_node_foreach_child (TnNode *node, void (*visit) (TnNode *child, const char *role, void *opaque),
                       void *opaque)
{
  for (guint i = 0; i < node->children->len; i++) {
    TnChild *child = &g_array_index (node->children, TnChild, i);
    visit (child->node, child->role, opaque);
  }
}

/* ---- Running callbacks ---- */

typedef struct Call {
  TnNode *node;
  TnNodeCall call;
  void *opaque;
  GError **error;
  bool locked;
  int result;
} Call;

static void
call_main (void *opaque)
{
  Call *call = opaque;
  if (call->locked)
    tn_map_lock (call->node);
  call->result = call->call (call->node, call->opaque, call->error);
  if (call->locked)
    tn_map_unlock (call->node);
}

int
tn_node_call (TnNode *node, TnNodeCall call, void *opaque, GError **error)
{
  Call run = { node, call, opaque, error, node->is_format, 0 };
  tn_co_run (call_main, &run);
  return run.result;
}

int
tn_node_co_run (TnNode *node, TnNodeCall call, void *opaque, GError **error)
{
  Call run = { node, call, opaque, error, false, 0 };
  tn_co_run (call_main, &run);
  return run.result;
}

/* ---- The end ---- */

TnNode *
tn_node_ref (TnNode *node)
{
  g_atomic_int_inc (&node->references);
  return node;
}

static int
close_driver (TnNode *node, void *opaque, GError **error)
{
  int rc = 0;
  tn_node_drain (node);
  if (node->opened && (tn_node_flags_now (node) & TN_OPEN_WRITE))
    rc = tn_node_flush (node, error);
  int (*close) (TnNode *, GError **) = node->is_format ? node->format.close : node->protocol.close;
  int closed = close && node->opened ? close (node, rc ? NULL : error) : 0;
  return rc ? rc : MIN (closed, 0);
}

static void
free_node (TnNode *node)
{
  unregister (node);
  tn_unpacked_free (node);
  tn_meta_domain_free (node);
  tn_sector_cipher_free (node->cipher);
  g_array_unref (node->children);
  g_clear_pointer (&node->options, tn_options_free);
  g_clear_pointer (&node->open_options, tn_options_free);
  g_free (node->backing_name);
  g_free (node->backing_format);
  g_free (node->filename);
  g_free (node->identity);
  g_free (node->name);
  g_free (node->state);
  g_free (node);
}

/* Long chains end here without recursion: what loses its last reference is put on the list. */
static int
close_all (TnNode *first, GError **error)
{
  GSList *dead = g_slist_prepend (NULL, first);
  int rc = 0;
  while (dead) {
    TnNode *node = dead->data;
    dead = g_slist_delete_link (dead, dead);
    int closed = tn_node_co_run (node, close_driver, NULL, rc ? NULL : error);
    if (!rc)
      rc = closed;
    while (node->children->len) {
      TnNode *child = detach_at (node, node->children->len - 1);
      if (g_atomic_int_dec_and_test (&child->references))
        dead = g_slist_append (dead, child);
      else
        tn_leaf_set_permissions (child, NULL); /* one user less */
    }
    free_node (node);
  }
  return rc;
}

int
tn_node_close (TnNode *node, GError **error)
{
  if (!g_atomic_int_dec_and_test (&node->references))
    return 0;
  return close_all (node, error);
}

void
tn_node_unref (TnNode *node)
{
  if (node)
    tn_node_close (node, NULL);
}
