/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/option.h
 * Options describe themselves.
 *
 * Every class publishes a table of TnOption, ended by an entry whose name is NULL.
 * Command lines, `-o help`, `json:` file names, completion and manual pages are all made
 * from it; a driver never parses an option.  The core has checked and completed the set
 * (type, range, choice, default) before a driver sees it.
 *
 * A TnOptions is a flat, ordered set of `key=value` strings.  Nested structure is spelled
 * with dots, as users of QEMU write it: `file.driver=file`, `file.filename=a.img`.  It
 * belongs to one thread at a time and is reference-free: whoever made it frees it.
 */
#ifndef TENON_OPTION_H
#define TENON_OPTION_H

#include <tenon/error.h>

typedef enum TnOptionType {
  TN_OPTION_STRING = 1,
  TN_OPTION_BOOL,    /**< on/off, yes/no, true/false, 1/0 */
  TN_OPTION_UINT,    /**< unsigned, decimal or 0x… */
  TN_OPTION_SIZE,    /**< bytes, with k, M, G, T, P, E suffixes (powers of 1024) */
  TN_OPTION_ENUM,    /**< one of @choices */
  TN_OPTION_NODE,    /**< a node: a reference to a node name, or nested `name.key` options */
  TN_OPTION_DRIVE,   /**< id of a drive (devices only) */
  TN_OPTION_CHARDEV, /**< id of a character device (devices only) */
  TN_OPTION_GROUP    /**< `name.KEY` options that the class reads and checks itself: lists of rules */
} TnOptionType;

/** When an option may be given. */
typedef enum TnOptionWhen {
  TN_OPTION_OPEN = 1 << 0,
  TN_OPTION_CREATE = 1 << 1,
  TN_OPTION_RUNTIME = 1 << 2, /**< may be changed while open */
  TN_OPTION_AMEND = 1 << 3,
  TN_OPTION_REQUIRED = 1 << 8 /**< there is no default and it must be given */
} TnOptionWhen;

/** One row of an option table.  Fields are only ever appended (TnClass.option_size). */
typedef struct TnOption {
  const char *name;
  TnOptionType type;
  uint32_t when;              /**< TnOptionWhen bits; 0 means OPEN */
  const char *value;          /**< the default, spelled as a user would, or NULL */
  const char *help;           /**< one line, lower case, no final full stop */
  uint64_t min, max;          /**< for UINT and SIZE; max 0 means no limit */
  const char *const *choices; /**< for ENUM, ended by NULL */
} TnOption;

TN_API TnOptions *tn_options_new (void);
TN_API TnOptions *tn_options_copy (const TnOptions *options);
TN_API void tn_options_free (TnOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnOptions, tn_options_free)

/** Sets @key to a copy of @value (NULL removes it). */
TN_API void tn_options_set (TnOptions *options, const char *key, const char *value);
TN_API void tn_options_set_uint (TnOptions *options, const char *key, uint64_t value);

/** Adds every pair of @from, replacing equal keys. */
TN_API void tn_options_merge (TnOptions *options, const TnOptions *from);

/**
 * Adds what a command line spells as `a=1,b=two,flag`: commas doubled inside values stand
 * for themselves, a bare word `flag` means flag=on and `noflag`… is not special.  When
 * @implied is not NULL a first word without `=` is the value of that key.
 */
TN_API int tn_options_parse (TnOptions *options, const char *text, const char *implied, GError **error);

/** Adds the members of the JSON object @text; nested objects and arrays become dotted keys
 *  (`a.b`, `list.0`). */
TN_API int tn_options_parse_json (TnOptions *options, const char *text, GError **error);

/**
 * Splits off the options below @prefix: every `prefix.KEY` moves into the returned set as
 * KEY and leaves @options.  Returns an empty set when there is none.
 */
TN_API TnOptions *tn_options_take_prefix (TnOptions *options, const char *prefix);

/** The raw text of @key, or NULL.  Owned by @options. */
TN_API const char *tn_options_get (const TnOptions *options, const char *key);
TN_API bool tn_options_has (const TnOptions *options, const char *key);
TN_API size_t tn_options_count (const TnOptions *options);
/** The pair number @index, in the order of insertion. */
TN_API void tn_options_pair (const TnOptions *options, size_t index, const char **key, const char **value);

/** Typed access for options that a table has checked: an absent one reads as 0 or false. */
TN_API bool tn_options_bool (const TnOptions *options, const char *key);
TN_API uint64_t tn_options_uint (const TnOptions *options, const char *key);

/**
 * Checks @options against @table (rows of @option_size bytes) for use at @when, adds the
 * defaults, and rewrites numbers and booleans in canonical form.  An unknown key is an error
 * that names the nearest known one.  @what names the owner in messages ("format 'qcow2'").
 */
TN_API int tn_options_check (TnOptions *options, const TnOption *table, size_t option_size, uint32_t when,
                             const char *what, GError **error);

/** Parses "64k", "1.5G", "4096"; the whole text must be used. */
TN_API int tn_parse_size (const char *text, uint64_t *size, GError **error);

/** The one of @names (ended by NULL) that @wanted is most likely a mistyped form of, or NULL. */
TN_API const char *tn_nearest_name (const char *wanted, const char *const *names);

#endif
