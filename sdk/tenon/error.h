/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/error.h
 * How failures travel.
 *
 * A function that can fail returns `int`: 0 (or a count) on success, a negative errno
 * value on failure; its last parameter is `GError **error`.  When it fails and `error`
 * is not NULL, *error holds the domain of the area that failed, the positive errno
 * value as code, and one line of text without a final full stop or newline: what
 * failed, where (node, file, offset, option) and what to do.  A caller frees it with
 * g_error_free() or g_clear_error().  Outputs are untouched when a call fails.
 *
 * Nothing in the SDK or the core prints, and nothing exits.
 */
#ifndef TENON_ERROR_H
#define TENON_ERROR_H

#include <tenon/types.h>

/** Error domains, one per area. */
#define TN_PLUGIN_ERROR (tn_plugin_error_quark ())
#define TN_OPTION_ERROR (tn_option_error_quark ())
#define TN_IO_ERROR (tn_io_error_quark ())
#define TN_BLOCK_ERROR (tn_block_error_quark ())
#define TN_MACHINE_ERROR (tn_machine_error_quark ())

TN_API GQuark tn_plugin_error_quark (void);
TN_API GQuark tn_option_error_quark (void);
TN_API GQuark tn_io_error_quark (void);
TN_API GQuark tn_block_error_quark (void);
TN_API GQuark tn_machine_error_quark (void);

/**
 * Sets *error (when error is not NULL) and returns -errnum, so that a caller can write
 * `return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "...")`.  @errnum is positive.
 */
TN_API int tn_fail (GError **error, GQuark domain, int errnum, const char *format, ...) TN_PRINTF (4, 5);

/** As tn_fail(), with ": " and the system's text for @errnum appended. */
TN_API int tn_fail_errno (GError **error, GQuark domain, int errnum, const char *format, ...)
    TN_PRINTF (4, 5);

/** The negative errno value carried by @error: -error->code for Tenon's own domains,
 *  -EIO for another's. */
TN_API int tn_error_to_errno (const GError *error);

#endif
