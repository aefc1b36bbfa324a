/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ELF-64 of the host's own byte order (System V ABI, chapters 4 and 5). */
#include "symbols.h"

#include <elf.h>

typedef struct Object {
  const char *path;
  const char *bytes;
  size_t length;
  Elf64_Ehdr header;
  GError **error;
} Object;

static int
damaged (const Object *object, const char *what)
{
  return tn_fail (object->error, TN_PLUGIN_ERROR, ENOEXEC, "%s: damaged shared object: %s: build it again",
                  object->path, what);
}

static bool
has (const Object *object, uint64_t offset, uint64_t length)
{
  return offset <= object->length && length <= object->length - offset;
}

static int
read_header (Object *object)
{
  const unsigned char native = G_BYTE_ORDER == G_LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB;
  if (!has (object, 0, sizeof object->header))
    return damaged (object, "too short for an ELF header");
  memcpy (&object->header, object->bytes, sizeof object->header);
  const unsigned char *ident = object->header.e_ident;
  if (memcmp (ident, ELFMAG, SELFMAG) != 0 || ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != native)
    return damaged (object, "not a 64-bit ELF file of this machine's byte order");
  if (object->header.e_type != ET_DYN)
    return damaged (object, "not a shared object");
  if (object->header.e_shentsize != sizeof (Elf64_Shdr)
      || !has (object, object->header.e_shoff, (uint64_t) object->header.e_shnum * sizeof (Elf64_Shdr)))
    return damaged (object, "its section table is missing or out of bounds");
  return 0;
}

static int
read_section (const Object *object, uint64_t index, Elf64_Shdr *section)
{
  if (index >= object->header.e_shnum)
    return damaged (object, "a section number is out of bounds");
  memcpy (section, object->bytes + object->header.e_shoff + index * sizeof *section, sizeof *section);
  if (section->sh_type != SHT_NOBITS && !has (object, section->sh_offset, section->sh_size))
    return damaged (object, "a section is out of bounds");
  return 0;
}

static const char *
string_at (const Object *object, const Elf64_Shdr *strings, uint64_t index)
{
  if (index >= strings->sh_size)
    return NULL;
  const char *text = object->bytes + strings->sh_offset + index;
  return memchr (text, '\0', strings->sh_size - index) ? text : NULL;
}

static void
add_symbol (ElfSymbols *symbols, const Elf64_Sym *symbol, const char *name)
{
  unsigned binding = ELF64_ST_BIND (symbol->st_info);
  if (binding == STB_LOCAL || !*name)
    return;
  bool visible = ELF64_ST_VISIBILITY (symbol->st_other) == STV_DEFAULT;
  if (symbol->st_shndx == SHN_UNDEF && binding == STB_GLOBAL)
    g_ptr_array_add (symbols->undefined, g_strdup (name));
  else if (symbol->st_shndx != SHN_UNDEF && visible)
    g_ptr_array_add (symbols->exported, g_strdup (name));
}

static int
read_table (const Object *object, const Elf64_Shdr *table, ElfSymbols *symbols)
{
  Elf64_Shdr strings;
  int r = read_section (object, table->sh_link, &strings);
  if (r < 0)
    return r;
  if (strings.sh_type != SHT_STRTAB || table->sh_entsize != sizeof (Elf64_Sym))
    return damaged (object, "its dynamic symbol table is not one");
  for (uint64_t i = 1; i < table->sh_size / sizeof (Elf64_Sym); i++) {
    Elf64_Sym symbol;
    memcpy (&symbol, object->bytes + table->sh_offset + i * sizeof symbol, sizeof symbol);
    const char *name = string_at (object, &strings, symbol.st_name);
    if (!name)
      return damaged (object, "a symbol's name is out of bounds");
    add_symbol (symbols, &symbol, name);
  }
  return 0;
}

static int
read_symbols (Object *object, ElfSymbols *symbols)
{
  int r = read_header (object);
  if (r < 0)
    return r;
  for (unsigned i = 0; i < object->header.e_shnum; i++) {
    Elf64_Shdr section;
    r = read_section (object, i, &section);
    if (r < 0)
      return r;
    if (section.sh_type == SHT_DYNSYM)
      return read_table (object, &section, symbols);
  }
  return damaged (object, "it has no dynamic symbol table");
}

int
elf_read_symbols (const char *path, ElfSymbols *symbols, GError **error)
{
  g_autoptr (GError) why = NULL;
  GMappedFile *file = g_mapped_file_new (path, FALSE, &why);
  if (!file)
    return tn_fail (error, TN_PLUGIN_ERROR, EIO, "cannot read %s: %s", path, why->message);
  Object object = { .path = path,
                    .bytes = g_mapped_file_get_contents (file),
                    .length = g_mapped_file_get_length (file),
                    .error = error };
  *symbols = (ElfSymbols){ g_ptr_array_new_with_free_func (g_free), g_ptr_array_new_with_free_func (g_free) };
  int r = read_symbols (&object, symbols);
  g_mapped_file_unref (file);
  if (r < 0)
    elf_symbols_clear (symbols);
  return r;
}

void
elf_symbols_clear (ElfSymbols *symbols)
{
  g_ptr_array_unref (symbols->exported);
  g_ptr_array_unref (symbols->undefined);
}
