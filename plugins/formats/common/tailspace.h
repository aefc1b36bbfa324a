/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Space in the files of formats that keep no record of what is free: it is taken from the end of the file.
 * What is given back unused goes to the next who wants some, or makes the file shorter.
 */
#ifndef FORMATS_COMMON_TAILSPACE_H
#define FORMATS_COMMON_TAILSPACE_H

#include <tenon/node.h>

typedef struct TailSpace {
  uint64_t end; /* nothing is used from here on */
  GArray *free; /* what was given back before it */
} TailSpace;

void tail_space_init (TailSpace *space, uint64_t end);
void tail_space_clear (TailSpace *space);
/* Everything from @end on is unused. */
void tail_space_reset (TailSpace *space, uint64_t end);
/* @length bytes at a multiple of @align (a power of two), or -EFBIG. */
int tail_space_take (TailSpace *space, uint64_t length, uint64_t align, uint64_t *offset);
void tail_space_give (TailSpace *space, uint64_t offset, uint64_t length);
/* Makes @file as long as what has been taken. */
int tail_space_extend (const TailSpace *space, TnNode *file, GError **error);
/* Cuts off what nobody has taken. */
int tail_space_cut (const TailSpace *space, TnNode *file, GError **error);

/* Whether what @file grows by reads as zeroes. */
bool tail_space_grows_with_zeroes (TnNode *file);
/* For making images: @file reads as zeroes up to @length; as a hole where it can be one, since the empty
 * tables of large disks are large. */
int tail_space_make_zeroes (TnNode *file, uint64_t length, GError **error);

/* For measuring: bytes of units of @unit bytes in which @source holds something. */
int tail_space_measure (TnNode *source, uint64_t unit, uint64_t *used, GError **error);

#endif
