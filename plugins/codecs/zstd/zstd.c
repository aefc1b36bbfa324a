/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "zstd" (RFC 8878). */
#include <tenon/codec.h>

#include <zstd.h>

/* What a frame may make us keep when it has to be decoded in pieces. */
#define MAX_WINDOW_LOG 23

static void
free_compressor (void *p)
{
  ZSTD_freeCCtx (p);
}

static void
free_decompressor (void *p)
{
  ZSTD_freeDCtx (p);
}

static GPrivate compressors = G_PRIVATE_INIT (free_compressor);
static GPrivate decompressors = G_PRIVATE_INIT (free_decompressor);

static int
zstd_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
               size_t *out_length, GError **error)
{
  ZSTD_CCtx *context = g_private_get (&compressors);
  if (context == NULL) {
    context = ZSTD_createCCtx ();
    g_private_set (&compressors, context);
  }
  if (context == NULL) {
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to compress");
  }
  ZSTD_CCtx_reset (context, ZSTD_reset_session_and_parameters);
  if (ZSTD_isError (ZSTD_CCtx_setParameter (context, ZSTD_c_compressionLevel, level))
      || ZSTD_isError (ZSTD_CCtx_setParameter (context, ZSTD_c_windowLog, window_bits))) {
    return tn_fail (error, TN_IO_ERROR, EINVAL,
                    "zstd cannot compress at level %d with a window of 2^%d bytes", level, window_bits);
  }
  const size_t length = ZSTD_compress2 (context, out, out_size, in, in_length);
  if (ZSTD_isError (length)) {
    return -E2BIG;
  }
  *out_length = length;
  return 0;
}

/* Several frames, or a frame that is longer than wanted. */
static int
decompress_in_pieces (ZSTD_DCtx *context, const void *in, size_t in_length, void *out, size_t out_length,
                      GError **error)
{
  ZSTD_inBuffer from = { in, in_length, 0 };
  ZSTD_outBuffer to = { out, out_length, 0 };
  ZSTD_DCtx_reset (context, ZSTD_reset_session_and_parameters);
  ZSTD_DCtx_setParameter (context, ZSTD_d_windowLogMax, MAX_WINDOW_LOG);
  while (to.pos < to.size) {
    const size_t in_before = from.pos, out_before = to.pos,
                 left = ZSTD_decompressStream (context, &to, &from);
    if (ZSTD_isError (left)) {
      return tn_fail (error, TN_IO_ERROR, EIO, "the zstd frame is damaged: %s", ZSTD_getErrorName (left));
    }
    if (from.pos == in_before && to.pos == out_before) {
      return tn_fail (error, TN_IO_ERROR, EIO, "the zstd frame ends before %zu bytes", out_length);
    }
  }
  return 0;
}

static int
zstd_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  ZSTD_DCtx *context = g_private_get (&decompressors);
  if (context == NULL) {
    context = ZSTD_createDCtx ();
    g_private_set (&decompressors, context);
  }
  if (context == NULL) {
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to decompress");
  }
  const size_t frame = ZSTD_findFrameCompressedSize (in, in_length);
  if (!ZSTD_isError (frame)) {
    const size_t length = ZSTD_decompressDCtx (context, out, out_length, in, frame);
    if (length == out_length) {
      return 0;
    }
  }
  return decompress_in_pieces (context, in, in_length, out, out_length, error);
}

static const TnCodecOps zstd_ops = {
  .size = sizeof (TnCodecOps),
  .compress = zstd_compress,
  .decompress = zstd_decompress,
};

static const TnClass zstd_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "zstd",
  .summary = "Zstandard frames (RFC 8878)",
  .ops = &zstd_ops,
};

static const TnClass *const zstd_classes[] = { &zstd_class, NULL };

TN_PLUGIN_DEFINE (codec_zstd, .security = TN_SECURITY_HARDENED, .name = "codec-zstd", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-zstd", .classes = zstd_classes);
