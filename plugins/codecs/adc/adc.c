/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The codec "adc", Apple Data Compression: old Macintosh disk images have it.
 *
 * The highest bits of a byte say what follows.  1: as many bytes as the lower seven bits say, plus one.  01:
 * a copy of 4 to 67 earlier bytes from a distance in the next two bytes.  00: one of 3 to 18 bytes from a
 * distance of ten bits, the upper two of which are the lower two of this byte.  A distance of 0 is the byte
 * before.
 */
#include <tenon/codec.h>

typedef struct AdcInput {
  const uint8_t *at, *end;
} AdcInput;

typedef struct AdcStep {
  size_t length;   /* bytes to add */
  size_t distance; /* 0: from the input */
} AdcStep;

/* Takes one command off the input; false at its end. */
static bool
next_step (AdcInput *in, AdcStep *step)
{
  const size_t left = (size_t) (in->end - in->at);
  if (left == 0)
    return false;
  const unsigned first = in->at[0], bytes = first & 0x80 ? 1 : first & 0x40 ? 3 : 2;
  if (left < bytes)
    return false;
  if (bytes == 1)
    *step = (AdcStep){ (first & 0x7f) + 1, 0 };
  else if (bytes == 3)
    *step = (AdcStep){ (first & 0x3f) + 4, (size_t) tn_load_be16 (in->at + 1) + 1 };
  else
    *step = (AdcStep){ (first >> 2 & 0xf) + 3, ((size_t) (first & 3) << 8 | in->at[1]) + 1 };
  in->at += bytes;
  return step->distance || (size_t) (in->end - in->at) >= step->length;
}

static int
adc_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  AdcInput input = { in, (const uint8_t *) in + in_length };
  uint8_t *bytes = out;
  for (size_t done = 0; done < out_length;) {
    AdcStep step;
    if (!next_step (&input, &step))
      return tn_fail (error, TN_IO_ERROR, EIO, "the adc stream ends before %zu bytes", out_length);
    if (step.distance > done)
      return tn_fail (error, TN_IO_ERROR, EIO, "the adc stream copies from before its beginning");
    const size_t length = MIN (step.length, out_length - done);
    if (step.distance == 0) {
      memcpy (bytes + done, input.at, length);
      input.at += step.length;
    }
    for (size_t i = 0; step.distance && i < length; i++)
      bytes[done + i] = bytes[done + i - step.distance];
    done += length;
  }
  return 0;
}

static int
adc_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
              size_t *out_length, GError **error)
{
  return tn_fail (error, TN_IO_ERROR, ENOTSUP, "adc streams are read only: choose another compression");
}

static const TnCodecOps adc_ops = {
  .size = sizeof (TnCodecOps),
  .compress = adc_compress,
  .decompress = adc_decompress,
};

static const TnClass adc_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "adc",
  .summary = "Apple Data Compression, decoding only",
  .ops = &adc_ops,
};

static const TnClass *const adc_classes[] = { &adc_class, NULL };

TN_PLUGIN_DEFINE (codec_adc, .security = TN_SECURITY_HARDENED, .name = "codec-adc", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-adc", .classes = adc_classes);
