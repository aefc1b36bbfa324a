/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The codecs "deflate" (RFC 1951) and "zlib" (RFC 1950).  libdeflate inflates, being much faster.  ISA-L
 * compresses; zlib does where a level is asked for or ISA-L is not to be had, and inflates streams that are
 * longer than wanted.
 */
#include "isal.h"

#include <tenon/codec.h>

#include <libdeflate.h>
#include <zlib.h>

#define DEFAULT_WINDOW_BITS 15
#define MEMORY_LEVEL 9

/* ---- Contexts, one of each kind per thread ---- */

typedef struct Deflater {
  z_stream stream;
  int level, window_bits; /* as deflateInit2() takes them */
} Deflater;

static void
free_deflater (void *p)
{
  Deflater *deflater = p;
  deflateEnd (&deflater->stream);
  g_free (deflater);
}

static void
free_inflater (void *p)
{
  libdeflate_free_decompressor (p);
}

static GPrivate deflaters = G_PRIVATE_INIT (free_deflater);
static GPrivate inflaters = G_PRIVATE_INIT (free_inflater);

static z_stream *
get_deflater (int level, int window_bits)
{
  Deflater *deflater = g_private_get (&deflaters);
  if (deflater && deflater->level == level && deflater->window_bits == window_bits) {
    return deflateReset (&deflater->stream) == Z_OK ? &deflater->stream : NULL;
  }
  deflater = g_new0 (Deflater, 1);
  deflater->level = level;
  deflater->window_bits = window_bits;
  if (deflateInit2 (&deflater->stream, level, Z_DEFLATED, window_bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY)
      != Z_OK) {
    g_free (deflater);
    return NULL;
  }
  g_private_replace (&deflaters, deflater);
  return &deflater->stream;
}

static struct libdeflate_decompressor *
get_inflater (void)
{
  struct libdeflate_decompressor *inflater = g_private_get (&inflaters);
  if (inflater == NULL) {
    inflater = libdeflate_alloc_decompressor ();
    g_private_set (&inflaters, inflater);
  }
  return inflater;
}

/* ---- Compressing ---- */

static int
zlib_compress_at_level (int level, int window_bits, const void *in, size_t in_length, void *out,
                        size_t out_size, size_t *out_length, GError **error)
{
  z_stream *stream = get_deflater (level ? level : Z_DEFAULT_COMPRESSION, window_bits);
  if (stream == NULL) {
    return tn_fail (error, TN_IO_ERROR, EINVAL,
                    "zlib cannot compress at level %d with a window of 2^%d bytes", level,
                    window_bits < 0 ? -window_bits : window_bits);
  }
  if (in_length > UINT_MAX) {
    return tn_fail (error, TN_IO_ERROR, EINVAL, "%zu bytes are too many to compress at once", in_length);
  }
  stream->next_in = (Bytef *) in;
  stream->avail_in = (uInt) in_length;
  stream->next_out = out;
  stream->avail_out = (uInt) MIN (out_size, UINT_MAX);
  if (deflate (stream, Z_FINISH) != Z_STREAM_END) {
    return -E2BIG;
  }
  *out_length = stream->total_out;
  return 0;
}

/* @window_bits as deflateInit2() takes them: negative for a stream without a header. */
static int
zlib_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
               size_t *out_length, GError **error)
{
  int r = level
              ? -ENOTSUP
              : isal_compress (ABS (window_bits), window_bits > 0, in, in_length, out, out_size, out_length);
  return r != -ENOTSUP
             ? r
             : zlib_compress_at_level (level, window_bits, in, in_length, out, out_size, out_length, error);
}

static int
deflate_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
                  size_t *out_length, GError **error)
{
  const int bits = window_bits ? window_bits : DEFAULT_WINDOW_BITS;
  return zlib_compress (level, -bits, in, in_length, out, out_size, out_length, error);
}

static int
zlib_wrapped_compress (int level, int window_bits, const void *in, size_t in_length, void *out,
                       size_t out_size, size_t *out_length, GError **error)
{
  const int bits = window_bits ? window_bits : DEFAULT_WINDOW_BITS;
  return zlib_compress (level, bits, in, in_length, out, out_size, out_length, error);
}

/* ---- Decompressing ---- */

/* The stream goes on behind what is wanted: stop there. */
static int
inflate_part (int window_bits, const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  z_stream stream = { .next_in = (Bytef *) in,
                      .avail_in = (uInt) MIN (in_length, UINT_MAX),
                      .next_out = out,
                      .avail_out = (uInt) MIN (out_length, UINT_MAX) };
  if (inflateInit2 (&stream, window_bits) != Z_OK) {
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to decompress");
  }
  (void) inflate (&stream, Z_SYNC_FLUSH);
  const bool whole = stream.total_out == out_length;
  inflateEnd (&stream);
  return whole ? 0 : tn_fail (error, TN_IO_ERROR, EIO, "the deflate stream is damaged");
}

static int
inflate_result (enum libdeflate_result result, int window_bits, const void *in, size_t in_length, void *out,
                size_t out_length, GError **error)
{
  switch (result) {
  case LIBDEFLATE_SUCCESS:
    return 0;
  case LIBDEFLATE_INSUFFICIENT_SPACE:
    return inflate_part (window_bits, in, in_length, out, out_length, error);
  case LIBDEFLATE_SHORT_OUTPUT:
    return tn_fail (error, TN_IO_ERROR, EIO, "the deflate stream ends before %zu bytes", out_length);
  default:
    return tn_fail (error, TN_IO_ERROR, EIO, "the deflate stream is damaged");
  }
}

static int
deflate_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  struct libdeflate_decompressor *inflater = get_inflater ();
  size_t used;
  if (inflater == NULL) {
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to decompress");
  }
  return inflate_result (
      libdeflate_deflate_decompress_ex (inflater, in, in_length, out, out_length, &used, NULL),
      -DEFAULT_WINDOW_BITS, in, in_length, out, out_length, error);
}

static int
zlib_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  struct libdeflate_decompressor *inflater = get_inflater ();
  size_t used;
  if (inflater == NULL) {
    return tn_fail (error, TN_IO_ERROR, ENOMEM, "no memory to decompress");
  }
  return inflate_result (
      libdeflate_zlib_decompress_ex (inflater, in, in_length, out, out_length, &used, NULL),
      DEFAULT_WINDOW_BITS, in, in_length, out, out_length, error);
}

/* ---- The plugin ---- */

static const TnCodecOps deflate_ops = {
  .size = sizeof (TnCodecOps),
  .compress = deflate_compress,
  .decompress = deflate_decompress,
};

static const TnCodecOps zlib_ops = {
  .size = sizeof (TnCodecOps),
  .compress = zlib_wrapped_compress,
  .decompress = zlib_decompress,
};

static const TnClass deflate_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "deflate",
  .summary = "raw deflate streams (RFC 1951)",
  .ops = &deflate_ops,
};

static const TnClass zlib_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "zlib",
  .summary = "deflate streams with a zlib header (RFC 1950)",
  .ops = &zlib_ops,
};

static const TnClass *const zlib_classes[] = { &deflate_class, &zlib_class, NULL };

TN_PLUGIN_DEFINE (codec_zlib, .security = TN_SECURITY_HARDENED, .name = "codec-zlib", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-zlib", .classes = zlib_classes);
