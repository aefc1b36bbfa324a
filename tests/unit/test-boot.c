/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot images: ELF programs, Linux images, raw binaries, device tree blobs; whole, cut short and hostile. */
#include <elf.h>
#include <libfdt.h>

#include "machine/boot.h"
#include "machine/fdt.h"
#include "machine/machine-private.h"

#define RAM UINT64_C (0x80000000)
#define SIZE UINT64_C (0x100000)

/* ---- An ELF program with one segment and a symbol ---- */

typedef struct Program {
  Elf64_Ehdr header;
  Elf64_Phdr segment;
  Elf64_Shdr sections[3];
  Elf64_Sym symbols[2];
  char strings[16];
  uint8_t code[64];
} Program;

static void
program_init (Program *p)
{
  memset (p, 0, sizeof *p);
  memcpy (p->header.e_ident, ELFMAG, SELFMAG);
  p->header.e_ident[EI_CLASS] = ELFCLASS64;
  p->header.e_ident[EI_DATA] = ELFDATA2LSB;
  p->header.e_machine = 243;
  p->header.e_entry = 0x10008;
  p->header.e_phoff = offsetof (Program, segment);
  p->header.e_phentsize = sizeof (Elf64_Phdr);
  p->header.e_phnum = 1;
  p->header.e_shoff = offsetof (Program, sections);
  p->header.e_shentsize = sizeof (Elf64_Shdr);
  p->header.e_shnum = 3;
  p->segment = (Elf64_Phdr){ .p_type = PT_LOAD,
                             .p_offset = offsetof (Program, code),
                             .p_vaddr = 0x10000,
                             .p_paddr = RAM + 0x1000,
                             .p_filesz = sizeof p->code,
                             .p_memsz = 0x200 };
  p->sections[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB,
                                 .sh_offset = offsetof (Program, symbols),
                                 .sh_size = sizeof p->symbols,
                                 .sh_link = 2,
                                 .sh_entsize = sizeof (Elf64_Sym) };
  p->sections[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB,
                                 .sh_offset = offsetof (Program, strings),
                                 .sh_size = sizeof p->strings };
  memcpy (p->strings, "\0tohost", 8);
  p->symbols[1] = (Elf64_Sym){ .st_name = 1, .st_value = RAM + 0x1020 };
  for (unsigned i = 0; i < sizeof p->code; i++)
    p->code[i] = (uint8_t) (i + 1);
}

static TnSpace *
space_new (void)
{
  TnSpace *space = tn_space_new ("boot");
  g_assert_cmpint (tn_space_add_ram (space, "ram", RAM, SIZE, NULL), ==, 0);
  return space;
}

static int
load_elf (const void *data, size_t length, TnSpace *space, TnBootImage *image, GError **error)
{
  g_autoptr (TnBootFile) file = tn_boot_file_memory ("test.elf", data, length);
  return tn_boot_load_elf (file, space, 243, image, error);
}

static void
test_elf (void)
{
  Program p;
  TnSpace *space = space_new ();
  TnBootImage image = { 0 };
  uint8_t bytes[0x200], zero[0x200] = { 0 };
  uint64_t value = 0;
  program_init (&p);
  /* Memory beyond the file's part is cleared. */
  memset (bytes, 0xff, sizeof bytes);
  tn_space_dma_write (space, RAM + 0x1000, bytes, sizeof bytes);
  g_assert_cmpint (load_elf (&p, sizeof p, space, &image, NULL), ==, 0);
  g_assert_cmphex (image.entry, ==, RAM + 0x1008);
  g_assert_cmphex (image.low, ==, RAM + 0x1000);
  g_assert_cmphex (image.high, ==, RAM + 0x1200);
  tn_space_dma_read (space, RAM + 0x1000, bytes, sizeof bytes);
  g_assert_cmpmem (bytes, sizeof p.code, p.code, sizeof p.code);
  g_assert_cmpmem (bytes + sizeof p.code, 0x200 - sizeof p.code, zero, 0x200 - sizeof p.code);
  g_autoptr (TnBootFile) file = tn_boot_file_memory ("test.elf", &p, sizeof p);
  g_assert_true (tn_boot_is_elf (file));
  g_assert_true (tn_boot_elf_symbol (file, "tohost", &value));
  g_assert_cmphex (value, ==, RAM + 0x1020);
  g_assert_false (tn_boot_elf_symbol (file, "ohos", &value));
  g_assert_false (tn_boot_elf_symbol (file, "fromhost", &value));
  tn_space_free (space);
}

