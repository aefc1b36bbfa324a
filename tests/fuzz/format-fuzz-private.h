/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FORMAT_FUZZ_PRIVATE_H
#define FORMAT_FUZZ_PRIVATE_H

#include "block-fixture.h"
#include "format-fuzz.h"

/* One input under way. */
typedef struct Fuzz {
  const FormatFuzz *format;
  const uint8_t *data;
  size_t size;
  MemDisk *disk;
  uint64_t random;
} Fuzz;

void fuzz_fail (const char *format, ...) G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN;
uint64_t fuzz_random (Fuzz *fuzz, uint64_t below);
/* NULL when it was refused. */
TnNode *fuzz_open (Fuzz *fuzz, uint32_t flags);

/* Writes here and there.  @sound: the image is in order, so that it must hold what was written and stay in
 * order. */
void fuzz_write (Fuzz *fuzz, bool sound);

/* Whether the image was checked and is without errors (leaks are none). */
bool fuzz_is_sound (Fuzz *fuzz);
/* As fuzz_is_sound(), but what the format declares harmless does not count; prints what does. */
bool fuzz_is_whole (Fuzz *fuzz);

#endif
