/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/types.h
 * What every other SDK header needs: the SDK's version, visibility, the names of
 * the opaque objects and byte-order access to on-disk structures.
 */
#ifndef TENON_TYPES_H
#define TENON_TYPES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <glib.h>

/** Version of the SDK that these headers describe.  A plugin records both numbers
 *  in its descriptor; the core refuses another major and accepts every minor. */
#define TN_ABI_MAJOR 1
#define TN_ABI_MINOR 0

/** Marks a function that libtenon exports.  The linker map is generated from this
 *  mark, so a function without it can't be called by a plugin. */
#define TN_API extern __attribute__ ((visibility ("default")))

#define TN_PRINTF(fmt, args) __attribute__ ((format (printf, fmt, args)))

/** A loaded or known plugin (tenon/plugin.h). */
typedef struct TnPlugin TnPlugin;
typedef struct TnClass TnClass;
/** A set of `key=value` options (tenon/option.h). */
typedef struct TnOptions TnOptions;
/** An event loop bound to one thread (tenon/loop.h). */
typedef struct TnLoop TnLoop;
typedef struct TnCoroutine TnCoroutine;
typedef struct TnTimer TnTimer;
/** A node of the block graph (tenon/node.h). */
typedef struct TnNode TnNode;
/** What a device or an export holds: a root node and its policy (tenon/drive.h). */
typedef struct TnDrive TnDrive;
typedef struct TnRequest TnRequest;
/** A cache of on-disk metadata tables (tenon/meta.h). */
typedef struct TnMetaCache TnMetaCache;
typedef struct TnMetaSlice TnMetaSlice;
/** An address space of the machine (tenon/memory.h). */
typedef struct TnSpace TnSpace;
/** A virtual machine, one of its devices, one of its virtual processors. */
typedef struct TnMachine TnMachine;
typedef struct TnDevice TnDevice;
typedef struct TnCpu TnCpu;
/** One end of an interrupt wire (tenon/device.h). */
typedef struct TnIrq TnIrq;
/** A byte stream such as a terminal (tenon/chardev.h). */
typedef struct TnChardev TnChardev;
/** A flattened device tree under construction (tenon/fdt.h). */
typedef struct TnFdt TnFdt;

static inline uint16_t
tn_load_be16 (const void *p)
{
  uint16_t v;
  memcpy (&v, p, sizeof v);
  return GUINT16_FROM_BE (v);
}

static inline uint32_t
tn_load_be32 (const void *p)
{
  uint32_t v;
  memcpy (&v, p, sizeof v);
  return GUINT32_FROM_BE (v);
}

static inline uint64_t
tn_load_be64 (const void *p)
{
  uint64_t v;
  memcpy (&v, p, sizeof v);
  return GUINT64_FROM_BE (v);
}

static inline uint16_t
tn_load_le16 (const void *p)
{
  uint16_t v;
  memcpy (&v, p, sizeof v);
  return GUINT16_FROM_LE (v);
}

static inline uint32_t
tn_load_le32 (const void *p)
{
  uint32_t v;
  memcpy (&v, p, sizeof v);
  return GUINT32_FROM_LE (v);
}

static inline uint64_t
tn_load_le64 (const void *p)
{
  uint64_t v;
  memcpy (&v, p, sizeof v);
  return GUINT64_FROM_LE (v);
}

static inline void
tn_store_be16 (void *p, uint16_t v)
{
  v = GUINT16_TO_BE (v);
  memcpy (p, &v, sizeof v);
}

static inline void
tn_store_be32 (void *p, uint32_t v)
{
  v = GUINT32_TO_BE (v);
  memcpy (p, &v, sizeof v);
}

static inline void
tn_store_be64 (void *p, uint64_t v)
{
  v = GUINT64_TO_BE (v);
  memcpy (p, &v, sizeof v);
}

static inline void
tn_store_le16 (void *p, uint16_t v)
{
  v = GUINT16_TO_LE (v);
  memcpy (p, &v, sizeof v);
}

static inline void
tn_store_le32 (void *p, uint32_t v)
{
  v = GUINT32_TO_LE (v);
  memcpy (p, &v, sizeof v);
}

static inline void
tn_store_le64 (void *p, uint64_t v)
{
  v = GUINT64_TO_LE (v);
  memcpy (p, &v, sizeof v);
}

#endif
