/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program of a third party: links libtenon, and writes and reads an image of one out-of-tree format over
 * one out-of-tree protocol, packed by one out-of-tree codec.  Argument: the image's file name. */
#include <stdio.h>

#include <tenon/codec.h>
#include <tenon/node.h>
#include <tenon/plugin.h>

#define SIZE (3 << 20)
#define AT (1 << 20)

static int
fail (GError *error)
{
  fprintf (stderr, "embed: %s\n", error->message);
  g_error_free (error);
  return 1;
}

static int
check (bool ok, const char *what)
{
  if (!ok)
    fprintf (stderr, "embed: %s\n", what);
  return ok ? 0 : 1;
}

static int
try_codec (void)
{
  GError *error = NULL;
  const TnCodecOps *codec = tn_codec_find ("example", &error);
  if (!codec)
    return fail (error);
  uint8_t plain[4096], packed[4096], again[4096];
  for (size_t i = 0; i < sizeof plain; i++)
    plain[i] = (uint8_t) (i / 700);
  size_t length;
  if (codec->compress (0, 0, plain, sizeof plain, packed, sizeof packed, &length, &error) < 0
      || codec->decompress (packed, length, again, sizeof again, &error) < 0)
    return fail (error);
  return check (length < 100 && memcmp (plain, again, sizeof plain) == 0, "the codec changed the data");
}

static int
write_image (const char *filename, const uint8_t *data, size_t length)
{
  GError *error = NULL;
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "block_size", "16k");
  TnNode *node;
  if (tn_image_create (filename, "example", options, SIZE, &error) < 0
      || tn_node_open_file (filename, NULL, NULL, TN_OPEN_WRITE, &node, &error) < 0)
    return fail (error);
  int status = check (strcmp (tn_node_class_name (node), "example") == 0, "the format was not recognised");
  if (tn_node_write (node, AT - 5, data, length, &error) < 0 || tn_node_flush (node, &error) < 0)
    return fail (error);
  return tn_node_close (node, &error) < 0 ? fail (error) : status;
}

static int
read_image (const char *filename, const uint8_t *data, size_t length)
{
  GError *error = NULL;
  TnNode *node;
  if (tn_node_open_file (filename, NULL, NULL, 0, &node, &error) < 0)
    return fail (error);
  g_autofree uint8_t *back = g_malloc (SIZE);
  memset (back, 0x55, SIZE);
  if (tn_node_read (node, 0, back, SIZE, &error) < 0)
    return fail (error);
  int status = check (tn_node_size (node) == SIZE, "the size is wrong");
  status |= check (memcmp (back + AT - 5, data, length) == 0, "the data is not what was written");
  memset (back + AT - 5, 0, length);
  for (size_t i = 0; i < SIZE && !status; i++)
    status = check (back[i] == 0, "there is something where nothing was written");
  return tn_node_close (node, &error) < 0 ? fail (error) : status;
}

int
main (int argc, char **argv)
{
  uint8_t data[70000];
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = (uint8_t) (i * 2654435761u >> 24 | 1);
  if (argc != 2)
    return 2;
  return try_codec () || write_image (argv[1], data, sizeof data) || read_image (argv[1], data, sizeof data);
}
