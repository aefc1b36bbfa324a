/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LUKS headers, with the passphrase at hand.  An image is made first, which would be too large for a seed:
 * key slots are long.  An input is what differs from it: its first byte chooses the version, the others are
 * laid over the header bit by bit.  An empty input is a good image.  The checksum of version 2 is put right.
 */
#include "block-fixture.h"
#include "format-fuzz.h"

#include <tenon/drive.h>
#include <tenon/secret.h>

#define PASSPHRASE "tenon"
#define KEPT (600u << 10) /* version 1 whole; of version 2 the header and a key slot */
#define COPY 16384u       /* one copy of version 2's header */

typedef struct Base {
  uint8_t *bytes;
  size_t size;
} Base;

static Base
make_base (const char *version)
{
  g_autoptr (TnOptions) secret = tn_options_new (), options = tn_options_new ();
  g_autoptr (GError) error = NULL;
  tn_options_set (secret, "id", "fuzz");
  tn_options_set (secret, "data", PASSPHRASE);
  tn_options_set (options, "version", version);
  tn_options_set (options, "key-secret", "fuzz");
  tn_options_set (options, "cipher-alg", "aes-128");
  tn_options_set (options, "cipher-mode", "cbc");
  tn_options_set (options, "iter-time", "1");
  if (*version == '2') {
    tn_options_set (options, "pbkdf", "pbkdf2");
  }
  MemDisk *disk = mem_disk ("fuzz-base", 0);
  if (tn_secret_define (secret, &error) < 0
      || tn_image_create ("mem:fuzz-base", "luks", options, 8192, &error) < 0) {
    g_printerr ("%s\n", error->message);
    abort ();
  }
  const size_t size = MIN (disk->size, KEPT);
  return (Base){ g_memdup2 (disk->bytes, size), size };
}

/* A checksum over the copy with zeroes in the checksum's place. */
static void
set_checksum (uint8_t *copy)
{
  uint8_t *field = copy + 448;
  gsize length = 32;
  memset (field, 0, 64);
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_checksum_update (sum, copy, COPY);
  g_checksum_get_digest (sum, field, &length);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const FormatFuzz luks = { .driver = "luks", .secret = PASSPHRASE };
  static Base bases[2];
  if (bases[0].bytes == NULL) {
    bases[0] = make_base ("1");
    bases[1] = make_base ("2");
  }
  const bool second = size && (data[0] & 1);
  const Base *base = &bases[second];
  g_autofree uint8_t *image = g_memdup2 (base->bytes, base->size);
  for (size_t i = 1; i < size && i <= 2 * COPY; i++) {
    image[i - 1] ^= data[i];
  }
  if (second) {
    set_checksum (image);
    set_checksum (image + COPY);
  }
  return format_fuzz (&luks, image, base->size);
}
