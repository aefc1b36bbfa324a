/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine/board.h"

#include "machine/board-reader.h"

/* ---- Freeing ---- */

static void
wire_free (gpointer data)
{
  TnBoardWire *wire = data;
  g_free (wire->target);
  g_free (wire);
}

static void
property_free (gpointer data)
{
  TnBoardProperty *property = data;
  g_free (property->name);
  g_free (property->value);
  g_free (property);
}

static void
device_free (gpointer data)
{
  TnBoardDevice *device = data;
  g_free (device->id);
  g_free (device->class_name);
  g_free (device->node);
  g_array_unref (device->addresses);
  g_ptr_array_unref (device->wires);
  g_ptr_array_unref (device->properties);
  tn_options_free (device->options);
  g_free (device);
}

static void
slots_free (gpointer data)
{
  TnBoardSlots *slots = data;
  g_free (slots->bus);
  g_free (slots->class_name);
  g_free (slots->node);
  g_free (slots->wire.target);
  g_free (slots);
}

static void
rom_item_free (gpointer data)
{
  TnBoardRomItem *item = data;
  g_free (item->value.name);
  g_free (item);
}

static void
rom_free (gpointer data)
{
  TnBoardRom *rom = data;
  g_free (rom->name);
  g_ptr_array_unref (rom->items);
  g_free (rom);
}

static void
node_free (gpointer data)
{
  TnBoardNode *node = data;
  g_free (node->name);
  g_ptr_array_unref (node->properties);
  g_free (node);
}

static void
register_free (gpointer data)
{
  TnBoardRegister *reg = data;
  g_free (reg->name);
  g_free (reg->value.name);
  g_free (reg);
}

static void
boot_free (TnBoardBoot *boot)
{
  if (boot == NULL)
    return;
  tn_options_free (boot->cpu_options);
  g_array_unref (boot->firmware.kinds);
  g_array_unref (boot->kernel.kinds);
  g_byte_array_unref (boot->image_magic);
  g_ptr_array_unref (boot->registers);
  g_free (boot);
}

void
tn_board_free (TnBoard *board)
{
  if (board == NULL)
    return;
  g_free (board->name);
  g_free (board->path);
  g_free (board->summary);
  g_free (board->model);
  g_strfreev (board->compatible);
  g_free (board->cpu_class);
  g_free (board->console);
  g_free (board->hart_controller);
  g_ptr_array_unref (board->devices);
  g_ptr_array_unref (board->slots);
  g_ptr_array_unref (board->roms);
  g_ptr_array_unref (board->nodes);
  tn_options_free (board->interfaces);
  boot_free (board->builtin);
  boot_free (board->firmware);
  g_free (board);
}

static TnBoard *
board_new (void)
{
  TnBoard *board = g_new0 (TnBoard, 1);
  board->devices = g_ptr_array_new_with_free_func (device_free);
  board->slots = g_ptr_array_new_with_free_func (slots_free);
  board->roms = g_ptr_array_new_with_free_func (rom_free);
  board->nodes = g_ptr_array_new_with_free_func (node_free);
  board->interfaces = tn_options_new ();
  return board;
}

/* ---- Sections ---- */

static int
read_board_section (TnBoardReader *in, TnBoard *board)
{
  board->summary = tn_reader_text (in, "summary", NULL);
  board->model = tn_reader_text (in, "model", board->name);
  board->compatible = tn_reader_list (in, "compatible");
  board->ram = tn_reader_number (in, "ram", TN_READER_REQUIRED, 0, UINT64_MAX);
  board->memory = tn_reader_size (in, "memory", 128 << 20);
  board->memory_max = tn_reader_size (in, "memory-max", UINT64_C (1) << 40);
  board->cpus = (unsigned) tn_reader_number (in, "cpus", 1, 1, 1024);
  board->cpus_max = (unsigned) tn_reader_number (in, "cpus-max", board->cpus, board->cpus, 1024);
  board->cpu_class = tn_reader_text (in, "cpu", NULL);
  board->timebase = tn_reader_number (in, "timebase", TN_READER_REQUIRED, 1, 1000000000);
  board->console = tn_reader_text (in, "console", "");
  board->high = tn_reader_number (in, "high", UINT64_MAX, 0, UINT64_MAX);
  board->elf_machine = (unsigned) tn_reader_number (in, "elf-machine", 0, 0, UINT16_MAX);
  if (board->ram % 4096 != 0 || board->memory % 4096 != 0)
    tn_reader_fail (in, "ram", "must be a multiple of 4096, as memory must");
  return tn_reader_end (in);
}

