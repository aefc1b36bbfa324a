/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 16550A serial port (National Semiconductor PC16550D data sheet).
 *
 * Characters leave at once, so the transmitter is always empty; line speed has no effect.  Received
 * characters below the FIFO's trigger level are reported as timed out immediately. */
#include <tenon/device.h>
#include <tenon/plugin.h>

#define UART_SIZE 0x100
#define UART_CLOCK 3686400
#define UART_FIFO 16

enum {
  REG_DATA = 0, /* RBR, THR; divisor low */
  REG_IER = 1,  /* divisor high */
  REG_IIR_FCR = 2,
  REG_LCR = 3,
  REG_MCR = 4,
  REG_LSR = 5,
  REG_MSR = 6,
  REG_SCR = 7
};

enum {
  IER_RECEIVED = 0x01,
  IER_TRANSMIT = 0x02,
  IER_LINE = 0x04,
  IER_MODEM = 0x08,
  IIR_NONE = 0x01,
  IIR_MODEM = 0x00,
  IIR_TRANSMIT = 0x02,
  IIR_RECEIVED = 0x04,
  IIR_LINE = 0x06,
  IIR_TIMEOUT = 0x0c,
  IIR_FIFO = 0xc0,
  FCR_ENABLE = 0x01,
  FCR_CLEAR_RECEIVE = 0x02,
  LCR_DIVISOR = 0x80,
  MCR_LOOP = 0x10,
  LSR_READY = 0x01,
  LSR_OVERRUN = 0x02,
  LSR_EMPTY = 0x60, /* holding and shift register */
  MSR_DELTAS = 0x0f,
  MSR_CONNECTED = 0xb0 /* DCD, DSR, CTS */
};

typedef struct Uart {
  TnDevice *device;
  TnChardev *chardev;
  TnIrq *irq;
  uint8_t fifo[UART_FIFO];
  uint8_t head, count;
  uint8_t ier, fcr, lcr, mcr, msr_deltas, scr, lsr_errors;
  uint8_t divisor_low, divisor_high;
  bool transmit_pending; /* "holding register empty" hasn't been seen yet */
} Uart;

static const TnStateField uart_fields[] = {
  { "fifo", offsetof (Uart, fifo), TN_STATE_BYTES, 1, UART_FIFO, 0 },
  { "head", offsetof (Uart, head), TN_STATE_U8, 1, 0, 0 },
  { "count", offsetof (Uart, count), TN_STATE_U8, 1, 0, 0 },
  { "ier", offsetof (Uart, ier), TN_STATE_U8, 1, 0, 0 },
  { "fcr", offsetof (Uart, fcr), TN_STATE_U8, 1, 0, 0 },
  { "lcr", offsetof (Uart, lcr), TN_STATE_U8, 1, 0, 0 },
  { "mcr", offsetof (Uart, mcr), TN_STATE_U8, 1, 0, 0 },
  { "msr-deltas", offsetof (Uart, msr_deltas), TN_STATE_U8, 1, 0, 0 },
  { "scr", offsetof (Uart, scr), TN_STATE_U8, 1, 0, 0 },
  { "lsr-errors", offsetof (Uart, lsr_errors), TN_STATE_U8, 1, 0, 0 },
  { "divisor-low", offsetof (Uart, divisor_low), TN_STATE_U8, 1, 0, 0 },
  { "divisor-high", offsetof (Uart, divisor_high), TN_STATE_U8, 1, 0, 0 },
  { "transmit-pending", offsetof (Uart, transmit_pending), TN_STATE_BOOL, 1, 0, 0 },
  { .name = NULL },
};

