// SPDX-License-Identifier: BSD-2-Clause
//
// `sp demo`: two hosts on one machine exchange messages through XDP, beside TCP over the same
// wires, and two processes on one host do without. It fails when a message was lost or did not go
// through XDP; where this machine cannot have two hosts or XDP it does the local part, says what is
// missing and ends with 10.
#include "userspace/cli/demo_parts.hpp"
#include "userspace/cli/demo_verdict.hpp"
#include "userspace/cli/host.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <unistd.h>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t standard_share =
    5; // one in so many messages is repeated with the standard waiting

class show_master {
public:
    show_master(const demo_arguments &arguments, console &out)
        : arguments_(arguments), out_(out), signals_(open_signals()),
          began_(std::chrono::steady_clock::now())
    {
    }
    ~show_master() { ::close(signals_); }
    show_master(const show_master &) = delete;
    show_master &operator=(const show_master &) = delete;

    int run();

private:
    void say(const std::string &line)
    {
        if (!out_.json() && !out_.print(line + '\n'))
            unread_ = true;
    }
    void check_host();
    [[nodiscard]] result<void> between_hosts();
    [[nodiscard]] result<void> on_one_host();
    void hear_between(unsigned side, const report &r);
    void hear_local(unsigned side, const report &r);
    void hear_use(story &now, std::string_view way, unsigned side, const use_case &told);
    [[nodiscard]] std::vector<exchange> exchanges() const;
    int end(const result<void> &between, const result<void> &local);

    const demo_arguments &arguments_;
    console &out_;
    int signals_;
    std::chrono::steady_clock::time_point began_;
    std::optional<stage> stage_;
    story between_, local_;
    bool unread_ = false;
};

// What this machine does not give is no failure of sp: rights, kernel, driver, locked memory.
bool is_of_this_machine(const error &e)
{
    constexpr std::array numbers{1001, 1002, 1003, 1004, 1009};
    return std::ranges::find(numbers, e.number()) != numbers.end();
}

std::string label(const char *number, const char *title)
{
    return fmt::format("[{}] {:<20}", number, title);
}

void show_master::check_host()
{
    const auto k = kernel();
    const auto mine = capabilities::effective();
    const auto missing = mine.missing();
    const auto limit = memlock_limit();
    say(label("1/5", "host checks") +
        fmt::format("kernel {}, AF_XDP {}, BTF {}, {}, memlock {}{}", k.release,
                    has_af_xdp() ? "ok" : "missing", has_btf() ? "ok" : "missing",
                    missing.empty() ? mine.present() + " ok" : "missing: " + missing,
                    limit ? in_mebibytes(*limit) : "unlimited",
                    limit && mine.holds(capability::ipc_lock) ? " (CAP_IPC_LOCK lifts it)" : ""));
}

std::vector<exchange> show_master::exchanges() const
{
    const auto fewer = std::max<std::uint64_t>(arguments_.count / standard_share, 1);
    if (cpus() < 2) // on one CPU a spinner only keeps the other from running
        return {{manner::standard, arguments_.count}};
    return {{manner::spinning, arguments_.count}, {manner::standard, fewer}};
}

std::chrono::milliseconds patience_for(std::uint64_t messages)
{
    return 30s +
           std::chrono::milliseconds(messages / 2); // a slow round trip takes half a millisecond
}

// ---- between two hosts ----

result<void> show_master::between_hosts()
{
    if (arguments_.no_xdp)
        return std::unexpected(error::numbered(2025, "--no-xdp was given", "", "sp demo"));
    auto built = stage::build();
    if (!built)
        return std::unexpected(built.error());
    stage_.emplace(std::move(*built));
    const auto &a = stage_->at(host::a), &b = stage_->at(host::b);
    say(label("2/5", "two hosts") + fmt::format("netns {} {}/24 <-- veth mtu {} --> netns {} {}/24",
                                                a.name, a.address, stage_mtu, b.name, b.address));
    const auto at = [this](host where, unsigned number) {
        return fmt::format("ip://{}:{}?io=xdp", stage_->at(where).address, 7000 + number);
    };
    const script what{.at = at, .place = &*stage_, .exchanges = exchanges()};
    auto played = play({asking(what), answering(what)}, signals_, patience_for(arguments_.count),
                       [this](unsigned side, const report &r) { hear_between(side, r); });
    if (!played)
        return played;
    say(proof_of(between_));
    return judge(between_);
}