static int
read_cpu_section (TnBoardReader *in, TnBoard *board)
{
  board->hart_controller = tn_reader_text (in, "interrupt-controller", NULL);
  return tn_reader_end (in);
}

static int
read_interfaces_section (TnBoardReader *in, TnBoard *board)
{
  tn_reader_all (in, board->interfaces);
  return tn_reader_end (in);
}

/* TARGET:LINE[,LINE…] [; …] */
static void
read_wires (TnBoardReader *in, GPtrArray *wires)
{
  g_auto (GStrv) groups = tn_reader_list (in, "irq");
  for (char **group = groups; *group != NULL; group++) {
    char *colon = strrchr (*group, ':');
    if (colon == NULL || colon == *group) {
      tn_reader_fail (in, "irq", "wants DEVICE:LINE or cpu*:LINE,LINE");
      return;
    }
    *colon = '\0';
    g_auto (GStrv) lines = g_strsplit (colon + 1, ",", TN_BOARD_MAX_ITEMS);
    for (char **line = lines; *line != NULL; line++) {
      uint64_t number;
      if (!g_ascii_string_to_unsigned (*line, 10, 0, 1023, &number, NULL)
          || wires->len >= TN_BOARD_MAX_ITEMS) {
        tn_reader_fail (in, "irq", "has a line that is not a number from 0 to 1023, or too many");
        return;
      }
      TnBoardWire *wire = g_new0 (TnBoardWire, 1);
      wire->target = g_strdup (*group);
      wire->line = (unsigned) number;
      g_ptr_array_add (wires, wire);
    }
  }
}

/* Keys PREFIXname=value in order; an empty prefix takes what is left. */
static GPtrArray *
read_properties (TnBoardReader *in, const char *prefix)
{
  GPtrArray *properties = g_ptr_array_new_with_free_func (property_free);
  g_autoptr (TnOptions) pairs = tn_options_new ();
  if (*prefix == '\0')
    tn_reader_all (in, pairs);
  else
    tn_reader_prefix (in, prefix, pairs);
  for (size_t i = 0; i < tn_options_count (pairs); i++) {
    const char *key, *value;
    tn_options_pair (pairs, i, &key, &value);
    TnBoardProperty *property = g_new0 (TnBoardProperty, 1);
    property->name = g_strdup (key);
    property->value = g_strdup (value);
    g_ptr_array_add (properties, property);
  }
  return properties;
}

static int
read_device_section (TnBoardReader *in, TnBoard *board, const char *id)
{
  TnBoardDevice *device = g_new0 (TnBoardDevice, 1);
  device->id = g_strdup (id);
  device->addresses = g_array_new (FALSE, FALSE, sizeof (uint64_t));
  device->wires = g_ptr_array_new_with_free_func (wire_free);
  device->options = tn_options_new ();
  g_ptr_array_add (board->devices, device);
  device->class_name = tn_reader_text (in, "class", NULL);
  device->node = tn_reader_text (in, "node", device->class_name);
  tn_reader_numbers (in, "address", device->addresses);
  read_wires (in, device->wires);
  tn_reader_prefix (in, "option.", device->options);
  device->properties = read_properties (in, "fdt.");
  return tn_reader_end (in);
}

