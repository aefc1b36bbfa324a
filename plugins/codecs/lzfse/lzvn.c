/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LZVN: commands of literals, a match, or both.  Of a command's first byte:
 *
 *   LLMMMDDD        and a byte: 11 bits of distance (DDD is neither 6 nor 7)
 *   LLMMM111        and two bytes of distance, little-endian
 *   LLMMM110        distance as before (from 0x40 on; below, 6 ends the block, 14 and 22 are nothing)
 *   101LLMMM        and two bytes: two more bits of length, 14 of distance
 *   1110LLLL        literals; none here: a byte, plus 16
 *   1111MMMM        a match with the distance as before; 0: a byte, plus 16
 *
 * Lengths of matches that come with a distance have 3 added.  Literals follow the command.
 */
#include "lzfse.h"

#define END_OF_BLOCK 6

typedef struct Command {
  size_t bytes; /* of the command itself */
  size_t literals, match, distance;
} Command;

static bool
is_undefined (uint8_t first)
{
  return (first >> 4) == 7 || (first >> 4) == 13 || (first < 0x40 && (first & 7) == 6 && first > 22);
}

static bool
parse_single (const uint8_t *in, size_t left, Command *command)
{
  const size_t low = in[0] & 15, extended = low == 0;
  if (left < 1 + extended)
    return false;
  const size_t length = extended ? (size_t) in[1] + 16 : low;
  command->bytes = 1 + extended;
  if (in[0] < 0xf0)
    command->literals = length;
  else
    command->match = length;
  return true;
}

static bool
parse_medium (const uint8_t *in, size_t left, Command *command)
{
  if (left < 3)
    return false;
  const unsigned more = tn_load_le16 (in + 1);
  command->bytes = 3;
  command->literals = in[0] >> 3 & 3;
  command->match = ((in[0] & 7u) << 2 | (more & 3)) + 3;
  command->distance = more >> 2;
  return true;
}

static bool
parse_double (const uint8_t *in, size_t left, Command *command)
{
  const unsigned kind = in[0] & 7;
  command->bytes = kind == 6 ? 1 : kind == 7 ? 3 : 2;
  if (left < command->bytes)
    return false;
  command->literals = in[0] >> 6;
  command->match = (in[0] >> 3 & 7) + 3;
  if (kind == 7)
    command->distance = tn_load_le16 (in + 1);
  else if (kind != 6)
    command->distance = (size_t) kind << 8 | in[1];
  return true;
}

/* *command comes with the distance as before. */
static bool
parse_command (const uint8_t *in, size_t left, Command *command)
{
  command->literals = command->match = 0;
  if (in[0] == 14 || in[0] == 22) {
    command->bytes = 1;
    return true;
  }
  if (is_undefined (in[0]))
    return false;
  if (in[0] >= 0xe0)
    return parse_single (in, left, command);
  if ((in[0] >> 5) == 5)
    return parse_medium (in, left, command);
  return parse_double (in, left, command);
}

bool
lzfse_lzvn_decode (const uint8_t *in, size_t length, LzfseOutput *out)
{
  Command command = { 0 };
  for (size_t at = 0; at < length && !lzfse_is_full (out);) {
    if (in[at] == END_OF_BLOCK)
      return true;
    if (!parse_command (in + at, length - at, &command))
      return false;
    at += command.bytes;
    if (command.literals > length - at)
      return false;
    lzfse_put (out, in + at, command.literals);
    at += command.literals;
    if (command.match && !lzfse_is_full (out) && !lzfse_repeat (out, command.distance, command.match))
      return false;
  }
  return true;
}
