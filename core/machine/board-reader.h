/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/board-reader.h
 * Reads one section of a board file: typed values, and an error that names file, section and key.
 *
 * The first failure is kept and reported by tn_reader_end(), as are keys that nobody asked for, so that
 * the code that reads a section is a list of its keys.
 */
#ifndef TN_MACHINE_BOARD_READER_H
#define TN_MACHINE_BOARD_READER_H

#include <tenon/option.h>

typedef struct TnBoardReader TnBoardReader;

/** As a default: the key must be there. */
#define TN_READER_REQUIRED (UINT64_MAX - 1)

TnBoardReader *tn_reader_new (GKeyFile *file, const char *path, const char *group, GError **error);
void tn_reader_free (TnBoardReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnBoardReader, tn_reader_free)

/** Text of @key; @fallback NULL makes it required, and then a missing one reads as NULL. */
char *tn_reader_text (TnBoardReader *reader, const char *key, const char *fallback);
/** `a;b;c`, never NULL. */
char **tn_reader_list (TnBoardReader *reader, const char *key);
uint64_t tn_reader_number (TnBoardReader *reader, const char *key, uint64_t fallback, uint64_t min,
                           uint64_t max);
uint64_t tn_reader_size (TnBoardReader *reader, const char *key, uint64_t fallback);
/** Appends the numbers of a list. */
void tn_reader_numbers (TnBoardReader *reader, const char *key, GArray *numbers);
/** Every key that begins with @prefix, without it. */
void tn_reader_prefix (TnBoardReader *reader, const char *prefix, TnOptions *options);
/** Every key that nobody has asked for. */
void tn_reader_all (TnBoardReader *reader, TnOptions *options);
/** Records that @key (NULL: the section) is wrong: "[section] key: WHAT". */
void tn_reader_fail (TnBoardReader *reader, const char *key, const char *what);
/** 0, or the first failure. */
int tn_reader_end (TnBoardReader *reader);

#endif