static int
read_slots_section (TnBoardReader *in, TnBoard *board, const char *bus)
{
  TnBoardSlots *slots = g_new0 (TnBoardSlots, 1);
  g_ptr_array_add (board->slots, slots);
  slots->bus = g_strdup (bus);
  slots->class_name = tn_reader_text (in, "class", NULL);
  slots->node = tn_reader_text (in, "node", slots->class_name);
  slots->address = tn_reader_number (in, "address", TN_READER_REQUIRED, 0, UINT64_MAX);
  slots->stride = tn_reader_number (in, "stride", 0x1000, 1, UINT32_MAX);
  slots->count = (unsigned) tn_reader_number (in, "count", 1, 1, TN_BOARD_MAX_ITEMS);
  g_autoptr (GPtrArray) wires = g_ptr_array_new_with_free_func (wire_free);
  read_wires (in, wires);
  if (wires->len > 1)
    tn_reader_fail (in, "irq", "takes one DEVICE:LINE, that of the first slot");
  if (wires->len == 1) {
    const TnBoardWire *wire = g_ptr_array_index (wires, 0);
    slots->wire.target = g_strdup (wire->target);
    slots->wire.line = wire->line;
  }
  return tn_reader_end (in);
}

static void
read_rom_data (TnBoardReader *in, TnBoardRom *rom)
{
  g_auto (GStrv) groups = tn_reader_list (in, "data");
  for (char **group = groups; *group != NULL; group++) {
    unsigned bytes = g_str_has_prefix (*group, "u32:") ? 4 : g_str_has_prefix (*group, "u64:") ? 8 : 0;
    g_auto (GStrv) words = bytes != 0 ? g_strsplit (*group + 4, ",", TN_BOARD_MAX_ITEMS) : NULL;
    for (char **word = words; word != NULL && *word != NULL; word++) {
      TnBoardRomItem *item = g_new0 (TnBoardRomItem, 1);
      item->bytes = bytes;
      g_ptr_array_add (rom->items, item);
      if (tn_board_value_parse (*word, &item->value) < 0 || (bytes == 4 && item->value.number > UINT32_MAX))
        bytes = 0;
      if (bytes == 0)
        break;
    }
    if (bytes == 0) {
      tn_reader_fail (in, "data", "wants u32:NUMBER,… or u64:NUMBER,…; a number may be @NAME");
      return;
    }
  }
}

static int
read_rom_section (TnBoardReader *in, TnBoard *board, const char *name)
{
  TnBoardRom *rom = g_new0 (TnBoardRom, 1);
  g_ptr_array_add (board->roms, rom);
  rom->name = g_strdup (name);
  rom->items = g_ptr_array_new_with_free_func (rom_item_free);
  rom->address = tn_reader_number (in, "address", TN_READER_REQUIRED, 0, UINT64_MAX);
  rom->size = tn_reader_number (in, "size", TN_READER_REQUIRED, 4096, 1 << 20);
  read_rom_data (in, rom);
  uint64_t used = 0;
  for (guint i = 0; i < rom->items->len; i++)
    used += ((TnBoardRomItem *) g_ptr_array_index (rom->items, i))->bytes;
  if (used > rom->size)
    tn_reader_fail (in, "data", "is longer than size");
  return tn_reader_end (in);
}

static int
read_node_section (TnBoardReader *in, TnBoard *board, const char *name)
{
  TnBoardNode *node = g_new0 (TnBoardNode, 1);
  g_ptr_array_add (board->nodes, node);
  node->name = g_strdup (name);
  node->properties = read_properties (in, "");
  return tn_reader_end (in);
}

/* ---- Boot protocols ---- */

static void
read_kinds (TnBoardReader *in, const char *key, GArray *kinds)
{
  g_auto (GStrv) words = tn_reader_list (in, key);
  for (char **word = words; *word != NULL && kinds->len < 8; word++) {
    TnLoaderKind kind = strcmp (*word, "elf") == 0     ? TN_LOADER_ELF
                        : strcmp (*word, "image") == 0 ? TN_LOADER_IMAGE
                        : strcmp (*word, "raw") == 0   ? TN_LOADER_RAW
                                                       : 0;
    if (kind == 0) {
      tn_reader_fail (in, key, "wants some of elf, image, raw");
      return;
    }
    g_array_append_val (kinds, kind);
  }
}

