/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor: a command line for people, reached by Ctrl-A c. */
#include "cpu/cpu.h"
#include "machine/chardev.h"
#include "machine/machine-private.h"
#include "monitor/monitor-block.h"

#define LINE_MAX_LENGTH 512
#define PROMPT "(tenon) "

typedef struct TnMonitor {
  TnMachine *machine;
  TnChardev *chardev; /* where it was last reached */
  GString *line;
} TnMonitor;

/* Terminals in raw mode want a carriage return with each newline. */
static void
monitor_print (TnMonitor *monitor, const char *text)
{
  for (const char *end; *text != '\0'; text = end) {
    end = strchr (text, '\n');
    if (end == NULL) {
      tn_chardev_write (monitor->chardev, text, strlen (text));
      return;
    }
    tn_chardev_write (monitor->chardev, text, (size_t) (end - text));
    tn_chardev_write (monitor->chardev, "\r\n", 2);
    end++;
  }
}

/* ---- Commands ---- */

static void
info_status (TnMachine *machine, GString *out)
{
  g_string_append_printf (out, "the machine is %s, %u CPUs, %" G_GUINT64_FORMAT " MiB of memory\n",
                          tn_machine_is_running (machine) ? "running" : "paused", machine->cpus,
                          machine->memory >> 20);
}

static void
registers_of (TnCpu *cpu, GString *out)
{
  const TnCpuOps *ops = tn_cpu_ops (cpu);
  unsigned column = 0;
  g_string_append_printf (out, "cpu %u\n", tn_cpu_index (cpu));
  for (const TnRegister *r = ops->registers; r != NULL && r->name != NULL; r++) {
    uint64_t value;
    if (strcmp (r->group, "general") != 0 || ops->get_register (cpu, r->id, &value) < 0)
      continue;
    g_string_append_printf (out, "%5s %016" G_GINT64_MODIFIER "x%s", r->name, value,
                            ++column % 4 == 0 ? "\n" : " ");
  }
  if (column % 4 != 0)
    g_string_append_c (out, '\n');
}

static void
info_registers (TnMachine *machine, GString *out)
{
  const bool running = tn_machine_is_running (machine);
  if (running)
    tn_machine_hold_harts (machine);
  for (unsigned i = 0; i < machine->cpus; i++)
    registers_of (tn_machine_cpu (machine, i), out);
  if (running)
    tn_cpu_set_resume (machine->cpu_set);
}

static void
info_plugins (TnMachine *machine, GString *out)
{
  tn_machine_dump_plugins (out);
}

static void
info_qtree (TnMachine *machine, GString *out)
{
  g_autofree char *text = tn_machine_dump (machine);
  g_string_append (out, text);
}

static const struct {
  const char *name;
  const char *help;
  void (*show) (TnMachine *machine, GString *out);
} subjects[] = {
  { "status", "whether the machine runs", info_status },
  { "registers", "registers of all CPUs", info_registers },
  { "mtree", "the memory map", tn_machine_dump_memory },
  { "block", "the drives, their images and cache modes", tn_monitor_info_block },
  { "blockstats", "requests to the drives so far", tn_monitor_info_blockstats },
  { "plugins", "plugins in use and why", info_plugins },
  { "qtree", "the objects of the machine", info_qtree },
};

static void
command_info (TnMonitor *monitor, const char *argument, GString *out)
{
  for (size_t i = 0; i < G_N_ELEMENTS (subjects); i++) {
    if (strcmp (subjects[i].name, argument) == 0) {
      subjects[i].show (monitor->machine, out);
      return;
    }
  }
  for (size_t i = 0; i < G_N_ELEMENTS (subjects); i++)
    g_string_append_printf (out, "info %-12s %s\n", subjects[i].name, subjects[i].help);
}

static void
command_quit (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_machine_quit (monitor->machine, 0);
}

static void
command_reset (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_machine_reset (monitor->machine);
}

static void
command_powerdown (TnMonitor *monitor, const char *argument, GString *out)
{
  g_string_append_printf (out,
                          "board '%s' has no power button: shut the guest down from inside, or use quit\n",
                          monitor->machine->board->name);
}

static void
command_stop (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_machine_pause (monitor->machine);
}

static void
command_cont (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_machine_resume (monitor->machine);
}

static void
command_block_resize (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_monitor_block_resize (monitor->machine, argument, out);
}

