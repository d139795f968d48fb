// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Steers SP packets from a NIC into AF_XDP sockets: shape, port, address, redirect. Whatever is not
// SP is left to the kernel; whatever is malformed is dropped; each packet raises exactly one
// counter of stats.def. The program reads the packet through the parser of wire.h.
//
// It gives one answer itself: a PING to an address of this host goes back as PONG, as long as it
// came, so many in a second on each CPU and no more. That proves host, NIC and program alive. These
// are the only packets it writes to, and their number the only state it keeps.
//
// The maps are described in maps.h. They are filled by user space: sp_ports by the engine that
// listens, sp_local by it and by the loader, sp_xsks by the owner of the socket, sp_config by the
// loader.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sp/abi/maps.h"
#include "sp/abi/wire.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before the program is loaded; constants to the verifier, so that what is switched off is not
 * even compiled. */
const volatile __u8 sp_protocol = SP_IP_PROTOCOL;
const volatile __u8 sp_miss_drops = 0;
const volatile __be16 sp_udp_port = 0;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sp_config);
} sp_config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sp_xdp_stats);
} sp_stats SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, SP_PORTS);
    __type(key, __u32);
    __type(value, __u16);
} sp_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SP_LOCAL_MAX);
    __type(key, struct sp_local_key);
    __type(value, __u32);
} sp_local SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, SP_QUEUES_MAX *SP_SHARDS);
    __type(key, __u32);
    __type(value, __u32);
} sp_xsks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sp_ping_budget);
} sp_pings SEC(".maps");

SP_INLINE int sp_refuse_shape(enum sp_shape shape, struct sp_xdp_stats *stats)
{
    switch (shape) {
    case SP_SHAPE_IP_OPTIONS:
        stats->count[SP_XDP_ip_options]++;
        return XDP_PASS;
    case SP_SHAPE_FRAGMENT:
        stats->count[SP_XDP_fragment]++;
        return XDP_PASS;
    case SP_SHAPE_OTHER_VERSION:
        stats->count[SP_XDP_other_version]++;
        return XDP_PASS;
    case SP_SHAPE_BAD_LENGTH:
        stats->count[SP_XDP_bad_length]++;
        return XDP_DROP;
    case SP_SHAPE_BAD_TYPE:
        stats->count[SP_XDP_bad_type]++;
        return XDP_DROP;
    case SP_SHAPE_BAD_FLAGS:
        stats->count[SP_XDP_bad_flags]++;
        return XDP_DROP;
    default:
        stats->count[SP_XDP_not_sp]++;
        return XDP_PASS;
    }
}

SP_INLINE int sp_is_local(const struct sp_parsed *packet)
{
    struct sp_local_key key;

    if (packet->family == 4) {
        __builtin_memset(key.bytes, 0, 10);
        key.bytes[10] = 0xff;
        key.bytes[11] = 0xff;
        __builtin_memcpy(key.bytes + 12, packet->destination, 4);
    } else {
        __builtin_memcpy(key.bytes, packet->destination, 16);
    }
    return bpf_map_lookup_elem(&sp_local, &key) != 0;
}

/* Slot of the AF_XDP socket for this packet in sp_xsks, or a slot that is never filled. */
SP_INLINE __u32 sp_socket_slot(__u32 queue, __u32 shard)
{
    return queue < SP_QUEUES_MAX && shard < SP_SHARDS ? queue * SP_SHARDS + shard
                                                      : SP_QUEUES_MAX * SP_SHARDS;
}

SP_INLINE int sp_may_answer(void)
{
    const __u64 now = bpf_ktime_get_ns() >> SP_PINGS_WINDOW_SHIFT;
    struct sp_ping_budget *budget;
    __u32 zero = 0;

    budget = bpf_map_lookup_elem(&sp_pings, &zero);
    if (!budget)
        return 0;
    if (budget->window < now) {
        budget->window = now;
        budget->answered = 0;
    }
    if (budget->answered >= SP_PINGS_MAX)
        return 0;
    budget->answered++;
    return 1;
}

