/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The SP packet: header, handshake bodies, records and trailer as they stand on the wire, and the
 * only parser that decides whether an Ethernet frame carries one. Shared by the BPF program (C11)
 * and user space (C++23); docs/wire.md draws it. All integers are big-endian. The clear part (bytes
 * 0-15) is final: sealing packets later changes no offset, no length and nothing that XDP reads.
 *
 * The parser reads constant offsets only, with one bounds check per fixed block, so that the
 * kernel's verifier follows it. It never looks past `end`, never modifies anything and keeps no
 * state.
 */
#ifndef SP_ABI_WIRE_H
#define SP_ABI_WIRE_H

#include <linux/types.h>

#ifndef __cplusplus
#ifndef static_assert
#define static_assert _Static_assert
#endif
#endif

/* C and C++ spell a packed struct and a forced inline the same way here. */
#define SP_PACKED __attribute__((packed))
#define SP_INLINE static inline __attribute__((always_inline))

#define SP_WIRE_VERSION 0x15 /* version 1, then the header length: 5 x 8 bytes */
#define SP_WIRE_VERSION_NUMBER 1
#define SP_WIRE_HEADER_UNITS 0x05 /* low half of byte 0; the same in every version of PROBE */
#define SP_IP_PROTOCOL 253 /* RFC 3692: for experiments; configurable, the same on every host */
#define SP_UDP_PORT 5370   /* of encapsulated packets, at both ends; configurable likewise */
#define SP_UDP_SOURCE 49152 /* their source port is this, or'ed with what tells flows apart */

enum sp_packet_type {
    SP_PROBE = 1,
    SP_COOKIE = 2,
    SP_INIT = 3,
    SP_ACCEPT = 4,
    SP_REFUSE = 5,
    SP_RESET = 6,
    SP_DATA = 7,
    SP_ACK = 8,
    SP_DISCONNECT = 9,
    SP_PART = 10,
    SP_PING = 11,
    SP_PONG = 12,
};
#define SP_TYPES_KNOWN 0x1ffeu /* bit n is set when type n exists */

enum sp_packet_flag {
    SP_ACK_NOW = 1,
    SP_MORE_QUEUED = 2,
    SP_CE_ECHO = 4,
};
#define SP_FLAGS_KNOWN 0x07u

/* Why a connection was refused or ended; carried by REFUSE and DISCONNECT. */
enum sp_reason {
    SP_REASON_NONE = 0,
    SP_REASON_NO_LISTENER = 1,
    SP_REASON_PROTOCOL_MISMATCH = 2,
    SP_REASON_VERSION = 3,
    SP_REASON_ACCESS = 4,
    SP_REASON_AUTH = 5,
    SP_REASON_BUSY = 6,
    SP_REASON_MESSAGE_TOO_LARGE = 7,
    SP_REASON_STALLED_MESSAGE = 8,
    SP_REASON_PROTOCOL_ERROR = 9,
    SP_REASON_SHUTTING_DOWN = 10,
    SP_REASON_LIMIT = 11,
    SP_REASON_LOST =
        12, /* a packet is missing and was not sent again: a peer of the first release */
    SP_REASON_DEAD = 13,  /* nothing was heard for peer_timeout */
    SP_REASON_STALE = 14, /* the peer has restarted */
};

struct sp_header {
    __u8 version; /* SP_WIRE_VERSION */
    __u8 type;
    __u8 flags;
    __u8 keygen; /* reserved: generation of the traffic key; 0 is plaintext */
    __be16 dport;
    __be16 sport;
    __be64 dcid; /* made by the receiver of this packet; 0 in PROBE, INIT, RESET, PING, PONG */
    __be64 pn;   /* +1 per packet sent; reserved as the nonce */
    __be32 seq;
    __be32 ack;
    __be32 sack;
    __be32 limit;
} SP_PACKED;

/* The tail of every packet: the tag of a sealed one, or CRC32C and zeros. */
struct sp_trailer {
    __be32 crc32c;
    __u8 zero[12];
} SP_PACKED;

struct sp_record {
    __be16 length;
    __u8 flags;
    __u8 code;
} SP_PACKED;

/* Follows sp_record when not both FIRST and LAST are set: a part of a message that is split. */
struct sp_part {
    __be32 message; /* number of the message on this pipe and direction: FIRST records from 0 */
    __be32 at;      /* FIRST: bytes of the whole message; else: bytes that came before */
} SP_PACKED;

/* Follows the header of SP_PART: a slice of the contents of one DATA packet that has become too
 * long for the path. */
struct sp_slice {
    __be16 offset; /* in those contents; a multiple of 4, as is the length but for the last slice */
    __be16 total;  /* bytes of those contents */
} SP_PACKED;

