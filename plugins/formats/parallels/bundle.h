/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* .hdd bundles: what DiskDescriptor.xml says, and the disk that it describes. */
#ifndef PARALLELS_BUNDLE_H
#define PARALLELS_BUNDLE_H

#include <tenon/format.h>

/* One image file.  Images of one part that are chained by snapshots have different GUIDs. */
typedef struct BundleImage {
  char *guid, *file;
  bool plain; /* a raw image; else an expanding one */
} BundleImage;

/* A stretch of the disk, in sectors. */
typedef struct BundlePart {
  uint64_t start, end;
  GArray *images; /* BundleImage */
} BundlePart;

/* The images called @guid lie over those called @parent. */
typedef struct BundleShot {
  char *guid, *parent;
} BundleShot;

typedef struct BundleDescriptor {
  uint64_t sectors; /* 0: not said */
  uint64_t sector_size;
  char *top;        /* GUID of the current state, or NULL */
  char *encryption; /* what encrypts it, or NULL */
  GArray *parts;    /* BundlePart, ascending and without gaps */
  GArray *shots;    /* BundleShot */
} BundleDescriptor;

/* Reads a descriptor of @length bytes; NULL with an error that does not name the file. */
BundleDescriptor *bundle_descriptor_parse (const char *text, gsize length, GError **error);
void bundle_descriptor_free (BundleDescriptor *descriptor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BundleDescriptor, bundle_descriptor_free)

extern const TnFormatOps bundle_ops;

#endif
