/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/plugin.h
 * What a plugin is: one shared object, one exported constant, one manifest.
 *
 * A plugin's file is called KIND-NAME.so (format-qcow2.so, device-virtio-blk.so).  It exports
 * exactly one symbol, written by TN_PLUGIN_DEFINE(), from which the manifest KIND-NAME.tenon
 * is generated (`tenon-plugin manifest FILE.so`).  The core reads manifests to know what
 * exists and loads the object when one of its classes is first needed; it then stays loaded.
 *
 * The promise: a binary built against SDK 1.x loads in every later 1.y.  Structures carry their
 * own size and only ever grow at the end; the core copies the smaller of the two sizes into
 * a zeroed structure of its own, so a callback that is absent is simply NULL.
 */
#ifndef TENON_PLUGIN_H
#define TENON_PLUGIN_H

#include <tenon/option.h>

#define TN_PLUGIN_MAGIC 0x4e4e4554u /* "TENN", little endian */

/** What a class is. */
typedef enum TnKind {
  TN_KIND_FORMAT = 1,
  TN_KIND_PROTOCOL = 2, /**< protocols and filters */
  TN_KIND_EXPORT = 3,
  TN_KIND_DEVICE = 4,
  TN_KIND_CPU = 5,
  TN_KIND_CODEC = 6,
  TN_KIND_CIPHER = 7,
  TN_KIND_DIGEST = 8,
  TN_KIND_KDF = 9,  /**< memory-hard key derivation */
  TN_KIND_TLS = 10, /**< TLS over sockets */
  TN_KIND_LAST = TN_KIND_TLS
} TnKind;

/** How far a plugin vouches for its handling of hostile input. */
typedef enum TnSecurity {
  TN_SECURITY_UNKNOWN = 0,
  TN_SECURITY_TRUSTED_INPUT = 1, /**< only for images and peers that you trust */
  TN_SECURITY_HARDENED = 2       /**< checks and fuzzes everything that it reads */
} TnSecurity;

/** A magic number by which an image is recognised: @length bytes at @offset (negative: counted
 *  from the end of the file) equal @bytes where @mask (NULL: all ones) has a bit set. */
typedef struct TnMagic {
  int64_t offset;
  uint32_t length; /**< 1 to 32 */
  const uint8_t *bytes;
  const uint8_t *mask;
} TnMagic;

/** One thing that a plugin provides.  Fields are only ever appended. */
struct TnClass {
  uint32_t size;         /**< sizeof (TnClass) */
  uint16_t kind;         /**< TnKind */
  uint16_t major, minor; /**< version of this kind's ops that the plugin was built for */
  uint16_t reserved;
  const char *name;            /**< what a user types: "qcow2", "virtio-blk" */
  const char *summary;         /**< one line for lists and manuals */
  const char *const *aliases;  /**< other names, ended by NULL; or NULL */
  const char *const *suffixes; /**< file-name suffixes without dot (formats), ended by NULL; or NULL */
  const char *const *schemes;  /**< URI schemes (protocols), ended by NULL; or NULL */
  const TnMagic *magics;       /**< ended by length 0; or NULL */
  uint32_t magic_size;         /**< sizeof (TnMagic) */
  uint32_t option_size;        /**< sizeof (TnOption) */
  const TnOption *options;     /**< ended by name NULL; or NULL */
  const void *ops;             /**< TnFormatOps, TnProtocolOps, … by kind; begins with uint32_t size */
};

/** The exported constant. */
struct TnPlugin {
  uint32_t magic; /**< TN_PLUGIN_MAGIC */
  uint16_t abi_major, abi_minor;
  uint32_t size; /**< sizeof (TnPlugin) */
  uint32_t security;
  const char *name;                   /**< same as the file's: "format-qcow2" */
  const char *version;                /**< the plugin's own */
  const char *licence;                /**< SPDX expression */
  const char *package;                /**< distribution package that ships it */
  const char *const *requires_codecs; /**< names of codec classes it may ask for, or NULL */
  const TnClass *const *classes;      /**< ended by NULL */
};

/** First fields of a class initialiser: kind, its version, sizes. */
#define TN_CLASS_HEAD(kind_, major_, minor_)                                                                 \
  .size = sizeof (TnClass), .kind = (kind_), .major = (major_), .minor = (minor_),                           \
  .magic_size = sizeof (TnMagic), .option_size = sizeof (TnOption)

