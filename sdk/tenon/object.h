/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/object.h
 * Objects that users define beside the block graph: `--object KIND,id=ID,…`.
 *
 * A `secret` goes to tenon/secret.h.  A `throttle-group` is kept here as its options until a plugin asks for
 * it; the plugin then keeps what all users of the object share in memory that the core holds for it.
 */
#ifndef TENON_OBJECT_H
#define TENON_OBJECT_H

#include <tenon/option.h>

/** Defines what the value of `--object` says.  Kinds that nothing here has a use for are refused.  As
 * tn_secret_define_object() it wipes @text when a secret stands in it. */
TN_API int tn_object_define (char *text, GError **error);

/** Called once for an object, under the registry's lock, to fill its zeroed state from its options. */
typedef int (*TnObjectInit) (void *state, const TnOptions *options, GError **error);

/** The shared state of the object @id of @kind: @size bytes that live as long as the process.  -ENOENT when
 * there is none.  Any thread. */
TN_API int tn_object_state (const char *kind, const char *id, size_t size, TnObjectInit init, void **state,
                            GError **error);

#endif
