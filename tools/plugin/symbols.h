/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The dynamic symbols of a shared object, read without loading it. */
#ifndef TENON_PLUGIN_SYMBOLS_H
#define TENON_PLUGIN_SYMBOLS_H

#include <tenon/error.h>

typedef struct ElfSymbols {
  GPtrArray *exported;  /* names, as text */
  GPtrArray *undefined; /* names, weak ones left out */
} ElfSymbols;

/* Every offset and count in the file is checked before it is used. */
int elf_read_symbols (const char *path, ElfSymbols *symbols, GError **error);
void elf_symbols_clear (ElfSymbols *symbols);

#endif
