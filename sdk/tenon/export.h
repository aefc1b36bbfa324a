/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/export.h
 * Exports: ways in which a drive is offered to others (NBD, FUSE, vhost-user-blk).
 *
 * An export is one drive under one name.  Exports of a class that sets TN_EXPORT_SERVER live within a
 * server of that class, which holds what they share: the address, the connections, who may connect.  Those
 * of other classes (a mount point, a socket for one disk) stand alone.
 *
 * A program makes servers and exports; the class does its work on the loop of the thread that made them,
 * with tn_drive_submit().  Who connects is not trusted: what a peer sends is checked, what it can make the
 * export hold (memory, requests, connections) is bounded, and a peer that is slow or silent hinders no other.
 */
#ifndef TENON_EXPORT_H
#define TENON_EXPORT_H

#include <tenon/drive.h>
#include <tenon/plugin.h>

#define TN_EXPORT_MAJOR 1
#define TN_EXPORT_MINOR 1

/** What several exports of one class share. */
typedef struct TnExportServer TnExportServer;
/** One drive, offered. */
typedef struct TnExport TnExport;

typedef enum TnExportFlags {
  TN_EXPORT_SERVER = 1 << 0 /**< exports are made within a server */
} TnExportFlags;

typedef struct TnExportOps {
  uint32_t size;          /**< sizeof (TnExportOps) */
  uint32_t flags;         /**< TnExportFlags */
  uint32_t instance_size; /**< bytes of tn_export_state() */
  uint32_t server_size;   /**< bytes of tn_export_server_state() */

  /** The options of a server (rows of TnOption, ended by name NULL); those of an export are TnClass.options.
   */
  const TnOption *server_options;
  /** Opens the address and begins to answer.  The options have been checked. */
  int (*server_open) (TnExportServer *server, const TnOptions *options, GError **error);
  /** Stops answering, drops the connections and waits for their requests.  Called after the last export is
   * gone. */
  void (*server_close) (TnExportServer *server);

  /** Begins to offer tn_export_drive().  A name that is taken within the server is refused here. */
  int (*open) (TnExport *export, const TnOptions *options, GError **error);
  /** Stops, drops the peers that use it and waits for their requests. */
  void (*close) (TnExport *export);
} TnExportOps;

/* ---- For programs ---- */

/** What a server tells its program, in the server's thread. */
typedef enum TnExportEvent {
  TN_EXPORT_CONNECTED = 1,    /**< a peer is connected */
  TN_EXPORT_ATTACHED = 2,     /**< it has chosen an export */
  TN_EXPORT_DISCONNECTED = 3, /**< it is gone */
  TN_EXPORT_PEER_ERROR = 4,   /**< it broke the protocol; `text` says how */
  TN_EXPORT_REFUSED = 5       /**< since 1.1: it may not come in; `text` says who and why, to be logged */
} TnExportEvent;

typedef struct TnExportNotice {
  uint32_t size;        /**< sizeof (TnExportNotice) of the core */
  uint32_t event;       /**< TnExportEvent */
  unsigned connections; /**< that there are now */
  bool attached;        /**< the peer in question had chosen an export */
  const char *text;     /**< one line about it, or NULL */
} TnExportNotice;

/** Makes a server of the export class @type, such as "nbd". */
TN_API int tn_export_server_new (const char *type, const TnOptions *options, TnExportServer **server,
                                 GError **error);
/** Ends a server and the exports that it still has.  May wait. */
TN_API void tn_export_server_free (TnExportServer *server);
/** Calls @notice for every TnExportEvent. */
TN_API void tn_export_server_on_event (TnExportServer *server,
                                       void (*notice) (const TnExportNotice *notice, void *opaque),
                                       void *opaque);
/** As tn_export_server_on_event(), for an export of a class without servers: the only peer that it has. */
TN_API void tn_export_on_event (TnExport *export, void (*notice) (const TnExportNotice *notice, void *opaque),
                                void *opaque);
/** Offers @drive, which stays the caller's and has to outlive the export, by the class @type; @server is the
 * one that it belongs to, or NULL for a class without servers. */
TN_API int tn_export_new (const char *type, TnExportServer *server, TnDrive *drive, const TnOptions *options,
                          TnExport **export, GError **error);
/** Ends an export.  May wait. */
TN_API void tn_export_free (TnExport *export);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnExportServer, tn_export_server_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnExport, tn_export_free)

/* ---- For export classes ---- */

/** server_size zeroed bytes. */
TN_API void *tn_export_server_state (TnExportServer *server);
/** instance_size zeroed bytes. */
TN_API void *tn_export_state (TnExport *export);
TN_API TnDrive *tn_export_drive (TnExport *export);
/** NULL for a class without servers. */
TN_API TnExportServer *tn_export_server (TnExport *export);
/** Passes @notice on to the program; the size is filled in. */
TN_API void tn_export_server_notify (TnExportServer *server, const TnExportNotice *notice);
/** The same for an export of a class without servers. */
TN_API void tn_export_notify (TnExport *export, const TnExportNotice *notice);

#endif