static unsigned
uart_capacity (const Uart *uart)
{
  return uart->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static unsigned
uart_trigger (const Uart *uart)
{
  static const uint8_t levels[] = { 1, 4, 8, 14 };
  return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The interrupt with the highest priority, as IIR shows it. */
static uint8_t
uart_cause (const Uart *uart)
{
  if ((uart->ier & IER_LINE) && uart->lsr_errors != 0)
    return IIR_LINE;
  if ((uart->ier & IER_RECEIVED) && uart->count >= uart_trigger (uart))
    return IIR_RECEIVED;
  if ((uart->ier & IER_RECEIVED) && uart->count > 0)
    return IIR_TIMEOUT;
  if ((uart->ier & IER_TRANSMIT) && uart->transmit_pending)
    return IIR_TRANSMIT;
  if ((uart->ier & IER_MODEM) && uart->msr_deltas != 0)
    return IIR_MODEM;
  return IIR_NONE;
}

static void
uart_update (Uart *uart)
{
  tn_irq_set (uart->irq, uart_cause (uart) != IIR_NONE);
}

/* ---- Receiving ---- */

static void
uart_fifo_put (Uart *uart, uint8_t byte)
{
  if (uart->count >= uart_capacity (uart)) {
    uart->lsr_errors |= LSR_OVERRUN;
    return;
  }
  uart->fifo[(uart->head + uart->count) % UART_FIFO] = byte;
  uart->count++;
}

static uint8_t
uart_fifo_get (Uart *uart)
{
  if (uart->count == 0)
    return 0;
  uint8_t byte = uart->fifo[uart->head % UART_FIFO];
  uart->head = (uart->head + 1) % UART_FIFO;
  uart->count--;
  return byte;
}

static size_t
uart_can_receive (void *opaque)
{
  Uart *uart = opaque;
  tn_device_lock (uart->device);
  size_t room = uart->mcr & MCR_LOOP ? 0 : uart_capacity (uart) - MIN (uart->count, uart_capacity (uart));
  tn_device_unlock (uart->device);
  return room;
}

static void
uart_receive (void *opaque, const uint8_t *data, size_t length)
{
  Uart *uart = opaque;
  tn_device_lock (uart->device);
  for (size_t i = 0; i < length; i++)
    uart_fifo_put (uart, data[i]);
  uart_update (uart);
  tn_device_unlock (uart->device);
}

/* ---- Registers ---- */

static uint8_t
uart_read_data (Uart *uart)
{
  if (uart->lcr & LCR_DIVISOR)
    return uart->divisor_low;
  const bool was_full = uart->count >= uart_capacity (uart);
  uint8_t byte = uart_fifo_get (uart);
  if (uart->chardev != NULL && (was_full || uart->count == 0))
    tn_chardev_accept (uart->chardev);
  return byte;
}

static uint8_t
uart_read_iir (Uart *uart)
{
  uint8_t cause = uart_cause (uart);
  if (cause == IIR_TRANSMIT)
    uart->transmit_pending = false;
  return cause | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t
uart_read_lsr (Uart *uart)
{
  uint8_t status = LSR_EMPTY | (uart->count > 0 ? LSR_READY : 0) | uart->lsr_errors;
  uart->lsr_errors = 0;
  return status;
}

/* The modem lines: connected, or the port's own outputs in loop-back. */
static uint8_t
uart_modem_lines (const Uart *uart)
{
  if (!(uart->mcr & MCR_LOOP))
    return MSR_CONNECTED;
  return (uint8_t) (((uart->mcr & 0x02) << 3) | ((uart->mcr & 0x01) << 5) | ((uart->mcr & 0x04) << 4)
                    | ((uart->mcr & 0x08) << 4));
}

static uint8_t
uart_read_msr (Uart *uart)
{
  uint8_t status = uart_modem_lines (uart) | uart->msr_deltas;
  uart->msr_deltas = 0;
  return status;
}

static uint64_t
uart_read (void *opaque, uint64_t offset, unsigned bytes)
{
  Uart *uart = opaque;
  uint8_t value = 0;
  tn_device_lock (uart->device);
  switch (offset) {
  case REG_DATA:
    value = uart_read_data (uart);
    break;
  case REG_IER:
    value = uart->lcr & LCR_DIVISOR ? uart->divisor_high : uart->ier;
    break;
  case REG_IIR_FCR:
    value = uart_read_iir (uart);
    break;
  case REG_LCR:
    value = uart->lcr;
    break;
  case REG_MCR:
    value = uart->mcr;
    break;
  case REG_LSR:
    value = uart_read_lsr (uart);
    break;
  case REG_MSR:
    value = uart_read_msr (uart);
    break;
  case REG_SCR:
    value = uart->scr;
    break;
  default:
    break;
  }
  uart_update (uart);
  tn_device_unlock (uart->device);
  return value;
}

static void
uart_write_data (Uart *uart, uint8_t value)
{
  if (uart->lcr & LCR_DIVISOR) {
    uart->divisor_low = value;
    return;
  }
  if (uart->mcr & MCR_LOOP)
    uart_fifo_put (uart, value);
  else if (uart->chardev != NULL)
    tn_chardev_write (uart->chardev, &value, 1);
  uart->transmit_pending = true;
}

static void
uart_write_ier (Uart *uart, uint8_t value)
{
  if (uart->lcr & LCR_DIVISOR) {
    uart->divisor_high = value;
    return;
  }
  if ((value & IER_TRANSMIT) && !(uart->ier & IER_TRANSMIT))
    uart->transmit_pending = true;
  uart->ier = value & 0x0f;
}

static void
uart_write_fcr (Uart *uart, uint8_t value)
{
  const bool toggled = ((value ^ uart->fcr) & FCR_ENABLE) != 0;
  if (toggled || (value & FCR_CLEAR_RECEIVE))
    uart->head = uart->count = 0;
  uart->fcr = value & FCR_ENABLE ? value & 0xc1 : 0;
  if (uart->chardev != NULL)
    tn_chardev_accept (uart->chardev);
}

static void
uart_write_mcr (Uart *uart, uint8_t value)
{
  const uint8_t before = uart_modem_lines (uart);
  uart->mcr = value & 0x1f;
  const uint8_t changed = before ^ uart_modem_lines (uart);
  /* Ring reports its falling edge only. */
  uint8_t deltas = (changed >> 4) & 0x0b;
  if ((before & 0x40) && (changed & 0x40))
    deltas |= 0x04;
  uart->msr_deltas |= deltas & MSR_DELTAS;
  if (uart->chardev != NULL)
    tn_chardev_accept (uart->chardev);
}

static void
uart_write (void *opaque, uint64_t offset, uint64_t value, unsigned bytes)
{
  Uart *uart = opaque;
  tn_device_lock (uart->device);
  switch (offset) {
  case REG_DATA:
    uart_write_data (uart, (uint8_t) value);
    break;
  case REG_IER:
    uart_write_ier (uart, (uint8_t) value);
    break;
  case REG_IIR_FCR:
    uart_write_fcr (uart, (uint8_t) value);
    break;
  case REG_LCR:
    uart->lcr = (uint8_t) value;
    break;
  case REG_MCR:
    uart_write_mcr (uart, (uint8_t) value);
    break;
  case REG_SCR:
    uart->scr = (uint8_t) value;
    break;
  default:
    break;
  }
  uart_update (uart);
  tn_device_unlock (uart->device);
}

/* ---- Class ---- */

static int
uart_realize (TnDevice *device, const TnOptions *options, GError **error)
{
  static const TnMmioOps registers = {
    .size = sizeof registers, .min_access = 1, .max_access = 1, .read = uart_read, .write = uart_write
  };
  static const TnChardevHandler handler = { .size = sizeof handler,
                                            .can_receive = uart_can_receive,
                                            .receive = uart_receive };
  Uart *uart = tn_device_state (device);
  uart->device = device;
  uart->irq = tn_device_irq (device, 0);
  const char *id = tn_options_get (options, "chardev");
  if (id != NULL) {
    uart->chardev = tn_device_chardev (device, id, error);
    if (uart->chardev == NULL)
      return -ENOENT;
    int r = tn_chardev_connect (uart->chardev, &handler, uart, error);
    if (r < 0) {
      uart->chardev = NULL;
      return r;
    }
  }
  return tn_device_add_mmio (device, 0, UART_SIZE, &registers, uart, error);
}

static void
uart_unrealize (TnDevice *device)
{
  Uart *uart = tn_device_state (device);
  if (uart->chardev != NULL)
    tn_chardev_connect (uart->chardev, NULL, NULL, NULL);
}

static void
uart_reset (TnDevice *device)
{
  Uart *uart = tn_device_state (device);
  uart->head = uart->count = 0;
  uart->ier = uart->fcr = uart->lcr = uart->scr = uart->lsr_errors = uart->msr_deltas = 0;
  uart->mcr = 0x08;
  uart->divisor_low = 0x0c;
  uart->divisor_high = 0;
  uart->transmit_pending = false;
  uart_update (uart);
  if (uart->chardev != NULL)
    tn_chardev_accept (uart->chardev);
}

static int
uart_fdt (TnDevice *device, TnFdt *fdt, GError **error)
{
  tn_fdt_string (fdt, "compatible", "ns16550a");
  tn_fdt_u32 (fdt, "clock-frequency", UART_CLOCK);
  return 0;
}

static int
uart_state_loaded (TnDevice *device, uint32_t version, GError **error)
{
  Uart *uart = tn_device_state (device);
  if (uart->head >= UART_FIFO || uart->count > UART_FIFO)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "saved state of device '%s' is damaged",
                    tn_device_id (device));
  uart_update (uart);
  return 0;
}

static const TnOption uart_options[] = {
  { .name = "chardev", .type = TN_OPTION_CHARDEV, .help = "character device at the other end of the line" },
  { .name = NULL },
};

static const TnDeviceOps uart_ops = {
  .size = sizeof (TnDeviceOps),
  .instance_size = sizeof (Uart),
  .bus = "system",
  .realize = uart_realize,
  .unrealize = uart_unrealize,
  .reset = uart_reset,
  .fdt = uart_fdt,
  .state_version = 1,
  .state = uart_fields,
  .state_loaded = uart_state_loaded,
};

static const TnClass uart_class = {
  TN_CLASS_HEAD (TN_KIND_DEVICE, TN_DEVICE_MAJOR, TN_DEVICE_MINOR),
  .name = "uart16550",
  .summary = "16550A serial port",
  .options = uart_options,
  .ops = &uart_ops,
};

static const TnClass *const uart_classes[] = { &uart_class, NULL };

TN_PLUGIN_DEFINE (device_uart16550, .name = "device-uart16550", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-device-uart16550",
                  .security = TN_SECURITY_HARDENED, .classes = uart_classes);
