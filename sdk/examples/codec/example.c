/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "example": run lengths.  Each run of 1 to 256 equal bytes becomes its length less one, and the
 * byte. */
#include <tenon/codec.h>

static size_t
example_run_length (const uint8_t *in, size_t length)
{
  size_t run = 1;
  while (run < length && run < 256 && in[run] == in[0])
    run++;
  return run;
}

static int
example_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
                  size_t *out_length, GError **error)
{
  const uint8_t *from = in;
  uint8_t *to = out;
  size_t written = 0;
  for (size_t at = 0; at < in_length;) {
    if (out_size - written < 2)
      return tn_fail (error, TN_IO_ERROR, E2BIG, "%zu bytes are not smaller as run lengths", in_length);
    size_t run = example_run_length (from + at, in_length - at);
    to[written++] = (uint8_t) (run - 1);
    to[written++] = from[at];
    at += run;
  }
  *out_length = written;
  return 0;
}

static int
example_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  const uint8_t *from = in;
  uint8_t *to = out;
  size_t made = 0;
  for (size_t at = 0; made < out_length; at += 2) {
    if (in_length - at < 2)
      return tn_fail (error, TN_IO_ERROR, EINVAL, "run lengths end after %zu of %zu bytes", made, out_length);
    size_t run = (size_t) from[at] + 1;
    if (run > out_length - made)
      return tn_fail (error, TN_IO_ERROR, EINVAL, "run lengths give more than %zu bytes", out_length);
    memset (to + made, from[at + 1], run);
    made += run;
  }
  return 0;
}

static const TnCodecOps example_ops = {
  .size = sizeof (TnCodecOps),
  .compress = example_compress,
  .decompress = example_decompress,
};

static const TnClass example_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "example",
  .summary = "run lengths",
  .ops = &example_ops,
};

static const TnClass *const example_classes[] = { &example_class, NULL };

TN_PLUGIN_DEFINE (codec_example, .name = "codec-example", .version = "1.0", .licence = "LGPL-2.1-or-later",
                  .package = "tenon-codec-example", .security = TN_SECURITY_HARDENED,
                  .classes = example_classes);
