/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file machine/boot.h
 * Loaders for what a machine boots: ELF programs, Linux images, raw binaries.
 *
 * Everything read from an image is checked before use: sizes against the file, addresses against guest
 * memory.  A loader writes nothing outside guest RAM.
 */
#ifndef TN_MACHINE_BOOT_H
#define TN_MACHINE_BOOT_H

#include <tenon/memory.h>

#include "machine/board.h"

/** An image file, read on demand. */
typedef struct TnBootFile TnBootFile;

int tn_boot_file_open (const char *path, TnBootFile **file, GError **error);
/** An image in memory, which must stay. */
TnBootFile *tn_boot_file_memory (const char *name, const void *data, size_t length);
void tn_boot_file_close (TnBootFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnBootFile, tn_boot_file_close)
const char *tn_boot_file_name (const TnBootFile *file);
uint64_t tn_boot_file_size (const TnBootFile *file);
/** Reads exactly @length bytes. */
int tn_boot_file_read (TnBootFile *file, uint64_t offset, void *buffer, size_t length, GError **error);
/** Reads @length bytes of the file straight into guest memory. */
int tn_boot_file_load (TnBootFile *file, uint64_t offset, uint64_t length, TnSpace *space, uint64_t address,
                       GError **error);

/** Where an image went. */
typedef struct TnBootImage {
  bool loaded;
  uint64_t entry;
  uint64_t low, high; /**< first byte and the one after the last, memory that the image clears included */
} TnBootImage;

/** ELF64, little-endian, for @machine (0: any). */
int tn_boot_load_elf (TnBootFile *file, TnSpace *space, unsigned machine, TnBootImage *image, GError **error);
bool tn_boot_is_elf (TnBootFile *file);
/** The value of symbol @name in an ELF file's symbol table. */
bool tn_boot_elf_symbol (TnBootFile *file, const char *name, uint64_t *value);

/** Linux's Image: a 64-byte header with text offset and memory size. */
int tn_boot_load_linux (TnBootFile *file, TnSpace *space, uint64_t ram, TnBootImage *image, GError **error);
bool tn_boot_is_linux (TnBootFile *file, uint64_t magic_offset, const GByteArray *magic);
int tn_boot_load_raw (TnBootFile *file, TnSpace *space, uint64_t address, TnBootImage *image, GError **error);

/** Loads @file with the first of @load's loaders that knows it. */
int tn_boot_load (TnBootFile *file, TnSpace *space, const TnBoard *board, const TnBoardBoot *boot,
                  const TnBoardLoad *load, TnBootImage *image, GError **error);

/** Everything a machine boots. */
typedef struct TnBootPlan {
  TnBootFile *firmware_file, *kernel_file, *initrd_file;
  TnBootImage firmware, kernel;
  uint64_t initrd, initrd_length; /**< 0: none */
  uint64_t fdt_address, fdt_room;
} TnBootPlan;

void tn_boot_plan_clear (TnBootPlan *plan);
bool tn_boot_plan_symbol (const TnBootPlan *plan, const char *name, uint64_t *value);

#endif
