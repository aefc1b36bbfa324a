/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/codec.h>

const TnCodecOps *
tn_codec_find (const char *name, GError **error)
{
  const TnClass *class = tn_class_find (TN_KIND_CODEC, name, error);
  if (!class)
    return NULL;
  const TnCodecOps *ops = class->ops;
  if (ops->compress && ops->decompress)
    return ops;
  tn_fail (error, TN_PLUGIN_ERROR, EINVAL,
           "codec '%s' lacks compress or decompress: install a newer package of it", name);
  return NULL;
}
