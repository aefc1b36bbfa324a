/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file memory/shared.h
 * Files of others as memory, which stay harmless when they are cut short.
 */
#ifndef TN_MEMORY_SHARED_H
#define TN_MEMORY_SHARED_H

#include <tenon/error.h>

/** Maps @size bytes of @fd from @offset on, for reading and writing. */
int tn_shared_map (const char *name, int fd, uint64_t offset, uint64_t size, uint8_t **host, GError **error);
void tn_shared_unmap (uint8_t *host, uint64_t size);

#endif
