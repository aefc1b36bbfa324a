/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the virtio service needs of a device beyond the SDK. */
#ifndef TN_CORE_MACHINE_VIRTIO_H
#define TN_CORE_MACHINE_VIRTIO_H

#include <tenon/virtio.h>

/* One pointer that belongs to the bus a device is plugged into. */
void *tn_device_bus_data (TnDevice *device);
void tn_device_set_bus_data (TnDevice *device, void *data);

#endif