static void
read_magic (TnBoardReader *in, TnBoardBoot *boot)
{
  g_autofree char *text = tn_reader_text (in, "image-magic", "");
  if (*text == '\0')
    return;
  char *hex;
  boot->image_magic_offset = g_ascii_strtoull (text, &hex, 0);
  size_t digits = *hex == ':' ? strlen (hex + 1) : 0;
  bool good = digits >= 2 && digits <= 32 && digits % 2 == 0 && boot->image_magic_offset <= 60;
  for (size_t i = 0; good && i < digits; i += 2) {
    int high = g_ascii_xdigit_value (hex[1 + i]), low = g_ascii_xdigit_value (hex[2 + i]);
    good = high >= 0 && low >= 0;
    uint8_t byte = (uint8_t) (high * 16 + low);
    g_byte_array_append (boot->image_magic, &byte, 1);
  }
  if (!good || boot->image_magic_offset + boot->image_magic->len > 64)
    tn_reader_fail (in, "image-magic", "wants OFFSET:HEX within the first 64 bytes");
}

static void
read_registers (TnBoardReader *in, TnBoardBoot *boot)
{
  g_auto (GStrv) words = tn_reader_list (in, "registers");
  for (char **word = words; *word != NULL; word++) {
    char *equals = strchr (*word, '=');
    TnBoardValue value = { 0 };
    if (equals == NULL || equals == *word || tn_board_value_parse (equals + 1, &value) < 0) {
      tn_reader_fail (in, "registers", "wants REGISTER=NUMBER or REGISTER=@NAME");
      return;
    }
    TnBoardRegister *reg = g_new0 (TnBoardRegister, 1);
    reg->name = g_strndup (*word, (size_t) (equals - *word));
    reg->value = value;
    g_ptr_array_add (boot->registers, reg);
  }
}

static int
read_boot_section (TnBoardReader *in, TnBoard *board, const char *name)
{
  TnBoardBoot **place = strcmp (name, "builtin") == 0    ? &board->builtin
                        : strcmp (name, "firmware") == 0 ? &board->firmware
                                                         : NULL;
  if (place == NULL) {
    tn_reader_fail (in, NULL, "is not known: [boot builtin] and [boot firmware] are");
    return tn_reader_end (in);
  }
  TnBoardBoot *boot = *place = g_new0 (TnBoardBoot, 1);
  boot->cpu_options = tn_options_new ();
  boot->firmware.kinds = g_array_new (FALSE, FALSE, sizeof (TnLoaderKind));
  boot->kernel.kinds = g_array_new (FALSE, FALSE, sizeof (TnLoaderKind));
  boot->image_magic = g_byte_array_new ();
  boot->registers = g_ptr_array_new_with_free_func (register_free);
  tn_reader_prefix (in, "cpu.", boot->cpu_options);
  read_kinds (in, "firmware", boot->firmware.kinds);
  read_kinds (in, "kernel", boot->kernel.kinds);
  boot->firmware.offset = tn_reader_number (in, "firmware-offset", 0, 0, UINT64_C (1) << 40);
  boot->kernel.offset = tn_reader_number (in, "kernel-offset", 0, 0, UINT64_C (1) << 40);
  read_magic (in, boot);
  g_autofree char *harts = tn_reader_text (in, "harts", "first");
  boot->all_harts = strcmp (harts, "all") == 0;
  if (!boot->all_harts && strcmp (harts, "first") != 0)
    tn_reader_fail (in, "harts", "wants all or first");
  read_registers (in, boot);
  return tn_reader_end (in);
}

/* ---- The file ---- */

