/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec "lzfse". */
#include "lzfse.h"

/* Kinds of blocks, as their first four bytes read. */
#define MAGIC_END 0x24787662u   /* bvx$ */
#define MAGIC_PLAIN 0x2d787662u /* bvx- */
#define MAGIC_FSE_1 0x31787662u /* bvx1 */
#define MAGIC_FSE_2 0x32787662u /* bvx2 */
#define MAGIC_LZVN 0x6e787662u  /* bvxn */

static bool
decode_plain (const uint8_t *in, size_t left, LzfseOutput *out, size_t *used)
{
  if (left < 8 || tn_load_le32 (in + 4) > left - 8)
    return false;
  const size_t length = tn_load_le32 (in + 4);
  lzfse_put (out, in + 8, length);
  *used = 8 + length;
  return true;
}

static bool
decode_lzvn (const uint8_t *in, size_t left, LzfseOutput *out, size_t *used)
{
  if (left < 12 || tn_load_le32 (in + 8) > left - 12)
    return false;
  const size_t length = tn_load_le32 (in + 8);
  *used = 12 + length;
  return lzfse_lzvn_decode (in + 12, length, out);
}

static bool
decode_block (const uint8_t *in, size_t left, LzfseOutput *out, size_t *used)
{
  switch (tn_load_le32 (in)) {
  case MAGIC_PLAIN:
    return decode_plain (in, left, out, used);
  case MAGIC_LZVN:
    return decode_lzvn (in, left, out, used);
  case MAGIC_FSE_1:
  case MAGIC_FSE_2:
    return lzfse_fse_decode (in, left, tn_load_le32 (in) == MAGIC_FSE_2, out, used);
  default:
    return false;
  }
}

static int
lzfse_decompress (const void *in, size_t in_length, void *out, size_t out_length, GError **error)
{
  const uint8_t *bytes = in;
  LzfseOutput output = { out, out_length, 0 };
  for (size_t at = 0; !lzfse_is_full (&output);) {
    size_t used = 0;
    if (in_length - at < 4 || tn_load_le32 (bytes + at) == MAGIC_END)
      return tn_fail (error, TN_IO_ERROR, EIO, "the lzfse stream ends before %zu bytes", out_length);
    if (!decode_block (bytes + at, in_length - at, &output, &used))
      return tn_fail (error, TN_IO_ERROR, EIO, "the lzfse stream is damaged");
    at += used;
  }
  return 0;
}

static int
lzfse_compress (int level, int window_bits, const void *in, size_t in_length, void *out, size_t out_size,
                size_t *out_length, GError **error)
{
  return tn_fail (error, TN_IO_ERROR, ENOTSUP, "lzfse streams are read only: choose another compression");
}

static const TnCodecOps lzfse_ops = {
  .size = sizeof (TnCodecOps),
  .compress = lzfse_compress,
  .decompress = lzfse_decompress,
};

static const TnClass lzfse_class = {
  TN_CLASS_HEAD (TN_KIND_CODEC, TN_CODEC_MAJOR, TN_CODEC_MINOR),
  .name = "lzfse",
  .summary = "Apple's LZFSE and LZVN, decoding only",
  .ops = &lzfse_ops,
};

static const TnClass *const lzfse_classes[] = { &lzfse_class, NULL };

TN_PLUGIN_DEFINE (codec_lzfse, .security = TN_SECURITY_HARDENED, .name = "codec-lzfse", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-codec-lzfse", .classes = lzfse_classes);
