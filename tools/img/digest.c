/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The digest of contents that pass by. */
#include "img.h"

#include <tenon/cipher.h>

#define ZEROES (64u << 10)
#define CHUNK (512u << 10)

struct ImgDigest {
  const TnDigestOps *ops;
  uint8_t *zeroes;
  max_align_t context[];
};

int
img_digest_new (const char *name, ImgDigest **digest, GError **error)
{
  const TnDigestOps *ops = tn_digest_find (name, error);
  if (!ops)
    return -ENOENT;
  if (!ops->begin || !ops->update || !ops->finish || !ops->context_size)
    return tn_fail (error, TN_PLUGIN_ERROR, ENOTSUP,
                    "digest '%s' takes whole messages only: install a newer package of it", name);
  *digest = g_malloc0 (sizeof **digest + ops->context_size);
  (*digest)->ops = ops;
  ops->begin ((*digest)->context);
  return 0;
}

void
img_digest_update (ImgDigest *digest, const void *data, uint64_t length)
{
  if (data) {
    digest->ops->update (digest->context, data, length);
    return;
  }
  if (!digest->zeroes)
    digest->zeroes = g_malloc0 (ZEROES);
  for (uint64_t n; length > 0; length -= n) {
    n = MIN (length, ZEROES);
    digest->ops->update (digest->context, digest->zeroes, n);
  }
}

int
img_digest_node (ImgDigest *digest, TnNode *node, uint64_t length, GError **error)
{
  g_autofree unsigned char *buffer = g_malloc (CHUNK);
  for (uint64_t at = 0, n; at < length; at += n) {
    TnStatus status = { 0 };
    int ret = tn_node_status (node, NULL, at, length - at, &status, error);
    n = MIN (length - at, status.zero ? MAX (status.length, 1) : CHUNK);
    if (ret >= 0 && !status.zero)
      ret = tn_node_read (node, at, buffer, n, error);
    if (ret < 0)
      return ret;
    img_digest_update (digest, status.zero ? NULL : buffer, n);
  }
  return 0;
}

char *
img_digest_finish (ImgDigest *digest)
{
  uint8_t sum[TN_DIGEST_MAX];
  digest->ops->finish (digest->context, sum);
  GString *text = g_string_new (NULL);
  for (unsigned i = 0; i < digest->ops->digest_size; i++)
    g_string_append_printf (text, "%02x", sum[i]);
  return g_string_free (text, FALSE);
}

void
img_digest_free (ImgDigest *digest)
{
  if (digest)
    g_free (digest->zeroes);
  g_free (digest);
}