/**
 * Writes the descriptor for dynamic and static builds alike.  @module is the file's name with
 * every character that is not a letter or digit replaced by `_` (format_qcow2); the remaining
 * arguments are designated initialisers of TnPlugin (name, version, licence, package, classes).
 */
#define TN_PLUGIN_DEFINE(module, ...)                                                                        \
  extern __attribute__ ((visibility ("default"))) const TnPlugin module##_LTX_tenon_plugin;                  \
  const TnPlugin module##_LTX_tenon_plugin = { .magic = TN_PLUGIN_MAGIC,                                     \
                                               .abi_major = TN_ABI_MAJOR,                                    \
                                               .abi_minor = TN_ABI_MINOR,                                    \
                                               .size = sizeof (TnPlugin),                                    \
                                               __VA_ARGS__ }

/* ---- For programs: finding and loading plugins ---- */

/** What a manifest says about one class, known without loading anything. */
typedef struct TnClassInfo {
  TnKind kind;
  uint16_t major, minor;
  const char *name;
  const char *summary;
  const char *const *aliases;  /**< never NULL */
  const char *const *suffixes; /**< never NULL */
  const char *const *schemes;  /**< never NULL */
  const char *plugin;          /**< "format-qcow2" */
  const char *plugin_version;
  const char *package;
  const char *path;          /**< of the shared object; NULL for one linked in statically */
  const char *manifest_path; /**< NULL for one linked in statically */
  uint32_t security;
  bool loaded;
} TnClassInfo;

/**
 * Restricts this process to the named plugins (comma-separated plugin or class names; NULL lifts
 * the restriction).  Programs call it for `--plugins=`; the variable TENON_PLUGINS sets the
 * first value.  Ignored in part or whole never: an unknown name is an error at first use.
 */
TN_API int tn_plugins_allow (const char *list, GError **error);

/** Adds a directory to be searched before the built-in one.  Programs call it for
 *  `--plugin-dir=`; TENON_PLUGIN_PATH (colon-separated) is read at first use, unless the
 *  process runs with raised privileges. */
TN_API int tn_plugins_add_directory (const char *path, GError **error);

/** Calls @visit for every class of @kind (0: all) that some manifest offers, sorted by name.
 *  Loads nothing.  A damaged manifest is passed to @damaged (may be NULL), not skipped silently. */
TN_API int tn_plugins_foreach (TnKind kind, void (*visit) (const TnClassInfo *info, void *opaque),
                               void (*damaged) (const char *path, const GError *why, void *opaque),
                               void *opaque, GError **error);

/** Finds the class by name or alias, loading its plugin when needed.  The error names the package
 *  or the nearest known name.  The class belongs to the core and lives as long as the process.
 *  Any thread. */
TN_API const TnClass *tn_class_find (TnKind kind, const char *name, GError **error);

/** As tn_class_find(), by URI scheme (protocols) */
TN_API const TnClass *tn_class_find_scheme (const char *scheme, GError **error);

/** Names the format whose magic matches: @head holds the first @head_length bytes, @tail the last
 *  @tail_length bytes of a file of @size bytes.  NULL when none does.  Loads nothing. */
TN_API const char *tn_format_probe (const void *head, size_t head_length, const void *tail,
                                    size_t tail_length, uint64_t size);

/** The same for a file called @filename (may be NULL).  The plugin that has the name of the file's suffix is
 * asked first; when its magic matches, no other manifest is read. */
TN_API const char *tn_format_probe_named (const char *filename, const void *head, size_t head_length,
                                          const void *tail, size_t tail_length, uint64_t size);

/** Calls @visit for every plugin loaded so far, with the reason ("format 'qcow2' of disk.qcow2"). */
TN_API void tn_plugins_foreach_loaded (void (*visit) (const TnPlugin *plugin, const char *path,
                                                      const char *why, void *opaque),
                                       void *opaque);

/** Loads one file, checks everything that loading checks, and returns its descriptor.  For tools. */
TN_API const TnPlugin *tn_plugin_load_file (const char *path, GError **error);

/** The manifest text of a descriptor; free with g_free().  For tools. */
TN_API char *tn_plugin_manifest (const TnPlugin *plugin, const char *object_name);

#endif
