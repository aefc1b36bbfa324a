/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reference to the backing file. */
#include "qcow2.h"

int
qcow2_set_backing (TnNode *node, const char *filename, const char *format, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  if (!q->writable) {
    return qcow2_fail (q, error, EROFS, "it is open read-only");
  }
  if (filename && (q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW)) {
    return qcow2_fail (q, error, EINVAL, "an image with a raw data file cannot have a backing file");
  }
  int ret = qcow2_touch (q, error);
  if (ret < 0 || (ret = qcow2_sync (q, error)) < 0) {
    return ret;
  }
  char *old_name = q->backing_name, *old_format = q->backing_format;
  q->backing_name = filename && *filename ? g_strdup (filename) : NULL;
  q->backing_format = q->backing_name && format && *format ? g_strdup (format) : NULL;
  if ((ret = qcow2_header_write (q, error)) < 0) {
    g_free (q->backing_name);
    g_free (q->backing_format);
    q->backing_name = old_name;
    q->backing_format = old_format;
    return ret;
  }
  g_free (old_name);
  g_free (old_format);
  return qcow2_barrier (q, error);
}
