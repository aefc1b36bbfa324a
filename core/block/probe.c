/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which format is it?  And: it shall not become another one. */
#include "block/internal.h"

/* The two ends of a file that magic numbers are looked for in. */
typedef struct Ends {
  uint64_t size;
  uint64_t tail_offset;
  size_t head_length, tail_length;
  uint8_t head[TN_PROBE_HEAD];
  uint8_t tail[TN_PROBE_TAIL];
} Ends;

static int
read_ends (TnNode *node, Ends *ends, GError **error)
{
  ends->size = tn_node_size_now (node);
  ends->head_length = MIN (ends->size, TN_PROBE_HEAD);
  ends->tail_length = MIN (ends->size, TN_PROBE_TAIL);
  ends->tail_offset = ends->size - ends->tail_length;
  if (!ends->size)
    return 0;
  int rc = tn_node_read (node, 0, ends->head, ends->head_length, error);
  if (rc)
    return rc;
  if (ends->size <= ends->head_length) {
    memcpy (ends->tail, ends->head + ends->tail_offset, ends->tail_length);
    return 0;
  }
  return tn_node_read (node, ends->tail_offset, ends->tail, ends->tail_length, error);
}

static const char *
probe_ends (const char *filename, const Ends *ends)
{
  const char *name = tn_format_probe_named (filename, ends->head, ends->head_length, ends->tail,
                                            ends->tail_length, ends->size);
  if (!name)
    return NULL;
  const TnClass *class = tn_class_find (TN_KIND_FORMAT, name, NULL);
  const TnFormatOps *ops = class ? class->ops : NULL;
  if (!ops || ops->size < offsetof (TnFormatOps, open) || !ops->probe)
    return name;
  return ops->probe (ends->head, ends->head_length, ends->tail, ends->tail_length, ends->size) > 0 ? name
                                                                                                   : NULL;
}

int
tn_probe_node (TnNode *file, const char **format, GError **error)
{
  g_autofree Ends *ends = g_new (Ends, 1);
  int rc = read_ends (file, ends, error);
  if (!rc)
    *format = probe_ends (tn_node_filename (file), ends);
  return rc;
}

/* Puts what @request writes over the bytes that stand at [@at, @at + @length). */
static bool
overlay (const TnRequest *request, uint64_t at, void *bytes, size_t length)
{
  uint64_t from = MAX (request->offset, at), to = MIN (request->offset + request->length, at + length);
  if (from >= to)
    return false;
  tn_iov_to_buffer (request->iov, request->n_iov, from - request->offset, (char *) bytes + (from - at),
                    to - from);
  return true;
}

int
tn_probe_guard (TnNode *node, const TnRequest *request, GError **error)
{
  uint64_t size = tn_node_size_now (node);
  if (request->offset >= TN_PROBE_HEAD && request->offset + request->length + TN_PROBE_TAIL <= size)
    return 0;
  g_autofree Ends *ends = g_new (Ends, 1);
  int rc = read_ends (node, ends, error);
  if (rc)
    return rc;
  bool head = overlay (request, 0, ends->head, ends->head_length);
  bool tail = overlay (request, ends->tail_offset, ends->tail, ends->tail_length);
  const char *becomes = head || tail ? probe_ends (NULL, ends) : NULL;
  if (!becomes)
    return 0;
  return tn_fail (
      error, TN_BLOCK_ERROR, EPERM,
      "%s: refusing a write that would make this raw disk look like an image of format '%s': open it with "
      "format " TN_DEFAULT_FORMAT " given explicitly to allow that",
      tn_node_filename (node), becomes);
}
