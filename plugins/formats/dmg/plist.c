/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The property list: <key>blkx</key> is followed by an array of dictionaries, and in each <key>Data</key> by
 * a table of chunks in base64.  It may be tens of megabytes long, so it is read once, from its beginning to
 * its end, in pieces; nothing but the tables is kept.
 */
#include "dmg.h"

#define PLIST_MOST (96u << 20)
#define PLIST_PIECE 65536u
#define NAME_MOST 32u /* of tags and keys; longer ones are none of ours */

typedef struct Plist {
  Dmg *d;
  uint64_t offset, end; /* what has not been read */
  uint8_t *piece;
  size_t at, length;
  int failed;          /* negative errno value of reading */
  char key[NAME_MOST]; /* the last one */
  unsigned depth;      /* of arrays */
  unsigned blkx_depth; /* of that of the tables; 0: not in it */
  unsigned tables;
} Plist;

/* ---- Bytes ---- */

/* The next byte, or -1 at the end or after a failure. */
static int
next_byte (Plist *p, GError **error)
{
  if (p->at < p->length)
    return p->piece[p->at++];
  p->length = MIN (p->end - p->offset, PLIST_PIECE);
  p->at = 0;
  if (p->length == 0 || p->failed)
    return -1;
  p->failed = tn_node_read (p->d->file, p->offset, p->piece, p->length, error);
  p->offset += p->length;
  if (p->failed < 0) {
    p->length = 0;
    return -1;
  }
  return p->piece[p->at++];
}

/* Reads up to and with @until; what comes before it goes to @text as far as it fits. */
static bool
read_until (Plist *p, char until, char *text, GError **error)
{
  size_t length = 0;
  int c;
  while ((c = next_byte (p, error)) >= 0 && c != until)
    if (length < NAME_MOST - 1)
      text[length++] = (char) c;
  text[length] = '\0';
  return c >= 0;
}

/* ---- Tables ---- */

static int
sextet (int c)
{
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Up to the "<" of the closing tag. */
static int
read_table (Plist *p, GError **error)
{
  DmgTable table = { 0 };
  uint32_t bits = 0;
  unsigned count = 0;
  int c, ret = 0;
  while (ret == 0 && (c = next_byte (p, error)) >= 0 && c != '<') {
    const int value = sextet (c);
    if (value < 0 && (c == '=' || g_ascii_isspace (c)))
      continue;
    if (value < 0)
      return dmg_fail (p->d, error, EINVAL, "a table of chunks in its property list is not base64");
    bits = bits << 6 | (uint32_t) value;
    count += 6;
    if (count < 8)
      continue;
    count -= 8;
    const uint8_t byte = (uint8_t) (bits >> count);
    ret = dmg_table_feed (p->d, &table, &byte, 1, error);
  }
  if (ret < 0 || p->failed)
    return ret < 0 ? ret : p->failed;
  p->tables++;
  return dmg_table_end (p->d, &table, error);
}

/* ---- Tags ---- */

static bool
is_tag (const char *text, const char *name)
{
  const size_t length = strlen (name);
  return strncmp (text, name, length) == 0 && (text[length] == '\0' || g_ascii_isspace (text[length]));
}

static int
take_tag (Plist *p, const char *tag, GError **error)
{
  char rest[NAME_MOST];
  if (is_tag (tag, "key")) {
    if (!read_until (p, '<', p->key, error) || !read_until (p, '>', rest, error))
      return p->failed;
    return 0;
  }
  if (is_tag (tag, "array")) {
    p->depth++;
    if (strcmp (p->key, "blkx") == 0 && !p->blkx_depth)
      p->blkx_depth = p->depth;
    return 0;
  }
  if (is_tag (tag, "/array")) {
    if (p->depth == p->blkx_depth)
      p->blkx_depth = 0;
    p->depth -= p->depth ? 1 : 0;
    return 0;
  }
  if (!is_tag (tag, "data") || !p->blkx_depth || strcmp (p->key, "Data") != 0)
    return 0;
  const int ret = read_table (p, error);
  if (ret == 0)
    (void) read_until (p, '>', rest, error);
  return ret < 0 ? ret : p->failed;
}

static int
take_tags (Plist *p, GError **error)
{
  char text[NAME_MOST];
  while (read_until (p, '<', text, error) && read_until (p, '>', text, error)) {
    const int ret = take_tag (p, text, error);
    if (ret < 0)
      return ret;
  }
  return p->failed;
}

int
dmg_plist_read (Dmg *d, uint64_t offset, uint64_t length, GError **error)
{
  if (offset > d->file_size || length > d->file_size - offset)
    return dmg_fail (d, error, EINVAL,
                     "its property list at offset %" PRIu64 " is behind the end of the file", offset);
  if (length > PLIST_MOST)
    return dmg_fail (d, error, EFBIG, "its property list of %" PRIu64 " bytes is too long", length);
  g_autofree uint8_t *piece = g_malloc (PLIST_PIECE);
  Plist p = { .d = d, .offset = offset, .end = offset + length, .piece = piece };
  const int ret = take_tags (&p, error);
  if (ret < 0)
    return ret;
  return p.tables ? 0 : dmg_fail (d, error, EINVAL, "its property list has no tables of chunks (blkx)");
}
