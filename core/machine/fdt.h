/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/fdt.h
 * Writing a flattened device tree.
 */
#ifndef TN_MACHINE_FDT_H
#define TN_MACHINE_FDT_H

#include <tenon/fdt.h>

/**
 * A tree is written twice: the first pass finds out which objects are referred to, the second writes a
 * phandle into just those nodes.  @write fills the tree and is called for both.
 */
int tn_fdt_build (int (*write) (TnFdt *fdt, void *opaque, GError **error), void *opaque, void **blob,
                  size_t *length, GError **error);

/** Declares that the node now open is object @id; writes its phandle if somebody refers to it. */
void tn_fdt_object (TnFdt *fdt, const char *id);
void tn_fdt_data (TnFdt *fdt, const char *name, const void *data, size_t length);
/** A property in the notation of board files: "text", … | <cell &object …> | nothing. */
int tn_fdt_notation (TnFdt *fdt, const char *name, const char *text, GError **error);
/** 64-bit numbers as pairs of cells. */
void tn_fdt_u64s (TnFdt *fdt, const char *name, const uint64_t *values, size_t n);

#endif
