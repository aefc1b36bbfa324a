/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Metadata contexts: which there are, and which a client has chosen.  Ids: 0 is base:allocation, 1 the
 * allocation depth, 2 and on are the bitmaps. */
#include "server.h"

#define FIRST_BITMAP 2

typedef struct Query {
  const char *text;
  size_t length;
} Query;

static const char *
context_name (const NbdExport *export, uint32_t id)
{
  if (id == 0)
    return NBD_CONTEXT_ALLOCATION;
  if (id == 1)
    return export->allocation_depth ? NBD_CONTEXT_DEPTH : NULL;
  return ((const NbdBitmap *) g_ptr_array_index (export->bitmaps, id - FIRST_BITMAP))->context;
}

static bool
equals (const Query *query, const char *name)
{
  return strlen (name) == query->length && memcmp (name, query->text, query->length) == 0;
}

/* "base:", "qemu:" and "qemu:dirty-bitmap:" stand for all that begin so. */
static bool
names_space (const Query *query, const char *name)
{
  const bool is_space =
      equals (query, "base:") || equals (query, "qemu:") || equals (query, NBD_CONTEXT_BITMAP);
  return is_space && strncmp (name, query->text, query->length) == 0;
}

static bool
matches (const Query *query, const char *name, bool listing)
{
  return equals (query, name) || (listing && names_space (query, name));
}

static void
tell (NbdConnection *c, NbdOption option, uint32_t id, const char *name)
{
  const size_t length = strlen (name);
  g_autofree uint8_t *entry = g_malloc (4 + length);
  tn_store_be32 (entry, option == NBD_OPT_SET_META_CONTEXT ? id : 0);
  memcpy (entry + 4, name, length);
  nbd_option_reply (c, option, NBD_REP_META_CONTEXT, entry, 4 + length);
}

/* Reads one query; false: the data ends before it does. */
static bool
take_query (const uint8_t **data, size_t *left, Query *query)
{
  if (*left < 4)
    return false;
  const uint32_t length = tn_load_be32 (*data);
  if (length > *left - 4 || length > NBD_MAX_STRING)
    return false;
  *query = (Query){ (const char *) *data + 4, length };
  *data += 4 + length;
  *left -= 4 + length;
  return true;
}

/* Marks in @wanted the contexts that the queries name; false: the lengths are wrong. */
static bool
choose (const NbdExport *export, const uint8_t *data, size_t left, uint32_t n, bool listing, bool *wanted)
{
  const uint32_t n_contexts = FIRST_BITMAP + export->bitmaps->len;
  for (uint32_t i = 0; i < n; i++) {
    Query query;
    if (!take_query (&data, &left, &query))
      return false;
    for (uint32_t id = 0; id < n_contexts; id++) {
      const char *name = context_name (export, id);
      if (name && matches (&query, name, listing))
        wanted[id] = true;
    }
  }
  if (n == 0 && listing)
    for (uint32_t id = 0; id < n_contexts; id++)
      wanted[id] = context_name (export, id) != NULL;
  return left == 0;
}

static void
answer (NbdConnection *c, NbdOption option, const NbdExport *export, const bool *wanted)
{
  for (uint32_t id = 0; id < FIRST_BITMAP + export->bitmaps->len; id++) {
    if (!wanted[id])
      continue;
    if (option == NBD_OPT_SET_META_CONTEXT)
      c->contexts[c->n_contexts++] = id;
    tell (c, option, id, context_name (export, id));
  }
  nbd_option_reply (c, option, NBD_REP_ACK, NULL, 0);
}

/* uint32 length, name, uint32 count, queries. */
void
nbd_context_option (NbdConnection *c, NbdOption option, const uint8_t *data, size_t length)
{
  const bool listing = option == NBD_OPT_LIST_META_CONTEXT;
  const uint32_t name = length < 8 ? 0 : tn_load_be32 (data);
  if (!listing)
    c->n_contexts = 0;
  if (!c->structured && !c->extended) {
    nbd_option_error (c, option, NBD_REP_ERR_INVALID, "structured replies have to be agreed on first");
    return;
  }
  if (length < 8 || name > NBD_MAX_STRING || name > length - 8) {
    nbd_option_error (c, option, NBD_REP_ERR_INVALID, "the lengths in this option contradict each other");
    return;
  }
  NbdExport *export = nbd_server_find (c->server, data + 4, name);
  if (!export) {
    nbd_option_error (c, option, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
    return;
  }
  bool wanted[NBD_MAX_CONTEXTS] = { false };
  const uint8_t *queries = data + 8 + name;
  if (!choose (export, queries, length - 8 - name, tn_load_be32 (queries - 4), listing, wanted)) {
    nbd_option_error (c, option, NBD_REP_ERR_INVALID, "the lengths in this option contradict each other");
    return;
  }
  if (!listing)
    c->context_export = export;
  answer (c, option, export, wanted);
}
