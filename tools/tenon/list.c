/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "list.h"

#include <stdio.h>
#include <tenon/machine.h>

static void
print_board (const char *name, const char *summary, void *opaque)
{
  printf ("%-16s %s\n", name, summary);
}

void
tenon_list_boards (void)
{
  tn_boards_foreach (print_board, NULL);
}

static void
print_class (const TnClassInfo *info, void *opaque)
{
  printf ("%-16s %s\n", info->name, info->summary != NULL ? info->summary : "");
}

static void
print_damaged (const char *path, const GError *why, void *opaque)
{
  fprintf (stderr, "tenon: %s: %s\n", path, why->message);
}

int
tenon_list_classes (TnKind kind, GError **error)
{
  return tn_plugins_foreach (kind, print_class, print_damaged, NULL, error);
}

static const char *
type_name (const TnOption *option)
{
  switch (option->type) {
  case TN_OPTION_BOOL:
    return "on|off";
  case TN_OPTION_UINT:
    return "NUMBER";
  case TN_OPTION_SIZE:
    return "SIZE";
  case TN_OPTION_NODE:
    return "NODE";
  case TN_OPTION_DRIVE:
    return "DRIVE";
  case TN_OPTION_CHARDEV:
    return "CHARDEV";
  case TN_OPTION_GROUP:
    return "OPTIONS";
  default:
    return "TEXT";
  }
}

static void
print_option (const TnOption *option)
{
  g_autofree char *choices = option->choices != NULL ? g_strjoinv ("|", (char **) option->choices) : NULL;
  printf ("%s=%s\n        %s", option->name, choices != NULL ? choices : type_name (option),
          option->help != NULL ? option->help : "");
  if (option->when & TN_OPTION_REQUIRED)
    printf (" (required)");
  else if (option->value != NULL)
    printf (" (default %s)", option->value);
  printf ("\n");
}

int
tenon_list_options (TnKind kind, const char *name, GError **error)
{
  const TnClass *class_ = tn_class_find (kind, name, error);
  if (class_ == NULL)
    return -ENOENT;
  printf ("%s: %s\n", class_->name, class_->summary);
  const char *row = (const char *) class_->options;
  for (; row != NULL && ((const TnOption *) (const void *) row)->name != NULL; row += class_->option_size)
    print_option ((const TnOption *) (const void *) row);
  return 0;
}
