/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image format in hostile hands: a target for one format is a line that names it (see README.md).
 *
 * The input is the image file, held in memory.  It is described, mapped and read; checked; then repaired
 * where that is needed, written, checked and read again.  Beyond crashes and bounds these are found:
 *  - an image opened for reading, or that could not be opened for writing, is written to;
 *  - a map gives an extent that does not hold the offset asked for, reaches beyond the disk, or differs from
 *    the one given without waiting;
 *  - an image that check finds sound, or that repair says it has mended, has errors or other contents after
 *    writing to it.
 */
#ifndef FORMAT_FUZZ_H
#define FORMAT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

typedef struct FormatFuzz {
  const char *driver;   /* class name of the format */
  const char *beside;   /* a second file for images that name one, found as the same bytes; or NULL */
  const char *harmless; /* how lines of check end that may appear in an image that was sound; or NULL */
  const char *secret;   /* passphrase of encrypted images, then opened with key-secret; or NULL */
} FormatFuzz;

/* For LLVMFuzzerTestOneInput() to return. */
int format_fuzz (const FormatFuzz *format, const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#endif