static void
command_block_reopen (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_monitor_block_reopen (monitor->machine, argument, out);
}

static void
command_eject (TnMonitor *monitor, const char *argument, GString *out)
{
  tn_monitor_eject (monitor->machine, argument, out);
}

static void command_help (TnMonitor *monitor, const char *argument, GString *out);

static const struct {
  const char *name;
  const char *help;
  void (*run) (TnMonitor *monitor, const char *argument, GString *out);
} commands[] = {
  { "help", "this list", command_help },
  { "info", "show something: info alone lists what", command_info },
  { "stop", "pause the machine", command_stop },
  { "cont", "let it go on", command_cont },
  { "system_reset", "reset the machine", command_reset },
  { "system_powerdown", "press the power button", command_powerdown },
  { "block_resize", "DRIVE SIZE: change the size of a drive's image", command_block_resize },
  { "block_reopen", "DRIVE cache=MODE,aio=ENGINE: change how a drive is used while requests go on",
    command_block_reopen },
  { "eject", "[-f] DRIVE: put the medium of a CD-ROM drive out (-f: though it is locked)", command_eject },
  { "quit", "end the machine at once", command_quit },
};

static void
command_help (TnMonitor *monitor, const char *argument, GString *out)
{
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++)
    g_string_append_printf (out, "%-17s %s\n", commands[i].name, commands[i].help);
  g_string_append (out, "Ctrl-A c returns to the console.\n");
}

static void
monitor_execute (TnMonitor *monitor, const char *line)
{
  g_autofree char *copy = g_strstrip (g_strdup (line));
  g_autoptr (GString) out = g_string_new (NULL);
  char *argument = strchr (copy, ' ');
  if (argument != NULL)
    *argument++ = '\0';
  argument = argument != NULL ? g_strchug (argument) : copy + strlen (copy);
  if (*copy == '\0')
    return;
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++) {
    if (strcmp (commands[i].name, copy) == 0) {
      commands[i].run (monitor, argument, out);
      monitor_print (monitor, out->str);
      return;
    }
  }
  g_string_append_printf (out, "there is no command '%s': help lists them\n", copy);
  monitor_print (monitor, out->str);
}

/* ---- The line ---- */

static void
monitor_key (TnMonitor *monitor, uint8_t key)
{
  if (key == '\r' || key == '\n') {
    monitor_print (monitor, "\n");
    g_autofree char *line = g_strdup (monitor->line->str);
    g_string_truncate (monitor->line, 0);
    monitor_execute (monitor, line);
    monitor_print (monitor, PROMPT);
  } else if ((key == 0x7f || key == '\b') && monitor->line->len > 0) {
    g_string_truncate (monitor->line, monitor->line->len - 1);
    monitor_print (monitor, "\b \b");
  } else if (key == 0x15) { /* Ctrl-U */
    for (; monitor->line->len > 0; g_string_truncate (monitor->line, monitor->line->len - 1))
      monitor_print (monitor, "\b \b");
  } else if (key >= 0x20 && key < 0x7f && monitor->line->len < LINE_MAX_LENGTH) {
    const char echo[] = { (char) key, '\0' };
    g_string_append_c (monitor->line, (char) key);
    monitor_print (monitor, echo);
  }
}

static void
monitor_input (void *opaque, TnChardev *chardev, const uint8_t *data, size_t length)
{
  TnMonitor *monitor = opaque;
  monitor->chardev = chardev;
  for (size_t i = 0; i < length; i++)
    monitor_key (monitor, data[i]);
}

static void
monitor_focus (void *opaque, TnChardev *chardev, bool focus)
{
  TnMonitor *monitor = opaque;
  monitor->chardev = chardev;
  g_string_truncate (monitor->line, 0);
  monitor_print (monitor, focus ? "\ntenon monitor: help lists the commands\n" PROMPT : "\n");
}

static void
monitor_free (void *opaque)
{
  TnMonitor *monitor = opaque;
  g_string_free (monitor->line, TRUE);
  g_free (monitor);
}

void
tn_machine_enable_monitor (TnMachine *machine)
{
  if (machine->monitor != NULL)
    return;
  TnMonitor *monitor = g_new0 (TnMonitor, 1);
  monitor->machine = machine;
  monitor->line = g_string_new (NULL);
  machine->monitor = monitor;
  machine->monitor_focus = monitor_focus;
  machine->monitor_input = monitor_input;
  machine->monitor_free = monitor_free;
}
