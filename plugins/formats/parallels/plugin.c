/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The classes of this plugin. */
#include "bundle.h"
#include "parallels.h"

static const TnOption parallels_options[] = {
  { .name = "cluster_size",
    .type = TN_OPTION_SIZE,
    .when = TN_OPTION_CREATE,
    .value = "1M",
    .min = PARALLELS_SECTOR,
    .max = 1u << 30,
    .help = "cluster size, a multiple of 512 up to 1G" },
  { .name = NULL },
};

static const char *const parallels_suffixes[] = { "hds", NULL };

static const TnMagic parallels_magics[] = {
  { .offset = 0, .length = 16, .bytes = (const uint8_t *) PARALLELS_MAGIC },
  { .offset = 0, .length = 16, .bytes = (const uint8_t *) PARALLELS_MAGIC_EXT },
  { .length = 0 },
};

static const TnClass parallels_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "parallels",
  .summary = "Parallels' expanding disk images",
  .suffixes = parallels_suffixes,
  .magics = parallels_magics,
  .options = parallels_options,
  .ops = &parallels_ops,
};

static const char *const bundle_suffixes[] = { "hdd", NULL };

static const TnMagic bundle_magics[] = {
  { .offset = 0, .length = 5, .bytes = (const uint8_t *) "<?xml" },
  { .offset = 0, .length = 21, .bytes = (const uint8_t *) "<Parallels_disk_image" },
  { .length = 0 },
};

static const TnClass bundle_class = {
  TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
  .name = "parallels-bundle",
  .summary = "Parallels' .hdd bundles: one disk of several images",
  .suffixes = bundle_suffixes,
  .magics = bundle_magics,
  .ops = &bundle_ops,
};

static const TnClass *const parallels_classes[] = { &parallels_class, &bundle_class, NULL };

TN_PLUGIN_DEFINE (format_parallels, .security = TN_SECURITY_HARDENED, .name = "format-parallels",
                  .version = "1.0", .licence = "LGPL-2.1-or-later", .package = "tenon-format-parallels",
                  .classes = parallels_classes);
