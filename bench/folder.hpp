// SPDX-License-Identifier: BSD-2-Clause
//
// A place for the paths of a benchmark's listeners, gone with this object.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace sp::bench {

class folder {
public:
    folder() { (void)::mkdtemp(path_.data()); }
    folder(const folder &) = delete;
    folder &operator=(const folder &) = delete;
    ~folder()
    {
        std::error_code none;
        std::filesystem::remove_all(path_, none);
    }
    [[nodiscard]] std::string file(const std::string &name) const { return path_ + '/' + name; }

private:
    std::string path_ = std::filesystem::temp_directory_path().string() + "/sp-bench-XXXXXX";
};

} // namespace sp::bench