static void
assert_refused (const Program *p, const char *what)
{
  TnSpace *space = space_new ();
  TnBootImage image = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (load_elf (p, sizeof *p, space, &image, &error), <, 0);
  g_assert_nonnull (strstr (error->message, "test.elf"));
  if (strstr (error->message, what) == NULL)
    g_error ("\"%s\" does not say \"%s\"", error->message, what);
  g_assert_false (image.loaded);
  tn_space_free (space);
}

static void
test_elf_hostile (void)
{
  Program p;
  program_init (&p);
  p.header.e_machine = EM_X86_64;
  assert_refused (&p, "another processor");
  program_init (&p);
  p.header.e_ident[EI_CLASS] = ELFCLASS32;
  assert_refused (&p, "64-bit");
  program_init (&p);
  p.header.e_phnum = 0;
  assert_refused (&p, "no loadable");
  program_init (&p);
  p.header.e_phnum = 0xffff;
  assert_refused (&p, "no loadable");
  program_init (&p);
  p.header.e_phoff = UINT64_MAX - 8;
  assert_refused (&p, "truncated");
  program_init (&p);
  p.segment.p_type = PT_NOTE;
  assert_refused (&p, "nothing to load");
  program_init (&p);
  p.segment.p_offset = sizeof p - 8;
  assert_refused (&p, "truncated");
  program_init (&p);
  p.segment.p_filesz = p.segment.p_memsz + 1;
  assert_refused (&p, "impossible");
  program_init (&p);
  p.segment.p_memsz = UINT64_MAX - 1;
  assert_refused (&p, "impossible");
  program_init (&p);
  p.segment.p_paddr = 0x1000;
  assert_refused (&p, "outside");
  program_init (&p);
  p.segment.p_memsz = SIZE;
  assert_refused (&p, "outside");
  program_init (&p);
  p.segment.p_paddr = UINT64_MAX - 0x1ff;
  assert_refused (&p, "outside");
}

static void
test_elf_hostile_symbols (void)
{
  Program p;
  uint64_t value;
  program_init (&p);
  p.sections[1].sh_size = UINT64_MAX;
  g_autoptr (TnBootFile) size = tn_boot_file_memory ("x", &p, sizeof p);
  g_assert_false (tn_boot_elf_symbol (size, "tohost", &value));
  program_init (&p);
  p.sections[1].sh_link = 77;
  g_assert_false (tn_boot_elf_symbol (size, "tohost", &value));
  program_init (&p);
  p.symbols[1].st_name = UINT32_MAX;
  g_assert_false (tn_boot_elf_symbol (size, "tohost", &value));
  program_init (&p);
  p.symbols[1].st_name = sizeof p.strings - 3;
  g_assert_false (tn_boot_elf_symbol (size, "tohost", &value));
  program_init (&p);
  p.header.e_shoff = UINT64_MAX - 64;
  g_assert_false (tn_boot_elf_symbol (size, "tohost", &value));
}

static void
test_elf_truncated (void)
{
  Program p;
  program_init (&p);
  for (size_t length = 0; length < sizeof p; length++) {
    TnSpace *space = space_new ();
    TnBootImage image = { 0 };
    uint64_t value;
    g_assert_cmpint (load_elf (&p, length, space, &image, NULL), <, 0);
    g_autoptr (TnBootFile) file = tn_boot_file_memory ("x", &p, length);
    (void) tn_boot_elf_symbol (file, "tohost", &value);
    tn_space_free (space);
  }
}

