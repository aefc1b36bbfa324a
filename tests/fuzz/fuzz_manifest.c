/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manifest parser: any bytes give a manifest or an error, and what a manifest says can be used. */
#include "plugin/kinds.h"
#include "plugin/manifest.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
use_list (const char *const *list)
{
  for (; *list; list++)
    g_assert_true (tn_name_is_valid (*list));
}

static void
use_class (const TnManifestClass *class)
{
  g_assert_nonnull (tn_kind_info (class->info.kind));
  g_assert_true (tn_name_is_valid (class->info.name));
  g_assert_true (g_utf8_validate (class->info.summary, -1, NULL));
  use_list (class->info.aliases);
  use_list (class->info.suffixes);
  use_list (class->info.schemes);
  unsigned sum = 0;
  for (const TnMagic *magic = class->magics; magic && magic->length; magic++) {
    g_assert_cmpuint (magic->length, <=, 32);
    for (uint32_t i = 0; i < magic->length; i++)
      sum += magic->bytes[i] & (magic->mask ? magic->mask[i] : 0xff);
  }
  g_assert_cmpuint (sum, <=, 256 * 32 * 255);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnManifest) manifest =
      tn_manifest_parse ((const char *) data, size, "/plugins/format-acme.tenon", &error);
  g_assert_true ((manifest == NULL) == (error != NULL));
  for (unsigned i = 0; manifest && i < manifest->n_classes; i++)
    use_class (&manifest->classes[i]);
  return 0;
}
