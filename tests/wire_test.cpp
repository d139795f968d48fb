// SPDX-License-Identifier: BSD-2-Clause
//
// docs/wire.md against the compiler: every offset, size, number and verdict that it names is the
// one of abi/.
#include "sp/abi/maps.h"
#include "sp/abi/names.hpp"
#include "sp/abi/wire.h"
#include "userspace/link/packet.hpp"
#include "userspace/link/receiver.hpp"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace sp {
namespace {

using cells = std::vector<std::string>;

// The document as table rows, each with the heading above it. Ticks and the blanks around a cell
// are taken off.
struct row {
    std::string heading;
    cells cell;
};

std::string bare(std::string text)
{
    std::erase(text, '`');
    const auto first = text.find_first_not_of(' ');
    return first == std::string::npos ? ""
                                      : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::vector<row> rows_of_document()
{
    std::ifstream in("docs/wire.md");
    EXPECT_TRUE(in) << "run the tests in the top directory";
    std::vector<row> rows;
    std::string heading;
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with('#'))
            heading = bare(line.substr(line.find_first_not_of('#')));
        if (!line.starts_with("| "))
            continue;
        row one{heading, {}};
        std::istringstream parts(line.substr(1));
        for (std::string part; std::getline(parts, part, '|');)
            one.cell.push_back(bare(part));
        rows.push_back(one);
    }
    return rows;
}

