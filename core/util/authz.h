/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of authz share. */
#ifndef TN_UTIL_AUTHZ_H
#define TN_UTIL_AUTHZ_H

#include <tenon/authz.h>

/* Rules in their order, and what holds when none of them matches. */
typedef struct TnAuthzRules TnAuthzRules;

/* ---- authz-rules.c ---- */

/* Takes `policy` and `rules.N.…` out of @options; whatever else is there is refused.  @what names their owner
 * in messages. */
int tn_authz_rules_new (TnOptions *options, const char *what, TnAuthzRules **rules, GError **error);
void tn_authz_rules_free (TnAuthzRules *rules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnAuthzRules, tn_authz_rules_free)
/* @identity is UTF-8. */
bool tn_authz_rules_allow (const TnAuthzRules *rules, const char *identity);

/* ---- authz-file.c ---- */

/* Rules in a file, as JSON. */
typedef struct TnAuthzFile TnAuthzFile;

int tn_authz_file_new (const char *path, bool refresh, TnAuthzFile **file, GError **error);
void tn_authz_file_free (TnAuthzFile *file);
/* Keeps it within reach of a process that will be sealed. */
int tn_authz_file_keep (const TnAuthzFile *file, GError **error);
/* 0, or why nobody is let in: the file has changed and is no list any more. */
int tn_authz_file_allows (TnAuthzFile *file, const char *identity, bool *allowed, GError **error);

#endif
