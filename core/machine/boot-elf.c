/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ELF64 programs, as the System V ABI describes them. */
#include <elf.h>

#include "machine/boot.h"
#include "memory/space.h"

#define MAX_SEGMENTS 128
#define HEADER_PAGE UINT64_C (4096)
#define MAX_SECTIONS 4096
#define MAX_TABLE (UINT64_C (64) << 20)

bool
tn_boot_is_elf (TnBootFile *file)
{
  uint8_t magic[SELFMAG];
  return tn_boot_file_read (file, 0, magic, sizeof magic, NULL) == 0 && memcmp (magic, ELFMAG, SELFMAG) == 0;
}

static int
elf_header (TnBootFile *file, Elf64_Ehdr *header, GError **error)
{
  int r = tn_boot_file_read (file, 0, header, sizeof *header, error);
  if (r < 0)
    return r;
  if (memcmp (header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64
      || header->e_ident[EI_DATA] != ELFDATA2LSB)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s' is not a 64-bit little-endian ELF program",
                    tn_boot_file_name (file));
  header->e_machine = GUINT16_FROM_LE (header->e_machine);
  header->e_entry = GUINT64_FROM_LE (header->e_entry);
  header->e_phoff = GUINT64_FROM_LE (header->e_phoff);
  header->e_phnum = GUINT16_FROM_LE (header->e_phnum);
  header->e_phentsize = GUINT16_FROM_LE (header->e_phentsize);
  header->e_shoff = GUINT64_FROM_LE (header->e_shoff);
  header->e_shnum = GUINT16_FROM_LE (header->e_shnum);
  header->e_shentsize = GUINT16_FROM_LE (header->e_shentsize);
  return 0;
}

static int
elf_segment (TnBootFile *file, const Elf64_Ehdr *header, unsigned index, Elf64_Phdr *segment, GError **error)
{
  uint64_t offset;
  if (__builtin_add_overflow (header->e_phoff, (uint64_t) index * sizeof *segment, &offset))
    offset = UINT64_MAX;
  int r = tn_boot_file_read (file, offset, segment, sizeof *segment, error);
  if (r < 0)
    return r;
  segment->p_type = GUINT32_FROM_LE (segment->p_type);
  segment->p_offset = GUINT64_FROM_LE (segment->p_offset);
  segment->p_vaddr = GUINT64_FROM_LE (segment->p_vaddr);
  segment->p_paddr = GUINT64_FROM_LE (segment->p_paddr);
  segment->p_filesz = GUINT64_FROM_LE (segment->p_filesz);
  segment->p_memsz = GUINT64_FROM_LE (segment->p_memsz);
  return 0;
}

/* Whether [address, address + length) is guest memory. */
static bool
range_is_memory (TnSpace *space, uint64_t address, uint64_t length)
{
  while (length > 0) {
    uint64_t part;
    if (tn_space_load_pointer (space, address, &part) == NULL)
      return false;
    if (part >= length)
      return true;
    address += part;
    length -= part;
  }
  return true;
}

static int
clear_memory (TnSpace *space, uint64_t address, uint64_t length)
{
  while (length > 0) {
    uint64_t part;
    uint8_t *host = tn_space_load_pointer (space, address, &part);
    if (host == NULL)
      return -EFAULT;
    part = MIN (part, length);
    memset (host, 0, part);
    tn_space_mark_dirty (space, address, part);
    address += part;
    length -= part;
  }
  return 0;
}

/* Linkers like to put the file's own headers before a program's first byte.  Where there is no memory for
 * them, they are not needed either: leaves out the pages before the start of memory. */
static void
skip_headers (TnSpace *space, Elf64_Phdr *segment)
{
  uint64_t part;
  const uint64_t before = -segment->p_paddr & (HEADER_PAGE - 1);
  const uint64_t skip = before != 0 ? before : HEADER_PAGE;
  if (segment->p_offset != 0 || segment->p_filesz <= skip || segment->p_filesz > segment->p_memsz
      || segment->p_paddr > UINT64_MAX - skip
      || tn_space_load_pointer (space, segment->p_paddr, &part) != NULL)
    return;
  segment->p_offset += skip;
  segment->p_paddr += skip;
  segment->p_vaddr += skip;
  segment->p_filesz -= skip;
  segment->p_memsz -= skip;
}

static int
load_segment (TnBootFile *file, TnSpace *space, const Elf64_Phdr *segment, unsigned index, GError **error)
{
  const char *name = tn_boot_file_name (file);
  if (segment->p_filesz > segment->p_memsz || segment->p_memsz - 1 > UINT64_MAX - segment->p_paddr)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s': ELF segment %u has impossible sizes", name,
                    index);
  if (!range_is_memory (space, segment->p_paddr, segment->p_memsz))
    return tn_fail (
        error, TN_MACHINE_ERROR, EFAULT,
        "'%s': ELF segment %u (0x%" G_GINT64_MODIFIER "x, %" G_GUINT64_FORMAT
        " KiB) lies outside the machine's RAM: give it more memory (-m) or link the program elsewhere",
        name, index, segment->p_paddr, segment->p_memsz >> 10);
  int r = tn_boot_file_load (file, segment->p_offset, segment->p_filesz, space, segment->p_paddr, error);
  if (r < 0)
    return r;
  return clear_memory (space, segment->p_paddr + segment->p_filesz, segment->p_memsz - segment->p_filesz);
}

