/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tenon-img: makes, describes, checks and converts disk images. */
#include "img.h"

#include <tenon/meta.h>

/* Images are run through once: caches of tables that suit a guest would only be large, and chains have many.
 */
#define META_LIMIT (32u << 20)

/* Tables of constants cannot hold copies of constants of other files: the list is put together at start. */
int
main (int argc, char **argv)
{
  const CliCommand commands[] = {
    img_amend, img_bench, img_bitmap, img_check,   img_commit, img_compare, img_convert,  img_create,
    img_dd,    img_info,  img_map,    img_measure, img_rebase, img_resize,  img_snapshot, { 0 },
  };
  const CliTool tool = {
    .name = "tenon-img",
    .summary = "make, describe, check, compare and convert disk images",
    .details =
        "Commands, options, output and exit status are those of qemu-img.\n\n"
        "FILENAME is a path, PROTOCOL:NAME, a URI, or json:{…}; with --image-opts it is a list of key=value\n"
        "options such as driver=qcow2,file.filename=disk.qcow2.\n"
        "SIZE is a number of bytes, or a number with k, M, G, T, P or E (powers of 1024).\n"
        "MODE is none, writeback, writethrough, directsync or unsafe.\n",
    .commands = commands,
    .sandboxed = true,
  };
  tn_meta_limit (META_LIMIT);
  return cli_main (&tool, argc, argv);
}