enum sp_record_flag {
    SP_RECORD_FIRST = 1,
    SP_RECORD_LAST = 2,
    SP_RECORD_CTRL = 4,
};
#define SP_RECORD_FLAGS_KNOWN 0x07u

enum sp_record_code {
    SP_CODE_NONE = 0,
    SP_CODE_WIDE_SACK = 1,
    SP_CODE_REASON = 2,
    SP_CODE_SUBSCRIBE = 3,
    SP_CODE_UNSUBSCRIBE = 4,
};

/* Who speaks: the common part of PROBE, INIT and ACCEPT. */
struct sp_identity {
    __be64 scid;     /* the id for packets to the one who sends this */
    __be64 instance; /* random per start: the boot epoch */
    __u8 version_min;
    __u8 version_max;
    __be16 protocol; /* SP protocol number: 48 REQ, 49 REP, ... */
    __be32 features;
    __u8 mac1[16]; /* reserved */
} SP_PACKED;

struct sp_params {
    __be32 message_max;
    __be16 packet_max;
    __be16 records_max; /* messages that one packet to the sender of this may hold; 0: any number */
    __be64 zeros;
    __u8 reset_token[16]; /* reserved */
} SP_PACKED;

struct sp_probe { /* followed by zeros up to the size under test */
    struct sp_header header;
    struct sp_identity identity;
    __u8 padding[64];
    struct sp_trailer trailer;
} SP_PACKED;

struct sp_cookie {
    struct sp_header header;
    __be32 epoch;
    __be16 length; /* how many bytes of the PROBE arrived */
    __be16 zero;
    __u8 cookie[16];
    struct sp_trailer trailer;
} SP_PACKED;

struct sp_init {
    struct sp_header header;
    struct sp_identity identity;
    __be32 epoch;
    __be32 suite; /* 0 is plaintext */
    __u8 cookie[16];
    __u8 e[32]; /* reserved */
    __u8 s[48]; /* reserved */
    struct sp_params params;
    struct sp_trailer trailer;
} SP_PACKED;

struct sp_accept {
    struct sp_header header;
    struct sp_identity identity;
    __u8 e[32]; /* reserved */
    struct sp_params params;
    struct sp_trailer trailer;
} SP_PACKED;

struct sp_refuse {
    struct sp_header header;
    __be16 reason;
    __u8 version_min;
    __u8 version_max;
    __be16 protocol; /* of the one who refuses, 0 if nobody listens */
    __be16 retry_after_ms;
    __u8 text[64]; /* padded with zeros, not terminated when full */
    struct sp_trailer trailer;
} SP_PACKED;

struct sp_reset { /* overlays seq, ack, sack and limit of the header */
    __u8 clear[24];
    __be64 unknown_dcid;
    __be64 unknown_pn;
    struct sp_trailer trailer;
} SP_PACKED;

#define SP_HEADER_SIZE 40
#define SP_TRAILER_SIZE 16
#define SP_OVERHEAD 56 /* header and trailer: the smallest packet */
#define SP_RECORD_SIZE 4
#define SP_PART_SIZE 8
#define SP_SLICE_SIZE 4
#define SP_PROBE_SIZE_MIN 160

static_assert(sizeof(struct sp_header) == SP_HEADER_SIZE, "the header is 40 bytes");
static_assert(sizeof(struct sp_trailer) == SP_TRAILER_SIZE, "the trailer is 16 bytes");
static_assert(sizeof(struct sp_record) == SP_RECORD_SIZE, "a whole record has 4 bytes in front");
static_assert(sizeof(struct sp_part) == SP_PART_SIZE, "a part has 12 bytes in front");
static_assert(sizeof(struct sp_slice) == SP_SLICE_SIZE, "a slice says where it belongs");
static_assert(sizeof(struct sp_identity) == 40, "bytes 40 to 79");
static_assert(sizeof(struct sp_params) == 32, "params are 32 bytes");
static_assert(sizeof(struct sp_probe) == SP_PROBE_SIZE_MIN, "PROBE is at least 160 bytes");
static_assert(sizeof(struct sp_cookie) == 80, "COOKIE is 80 bytes");
static_assert(sizeof(struct sp_init) == 232, "INIT is 232 bytes");
static_assert(sizeof(struct sp_accept) == 160, "ACCEPT is 160 bytes");
static_assert(sizeof(struct sp_refuse) == 128, "REFUSE is 128 bytes");
static_assert(sizeof(struct sp_reset) == 56, "RESET is 56 bytes");

/* ---- the parser ---- */

