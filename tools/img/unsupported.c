/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands that qemu-img has and tenon-img not yet: a clear answer. */
#include "img.h"

static int
amend_run (CliArgs *args)
{
  cli_error (args,
             "amend is not supported yet; use tenon-img convert -o to make an image with other options");
  return EXIT_FAILURE;
}

static int
bitmap_run (CliArgs *args)
{
  cli_error (args, "bitmap is not supported yet; use qemu-img bitmap");
  return EXIT_FAILURE;
}

static const CliOption amend_options[] = { { "options", 'o', "OPTIONS", "options to change, name=value,…",
                                             NULL },
                                           { "force", 0, NULL, "allow unsafe changes", NULL },
                                           { 0 } };

const CliCommand img_amend = {
  .name = "amend",
  .summary = "change options of an image (not supported yet)",
  .words = "FILENAME",
  .max_words = 1,
  .standard = CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_CACHE | CLI_PROGRESS | CLI_QUIET,
  .options = amend_options,
  .run = amend_run,
};

static const CliOption bitmap_options[] = {
  { "add", 0, NULL, "add a bitmap", NULL },
  { "remove", 0, NULL, "remove a bitmap", NULL },
  { "clear", 0, NULL, "clear a bitmap", NULL },
  { "enable", 0, NULL, "let a bitmap record writes", NULL },
  { "disable", 0, NULL, "stop a bitmap", NULL },
  { "merge", 0, "SOURCE", "add the contents of another bitmap", NULL },
  { "granularity", 'g', "SIZE", "bytes per bit", NULL },
  { "source-file", 'b', "FILE", "where --merge finds its source", NULL },
  { "source-format", 'F', "FMT", "format of the source file", NULL },
  { 0 }
};

const CliCommand img_bitmap = {
  .name = "bitmap",
  .summary = "change the dirty bitmaps of an image (not supported yet)",
  .words = "FILENAME BITMAP",
  .max_words = 2,
  .standard = CLI_FORMAT | CLI_IMAGE_OPTS | CLI_OBJECT | CLI_QUIET,
  .options = bitmap_options,
  .run = bitmap_run,
};
