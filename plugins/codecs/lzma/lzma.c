/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "xz": streams of the .xz format, in which LZMA usually comes. */
#include <tenon/codec.h>

#include <lzma.h>

/* A dictionary that a stream may ask for: what xz -9 makes, and not much more. */
#define MAX_DECODER_MEMORY (80u << 20)

static int
xz_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
             size_t *out_length, GError **error)
{
  size_t length = 0;
  const uint32_t preset = level ? (uint32_t) CLAMP (level, 1, 9) : LZMA_PRESET_DEFAULT;
  const lzma_ret ret =
      lzma_easy_buffer_encode (preset, LZMA_CHECK_CRC32, NULL, in, in_length, out, &length, out_size);
  if (ret == LZMA_MEM_ERROR)
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to compress");
  if (ret != LZMA_OK)
    return -E2BIG;
  *out_length = length;
  return 0;
}

static int
xz_result (lzma_ret ret, size_t out_length, GError **error)
{
  switch (ret) {
  case LZMA_OK:
  case LZMA_STREAM_END:
  case LZMA_BUF_ERROR:
    return tn_fail (error, TN_IO_ERROR, EIO, "the xz stream ends before %zu bytes", out_length);
  case LZMA_MEMLIMIT_ERROR:
  case LZMA_MEM_ERROR:
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "the xz stream asks for too much memory");
  case LZMA_OPTIONS_ERROR:
    return tn_fail (error, TN_IO_ERROR, ENOTSUP, "the xz stream uses a filter that is not supported");
  default:
    return tn_fail (error, TN_IO_ERROR, EIO, "the xz stream is damaged");
  }
}

static int
xz_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  lzma_stream stream = LZMA_STREAM_INIT;
  stream.next_in = in;
  stream.avail_in = in_length;
  stream.next_out = out;
  stream.avail_out = out_length;
  lzma_ret ret = lzma_stream_decoder (&stream, MAX_DECODER_MEMORY, 0);
  if (ret == LZMA_OK)
    ret = lzma_code (&stream, LZMA_FINISH);
  const bool whole = stream.avail_out == 0 && (ret == LZMA_OK || ret == LZMA_STREAM_END);
  lzma_end (&stream);
  return whole ? 0 : xz_result (ret, out_length, error);
}

static const TnCodecOps xz_ops = {
  .size = sizeof (TnCodecOps),
  .compress = xz_compress,
  .decompress = xz_decompress,
};

static const TnClass xz_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "xz",
  .summary = "streams of xz (LZMA2)",
  .ops = &xz_ops,
};

static const TnClass *const lzma_classes[] = { &xz_class, NULL };

TN_PLUGIN_DEFINE (codec_lzma, .security = TN_SECURITY_HARDENED, .name = "codec-lzma", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-lzma", .classes = lzma_classes);
