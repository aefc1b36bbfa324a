/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/board.h
 * A board as its file describes it (doc/boards.md): data only, nothing is built yet.
 */
#ifndef TN_MACHINE_BOARD_H
#define TN_MACHINE_BOARD_H

#include <tenon/option.h>

#define TN_BOARD_MAX_FILE (256 * 1024)
#define TN_BOARD_MAX_ITEMS 256 /**< devices, wires of one device, properties of one node … */

/** `irq=TARGET:LINE`: the device's output goes to an input of another device, or of each hart in turn. */
typedef struct TnBoardWire {
  char *target; /**< id of a device, or "cpu*" */
  unsigned line;
} TnBoardWire;

/** A property of a device tree node in the board's notation: "text", <cells &reference>, or nothing. */
typedef struct TnBoardProperty {
  char *name, *value;
} TnBoardProperty;

typedef struct TnBoardDevice {
  char *id, *class_name;
  char *node;        /**< name of its device tree node, without the address */
  GArray *addresses; /**< uint64_t, one per register region */
  GPtrArray *wires;  /**< TnBoardWire, by output; those to "cpu*" repeat for each hart */
  TnOptions *options;
  GPtrArray *properties; /**< TnBoardProperty */
} TnBoardDevice;

/** Places for devices of a bus: each one used becomes a device of @class_name. */
typedef struct TnBoardSlots {
  char *bus, *class_name, *node;
  uint64_t address, stride;
  unsigned count;
  TnBoardWire wire; /**< of the first; the line grows by one with each */
} TnBoardSlots;

/** A value in the board's notation: a number, or @NAME for something only known later. */
typedef struct TnBoardValue {
  char *name; /**< without the @; NULL: a number */
  uint64_t number;
} TnBoardValue;

typedef struct TnBoardRomItem {
  TnBoardValue value;
  unsigned bytes; /**< 4 or 8, little-endian */
} TnBoardRomItem;

typedef struct TnBoardRom {
  char *name;
  uint64_t address, size;
  GPtrArray *items; /**< TnBoardRomItem */
} TnBoardRom;

typedef struct TnBoardNode {
  char *name;
  GPtrArray *properties;
} TnBoardNode;

typedef struct TnBoardRegister {
  char *name;
  TnBoardValue value;
} TnBoardRegister;

/** Loaders that may be tried on an image, in order. */
typedef enum TnLoaderKind { TN_LOADER_ELF = 1, TN_LOADER_IMAGE, TN_LOADER_RAW } TnLoaderKind;

/** How one kind of image is loaded. */
typedef struct TnBoardLoad {
  GArray *kinds;   /**< TnLoaderKind; empty: not accepted */
  uint64_t offset; /**< from the start of RAM, for images that don't say where they go */
} TnBoardLoad;

/** One way to boot. */
typedef struct TnBoardBoot {
  TnOptions *cpu_options;
  TnBoardLoad firmware, kernel;
  uint64_t image_magic_offset; /**< of the kernel image's header */
  GByteArray *image_magic;
  GPtrArray *registers; /**< TnBoardRegister */
  bool all_harts;       /**< registers are set on every hart, not only the first */
} TnBoardBoot;

typedef struct TnBoard {
  char *name, *path, *summary, *model;
  char **compatible;
  uint64_t ram, memory, memory_max, high, timebase;
  unsigned cpus, cpus_max, elf_machine;
  char *cpu_class, *console;
  char *hart_controller; /**< compatible string of each hart's interrupt controller node, or NULL */
  GPtrArray *devices;    /**< TnBoardDevice */
  GPtrArray *slots;      /**< TnBoardSlots */
  GPtrArray *roms;       /**< TnBoardRom */
  GPtrArray *nodes;      /**< TnBoardNode */
  TnOptions *interfaces; /**< `-drive if=` to device class */
  TnBoardBoot *builtin;  /**< without a firmware file, or NULL */
  TnBoardBoot *firmware; /**< with one, or NULL */
} TnBoard;

/** Parses @text; @path is for messages. */
int tn_board_parse (const char *path, const char *text, size_t length, TnBoard **board, GError **error);
/** Finds and reads a board: a name, or a path with a slash. */
int tn_board_load (const char *name, TnBoard **board, GError **error);
void tn_board_free (TnBoard *board);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnBoard, tn_board_free)

/** A value with its name looked up by @resolve. */
int tn_board_value_parse (const char *text, TnBoardValue *value);

#endif