static int
read_section (GKeyFile *file, const char *group, TnBoard *board, GError **error)
{
  g_autoptr (TnBoardReader) in = tn_reader_new (file, board->path, group, error);
  const char *name = strchr (group, ' ');
  const size_t kind = name != NULL ? (size_t) (name - group) : strlen (group);
  name = name != NULL ? name + 1 : "";
  static const struct {
    const char *kind;
    int (*read) (TnBoardReader *in, TnBoard *board);
    int (*read_named) (TnBoardReader *in, TnBoard *board, const char *name);
  } sections[] = {
    { "board", read_board_section, NULL },
    { "cpu", read_cpu_section, NULL },
    { "interfaces", read_interfaces_section, NULL },
    { "device", NULL, read_device_section },
    { "slots", NULL, read_slots_section },
    { "rom", NULL, read_rom_section },
    { "node", NULL, read_node_section },
    { "boot", NULL, read_boot_section },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (sections); i++) {
    if (strlen (sections[i].kind) != kind || strncmp (sections[i].kind, group, kind) != 0)
      continue;
    if ((sections[i].read != NULL) != (*name == '\0'))
      break;
    return sections[i].read != NULL ? sections[i].read (in, board) : sections[i].read_named (in, board, name);
  }
  tn_reader_fail (in, NULL, "is not a section of a board file (see doc/boards.md)");
  return tn_reader_end (in);
}

static const TnBoardDevice *
board_find_device (const TnBoard *board, const char *id)
{
  for (guint i = 0; i < board->devices->len; i++) {
    const TnBoardDevice *device = g_ptr_array_index (board->devices, i);
    if (strcmp (device->id, id) == 0)
      return device;
  }
  return NULL;
}

/* What can only be checked once everything has been read. */
static int
board_check (const TnBoard *board, GError **error)
{
  if (board->cpu_class == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s: there is no section [board]", board->path);
  if (board->builtin == NULL && board->firmware == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                    "%s: there is no section [boot builtin] or [boot firmware]", board->path);
  if (*board->console != '\0' && board_find_device (board, board->console) == NULL)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s: [board] console: there is no device '%s'",
                    board->path, board->console);
  for (guint i = 0; i < board->devices->len; i++) {
    const TnBoardDevice *device = g_ptr_array_index (board->devices, i);
    for (guint w = 0; w < device->wires->len; w++) {
      const TnBoardWire *wire = g_ptr_array_index (device->wires, w);
      if (strcmp (wire->target, "cpu*") != 0 && board_find_device (board, wire->target) == NULL)
        return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s: [device %s] irq: there is no device '%s'",
                        board->path, device->id, wire->target);
    }
  }
  return 0;
}

int
tn_board_parse (const char *path, const char *text, size_t length, TnBoard **out, GError **error)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();
  g_autoptr (GError) why = NULL;
  if (length > TN_BOARD_MAX_FILE)
    return tn_fail (error, TN_MACHINE_ERROR, EFBIG, "%s: larger than %d KiB, this is not a board file", path,
                    TN_BOARD_MAX_FILE / 1024);
  if (memchr (text, '\0', length) != NULL || !g_utf8_validate (text, (gssize) length, NULL))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s: not a text in UTF-8, this is not a board file",
                    path);
  if (!g_key_file_load_from_data (file, text, length, G_KEY_FILE_NONE, &why))
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "%s: %s", path, why->message);
  g_autoptr (TnBoard) board = board_new ();
  g_autofree char *base = g_path_get_basename (path);
  char *suffix = strstr (base, ".board");
  board->name = suffix != NULL ? g_strndup (base, (size_t) (suffix - base)) : g_strdup (base);
  board->path = g_strdup (path);
  g_auto (GStrv) groups = g_key_file_get_groups (file, NULL);
  if (g_strv_length (groups) > TN_BOARD_MAX_ITEMS)
    return tn_fail (error, TN_MACHINE_ERROR, EFBIG, "%s: more than %d sections", path, TN_BOARD_MAX_ITEMS);
  for (char **group = groups; *group != NULL; group++) {
    int r = read_section (file, *group, board, error);
    if (r < 0)
      return r;
  }
  int r = board_check (board, error);
  if (r < 0)
    return r;
  *out = g_steal_pointer (&board);
  return 0;
}
