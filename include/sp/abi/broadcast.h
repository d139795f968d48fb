/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The broadcast ring of one PUB or BUS socket, which all its local peers of the same user read: a memfd that only the
 * publishing process can write, handed over beside its segment and its bell (abi/segment.h). Slots and data are
 * `ring_bytes` each; see userspace/ring/broadcast_ring.hpp.
 *
 *   0x000  head       written once, before the ring is handed over
 *   0x100  oldest     number of the oldest message that is there
 *   0x108  published  number of the next message
 *   0x180  patience   nanoseconds: who announces that it sleeps may not be noticed for so long, and looks once more then
 *   0x1000 slots
 *   ...    data
 *
 * A pipe begins in the rings of its two segments. A record of kind `control` there, a boarding, says that what follows
 * comes by the broadcast ring; a slot whose tag is odd, a parting, that what follows comes by the pair's ring again. The
 * upper 31 bits of a tag count the partings before it, so that one that was overrun is noticed.
 */
#ifndef SP_ABI_BROADCAST_H
#define SP_ABI_BROADCAST_H

#include <linux/types.h>

#define SP_BROADCAST_MAGIC 0x3165766177726961ull /* "airwave1" */
#define SP_BROADCAST_VERSION 1

#define SP_BROADCAST_OLDEST 0x100
#define SP_BROADCAST_PUBLISHED 0x108
#define SP_BROADCAST_PATIENCE 0x180
#define SP_BROADCAST_PATIENCE_MAX 20000
#define SP_BROADCAST_SLOTS 0x1000

struct sp_broadcast_head {
	__u64 magic;
	__u64 version;
	__u64 ring_bytes; /* the whole is SP_BROADCAST_SLOTS and twice this */
	__u64 reserved[5];
};

struct sp_boarding {
	__u64 next;     /* number of the first message that comes by the broadcast ring */
	__u64 left;     /* number of the parting before this; next, if there was none */
	__u64 partings; /* so far */
};

#endif