bool is_number(const std::string &text)
{
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// The rows below the heading that contains `words` whose first cell is a number, or any when it
// need not be.
std::vector<cells> table(std::string_view words, std::string_view first_column)
{
    std::vector<cells> found;
    bool inside = false;
    for (const auto &[heading, cell] : rows_of_document()) {
        if (!heading.contains(words))
            continue;
        if (cell.front() == first_column)
            inside = true;
        else if (cell.front().empty() || (first_column != "Counter" && !is_number(cell.front())))
            inside = false;
        else if (inside)
            found.push_back(cell);
    }
    return found;
}

struct field {
    const char *in, *name;
    std::size_t offset, size;
};

#define FIELD(type, name)                                                                          \
    field                                                                                          \
    {                                                                                              \
        #type, #name, offsetof(type, name), sizeof(type::name)                                     \
    }
const std::vector<field> fields{FIELD(sp_header, version),
                                FIELD(sp_header, type),
                                FIELD(sp_header, flags),
                                FIELD(sp_header, keygen),
                                FIELD(sp_header, dport),
                                FIELD(sp_header, sport),
                                FIELD(sp_header, dcid),
                                FIELD(sp_header, pn),
                                FIELD(sp_header, seq),
                                FIELD(sp_header, ack),
                                FIELD(sp_header, sack),
                                FIELD(sp_header, limit),
                                FIELD(sp_record, length),
                                FIELD(sp_record, flags),
                                FIELD(sp_record, code),
                                FIELD(sp_part, message),
                                FIELD(sp_part, at),
                                FIELD(sp_slice, offset),
                                FIELD(sp_slice, total),
                                FIELD(sp_trailer, crc32c),
                                FIELD(sp_trailer, zero),
                                FIELD(sp_identity, scid),
                                FIELD(sp_identity, instance),
                                FIELD(sp_identity, version_min),
                                FIELD(sp_identity, version_max),
                                FIELD(sp_identity, protocol),
                                FIELD(sp_identity, features),
                                FIELD(sp_identity, mac1),
                                FIELD(sp_params, message_max),
                                FIELD(sp_params, packet_max),
                                FIELD(sp_params, records_max),
                                FIELD(sp_params, zeros),
                                FIELD(sp_params, reset_token),
                                FIELD(sp_probe, header),
                                FIELD(sp_probe, identity),
                                FIELD(sp_probe, padding),
                                FIELD(sp_probe, trailer),
                                FIELD(sp_cookie, header),
                                FIELD(sp_cookie, epoch),
                                FIELD(sp_cookie, length),
                                FIELD(sp_cookie, zero),
                                FIELD(sp_cookie, cookie),
                                FIELD(sp_cookie, trailer),
                                FIELD(sp_init, header),
                                FIELD(sp_init, identity),
                                FIELD(sp_init, epoch),
                                FIELD(sp_init, suite),
                                FIELD(sp_init, cookie),
                                FIELD(sp_init, e),
                                FIELD(sp_init, s),
                                FIELD(sp_init, params),
                                FIELD(sp_init, trailer),
                                FIELD(sp_accept, header),
                                FIELD(sp_accept, identity),
                                FIELD(sp_accept, e),
                                FIELD(sp_accept, params),
                                FIELD(sp_accept, trailer),
                                FIELD(sp_refuse, header),
                                FIELD(sp_refuse, reason),
                                FIELD(sp_refuse, version_min),
                                FIELD(sp_refuse, version_max),
                                FIELD(sp_refuse, protocol),
                                FIELD(sp_refuse, retry_after_ms),
                                FIELD(sp_refuse, text),
                                FIELD(sp_refuse, trailer),
                                FIELD(sp_reset, clear),
                                FIELD(sp_reset, unknown_dcid),
                                FIELD(sp_reset, unknown_pn),
                                FIELD(sp_reset, trailer)};
#undef FIELD

const std::map<std::string, std::size_t> sizes{
    {"sp_header", sizeof(sp_header)},   {"sp_record", sizeof(sp_record)},
    {"sp_trailer", sizeof(sp_trailer)}, {"sp_identity", sizeof(sp_identity)},
    {"sp_params", sizeof(sp_params)},   {"sp_probe", sizeof(sp_probe)},
    {"sp_cookie", sizeof(sp_cookie)},   {"sp_init", sizeof(sp_init)},
    {"sp_part", sizeof(sp_part)},       {"sp_slice", sizeof(sp_slice)},
    {"sp_accept", sizeof(sp_accept)},   {"sp_refuse", sizeof(sp_refuse)},
    {"sp_reset", sizeof(sp_reset)}};

TEST(wire_document, gives_every_field_the_offset_and_size_it_has)
{
    std::map<std::string, std::size_t> covered;
    for (const auto &one : fields) {
        const auto rows = table(one.in, "Offset");
        const auto found =
            std::ranges::find(rows, one.name, [](const cells &row) { return row[2]; });
        ASSERT_NE(found, rows.end()) << one.in << "::" << one.name << " is not in the document";
        EXPECT_EQ((*found)[0], std::to_string(one.offset)) << one.in << "::" << one.name;
        EXPECT_EQ((*found)[1], std::to_string(one.size)) << one.in << "::" << one.name;
        covered[one.in] += one.size;
    }
    EXPECT_EQ(covered, sizes) << "every byte of every structure is named";
    std::size_t documented = 0;
    for (const auto &[name, size] : sizes)
        documented += table(name, "Offset").size();
    EXPECT_EQ(documented, fields.size()) << "the document names fields that do not exist";
}

TEST(wire_document, names_the_size_of_every_packet_in_its_heading)
{
    std::set<std::string> headings;
    for (const auto &one : rows_of_document())
        headings.insert(one.heading);
    for (const auto *type : {"sp_cookie", "sp_init", "sp_accept", "sp_refuse", "sp_reset"}) {
        const auto ending = std::string(type) + ", " + std::to_string(sizes.at(type)) + " bytes";
        EXPECT_TRUE(std::ranges::any_of(headings, [&](const auto &one) {
            return one.ends_with(ending);
        })) << ending;
    }
}

TEST(wire_document, lists_exactly_the_types_that_the_parser_takes)
{
    unsigned listed = 0;
    for (const auto &row : table("Header", "Type"))
        listed |= 1u << std::stoul(row[0]);
    EXPECT_EQ(listed, SP_TYPES_KNOWN);
    const auto rows = table("Header", "Type");
    ASSERT_EQ(rows.size(), 12u);
    EXPECT_EQ(rows[SP_PROBE - 1][2], std::to_string(SP_PROBE_SIZE_MIN) + " or more");
    EXPECT_EQ(rows[SP_COOKIE - 1][2], std::to_string(sizeof(sp_cookie)));
    EXPECT_EQ(rows[SP_INIT - 1][2], std::to_string(sizeof(sp_init)));
    EXPECT_EQ(rows[SP_ACCEPT - 1][2], std::to_string(sizeof(sp_accept)));
    EXPECT_EQ(rows[SP_REFUSE - 1][2], std::to_string(sizeof(sp_refuse)));
    EXPECT_EQ(rows[SP_RESET - 1][2], std::to_string(sizeof(sp_reset)));
    EXPECT_EQ(rows[SP_DATA - 1][2], std::to_string(SP_OVERHEAD) + " + records");
    EXPECT_EQ(rows[SP_ACK - 1][2],
              std::to_string(SP_OVERHEAD) + " or " +
                  std::to_string(SP_OVERHEAD + link::record_space(link::receiver::wide_bytes)));
    EXPECT_EQ(rows[SP_PART - 1][2], std::to_string(SP_OVERHEAD + SP_SLICE_SIZE) + " + slice");
    EXPECT_EQ(rows[SP_DISCONNECT - 1][2], std::to_string(SP_OVERHEAD + link::record_space(2)));
}

TEST(wire_document, lists_every_reason)
{
    const auto rows = table("Records for the link", "Number");
    ASSERT_EQ(rows.size(), static_cast<std::size_t>(SP_REASON_STALE));
    for (std::size_t i = 0; i < rows.size(); ++i)
        EXPECT_EQ(rows[i][0], std::to_string(i + 1));
}

TEST(wire_document, tells_where_sp_begins_in_a_frame)
{
    constexpr auto v4 = sizeof(sp_ethernet) + sizeof(sp_ipv4),
                   v6 = sizeof(sp_ethernet) + sizeof(sp_ipv6);
    const std::map<std::string, std::size_t> begins{{"IPv4", v4},
                                                    {"IPv4, UDP", v4 + sizeof(sp_udp)},
                                                    {"IPv6", v6},
                                                    {"IPv6, UDP", v6 + sizeof(sp_udp)}};
    std::size_t seen = 0;
    for (const auto &[heading, cell] : rows_of_document()) {
        if (!heading.contains("Where it is") || !begins.contains(cell[0]))
            continue;
        EXPECT_EQ(cell[1], std::to_string(begins.at(cell[0]))) << cell[0];
        EXPECT_EQ(cell[2], std::to_string(begins.at(cell[0]) + sizeof(sp_vlan))) << cell[0];
        ++seen;
    }
    EXPECT_EQ(seen, begins.size());
}

TEST(wire_document, gives_each_counter_of_xdp_its_verdict)
{
    const auto rows = table("What the XDP program does", "Counter");
    for (unsigned i = 0; i < SP_XDP_STATS; ++i) {
        const auto &entry = stat_table[i];
        ASSERT_EQ(entry.where, "xdp");
        const auto found =
            std::ranges::find(rows, entry.name, [](const cells &row) { return row[0]; });
        ASSERT_NE(found, rows.end()) << entry.name;
        const auto *verdict = entry.kind == stat_kind::drop   ? "drop"
                              : entry.kind == stat_kind::pass ? "pass"
                              : i == SP_XDP_ponged            ? "answer"
                                                              : "redirect";
        EXPECT_EQ((*found)[1], verdict) << entry.name;
    }
}

TEST(wire_document, computes_what_fits_a_packet)
{
    const auto rows = table("How much fits", "MTU");
    ASSERT_EQ(rows.size(), 3u);
    for (const auto &row : rows) {
        const auto mtu = std::stoul(row[0]);
        const auto fits = [&](std::size_t headers) {
            return std::to_string(link::message_space(mtu - headers));
        };
        const auto share = [&](std::size_t message) {
            return std::to_string((mtu - sizeof(sp_ipv4) - SP_OVERHEAD) /
                                  link::record_space(message));
        };
        EXPECT_EQ(row[1], fits(sizeof(sp_ipv4)));
        EXPECT_EQ(row[2], fits(sizeof(sp_ipv4) + sizeof(sp_udp)));
        EXPECT_EQ(row[3], fits(sizeof(sp_ipv6)));
        EXPECT_EQ(row[4], share(64));
        EXPECT_EQ(row[5], share(256));
        EXPECT_EQ(row[6], share(1024));
    }
    static_assert(sizeof(sp_init) + sizeof(sp_ipv4) == 252 &&
                      sizeof(sp_init) + sizeof(sp_ipv6) == 272,
                  "the last paragraph of the document");
}

} // namespace
} // namespace sp
