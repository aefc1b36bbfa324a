/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "lz4": one block of the LZ4 block format, without a frame. */
#include <tenon/codec.h>

#include <lz4.h>
#include <lz4hc.h>
#include <string.h>

/* From here on up a level means the slower search that packs better. */
#define FIRST_HC_LEVEL 3

static int
lz4_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
              size_t *out_length, GError **error)
{
  if (in_length > LZ4_MAX_INPUT_SIZE)
    return tn_fail (error, TN_IO_ERROR, EINVAL, "%zu bytes are too many to compress at once", in_length);
  const int size = (int) MIN (out_size, (size_t) G_MAXINT);
  const int length = level >= FIRST_HC_LEVEL ? LZ4_compress_HC (in, out, (int) in_length, size, level)
                                             : LZ4_compress_default (in, out, (int) in_length, size);
  if (length <= 0)
    return -E2BIG;
  *out_length = (size_t) length;
  return 0;
}

static int
lz4_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  if (in_length > G_MAXINT || out_length > G_MAXINT)
    return tn_fail (error, TN_IO_ERROR, EINVAL, "%zu bytes are too many to decompress at once", out_length);
  /* The library takes a match at distance 0, which damaged data may hold, as "leave what is there". */
  memset (out, 0, out_length);
  const int wanted = (int) out_length,
            length = LZ4_decompress_safe_partial (in, out, (int) in_length, wanted, wanted);
  if (length < 0)
    return tn_fail (error, TN_IO_ERROR, EIO, "the lz4 block is damaged");
  if (length < wanted)
    return tn_fail (error, TN_IO_ERROR, EIO, "the lz4 block ends before %zu bytes", out_length);
  return 0;
}

static const TnCodecOps lz4_ops = {
  .size = sizeof (TnCodecOps),
  .compress = lz4_compress,
  .decompress = lz4_decompress,
};

static const TnClass lz4_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "lz4",
  .summary = "blocks of LZ4, without a frame",
  .ops = &lz4_ops,
};

static const TnClass *const lz4_classes[] = { &lz4_class, NULL };

TN_PLUGIN_DEFINE (codec_lz4, .security = TN_SECURITY_HARDENED, .name = "codec-lz4", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-lz4", .classes = lz4_classes);