/* The linker's headers before a program at the start of memory are left out. */
static void
test_elf_headers (void)
{
  g_autofree uint8_t *file_data = g_malloc0 (0x1040);
  Program p;
  TnSpace *space = space_new ();
  TnBootImage image = { 0 };
  uint64_t value = 0;
  program_init (&p);
  p.segment.p_offset = 0;
  p.segment.p_vaddr = p.segment.p_paddr = RAM - 0x1000;
  p.segment.p_filesz = p.segment.p_memsz = 0x1040;
  p.header.e_entry = RAM;
  p.header.e_shnum = 0;
  memcpy (file_data, &p, sizeof p);
  file_data[0x1000] = 0x55;
  g_assert_cmpint (load_elf (file_data, 0x1040, space, &image, NULL), ==, 0);
  g_assert_cmphex (image.entry, ==, RAM);
  tn_space_read (space, RAM, 1, &value);
  g_assert_cmphex (value, ==, 0x55);
  tn_space_free (space);
}

/* ---- Linux images and raw binaries ---- */

static void
linux_header (uint8_t *header, uint64_t text_offset, uint64_t image_size)
{
  memset (header, 0, 64);
  tn_store_le64 (header + 8, text_offset);
  tn_store_le64 (header + 16, image_size);
  memcpy (header + 56, "RSC\x05", 4);
}

static void
test_linux (void)
{
  uint8_t data[256];
  TnSpace *space = space_new ();
  TnBootImage image = { 0 };
  g_autoptr (GByteArray) magic = g_byte_array_new ();
  g_autoptr (GError) error = NULL;
  g_byte_array_append (magic, (const guint8 *) "RSC\x05", 4);
  memset (data, 0x77, sizeof data);
  linux_header (data, 0x20000, 0x8000);
  g_autoptr (TnBootFile) file = tn_boot_file_memory ("Image", data, sizeof data);
  g_assert_true (tn_boot_is_linux (file, 56, magic));
  g_assert_false (tn_boot_is_linux (file, 48, magic));
  g_assert_cmpint (tn_boot_load_linux (file, space, RAM, &image, NULL), ==, 0);
  g_assert_cmphex (image.entry, ==, RAM + 0x20000);
  g_assert_cmphex (image.high, ==, RAM + 0x28000);
  linux_header (data, SIZE, 0x8000);
  g_assert_cmpint (tn_boot_load_linux (file, space, RAM, &image, &error), ==, -EFAULT);
  g_assert_nonnull (strstr (error->message, "Image"));
  linux_header (data, UINT64_MAX - 16, 0x8000);
  g_assert_cmpint (tn_boot_load_linux (file, space, RAM, &image, NULL), ==, -EFAULT);
  linux_header (data, 0, UINT64_MAX);
  g_assert_cmpint (tn_boot_load_linux (file, space, RAM, &image, NULL), ==, -EFAULT);
  g_autoptr (TnBootFile) cut = tn_boot_file_memory ("Image", data, 63);
  g_assert_false (tn_boot_is_linux (cut, 56, magic));
  g_assert_cmpint (tn_boot_load_linux (cut, space, RAM, &image, NULL), <, 0);
  tn_space_free (space);
}

static void
test_raw (void)
{
  static const uint8_t data[] = { 9, 8, 7, 6 };
  TnSpace *space = space_new ();
  TnBootImage image = { 0 };
  uint64_t value = 0;
  g_autoptr (TnBootFile) file = tn_boot_file_memory ("raw", data, sizeof data);
  g_assert_cmpint (tn_boot_load_raw (file, space, RAM + 0x100, &image, NULL), ==, 0);
  g_assert_cmphex (image.high, ==, RAM + 0x104);
  tn_space_read (space, RAM + 0x100, 4, &value);
  g_assert_cmphex (value, ==, 0x06070809);
  g_assert_cmpint (tn_boot_load_raw (file, space, RAM + SIZE - 2, &image, NULL), ==, -EFAULT);
  g_autoptr (TnBootFile) empty = tn_boot_file_memory ("raw", data, 0);
  g_assert_cmpint (tn_boot_load_raw (empty, space, RAM, &image, NULL), ==, -EINVAL);
  tn_space_free (space);
}

static void
test_missing (void)
{
  TnBootFile *file = NULL;
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (tn_boot_file_open ("/no/such/kernel", &file, &error), ==, -ENOENT);
  g_assert_nonnull (strstr (error->message, "/no/such/kernel"));
  g_assert_cmpint (tn_boot_file_open ("/dev/null", &file, NULL), ==, -EINVAL);
  g_assert_cmpint (tn_boot_file_open ("/", &file, NULL), ==, -EINVAL);
}

/* ---- Device trees ---- */

