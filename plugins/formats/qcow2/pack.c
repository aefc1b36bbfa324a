/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed clusters. */
#include "qcow2.h"

/* Readers elsewhere inflate with a window of 4 KiB and no zlib header. */
#define DEFLATE_WINDOW_BITS 12

static const TnCodecOps *
find_codec (Qcow2 *q, GError **error)
{
  const TnCodecOps *codec = g_atomic_pointer_get (&q->codec);
  if (codec == NULL) {
    codec = tn_codec_find (q->header.compression_type == 0 ? "deflate" : "zstd", error);
    g_atomic_pointer_set (&q->codec, codec);
  }
  return codec;
}

int
qcow2_pack (TnNode *node, const void *in, size_t in_length, void *out, size_t out_size, size_t *out_length,
            GError **error)
{
  Qcow2 *q = tn_node_state (node);
  const TnCodecOps *codec = find_codec (q, error);
  g_autofree uint8_t *padded = NULL;
  if (codec == NULL) {
    return -ENOTSUP;
  }
  if (q->external) {
    return qcow2_fail (q, error, ENOTSUP, "compressed clusters cannot be kept in an external data file");
  }
  if (q->extended) {
    return -E2BIG; /* what comes is one subcluster, and only whole clusters can be packed */
  }
  if (in_length > q->cluster_size) {
    return qcow2_fail (q, error, EINVAL, "%zu bytes are more than a cluster", in_length);
  }
  if (in_length < q->cluster_size) {
    padded = g_malloc0 (q->cluster_size);
    memcpy (padded, in, in_length);
    in = padded;
  }
  const int window = q->header.compression_type == 0 ? DEFLATE_WINDOW_BITS : 0;
  return codec->compress (0, window, in, q->cluster_size, out, MIN (out_size, q->cluster_size - 1),
                          out_length, error);
}

int
qcow2_unpack_bytes (Qcow2 *q, const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  const TnCodecOps *codec = find_codec (q, error);
  if (codec == NULL) {
    return -ENOTSUP;
  }
  if (out_length == q->cluster_size) {
    return codec->decompress (in, in_length, out, out_length, error);
  }
  /* The last cluster of a disk is packed whole. */
  g_autofree uint8_t *whole = g_malloc (q->cluster_size);
  int ret = codec->decompress (in, in_length, whole, q->cluster_size, error);
  if (ret == 0) {
    memcpy (out, whole, MIN (out_length, q->cluster_size));
  }
  return ret;
}

int
qcow2_unpack (TnNode *node, const TnExtent *extent, const void *in, size_t in_length, void *out,
              size_t out_length, GError **error)
{
  Qcow2 *q = tn_node_state (node);
  GError *cause = NULL;
  if (find_codec (q, error) == NULL) {
    return -ENOTSUP;
  }
  int ret = qcow2_unpack_bytes (q, in, in_length, out, out_length, &cause);
  if (ret == 0) {
    return 0;
  }
  qcow2_fail (q, error, EIO,
              "the compressed cluster of guest offset 0x%" PRIx64 " at 0x%" PRIx64 " is damaged: %s",
              extent->offset, extent->source_offset, cause ? cause->message : g_strerror (-ret));
  g_clear_error (&cause);
  return -EIO;
}
