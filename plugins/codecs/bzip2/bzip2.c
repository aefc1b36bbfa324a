/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "bzip2". */
#include <tenon/codec.h>

#include <bzlib.h>

#define DEFAULT_LEVEL 9

static int
bzip2_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
                size_t *out_length, GError **error)
{
  if (in_length > UINT_MAX)
    return tn_fail (error, TN_IO_ERROR, EINVAL, "%zu bytes are too many to compress at once", in_length);
  unsigned length = (unsigned) MIN (out_size, UINT_MAX);
  const int ret = BZ2_bzBuffToBuffCompress (out, &length, (char *) in, (unsigned) in_length,
                                            level ? CLAMP (level, 1, 9) : DEFAULT_LEVEL, 0, 0);
  if (ret == BZ_MEM_ERROR)
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to compress");
  if (ret != BZ_OK)
    return -E2BIG;
  *out_length = length;
  return 0;
}

static int
bzip2_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  bz_stream stream = { .next_in = (char *) in,
                       .avail_in = (unsigned) MIN (in_length, UINT_MAX),
                       .next_out = out,
                       .avail_out = (unsigned) MIN (out_length, UINT_MAX) };
  if (BZ2_bzDecompressInit (&stream, 0, 0) != BZ_OK)
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to decompress");
  const int ret = BZ2_bzDecompress (&stream);
  const size_t done = (size_t) (stream.next_out - (char *) out);
  BZ2_bzDecompressEnd (&stream);
  if (done == out_length && (ret == BZ_OK || ret == BZ_STREAM_END))
    return 0;
  if (ret == BZ_OK || ret == BZ_STREAM_END)
    return tn_fail (error, TN_IO_ERROR, EIO, "the bzip2 stream ends before %zu bytes", out_length);
  return tn_fail (error, TN_IO_ERROR, EIO, "the bzip2 stream is damaged");
}

static const TnCodecOps bzip2_ops = {
  .size = sizeof (TnCodecOps),
  .compress = bzip2_compress,
  .decompress = bzip2_decompress,
};

static const TnClass bzip2_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "bzip2",
  .summary = "streams of bzip2",
  .ops = &bzip2_ops,
};

static const TnClass *const bzip2_classes[] = { &bzip2_class, NULL };

TN_PLUGIN_DEFINE (codec_bzip2, .security = TN_SECURITY_HARDENED, .name = "codec-bzip2", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-bzip2", .classes = bzip2_classes);
