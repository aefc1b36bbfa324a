/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/protocol.h
 * Storage protocols (leaves) and filters.
 *
 * A protocol implements either submit() or the blocking pread/pwrite family, which the core runs on
 * worker threads.  A filter implements submit() over its child "file" with tn_node_submit().
 *
 * A class that has both uses pread/pwrite/sync only where waiting is harmless (while an image is being
 * opened), which spares a tool the making of a ring.
 *
 * Requests that reach a protocol are within limits (alignment, max_transfer) and within its size, except
 * that a write may go beyond the end when the node was opened with TN_OPEN_RESIZE and the class sets
 * TN_PROTOCOL_GROWS, that the last block of a file whose size is not a multiple of the alignment is read and
 * written whole, and that a read may meet the end of a file that shrank: what is missing reads as zeroes.
 * Several requests are under way at a time, from several threads; overlapping ones are the caller's business.
 */
#ifndef TENON_PROTOCOL_H
#define TENON_PROTOCOL_H

#include <tenon/node.h>
#include <tenon/plugin.h>

#define TN_PROTOCOL_MAJOR 1
#define TN_PROTOCOL_MINOR 0

typedef enum TnProtocolFlags {
  TN_PROTOCOL_FILTER = 1 << 0,    /**< has the child "file"; size, status and limits are passed through */
  TN_PROTOCOL_GROWS = 1 << 1,     /**< writing beyond the end extends the file */
  TN_PROTOCOL_ZERO_INIT = 1 << 2, /**< newly grown space reads as zeroes */
  TN_PROTOCOL_FUA = 1 << 3,       /**< handles TN_REQUEST_FUA itself; else the core flushes */
  TN_PROTOCOL_OVER_IMAGE = 1 << 4 /**< FILTER: the child "file" is an image whose format is probed, wherever
                                     the filter stands (else only below a root or a backing node); others: so
                                     are all children */
} TnProtocolFlags;

/** What a node does with its file and lets others do: qemu's image locks carry the same bits. */
typedef enum TnPermission {
  TN_PERM_CONSISTENT_READ = 1 << 0,
  TN_PERM_WRITE = 1 << 1,
  TN_PERM_WRITE_UNCHANGED = 1 << 2,
  TN_PERM_RESIZE = 1 << 3
} TnPermission;

/** Words at the end of TnRequest.core that belong to the protocol whose submit() got the request. */
#define TN_REQUEST_LEAF_WORDS 24

/**
 * The protocol's own room in @request, from submit() until it calls done(): TN_REQUEST_LEAF_WORDS words,
 * aligned as a pointer, with any contents at first.  It saves an allocation per request.  A filter sends a
 * request of its own to its child (the rest of @request is the core's until done()).
 */
static inline void *
tn_request_leaf_scratch (TnRequest *request)
{
  return request->core + G_N_ELEMENTS (request->core) - TN_REQUEST_LEAF_WORDS;
}

typedef struct TnProtocolOps {
  uint32_t size;  /**< sizeof (TnProtocolOps) */
  uint32_t flags; /**< TnProtocolFlags */
  uint32_t instance_size;
  uint32_t reserved;

  /** Turns the part of a file name behind `NAME:` (or a URI) into options.  Default: { filename = text }. May
   * set `driver` to another class that is the one for this name. */
  int (*parse_filename) (const char *text, TnOptions *options, GError **error);
  /** Opens; sets limits with tn_node_set_limits() and size with tn_node_set_size(). */
  int (*open) (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
  int (*close) (TnNode *node, GError **error);
  /** Makes a new, empty (or preallocated) object of @size bytes; an existing one is truncated. */
  int (*create) (const TnOptions *options, uint64_t size, GError **error);
  /** Removes what create() made; used to undo. */
  int (*remove) (const TnOptions *options, GError **error);

  /** Starts a request (all of TnRequestOp that the class supports; others: done with -ENOTSUP).  Calls done()
   * in the submitting thread's loop, possibly before it returns.  Never waits. */
  void (*submit) (TnNode *node, TnRequest *request);

  /** Blocking alternative, on worker threads: bytes moved (short reads mean end of file), or -errno. */
  int64_t (*pread) (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error);
  int64_t (*pwrite) (TnNode *node, const void *buffer, uint64_t length, uint64_t offset, GError **error);
  int (*sync) (TnNode *node, GError **error);
  int (*zero) (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, GError **error);
  int (*trim) (TnNode *node, uint64_t offset, uint64_t length, GError **error);

  /** The size that the storage has now, when it can change behind our back; NULL: the node's.  See
   * tn_node_current_size(). */
  int (*get_size) (TnNode *node, uint64_t *size, GError **error);
  int (*resize) (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
  /** Where data and holes are: kind DATA or ZERO, source NULL.  NULL: all data.  May wait (coroutine),
   * honours NOWAIT. */
  int (*map) (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);
  /** Bytes really taken on the host; UINT64_MAX: unknown. */
  int (*allocated) (TnNode *node, uint64_t *bytes, GError **error);
  /** Copies inside the kernel between two nodes of this class; bytes or -ENOTSUP.  Coroutine. */
  int64_t (*copy_range) (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                         GError **error);
  /** Takes and gives back locks so that this process holds @permissions and lets others hold @shared
   * (TnPermission). */
  int (*set_permissions) (TnNode *node, uint32_t permissions, uint32_t shared, GError **error);
  int (*reopen) (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
  char *(*info_specific) (TnNode *node, GError **error);
  /** As copy_range(), but only where both nodes can share what is stored: no byte is moved, and either all
   * of @length is shared or nothing.  -ENOTSUP otherwise.  @length 0 asks whether trying is worth it: 0. */
  int64_t (*share_range) (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                          GError **error);
  /** TN_PROTOCOL_FILTER: the name of the option that describes the child "file" where users know it by
   * another one (`image`, `test`); NULL: `file`. */
  const char *file_option;
  /** See tn_node_breakpoint().  Any thread. */
  int (*breakpoint) (TnNode *node, uint32_t action, const char *event, const char *tag, GError **error);
  /** The name of the node, from its options, for messages and `info`: short, such as parse_filename() takes,
   * and without any credentials.  g_free() it; NULL: the core makes one of all options.  NULL here: likewise.
   */
  char *(*filename) (const TnOptions *options);

  /** For storage whose medium can be taken out; all NULL: it cannot.  Coroutine.  Whether there is a medium:
   * 1 or 0. */
  int (*is_inserted) (TnNode *node, GError **error);
  /** Whether it was exchanged since this was asked last (or since open()): 1 or 0. */
  int (*medium_changed) (TnNode *node, GError **error);
  /** Puts the medium out, or (@open false) draws the tray in. */
  int (*eject) (TnNode *node, bool open, GError **error);
  /** Keeps it from being taken out by hand, or no longer. */
  int (*lock_medium) (TnNode *node, bool locked, GError **error);
} TnProtocolOps;

#endif
