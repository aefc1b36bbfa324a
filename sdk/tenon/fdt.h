/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/fdt.h
 * The flattened device tree that the core generates from the machine's objects.
 *
 * A device or CPU class only adds properties to its own node; the core writes names,
 * addresses (`reg`), interrupts and phandles from the board's wiring.  Property formats are those
 * of the Devicetree Specification; integers are given in host order and stored big-endian.
 */
#ifndef TENON_FDT_H
#define TENON_FDT_H

#include <tenon/error.h>

/** Each adds one property to the node being filled.  Failing (out of space) is remembered and
 *  reported once by the core. */
TN_API void tn_fdt_string (TnFdt *fdt, const char *name, const char *value);
/** A list of strings, each followed by NUL in the property. */
TN_API void tn_fdt_strings (TnFdt *fdt, const char *name, const char *const *values, size_t n);
TN_API void tn_fdt_u32 (TnFdt *fdt, const char *name, uint32_t value);
TN_API void tn_fdt_u64 (TnFdt *fdt, const char *name, uint64_t value);
TN_API void tn_fdt_cells (TnFdt *fdt, const char *name, const uint32_t *cells, size_t n);
TN_API void tn_fdt_empty (TnFdt *fdt, const char *name);
/** Opens and closes a child node. */
TN_API void tn_fdt_begin (TnFdt *fdt, const char *node_name);
TN_API void tn_fdt_end (TnFdt *fdt);
/** phandle of a machine object by id ("plic", "cpu0", and "cpu0.intc" for a hart's own interrupt controller),
 * made on demand; 0 when there is none such. */
TN_API uint32_t tn_fdt_phandle (TnFdt *fdt, const char *id);

#endif
