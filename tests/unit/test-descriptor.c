/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/format.h>

#include "plugin/descriptor.h"
#include "plugin/manifest.h"

#define FILE_NAME "/x/format-acme.so"

/* A descriptor that is in order, in memory that tests may spoil.  Each part is followed by as many bytes of
 * rubbish as it has itself, as in a plugin of a much later minor version. */
typedef struct Sample {
  struct {
    TnPlugin value;
    uint8_t later[sizeof (TnPlugin)];
  } plugin;
  struct {
    TnClass value;
    uint8_t later[sizeof (TnClass)];
  } class;
  struct {
    TnFormatOps value;
    uint8_t later[sizeof (TnFormatOps)];
  } ops;
  uint8_t options[3 * 2 * sizeof (TnOption)];
  uint8_t magics[3 * 2 * sizeof (TnMagic)];
  const TnClass *classes[3];
} Sample;

static int
sample_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent, GError **error)
{
  return -EIO;
}

static void
set_options (Sample *sample, size_t stride)
{
  TnOption rows[] = { { .name = "unit", .type = TN_OPTION_SIZE, .value = "4k", .help = "bytes" },
                      { .name = "lazy", .type = TN_OPTION_BOOL, .help = "later" } };
  memset (sample->options, 0, sizeof sample->options);
  for (size_t i = 0; i < 2 && stride >= 16; i++)
    memcpy (sample->options + i * stride, &rows[i], MIN (stride, sizeof rows[i]));
  sample->class.value.option_size = (uint32_t) stride;
}

static void
set_magics (Sample *sample, size_t stride)
{
  TnMagic row = { .offset = 0, .length = 4, .bytes = (const uint8_t *) "ACME" };
  memset (sample->magics, 0, sizeof sample->magics);
  if (stride)
    memcpy (sample->magics, &row, MIN (stride, sizeof row));
  sample->class.value.magic_size = (uint32_t) stride;
}

static Sample *
sample_new (void)
{
  Sample *sample = g_malloc (sizeof *sample);
  memset (sample, 0xa5, sizeof *sample);
  sample->ops.value = (TnFormatOps){ .size = sizeof (TnFormatOps), .map = sample_map };
  sample->class.value = (TnClass){
    TN_CLASS_HEAD (TN_KIND_FORMAT, TN_FORMAT_MAJOR, TN_FORMAT_MINOR),
    .name = "acme",
    .summary = "disks",
    .options = (const TnOption *) (const void *) sample->options,
    .magics = (const TnMagic *) (const void *) sample->magics,
    .ops = &sample->ops.value,
  };
  set_options (sample, sizeof (TnOption));
  set_magics (sample, sizeof (TnMagic));
  memset (sample->classes, 0, sizeof sample->classes);
  sample->classes[0] = &sample->class.value;
  sample->plugin.value = (TnPlugin){ .magic = TN_PLUGIN_MAGIC,
                                     .abi_major = TN_ABI_MAJOR,
                                     .abi_minor = TN_ABI_MINOR,
                                     .size = sizeof (TnPlugin),
                                     .name = "format-acme",
                                     .version = "1",
                                     .licence = "MIT",
                                     .package = "tenon-format-acme",
                                     .classes = sample->classes };
  return sample;
}

static TnDescriptor *
adopt (const Sample *sample, GError **error)
{
  return tn_descriptor_adopt (&sample->plugin.value, FILE_NAME, "format-acme", error);
}

static void
assert_adopted (const Sample *sample)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnDescriptor) descriptor = adopt (sample, &error);
  g_assert_no_error (error);
  const TnClass *class = descriptor->plugin.classes[0];
  g_assert_cmpuint (class->size, ==, sizeof (TnClass));
  g_assert_cmpuint (class->option_size, ==, sizeof (TnOption));
  g_assert_cmpstr (class->options[1].name, ==, "lazy");
  g_assert_null (class->options[2].name);
  const TnFormatOps *ops = class->ops;
  g_assert_cmpuint (ops->size, ==, sizeof (TnFormatOps));
  g_autofree char *manifest = tn_plugin_manifest (&descriptor->plugin, "format-acme.so");
  g_autoptr (TnManifest) read_back =
      tn_manifest_parse (manifest, strlen (manifest), "/x/format-acme.tenon", &error);
  g_assert_no_error (error);
  g_assert_cmpuint (read_back->classes[0].magics[0].length, ==, 4);
}

static void
assert_refused (Sample *sample, const char *found, const char *wanted)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnDescriptor) descriptor = adopt (sample, &error);
  g_assert_null (descriptor);
  g_assert_error (error, TN_PLUGIN_ERROR, EINVAL);
  g_test_message ("%s", error->message);
  g_assert_true (g_str_has_prefix (error->message, FILE_NAME ": "));
  g_assert_nonnull (strstr (error->message, found));
  g_assert_nonnull (strstr (error->message, wanted));
  g_assert_null (strchr (error->message, '\n'));
  g_free (sample);
}

static void
test_good (void)
{
  g_autofree Sample *sample = sample_new ();
  assert_adopted (sample);
  sample->plugin.value.abi_minor = 77;
  sample->class.value.minor = 77;
  assert_adopted (sample);
}

