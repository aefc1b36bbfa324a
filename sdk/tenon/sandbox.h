/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/sandbox.h
 * A process that gives up what images and plugins have no business with.
 *
 * tn_sandbox_begin() comes before any plugin is used: from then on there is no other program to start, no
 * socket to open unless asked for, no other process to look at or to signal.  tn_sandbox_seal() comes when
 * all files are open: from then on no other can be opened.  Neither can be taken back.  A kernel that lacks
 * what one of them needs is no error.
 */
#ifndef TENON_SANDBOX_H
#define TENON_SANDBOX_H

#include <tenon/error.h>
#include <tenon/types.h>

typedef enum TnSandboxFlags {
  TN_SANDBOX_SOCKETS = 1 << 0, /**< sockets are needed: the user named something on the network */
  TN_SANDBOX_PLUGINS = 1 << 1  /**< seal: more plugins may have to be loaded */
} TnSandboxFlags;

typedef enum TnSandboxAccess {
  TN_SANDBOX_READ = 1 << 0,
  TN_SANDBOX_WRITE = 1 << 1, /**< what exists, and its length */
  TN_SANDBOX_REMOVE = 1 << 2,
  TN_SANDBOX_MAKE = 1 << 3 /**< new files */
} TnSandboxAccess;

/** A file, or a folder and all below it, that stays within reach. */
typedef struct TnSandboxPath {
  const char *path;
  uint32_t access; /**< TnSandboxAccess */
} TnSandboxPath;

/** How many calls of tn_sandbox_keep() count. */
#define TN_SANDBOX_MAX_KEPT 64

/** For a plugin whose business is to open files as it goes, such as a folder shown as a disk: @path, which
 * exists, stays within reach when the process is sealed.  Called while the image is opened.  Does nothing in
 * a process without a sandbox, or in one that is sealed already.  Any thread. */
TN_API int tn_sandbox_keep (const char *path, uint32_t access, GError **error);
/** In the first thread, while it is the only one. */
TN_API int tn_sandbox_begin (uint32_t flags, GError **error);
/** After tn_sandbox_begin(), with the same flags.  Paths that do not exist are left out.  Threads of the
 * core's own follow before their next work. */
TN_API int tn_sandbox_seal (uint32_t flags, const TnSandboxPath *paths, size_t n_paths, GError **error);

#endif