int
tn_boot_load_elf (TnBootFile *file, TnSpace *space, unsigned machine, TnBootImage *image, GError **error)
{
  Elf64_Ehdr header;
  const char *name = tn_boot_file_name (file);
  int r = elf_header (file, &header, error);
  if (r < 0)
    return r;
  if (machine != 0 && header.e_machine != machine)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "'%s' is a program for another processor (ELF machine %u, this board wants %u)", name,
                    header.e_machine, machine);
  if (header.e_phnum == 0 || header.e_phnum > MAX_SEGMENTS || header.e_phentsize != sizeof (Elf64_Phdr))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s': the ELF header describes no loadable program",
                    name);
  TnBootImage result = { .entry = header.e_entry, .low = UINT64_MAX };
  for (unsigned i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    r = elf_segment (file, &header, i, &segment, error);
    if (r < 0)
      return r;
    if (segment.p_type != PT_LOAD || segment.p_memsz == 0)
      continue;
    skip_headers (space, &segment);
    r = load_segment (file, space, &segment, i, error);
    if (r < 0)
      return r;
    result.loaded = true;
    result.low = MIN (result.low, segment.p_paddr);
    result.high = MAX (result.high, segment.p_paddr + segment.p_memsz);
    /* The entry is a virtual address; nothing is mapped yet when it is entered. */
    if (header.e_entry >= segment.p_vaddr && header.e_entry - segment.p_vaddr < segment.p_memsz)
      result.entry = segment.p_paddr + (header.e_entry - segment.p_vaddr);
  }
  if (!result.loaded)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "'%s': the ELF file has nothing to load", name);
  *image = result;
  return 0;
}

/* ---- Symbols ---- */

static int
elf_section (TnBootFile *file, const Elf64_Ehdr *header, unsigned index, Elf64_Shdr *section)
{
  uint64_t offset;
  if (index >= header->e_shnum
      || __builtin_add_overflow (header->e_shoff, (uint64_t) index * sizeof *section, &offset))
    return -EINVAL;
  int r = tn_boot_file_read (file, offset, section, sizeof *section, NULL);
  if (r < 0)
    return r;
  section->sh_type = GUINT32_FROM_LE (section->sh_type);
  section->sh_offset = GUINT64_FROM_LE (section->sh_offset);
  section->sh_size = GUINT64_FROM_LE (section->sh_size);
  section->sh_link = GUINT32_FROM_LE (section->sh_link);
  return 0;
}

/* The contents of a section; NULL when it is absurd. */
static uint8_t *
read_table (TnBootFile *file, const Elf64_Shdr *section)
{
  if (section->sh_size == 0 || section->sh_size > MAX_TABLE || section->sh_size > tn_boot_file_size (file))
    return NULL;
  uint8_t *table = g_try_malloc (section->sh_size);
  if (table != NULL && tn_boot_file_read (file, section->sh_offset, table, section->sh_size, NULL) < 0)
    g_clear_pointer (&table, g_free);
  return table;
}

static bool
find_symbol (const uint8_t *symbols, uint64_t n, const char *strings, uint64_t strings_size, const char *name,
             uint64_t *value)
{
  const size_t length = strlen (name) + 1;
  for (uint64_t i = 0; i < n; i++) {
    Elf64_Sym symbol;
    memcpy (&symbol, symbols + i * sizeof symbol, sizeof symbol);
    uint64_t at = GUINT32_FROM_LE (symbol.st_name);
    if (at >= strings_size || strings_size - at < length || memcmp (strings + at, name, length) != 0)
      continue;
    *value = GUINT64_FROM_LE (symbol.st_value);
    return true;
  }
  return false;
}

bool
tn_boot_elf_symbol (TnBootFile *file, const char *name, uint64_t *value)
{
  Elf64_Ehdr header;
  if (elf_header (file, &header, NULL) < 0 || header.e_shentsize != sizeof (Elf64_Shdr)
      || header.e_shnum > MAX_SECTIONS)
    return false;
  for (unsigned i = 0; i < header.e_shnum; i++) {
    Elf64_Shdr section, strings_section;
    if (elf_section (file, &header, i, &section) < 0)
      return false;
    if (section.sh_type != SHT_SYMTAB || elf_section (file, &header, section.sh_link, &strings_section) < 0)
      continue;
    g_autofree uint8_t *symbols = read_table (file, &section);
    g_autofree uint8_t *strings = read_table (file, &strings_section);
    if (symbols != NULL && strings != NULL
        && find_symbol (symbols, section.sh_size / sizeof (Elf64_Sym), (const char *) strings,
                        strings_section.sh_size, name, value))
      return true;
  }
  return false;
}
