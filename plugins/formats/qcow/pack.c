/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed clusters: deflate without a header, with a window of 4 KiB. */
#include "qcow.h"

#define QCOW_WINDOW_BITS 12

static const TnCodecOps *
qcow_codec (Qcow *q, GError **error)
{
  const TnCodecOps *codec = g_atomic_pointer_get (&q->codec);
  if (codec == NULL) {
    codec = tn_codec_find ("deflate", error);
    g_atomic_pointer_set (&q->codec, codec);
  }
  return codec;
}

int
qcow_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
           GError **error)
{
  Qcow *q = tn_node_state (node);
  const TnCodecOps *codec = qcow_codec (q, error);
  g_autofree uint8_t *padded = NULL;
  if (codec == NULL) {
    return -ENOTSUP;
  }
  if (in_length > q->cluster_size) {
    return qcow_fail (q, error, EINVAL, "%zu bytes are more than a cluster", in_length);
  }
  if (in_length < q->cluster_size) {
    padded = g_malloc0 (q->cluster_size);
    memcpy (padded, in, in_length);
    in = padded;
  }
  return codec->compress (0, QCOW_WINDOW_BITS, in, q->cluster_size, out, MIN (out_size, q->cluster_size - 1),
                          out_length, error);
}

static int
qcow_unpack_bytes (Qcow *q, const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  const TnCodecOps *codec = qcow_codec (q, error);
  if (codec == NULL) {
    return -ENOTSUP;
  }
  if (out_length == q->cluster_size) {
    return codec->decompress (in, in_length, out, out_length, error);
  }
  /* The last cluster of a disk is packed whole. */
  g_autofree uint8_t *whole_cluster = g_malloc (q->cluster_size);
  int ret = codec->decompress (in, in_length, whole_cluster, q->cluster_size, error);
  if (ret == 0) {
    memcpy (out, whole_cluster, MIN (out_length, q->cluster_size));
  }
  return ret;
}

int
qcow_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
             size_t out_length, GError **error)
{
  Qcow *q = tn_node_state (node);
  g_autoptr (GError) cause = NULL;
  if (qcow_codec (q, error) == NULL) {
    return -ENOTSUP;
  }
  int ret = qcow_unpack_bytes (q, in, in_length, out, out_length, &cause);
  if (ret == 0) {
    return 0;
  }
  return qcow_fail (q, error, EIO,
                    "the compressed cluster of guest offset 0x%" PRIx64 " at 0x%" PRIx64 " is damaged: %s",
                    extent->offset, extent->source_offset, cause ? cause->message : g_strerror (-ret));
}
