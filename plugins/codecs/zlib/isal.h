/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deflate by ISA-L: several times as fast as zlib at its default level, a little less dense, and like zlib,
 * but unlike libdeflate, able to keep to a small window.
 */
#ifndef CODEC_ZLIB_ISAL_H
#define CODEC_ZLIB_ISAL_H

#include <stdbool.h>
#include <stddef.h>

/* Compresses all of @in.  @window_bits: 8 to 15; @wrapped: with a zlib header and checksum.  0, -E2BIG when
 * it does not fit, -ENOTSUP when built without ISA-L or the input is too long for it.  Any thread. */
int isal_compress (int window_bits, bool wrapped, const void *in, size_t in_length, void *out,
                   size_t out_size, size_t *out_length);

#endif
