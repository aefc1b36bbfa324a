/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The format "luks": one encrypted run of bytes behind a header. */
#include "luks.h"

static int
luks_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  Luks *s = tn_node_state (node);
  *extent = (TnExtent){ .length = tn_node_size (node),
                        .kind = TN_EXTENT_DATA,
                        .flags = TN_EXTENT_WRITABLE | TN_EXTENT_ENCRYPTED,
                        .source = s->file,
                        .source_offset = s->payload };
  return 0;
}

static int
luks_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error)
{
  Luks *s = tn_node_state (node);
  if (s->fixed_size)
    return luks_fail (s, error, ENOTSUP, "its header fixes the size of the data");
  if (size % s->sector_size || size > INT64_MAX - s->payload)
    return luks_fail (s, error, EINVAL, "the size must be a multiple of %u bytes", s->sector_size);
  return tn_node_resize (s->file, s->payload + size, prealloc, error);
}

static const char *const luks_version_choices[] = { "1", "2", NULL };
static const char *const luks_kdf_choices[] = { "pbkdf2", "argon2i", "argon2id", NULL };
static const char *const luks_state_choices[] = { "active", "inactive", NULL };
static const char *const luks_prealloc_choices[] = { "off", "metadata", "falloc", "full", NULL };

static const TnOption luks_options[] = {
  { "key-secret", TN_OPTION_STRING, TN_OPTION_OPEN | TN_OPTION_CREATE, NULL,
    "id of the secret that holds the passphrase" },
  { "header", TN_OPTION_NODE, TN_OPTION_OPEN, NULL,
    "the file that holds the header, when it is not the data's" },
  { "version", TN_OPTION_ENUM, TN_OPTION_CREATE, "1", "version of LUKS", .choices = luks_version_choices },
  { "cipher-alg", TN_OPTION_ENUM, TN_OPTION_CREATE, "aes-256", "cipher and key length",
    .choices = luks_cipher_choices },
  { "cipher-mode", TN_OPTION_ENUM, TN_OPTION_CREATE, "xts", "mode of the cipher",
    .choices = luks_mode_choices },
  { "ivgen-alg", TN_OPTION_ENUM, TN_OPTION_CREATE, "plain64", "what makes the sectors' IVs",
    .choices = luks_iv_choices },
  { "ivgen-hash-alg", TN_OPTION_ENUM, TN_OPTION_CREATE, NULL, "digest for ivgen-alg=essiv (default: sha256)",
    .choices = luks_digest_choices },
  { "hash-alg", TN_OPTION_ENUM, TN_OPTION_CREATE, "sha256", "digest for key derivation",
    .choices = luks_digest_choices },
  { "iter-time", TN_OPTION_UINT, TN_OPTION_CREATE | TN_OPTION_AMEND, "2000",
    "milliseconds that trying a passphrase shall take", 1, 600000 },
  { "detached-header", TN_OPTION_BOOL, TN_OPTION_CREATE, "off", "make a header for data in another file" },
  { "pbkdf", TN_OPTION_ENUM, TN_OPTION_CREATE, NULL, "key derivation (version 2; default: argon2id)",
    .choices = luks_kdf_choices },
  { "pbkdf-memory", TN_OPTION_SIZE, TN_OPTION_CREATE, NULL, "memory for Argon2 (version 2; default: 64M)",
    32768, (uint64_t) LUKS_MAX_MEMORY_KIB << 10 },
  { "pbkdf-parallel", TN_OPTION_UINT, TN_OPTION_CREATE, NULL, "threads for Argon2 (version 2; default: 4)", 1,
    LUKS_MAX_LANES },
  { "sector-size", TN_OPTION_SIZE, TN_OPTION_CREATE, NULL, "encryption sector (version 2; default: 512)", 512,
    4096 },
  { "label", TN_OPTION_STRING, TN_OPTION_CREATE, NULL, "label (version 2)" },
  { "preallocation", TN_OPTION_ENUM, TN_OPTION_CREATE, "off", "set space aside at once",
    .choices = luks_prealloc_choices },
  { "state", TN_OPTION_ENUM, TN_OPTION_AMEND, NULL, "what is to become of a key slot",
    .choices = luks_state_choices },
  { "keyslot", TN_OPTION_UINT, TN_OPTION_AMEND, NULL, "number of the key slot (default: a free one)", 0, 31 },
  { "new-secret", TN_OPTION_STRING, TN_OPTION_AMEND, NULL, "id of the secret that a key slot is made for" },
  { "old-secret", TN_OPTION_STRING, TN_OPTION_AMEND, NULL,
    "id of the secret that opens the image, or whose key slots are erased" },
  { "force", TN_OPTION_BOOL, TN_OPTION_AMEND, "off", "erase the last key slot, overwrite one in use" },
  { NULL },
};

static const TnFormatOps luks_ops = {
  .size = sizeof (TnFormatOps),
  .flags = TN_FORMAT_CONCURRENT_MAP,
  .instance_size = sizeof (Luks),
  .open = luks_open,
  .close = luks_close,
  .create = luks_create,
  .map = luks_map,
  .resize = luks_resize,
  .info = luks_info,
  .info_specific = luks_info_specific,
  .measure = luks_measure,
  .amend = luks_amend,
};

static const char *const luks_suffixes[] = { "luks", NULL };

static const TnMagic luks_magics[] = {
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "LUKS\xba\xbe\0\1" },
  { .offset = 0, .length = 8, .bytes = (const uint8_t *) "LUKS\xba\xbe\0\2" },
  { .length = 0 },
};

static const TnClass luks_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "luks",
  .summary = "LUKS encrypted disks, versions 1 and 2",
  .suffixes = luks_suffixes,
  .magics = luks_magics,
  .options = luks_options,
  .ops = &luks_ops,
};

static const TnClass *const luks_classes[] = { &luks_class, NULL };

TN_PLUGIN_DEFINE (format_luks, .security = TN_SECURITY_HARDENED, .name = "format-luks", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-format-luks", .classes = luks_classes);
