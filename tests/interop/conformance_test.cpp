// SPDX-License-Identifier: BSD-2-Clause
//
// Is every conformance scenario there? A scenario's tests begin with its id; the suites below are
// of one rig each. The list that this prints is the count.
#include <algorithm>
#include <array>
#include <cstdio>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

namespace {

using std::string_view;

struct scenario {
    string_view id, what;
    bool bytes, nng; // with which rig it can be told: the byte driver, the real libnng or nngcat
};

constexpr std::array scenarios{
    scenario{"f1", "hello of each protocol, sp listens", true, true},
    scenario{"f2", "hello, sp dials", true, false},
    scenario{"f3", "a hello in pieces", true, false},
    scenario{"f4", "another protocol dials", true, false},
    scenario{"f5", "sp dials another protocol", true, true},
    scenario{"f6", "another type byte", true, false},
    scenario{"f7", "lengths of 2^60 and 2^63", true, false},
    scenario{"f8", "the largest message, header included", true, true},
    scenario{"f9", "a thousand frames at once", true, true},
    scenario{"f10", "empty bodies", true, true},
    scenario{"f11", "10 MB and 100 MB", true, true},
    scenario{"q1", "requests and replies", true, true},
    scenario{"q2", "backtraces of 1, 2 and 8 words", true, true},
    scenario{"q3", "more words than ttl_max", true, true},
    scenario{"q4", "headers too short or without an end", true, false},
    scenario{"q5", "twenty words without an end", true, false},
    scenario{"q6", "a reply without a request", true, true},
    scenario{"q7", "two requests taken, one answered", true, true},
    scenario{"q8", "a receive without a request, and a second one", true, true},
    scenario{"q9", "a reply from a pipe that was not asked", true, true},
    scenario{"q10", "resend", true, true},
    scenario{"q11", "a new request ends the old one", true, true},
    scenario{"q12", "a request without a peer", true, false},
    scenario{"q13", "a slow replier pushes back", true, true},
    scenario{"q14", "a reply to a closed pipe", true, true},
    scenario{"q15", "a raw REQ and 31 words", true, false},
    scenario{"v1", "a survey and three answers", true, true},
    scenario{"v2", "the end of a survey", true, true},
    scenario{"v3", "two answers of one respondent", true, true},
    scenario{"v4", "answers too short, or without bit 31", true, false},
    scenario{"v5", "a respondent's backtraces", true, true},
    scenario{"v6", "two questions taken, one answered", true, true},
    scenario{"b1", "a BUS of three, all connected", true, true},
    scenario{"b2", "a BUS send that does not wait", true, true},
    scenario{"p1", "a PAIR whose peer does not read", true, true},
    scenario{"p2", "PAIR v0 meets v1", true, true},
    scenario{"p3", "the hop word is 1", true, true},
    scenario{"p4", "a peer that sends hop word 0", true, true},
    scenario{"t1", "PUB to subscribers", true, true},
    scenario{"t2", "SUB and its topics", true, true},
    scenario{"t3", "a PUB that receives", true, true},
    scenario{"l1", "PUSH to three workers", true, true},
    scenario{"l2", "PUSH without a worker", true, true},
    scenario{"l3", "a PUSH that receives", true, true},
    scenario{"l4", "PULL takes in turn", true, true},
    scenario{"e1", "a listener that starts late and restarts", true, true},
    scenario{"e2", "two listeners on one path", true, true},
    scenario{"e3", "a thousand clients", true, true},
    scenario{"e4", "close while a receive waits", true, true},
    scenario{"e5", "abstract names", true, true},
    scenario{"e6", "rights and lists of users", true, true},
    scenario{"e7", "a pipe refused while it attaches", true, true},
    scenario{"x1", "nngcat in every role", false, true},
    scenario{"x3", "mutated transcripts", true, false},
    scenario{"x4", "a device of libnng between, connections cut", false, true},
};

bool of_libnng(string_view suite)
{
    return suite.contains("nng");
}

int tests_of(const scenario &s, bool nng)
{
    const auto *all = testing::UnitTest::GetInstance();
    int count = 0;
    for (int i = 0; i < all->total_test_suite_count(); ++i) {
        const auto *suite = all->GetTestSuite(i);
        if (of_libnng(suite->name()) != nng)
            continue;
        for (int j = 0; j < suite->total_test_count(); ++j) {
            const string_view name = suite->GetTestInfo(j)->name();
            count +=
                name.size() > s.id.size() && name.starts_with(s.id) && name[s.id.size()] == '_';
        }
    }
    return count;
}

TEST(conformance, every_scenario_has_its_tests)
{
    int with_bytes = 0, with_nng = 0;
    for (const auto &s : scenarios) {
        const int bytes = tests_of(s, false), nng = tests_of(s, true);
        EXPECT_EQ(bytes > 0, s.bytes) << s.id << ": " << s.what << ", by bytes";
        EXPECT_EQ(nng > 0, s.nng) << s.id << ": " << s.what << ", with libnng or nngcat";
        with_bytes += bytes;
        with_nng += nng;
    }
    std::printf("%zu scenarios: %d tests by bytes, %d with libnng or nngcat\n", scenarios.size(),
                with_bytes, with_nng);
}

} // namespace
