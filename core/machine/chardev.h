/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/chardev.h
 * The core's side of character devices.
 */
#ifndef TN_MACHINE_CHARDEV_H
#define TN_MACHINE_CHARDEV_H

#include <tenon/chardev.h>
#include <tenon/loop.h>

/** Ends of a backend: descriptors to read from and write to, -1 for none. */
typedef struct TnChardevBackend {
  int in, out;
  bool own_in, own_out; /**< close them at the end */
  bool may_block;       /**< writing more than is polled for could block */
  bool mux;             /**< Ctrl-A is an escape key */
  char *path;           /**< of a pseudo-terminal */
  int keep;             /**< a descriptor to keep open, -1 for none */
  void *terminal;       /**< saved settings to restore, or NULL */
} TnChardevBackend;

/** Opens "stdio", "mux:stdio", "null", "pty", "file:PATH". */
int tn_chardev_backend_open (const char *spec, TnChardevBackend *backend, GError **error);
void tn_chardev_backend_close (TnChardevBackend *backend);

/** What the escape keys do. */
typedef struct TnChardevEscape {
  void (*quit) (void *opaque);
  /** Input goes to @monitor_input from now on (true) or to the device again. */
  void (*monitor_focus) (void *opaque, TnChardev *chardev, bool focus);
  void (*monitor_input) (void *opaque, TnChardev *chardev, const uint8_t *data, size_t length);
} TnChardevEscape;

/** A character device on @loop (its thread makes and frees it).  Takes @backend over. */
TnChardev *tn_chardev_new (TnLoop *loop, const TnChardevBackend *backend, const TnChardevEscape *escape,
                           void *opaque);
/** Writes out what is buffered (for a second at most), restores the terminal, frees. */
void tn_chardev_free (TnChardev *chardev);
bool tn_chardev_is_connected (TnChardev *chardev);

#endif