/* What a frame is. In the order of the checks; stats.def counts each under its name. */
enum sp_shape {
    SP_SHAPE_SP = 0,        /* an SP packet of a version we know, or a PROBE of any version */
    SP_SHAPE_NOT_SP,        /* another protocol */
    SP_SHAPE_IP_OPTIONS,    /* our protocol behind IPv4 options */
    SP_SHAPE_FRAGMENT,      /* an IPv4 fragment of our protocol */
    SP_SHAPE_OTHER_VERSION, /* too short for a header, or another version: the number is shared */
    SP_SHAPE_BAD_LENGTH, /* ours, but shorter than the smallest packet or longer than the frame */
    SP_SHAPE_BAD_TYPE,
    SP_SHAPE_BAD_FLAGS,
};

struct sp_udp;

/* Where the packet is in its frame; filled only for SP_SHAPE_SP. */
struct sp_parsed {
    const struct sp_header *header;
    __u32 length;            /* of the SP packet, header to trailer, from the IP or UDP length */
    __u32 family;            /* 4 or 6 */
    const void *source;      /* 4 or 16 bytes */
    const void *destination; /* 4 or 16 bytes */
    const struct sp_udp *udp; /* of an encapsulated packet, else null */
};

struct sp_ethernet {
    __u8 destination[6];
    __u8 source[6];
    __be16 type;
} SP_PACKED;

struct sp_vlan {
    __be16 tag;
    __be16 type;
} SP_PACKED;

struct sp_ipv4 {
    __u8 version_length;
    __u8 tos;
    __be16 length;
    __be16 id;
    __be16 fragment;
    __u8 ttl;
    __u8 protocol;
    __be16 checksum;
    __u8 source[4];
    __u8 destination[4];
} SP_PACKED;

struct sp_ipv6 {
    __be32 version_class_flow;
    __be16 length;
    __u8 next_header;
    __u8 hop_limit;
    __u8 source[16];
    __u8 destination[16];
} SP_PACKED;

struct sp_udp {
    __be16 source;
    __be16 destination;
    __be16 length;
    __be16 checksum;
} SP_PACKED;

static_assert(sizeof(struct sp_ethernet) == 14 && sizeof(struct sp_vlan) == 4, "link headers");
static_assert(sizeof(struct sp_ipv4) == 20 && sizeof(struct sp_ipv6) == 40 &&
                  sizeof(struct sp_udp) == 8,
              "network headers");

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SP_BE16(x) ((__be16)__builtin_bswap16((__u16)(x)))
#define SP_BE32(x) ((__be32)__builtin_bswap32((__u32)(x)))
#define SP_BE64(x) ((__be64)__builtin_bswap64((__u64)(x)))
#else
#define SP_BE16(x) ((__be16)(x))
#define SP_BE32(x) ((__be32)(x))
#define SP_BE64(x) ((__be64)(x))
#endif

#define SP_ETHERTYPE_IPV4 0x0800
#define SP_ETHERTYPE_IPV6 0x86dd
#define SP_ETHERTYPE_VLAN 0x8100
#define SP_ETHERTYPE_QINQ 0x88a8
#define SP_PROTOCOL_UDP 17

/* The SP packet alone: `length` bytes that begin at `data`, as a header announced them. */
SP_INLINE enum sp_shape sp_check_packet(const void *data, const void *end, __u32 length)
{
    const struct sp_header *header = (const struct sp_header *)data;

    if (length < sizeof(*header) || (const void *)(header + 1) > end)
        return SP_SHAPE_OTHER_VERSION;
    if (header->version != SP_WIRE_VERSION &&
        (header->type != SP_PROBE || (header->version & 0x0f) != SP_WIRE_HEADER_UNITS))
        return SP_SHAPE_OTHER_VERSION;
    if (length < SP_OVERHEAD || length > 0xffff || (const char *)data + length > (const char *)end)
        return SP_SHAPE_BAD_LENGTH;
    if (header->type > 31 || !((SP_TYPES_KNOWN >> header->type) & 1))
        return SP_SHAPE_BAD_TYPE;
    if (header->flags & (__u8)~SP_FLAGS_KNOWN)
        return SP_SHAPE_BAD_FLAGS;
    return SP_SHAPE_SP;
}

/* An IP protocol number other than ours: only UDP to our port goes on. */
SP_INLINE enum sp_shape sp_parse_payload(const void *data, const void *end, __u8 protocol,
                                         __u32 length, __u8 our_protocol, __be16 our_udp_port,
                                         struct sp_parsed *out)
{
    enum sp_shape shape;