void show_master::hear_between(unsigned side, const report &r)
{
    auto &now = between_.of(r.how);
    switch (r.what) {
    case report::kind::attached:
        between_.attached[side] = r.proof;
        if (++between_.attached_count == 2) {
            const auto one = [&](unsigned i) {
                const auto &p = between_.attached[i];
                return fmt::format("{} {} id {}", stage_->at(i ? host::b : host::a).interface,
                                   p.native ? "native" : "skb", p.program_id);
            };
            say(label("3/5", "XDP loaded") +
                fmt::format("{} {}, {} {}, AF_XDP {}, queue 0", one(0), SP_PROGRAM_NAME, one(1),
                            SP_PROGRAM_NAME,
                            between_.attached[0].zero_copy ? "zero-copy" : "copy mode"));
            say(label("4/5", "messages across") +
                "REQ/REP of 64 bytes, one at a time, in turns with TCP_NODELAY on the same veth");
        }
        break;
    case report::kind::messages:
        if (side == 0)
            now.ours = r.measured;
        else
            now.served_via_xdp = r.measured.via_xdp;
        break;
    case report::kind::tcp:
        now.theirs = r.measured;
        say(figures_line(name_of(r.how), "ip/xdp", now.ours));
        say(figures_line("", "TCP", now.theirs, comparison_of(now)));
        break;
    case report::kind::proof:
        now.proof[side] = r.proof;
        break;
    case report::kind::used:
        hear_use(between_, "ip/xdp", side, r.use);
        break;
    case report::kind::use_proof:
        between_.use_proof[side].unknown_protocols += r.proof.unknown_protocols;
        for (std::size_t i = 0; i < r.proof.counted.size(); ++i)
            between_.use_proof[side].counted[i] += r.proof.counted[i];
        break;
    case report::kind::failed:
        break;
    }
}

void show_master::hear_use(story &now, std::string_view way, unsigned side, const use_case &told)
{
    now.uses.hear(side, told);
    if (now.uses.whole(told.what))
        say(now.uses.line_of(told.what, way));
}

// ---- on one host ----

// A directory for one socket; gone with the object, and with the next run after a kill.
class meeting_place {
public:
    meeting_place()
    {
        remove_stale();
        auto name = fmt::format("/tmp/sp-demo-{}-XXXXXX", ::getpid());
        if (::mkdtemp(name.data()))
            path_ = name;
    }
    ~meeting_place()
    {
        std::error_code none;
        if (!path_.empty())
            std::filesystem::remove_all(path_, none);
    }
    meeting_place(const meeting_place &) = delete;
    meeting_place &operator=(const meeting_place &) = delete;
    [[nodiscard]] const std::string &path() const noexcept { return path_; }

private:
    static void remove_stale()
    {
        std::error_code none;
        for (const auto &entry : std::filesystem::directory_iterator("/tmp", none)) {
            const auto name = entry.path().filename().string();
            int pid = 0;
            if (std::sscanf(name.c_str(), "sp-demo-%d-", &pid) == 1 && pid > 0 &&
                ::kill(pid, 0) != 0 && errno == ESRCH)
                std::filesystem::remove_all(entry.path(), none);
        }
    }

    std::string path_;
};

result<void> show_master::on_one_host()
{
    const meeting_place here;
    if (here.path().empty())
        return std::unexpected(
            error::numbered(2037, "no directory for a socket", "/tmp cannot be written", ""));
    say(label("5/5", "same host") + "REQ/REP of 64 bytes between two processes");
    const auto at = [&](host, unsigned number) {
        return fmt::format("unixgram://{}/{}.sock", here.path(), number);
    };
    const script what{.at = at, .place = nullptr, .exchanges = exchanges()};
    auto played = play({asking(what), answering(what)}, signals_, patience_for(arguments_.count),
                       [this](unsigned side, const report &r) { hear_local(side, r); });
    if (!played)
        return played;
    for (const auto *p : {&local_.spinning, &local_.standard})
        if (p->ours.answered != p->ours.asked)
            return std::unexpected(
                error::numbered(9001, "messages were lost", "", "please report it"));
    return local_.uses.judge();
}

void show_master::hear_local(unsigned side, const report &r)
{
    if (r.what == report::kind::used)
        hear_use(local_, "unixgram", side, r.use);
    if (side != 0 || r.what != report::kind::messages)
        return;
    local_.of(r.how).ours = r.measured;
    say(figures_line(name_of(r.how), "unixgram", r.measured));
}

// ---- the end ----

int show_master::end(const result<void> &between, const result<void> &local)
{
    const int exit = between ? exit_done : exit_partly;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
    if (!local)
        return out_.fail(local.error(), exit_failed);
    if (out_.json()) {
        json::object members{{"ip_xdp", object_of(between_)}, {"unixgram", object_of(local_)}};
        if (!between)
            members.push_back({"skipped", between.error().what()});
        return out_.object("sp.demo/1", exit, std::move(members));
    }
    if (between)
        say(fmt::format("demo ok in {:.1f} s. Next: sp --help, README.md, make test",
                        took.count()));
    else {
        const auto &e = between.error();
        say(fmt::format("SKIPPED ip/xdp: {}{}{}  fix: {}", e.what(), e.why().empty() ? "" : ": ",
                        e.why(), e.fix()));
        say(fmt::format("demo partly done in {:.1f} s", took.count()));
    }
    return unread_ ? exit_failed : exit;
}

int show_master::run()
{
    const auto stopped = [this] { return exit_signal + std::max(take_signal(signals_), 1); };
    check_host();
    const auto between = between_hosts();
    if (!between && between.error() == errc::canceled)
        return stopped();
    if (!between && stage_ && !is_of_this_machine(between.error()))
        return out_.fail(between.error(), exit_failed);
    const auto local = on_one_host();
    if (!local && local.error() == errc::canceled)
        return stopped();
    return end(between, local);
}

} // namespace

int demo(const demo_arguments &arguments, console &out)
{
    if (arguments.count == 0)
        return out.fail(error::numbered(4002, "a demo without messages shows nothing", "--count 0",
                                        "sp demo --count 1000"));
    return show_master(arguments, out).run();
}

} // namespace sp::cli