static int
write_tree (TnFdt *fdt, void *opaque, GError **error)
{
  tn_fdt_begin (fdt, "");
  tn_fdt_begin (fdt, "user");
  int r = tn_fdt_notation (fdt, "refers", "<1 &thing 0x10>", error);
  if (r == 0)
    r = tn_fdt_notation (fdt, "compatible", "\"a,b\", \"c\"", error);
  if (r == 0 && opaque != NULL)
    r = tn_fdt_notation (fdt, "bad", opaque, error);
  tn_fdt_end (fdt);
  tn_fdt_begin (fdt, "thing");
  tn_fdt_object (fdt, "thing");
  tn_fdt_u64 (fdt, "wide", UINT64_C (0x1122334455667788));
  tn_fdt_end (fdt);
  tn_fdt_begin (fdt, "other");
  tn_fdt_object (fdt, "other");
  tn_fdt_end (fdt);
  for (unsigned i = 0; i < 5000; i++) {
    g_autofree char *name = g_strdup_printf ("node@%x", i);
    tn_fdt_begin (fdt, name);
    tn_fdt_string (fdt, "filler", "something that takes room");
    tn_fdt_end (fdt);
  }
  tn_fdt_end (fdt);
  return r;
}

static void
test_fdt (void)
{
  g_autofree void *blob = NULL;
  size_t length;
  int n;
  g_assert_cmpint (tn_fdt_build (write_tree, NULL, &blob, &length, NULL), ==, 0);
  g_assert_cmpint (tn_fdt_check_blob (blob, length, "made", NULL), ==, 0);
  int user = fdt_path_offset (blob, "/user"), thing = fdt_path_offset (blob, "/thing");
  const fdt32_t *cells = fdt_getprop (blob, user, "refers", &n);
  g_assert_cmpint (n, ==, 12);
  g_assert_cmphex (fdt32_to_cpu (cells[1]), ==, fdt_get_phandle (blob, thing));
  g_assert_cmphex (fdt_get_phandle (blob, thing), !=, 0);
  /* Nobody refers to it. */
  g_assert_cmphex (fdt_get_phandle (blob, fdt_path_offset (blob, "/other")), ==, 0);
  g_assert_cmpint (fdt_stringlist_count (blob, user, "compatible"), ==, 2);
  g_assert_cmpint (fdt_path_offset (blob, "/node@1387"), >, 0);
}

static void
test_fdt_notation (void)
{
  static const char *const bad[] = { "<1",  "<1> x", "<&ghost>", "<0x100000000>",
                                     "<a>", "\"x",   "\"x\" y",  "plain" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    void *blob = NULL;
    size_t length;
    g_autoptr (GError) error = NULL;
    int r = tn_fdt_build (write_tree, (void *) bad[i], &blob, &length, &error);
    if (r >= 0)
      g_error ("'%s' was accepted", bad[i]);
    g_assert_nonnull (strstr (error->message, "'bad'"));
  }
}

static void
test_fdt_hostile (void)
{
  g_autofree void *blob = NULL;
  size_t length;
  g_assert_cmpint (tn_fdt_build (write_tree, NULL, &blob, &length, NULL), ==, 0);
  for (size_t cut = 0; cut < 4096; cut += 7)
    g_assert_cmpint (tn_fdt_check_blob (blob, cut, "cut", NULL), ==, -EINVAL);
  g_assert_cmpint (tn_fdt_check_blob (blob, length - 1, "cut", NULL), ==, -EINVAL);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/boot/elf", test_elf);
  g_test_add_func ("/boot/elf/hostile", test_elf_hostile);
  g_test_add_func ("/boot/elf/hostile-symbols", test_elf_hostile_symbols);
  g_test_add_func ("/boot/elf/truncated", test_elf_truncated);
  g_test_add_func ("/boot/elf/headers", test_elf_headers);
  g_test_add_func ("/boot/linux", test_linux);
  g_test_add_func ("/boot/raw", test_raw);
  g_test_add_func ("/boot/missing", test_missing);
  g_test_add_func ("/boot/fdt", test_fdt);
  g_test_add_func ("/boot/fdt/notation", test_fdt_notation);
  g_test_add_func ("/boot/fdt/hostile", test_fdt_hostile);
  return g_test_run ();
}
