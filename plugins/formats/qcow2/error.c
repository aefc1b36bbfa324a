/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages about an image, and the mark of a corrupt one. */
#include "qcow2.h"

#include <stdarg.h>

int
qcow2_fail (Qcow2 *q, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "qcow2 image '%s': %s", tn_node_filename (q->file), text);
}

/* From now on nobody may write, not even after the next opening, until a check has repaired the image. */
static void
mark_corrupt (Qcow2 *q)
{
  if (q->corrupt || !q->writable || (q->flags & TN_OPEN_CHECK)) {
    return;
  }
  q->corrupt = true;
  if (q->header.version >= 3) {
    q->header.incompatible |= QCOW2_INCOMPAT_CORRUPT;
    if (qcow2_header_write_features (q, NULL) == 0) {
      (void) tn_node_flush (q->file, NULL);
    }
  }
}

int
qcow2_corrupt (Qcow2 *q, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  mark_corrupt (q);
  return tn_fail (error, TN_BLOCK_ERROR, EIO, "qcow2 image '%s' is corrupt: %s (check -r all may repair it)",
                  tn_node_filename (q->file), text);
}