static void
test_head (void)
{
  Sample *sample = sample_new ();
  sample->plugin.value.magic = 0xdeadbeef;
  assert_refused (sample, "0xdeadbeef", "wanted 0x4e4e4554");
  sample = sample_new ();
  sample->plugin.value.abi_major = TN_ABI_MAJOR + 1;
  assert_refused (sample, "ABI 2.0", "newer Tenon");
  sample = sample_new ();
  sample->plugin.value.abi_major = 0;
  assert_refused (sample, "ABI 0.0", "rebuild it with this SDK");
  sample = sample_new ();
  sample->class.value.kind = 99;
  assert_refused (sample, "kind 99", "wanted 1 to 10");
  sample = sample_new ();
  sample->class.value.kind = 60;
  assert_refused (sample, "kind 60", "newer Tenon");
  sample = sample_new ();
  sample->class.value.major = TN_FORMAT_MAJOR + 1;
  assert_refused (sample, "version 2.0 of the format interface", "newer Tenon");
  sample = sample_new ();
  sample->plugin.value.name = "format-other";
  assert_refused (sample, "'format-other'", "'format-acme'");
}

/* Every size from nothing to twice the real one is either used safely or refused in words. */
static void
sweep (size_t real, size_t least, void (*set) (Sample *sample, size_t size))
{
  for (size_t size = 0; size <= 2 * real; size++) {
    Sample *sample = sample_new ();
    set (sample, size);
    if (size >= least && size % _Alignof(void *) == 0) {
      assert_adopted (sample);
      g_free (sample);
    } else {
      g_autofree char *found = g_strdup_printf ("size %zu,", size);
      assert_refused (sample, found, "wanted");
    }
  }
}

static void
set_plugin_size (Sample *sample, size_t size)
{
  sample->plugin.value.size = (uint32_t) size;
}

static void
set_class_size (Sample *sample, size_t size)
{
  sample->class.value.size = (uint32_t) size;
}

static void
set_ops_size (Sample *sample, size_t size)
{
  sample->ops.value.size = (uint32_t) size;
}

static void
test_sizes (void)
{
  sweep (sizeof (TnPlugin), offsetof (TnPlugin, classes) + sizeof (void *), set_plugin_size);
  sweep (sizeof (TnClass), offsetof (TnClass, ops) + sizeof (void *), set_class_size);
  sweep (sizeof (TnFormatOps), 8, set_ops_size);
  sweep (sizeof (TnOption), offsetof (TnOption, help) + sizeof (void *), set_options);
  sweep (sizeof (TnMagic), offsetof (TnMagic, bytes) + sizeof (void *), set_magics);
  Sample *sample = sample_new ();
  sample->plugin.value.size = UINT32_MAX - 3;
  assert_refused (sample, "size 4294967292", "wanted");
}

/* What an older plugin doesn't have is NULL in the core's copy, whatever stands behind it in memory. */
static void
test_older (void)
{
  g_autofree Sample *sample = sample_new ();
  memset (&sample->ops.value.reserve, 0xa5, sizeof (TnFormatOps) - offsetof (TnFormatOps, reserve));
  sample->ops.value.size = offsetof (TnFormatOps, reserve);
  g_autoptr (TnDescriptor) descriptor = adopt (sample, NULL);
  const TnFormatOps *ops = descriptor->plugin.classes[0]->ops;
  g_assert_true (ops->map == sample_map);
  g_assert_null (ops->reserve);
  g_assert_null (ops->reopen);
}

static void
test_fields (void)
{
  static const char *const names[] = { "ok", "not ok", NULL };
  static const char *const rest[] = { "aaa", NULL };
  Sample *sample = sample_new ();
  sample->class.value.name = "../etc";
  assert_refused (sample, "name", "source");
  sample = sample_new ();
  sample->class.value.summary = "two\nlines";
  assert_refused (sample, "summary", "one line");
  sample = sample_new ();
  sample->class.value.aliases = names;
  assert_refused (sample, "aliases", "source");
  sample = sample_new ();
  sample->class.value.ops = NULL;
  assert_refused (sample, "ops is NULL", "acme");
  sample = sample_new ();
  sample->classes[0] = NULL;
  assert_refused (sample, "no class", "classes");
  sample = sample_new ();
  sample->plugin.value.classes = NULL;
  assert_refused (sample, "no class", "classes");
  sample = sample_new ();
  sample->plugin.value.package = NULL;
  assert_refused (sample, "package", "missing");
  sample = sample_new ();
  ((TnOption *) (void *) sample->options)->type = 55;
  assert_refused (sample, "type 55", "wanted 1 to 9");
  sample = sample_new ();
  ((TnOption *) (void *) sample->options)->value = "much";
  assert_refused (sample, "default", "'much'");
  sample = sample_new ();
  ((TnOption *) (void *) sample->options)->type = TN_OPTION_ENUM;
  assert_refused (sample, "no list", "unit");
  sample = sample_new ();
  ((TnOption *) (void *) sample->options)->choices = rest;
  ((TnOption *) (void *) sample->options)->type = TN_OPTION_ENUM;
  assert_refused (sample, "one of aaa", "'4k'");
  sample = sample_new ();
  ((TnMagic *) (void *) sample->magics)->length = 33;
  assert_refused (sample, "33 bytes", "wanted 1 to 32");
  sample = sample_new ();
  ((TnMagic *) (void *) sample->magics)->bytes = NULL;
  assert_refused (sample, "magic", "wanted 1 to 32");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/descriptor/good", test_good);
  g_test_add_func ("/descriptor/head", test_head);
  g_test_add_func ("/descriptor/sizes", test_sizes);
  g_test_add_func ("/descriptor/older", test_older);
  g_test_add_func ("/descriptor/fields", test_fields);
  return g_test_run ();
}
