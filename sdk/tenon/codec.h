/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/codec.h
 * Compression codecs, shared by every format that packs.  Each is a plugin, so that a library such as
 * zstd is mapped only when an image uses it.
 */
#ifndef TENON_CODEC_H
#define TENON_CODEC_H

#include <tenon/plugin.h>

#define TN_CODEC_MAJOR 1
#define TN_CODEC_MINOR 0

typedef struct TnCodecOps {
  uint32_t size; /**< sizeof (TnCodecOps) */
  uint32_t reserved;
  /** Any thread, several at once; contexts are reused per thread.  -E2BIG when it doesn't fit in @out_size.
   *  @level 0: the codec's default.  @window_bits: largest history as a power of two, 0: default. */
  int (*compress) (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
                   size_t *out_length, GError **error);
  /** Decodes exactly @out_length bytes; @in may have trailing bytes that are not part of the stream. */
  int (*decompress) (const void *in, size_t in_length, void *out, size_t out_length, GError **error);
} TnCodecOps;

/** The codec's ops, loading its plugin when needed: "deflate" (raw, RFC 1951), "zlib" (RFC 1950), "zstd", …
 */
TN_API const TnCodecOps *tn_codec_find (const char *name, GError **error);

#endif
