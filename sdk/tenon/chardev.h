/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/chardev.h
 * Character devices: the host side of serial ports and consoles.
 */
#ifndef TENON_CHARDEV_H
#define TENON_CHARDEV_H

#include <tenon/error.h>

/** The device end of a character device. */
typedef struct TnChardevHandler {
  uint32_t size; /**< sizeof (TnChardevHandler) */
  uint32_t reserved;
  /** How many bytes the device can take now. */
  size_t (*can_receive) (void *opaque);
  /** @length is never more than can_receive() said.  Called in the machine's main loop. */
  void (*receive) (void *opaque, const uint8_t *data, size_t length);
} TnChardevHandler;

/** Connects a device (@handler copied; NULL disconnects).  One device at a time. */
TN_API int tn_chardev_connect (TnChardev *chardev, const TnChardevHandler *handler, void *opaque,
                               GError **error);

/** Writes; output that the host can't take at once is buffered to a limit and then dropped, so a
 *  guest is never stopped by a slow reader.  Any thread. */
TN_API void tn_chardev_write (TnChardev *chardev, const void *data, size_t length);

/** The device can take bytes again after can_receive() had said 0.  Any thread. */
TN_API void tn_chardev_accept (TnChardev *chardev);

/** Path of the other end (a pseudo-terminal's), or NULL. */
TN_API const char *tn_chardev_path (TnChardev *chardev);

#endif
