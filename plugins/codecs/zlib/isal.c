/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"
#include "isal.h"

#include <errno.h>

#ifdef HAVE_ISAL

#include <glib.h>
#include <isa-l/igzip_lib.h>

#define LEVEL 3

/* One per thread: the hash tables are too large to make anew for each cluster. */
typedef struct Deflater {
  struct isal_zstream stream;
  uint8_t buffer[ISAL_DEF_LVL3_DEFAULT];
} Deflater;

static GPrivate deflaters = G_PRIVATE_INIT (g_free);

static Deflater *
get_deflater (void)
{
  Deflater *deflater = g_private_get (&deflaters);
  if (deflater == NULL) {
    deflater = g_new0 (Deflater, 1);
    isal_deflate_init (&deflater->stream);
    g_private_set (&deflaters, deflater);
  }
  return deflater;
}

int
isal_compress (int window_bits, bool wrapped, const void *in, size_t in_length, void *out, size_t out_size,
               size_t *out_length)
{
  if (in_length > UINT32_MAX) {
    return -ENOTSUP;
  }
  Deflater *deflater = get_deflater ();
  struct isal_zstream *stream = &deflater->stream;
  isal_deflate_reset (stream);
  stream->level = LEVEL;
  stream->level_buf = deflater->buffer;
  stream->level_buf_size = sizeof deflater->buffer;
  stream->hist_bits = (uint16_t) window_bits;
  stream->gzip_flag = wrapped ? IGZIP_ZLIB : IGZIP_DEFLATE;
  stream->end_of_stream = 1;
  stream->flush = NO_FLUSH;
  stream->next_in = (uint8_t *) in;
  stream->avail_in = (uint32_t) in_length;
  stream->next_out = out;
  stream->avail_out = (uint32_t) MIN (out_size, UINT32_MAX);
  if (isal_deflate (stream) != COMP_OK || stream->internal_state.state != ZSTATE_END) {
    return -E2BIG;
  }
  *out_length = stream->total_out;
  return 0;
}

#else

int
isal_compress (int window_bits, bool wrapped, const void *in, size_t in_length, void *out, size_t out_size,
               size_t *out_length)
{
  return -ENOTSUP;
}

#endif
