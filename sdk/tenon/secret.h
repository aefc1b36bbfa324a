/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/secret.h
 * Passphrases and keys that users name: `--object secret,id=s0,file=FILE` and then `key-secret=s0`.
 *
 * Their bytes are kept in locked memory, are wiped when they are dropped, and are in no message.
 */
#ifndef TENON_SECRET_H
#define TENON_SECRET_H

#include <tenon/option.h>

/** One reader's copy of a secret. */
typedef struct TnSecret TnSecret;

/** Defines a secret from `id`, `file` or `data`, and `format` (raw, base64).  Defining the same again is
 *  allowed, another one of that id is not. */
TN_API int tn_secret_define (const TnOptions *options, GError **error);
/** The same from the value of `--object`: `secret,id=…`, or a JSON object.  So are credentials for TLS
 * (`tls-creds-x509`, `tls-creds-psk`: tenon/tls.h) and lists of names (`authz-…`: tenon/authz.h); other kinds
 * of object are refused.  Wipes @text
 * when the secret is written in it, so that it goes from the process list; an empty text defines nothing. */
TN_API int tn_secret_define_object (char *text, GError **error);
/** Forgets and wipes every secret.  Copies stay valid. */
TN_API void tn_secrets_clear (void);

/** A copy of the secret called @id. */
TN_API TnSecret *tn_secret_get (const char *id, GError **error);
TN_API const void *tn_secret_bytes (const TnSecret *secret, size_t *length);
TN_API void tn_secret_free (TnSecret *secret);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnSecret, tn_secret_free)

/** @text as it may be shown: names of images and options in it with `***` for the values of keys, passwords,
 *  passphrases and cookies (`:key=…`, `file.password=…`, `"cookie": "…"`, `//user:…@host`).  To be freed by
 *  g_free().  Names of secrets (`key-secret=ID`) stay. */
TN_API char *tn_secret_hide (const char *text);

#endif
