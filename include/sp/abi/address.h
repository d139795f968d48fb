/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where a packet came from or goes to, as a plain value that engine, transports and the BPF maps
 * compare byte by byte. It names a host (and the outer UDP port of an encapsulated packet) or a
 * unix datagram socket; SP's own 16-bit service port is not part of it, it stands in the packet.
 * Unused bytes are zero, always.
 */
#ifndef SP_ABI_ADDRESS_H
#define SP_ABI_ADDRESS_H

#include <linux/types.h>

enum sp_family {
    SP_FAMILY_NONE = 0,
    SP_FAMILY_UNIX = 1, /* bytes: the abstract name that the kernel chose for the peer's socket */
    SP_FAMILY_IPV4 = 4, /* bytes 0-3 */
    SP_FAMILY_IPV6 = 6, /* bytes 0-15, scope: the interface of a link-local address */
};

struct sp_address {
    __u8 family;
    __u8 length; /* significant bytes in `bytes` */
    __be16 port; /* outer UDP port, 0 when not encapsulated */
    __u32 scope; /* interface index, link-local IPv6 only */
    __u8 bytes[16];
};

#ifdef __cplusplus
static_assert(sizeof(struct sp_address) == 24, "compared with memcmp: no padding");
#else
_Static_assert(sizeof(struct sp_address) == 24, "compared with memcmp: no padding");
#endif

#endif /* SP_ABI_ADDRESS_H */
