/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/authz.h
 * Who may come in: `--object authz-simple,id=…`, `authz-list` or `authz-listfile`, and then `tls-authz=ID`.
 *
 * An object of these kinds says yes or no to a name.  What a name is, its user says: over TLS it is the
 * distinguished name of the peer's certificate, as GnuTLS writes it ("CN=laptop,O=Example,C=GB").
 */
#ifndef TENON_AUTHZ_H
#define TENON_AUTHZ_H

#include <tenon/option.h>

typedef struct TnAuthz TnAuthz;

/** Remembers the object `authz-simple` (`identity`), `authz-list` (`policy`, `rules.N.match`, `.policy`,
 * `.format`) or `authz-listfile` (`filename`, `refresh`).  The file is read here.  An id that is taken is
 * refused. */
TN_API int tn_authz_define (const char *type, const TnOptions *options, GError **error);
/** The object called @id, which lives as long as the process.  A file that is read again when it changes
 * stays within the sandbox's reach from then on. */
TN_API int tn_authz_find (const char *id, TnAuthz **authz, GError **error);
/** 0 when @identity may come in, else -EACCES and one line that says why.  A list in a file that cannot be
 * read any more lets nobody in.  Any thread. */
TN_API int tn_authz_check (TnAuthz *authz, const char *identity, GError **error);

#endif
