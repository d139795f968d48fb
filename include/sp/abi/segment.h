/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The shared memory of one connection between two processes of a host. Each side makes one such segment, a memfd
 * that only it can write, and maps the other's for reading: what I send lies in mine, and so does how far I have read
 * yours. Words are 8 bytes in the byte order of the machine; what one side waits for stands on cache lines of its own.
 *
 *   0x000  head      written once, before the segment is handed over
 *   0x100  progress  bytes of the peer's ring that I have read
 *   0x108  read      whole messages of the peer's ring that I have read, as of progress
 *   0x180  asleep    1: ring my bell when something comes
 *   0x200  waiting   1: ring my bell when there is room again in my ring
 *   0x280  limit     messages that the peer may send in all; ~0: any number
 *   0x288  takes     messages that the peer may hand over by descriptor in all; 0: none
 *   0x300  closed    1: nothing more comes; what is committed counts
 *   0x380  listens   1: I can read your broadcast ring (abi/broadcast.h)
 *   0x400  heard     messages of your broadcast ring that I have passed
 *   0x480  left      1 + the number of the message in my broadcast ring from which on they are not for you; 0: none
 *   0x1000 ring      of records, see userspace/ring/record.hpp
 */
#ifndef SP_ABI_SEGMENT_H
#define SP_ABI_SEGMENT_H

#include <linux/types.h>

#define SP_SEGMENT_MAGIC 0x31746e656d676573ull /* "segment1" */
#define SP_SEGMENT_VERSION 1

#define SP_SEGMENT_PROGRESS 0x100
#define SP_SEGMENT_READ 0x108
#define SP_SEGMENT_ASLEEP 0x180
#define SP_SEGMENT_WAITING 0x200
#define SP_SEGMENT_LIMIT 0x280
#define SP_SEGMENT_TAKES 0x288
#define SP_SEGMENT_CLOSED 0x300
#define SP_SEGMENT_LISTENS 0x380
#define SP_SEGMENT_HEARD 0x400
#define SP_SEGMENT_LEFT 0x480
#define SP_SEGMENT_RING 0x1000

#define SP_SEGMENT_RING_MIN 0x1000     /* bytes, a power of two */
#define SP_SEGMENT_RING_MAX 0x1000000

struct sp_segment_head {
	__u64 magic;
	__u64 version;
	__u64 ring_bytes; /* the whole is SP_SEGMENT_RING more */
	__u64 reserved[5];
};

/* A large message in memory of its own. The descriptor of that memory goes by the unix socket, in a
 * datagram that is nothing but sp_handover; then a record of kind `descriptor` in the ring keeps its
 * place among the others: sp_lent, and behind it the header of the pattern. The memory is a memfd
 * sealed with F_SEAL_WRITE, SHRINK, GROW and SEAL, has all its pages, and is the body. */
#define SP_HANDOVER_MAGIC 0x31646e6168207073ull /* "sp hand1" */

struct sp_handover {
	__u64 magic;
	__u64 connection; /* the id that its INIT gave, as it stands there */
	__u64 number;     /* of the handed over of this direction: 0, 1, ... */
};

struct sp_lent {
	__u64 number; /* of the datagram that brings it */
	__u64 size;   /* bytes of the body */
};

#endif