    out->udp = (const struct sp_udp *)0;
    if (protocol != our_protocol) {
        const struct sp_udp *udp = (const struct sp_udp *)data;

        if (protocol != SP_PROTOCOL_UDP || !our_udp_port || (const void *)(udp + 1) > end ||
            udp->destination != our_udp_port)
            return SP_SHAPE_NOT_SP;
        out->udp = udp;
        if (SP_BE16(udp->length) < sizeof(*udp) || SP_BE16(udp->length) > length)
            return SP_SHAPE_BAD_LENGTH;
        length = SP_BE16(udp->length) - (__u32)sizeof(*udp);
        data = udp + 1;
    }
    shape = sp_check_packet(data, end, length);
    if (shape == SP_SHAPE_SP) {
        out->header = (const struct sp_header *)data;
        out->length = length;
    }
    return shape;
}

/* An IPv4 packet that begins at `data`. */
SP_INLINE enum sp_shape sp_parse_ipv4(const void *data, const void *end, __u8 our_protocol,
                                      __be16 our_udp_port, struct sp_parsed *out)
{
    const struct sp_ipv4 *ip = (const struct sp_ipv4 *)data;
    __u32 length;

    if ((const void *)(ip + 1) > end)
        return SP_SHAPE_NOT_SP;
    if (ip->protocol != our_protocol && (ip->protocol != SP_PROTOCOL_UDP || !our_udp_port))
        return SP_SHAPE_NOT_SP;
    if (ip->version_length != 0x45)
        return (ip->version_length >> 4) == 4 && ip->protocol == our_protocol ? SP_SHAPE_IP_OPTIONS
                                                                              : SP_SHAPE_NOT_SP;
    if (ip->fragment & SP_BE16(0x3fff))
        return ip->protocol == our_protocol ? SP_SHAPE_FRAGMENT : SP_SHAPE_NOT_SP;
    length = SP_BE16(ip->length);
    if (length < sizeof(*ip))
        return SP_SHAPE_BAD_LENGTH;
    out->family = 4;
    out->source = ip->source;
    out->destination = ip->destination;
    return sp_parse_payload(ip + 1, end, ip->protocol, length - (__u32)sizeof(*ip), our_protocol,
                            our_udp_port, out);
}

/* An IPv6 packet that begins at `data`. Extension headers, the fragment header among them, are not
 * followed. */
SP_INLINE enum sp_shape sp_parse_ipv6(const void *data, const void *end, __u8 our_protocol,
                                      __be16 our_udp_port, struct sp_parsed *out)
{
    const struct sp_ipv6 *ip = (const struct sp_ipv6 *)data;

    if ((const void *)(ip + 1) > end ||
        (ip->version_class_flow & SP_BE32(0xf0000000)) != SP_BE32(0x60000000))
        return SP_SHAPE_NOT_SP;
    if (ip->next_header != our_protocol && (ip->next_header != SP_PROTOCOL_UDP || !our_udp_port))
        return SP_SHAPE_NOT_SP;
    out->family = 6;
    out->source = ip->source;
    out->destination = ip->destination;
    return sp_parse_payload(ip + 1, end, ip->next_header, SP_BE16(ip->length), our_protocol,
                            our_udp_port, out);
}

SP_INLINE enum sp_shape sp_parse_network(const void *data, const void *end, __be16 type,
                                         __u8 our_protocol, __be16 our_udp_port,
                                         struct sp_parsed *out)
{
    if (type == SP_BE16(SP_ETHERTYPE_IPV4))
        return sp_parse_ipv4(data, end, our_protocol, our_udp_port, out);
    if (type == SP_BE16(SP_ETHERTYPE_IPV6))
        return sp_parse_ipv6(data, end, our_protocol, our_udp_port, out);
    return SP_SHAPE_NOT_SP;
}

/* An Ethernet frame with at most one VLAN tag. `our_udp_port` 0: encapsulation is not offered. */
SP_INLINE enum sp_shape sp_parse_frame(const void *data, const void *end, __u8 our_protocol,
                                       __be16 our_udp_port, struct sp_parsed *out)
{
    const struct sp_ethernet *ethernet = (const struct sp_ethernet *)data;

    if ((const void *)(ethernet + 1) > end)
        return SP_SHAPE_NOT_SP;
    if (ethernet->type == SP_BE16(SP_ETHERTYPE_VLAN) ||
        ethernet->type == SP_BE16(SP_ETHERTYPE_QINQ)) {
        const struct sp_vlan *vlan = (const struct sp_vlan *)(ethernet + 1);

        if ((const void *)(vlan + 1) > end)
            return SP_SHAPE_NOT_SP;
        return sp_parse_network(vlan + 1, end, vlan->type, our_protocol, our_udp_port, out);
    }
    return sp_parse_network(ethernet + 1, end, ethernet->type, our_protocol, our_udp_port, out);
}

#endif /* SP_ABI_WIRE_H */