SP_INLINE void sp_swap(void *a, void *b, const __u32 size)
{
    __u8 kept[16];

    __builtin_memcpy(kept, a, size);
    __builtin_memcpy(a, b, size);
    __builtin_memcpy(b, kept, size);
}

/* Both ways the same bytes are summed, but for the type, which is one more: RFC 1624. */
SP_INLINE void sp_swap_udp(struct sp_udp *udp)
{
    const __be16 source = udp->source;
    __u32 sum;

    udp->source = udp->destination;
    udp->destination = source;
    if (!udp->checksum)
        return;
    sum = (__u16)~SP_BE16(udp->checksum) + (__u32)(SP_PONG - SP_PING);
    sum = (__u16) ~((sum & 0xffff) + (sum >> 16));
    udp->checksum = sum ? SP_BE16(sum) : (__be16)0xffff;
}

/* A PING to this host. Answers that would go to many stations are not given. */
SP_INLINE int sp_answer(struct sp_ethernet *ethernet, const struct sp_parsed *packet,
                        struct sp_xdp_stats *stats)
{
    struct sp_header *header = (struct sp_header *)packet->header;
    const __be16 sport = header->sport;

    if ((ethernet->destination[0] | ethernet->source[0]) & 1) {
        stats->count[SP_XDP_foreign_address]++;
        return XDP_PASS;
    }
    if (!sp_may_answer()) {
        stats->count[SP_XDP_ping_rate]++;
        return XDP_DROP;
    }
    sp_swap(ethernet->destination, ethernet->source, sizeof(ethernet->source));
    if (packet->family == 4)
        sp_swap((void *)packet->source, (void *)packet->destination, 4);
    else
        sp_swap((void *)packet->source, (void *)packet->destination, 16);
    if (packet->udp)
        sp_swap_udp((struct sp_udp *)packet->udp);
    header->type = SP_PONG;
    header->sport = header->dport;
    header->dport = sport;
    stats->count[SP_XDP_ponged]++;
    return XDP_TX;
}

SEC("xdp")
int sp_steer(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;
    const int miss = sp_miss_drops ? XDP_DROP : XDP_PASS;
    struct sp_xdp_stats *stats;
    struct sp_parsed packet;
    enum sp_shape shape;
    const __u16 *served;
    __u32 zero = 0, port;

    stats = bpf_map_lookup_elem(&sp_stats, &zero);
    if (!stats)
        return XDP_PASS;
    shape = sp_parse_frame(data, end, sp_protocol, sp_udp_port, &packet);
    if (shape != SP_SHAPE_SP)
        return sp_refuse_shape(shape, stats);

    port = SP_BE16(packet.header->dport);
    if (packet.header->type == SP_PING && !port) {
        if (sp_is_local(&packet))
            return sp_answer((struct sp_ethernet *)data, &packet, stats);
        stats->count[SP_XDP_foreign_address]++;
        return XDP_PASS;
    }
    served = bpf_map_lookup_elem(&sp_ports, &port);
    if (!served)
        return XDP_PASS;
    /* A PONG is for whoever asked, by a socket of the kernel. */
    if (!*served && (miss == XDP_PASS || packet.header->type == SP_PONG)) {
        stats->count[SP_XDP_no_port]++;
        return XDP_PASS;
    }
    if (!sp_is_local(&packet)) {
        stats->count[SP_XDP_foreign_address]++;
        return XDP_PASS;
    }
    if (!*served) {
        stats->count[SP_XDP_no_port]++;
        return miss;
    }
    if (bpf_redirect_map(&sp_xsks, sp_socket_slot(ctx->rx_queue_index, *served - 1u), miss) !=
        XDP_REDIRECT) {
        stats->count[SP_XDP_no_socket]++;
        return miss;
    }
    stats->count[SP_XDP_steered]++;
    return XDP_REDIRECT;
}
