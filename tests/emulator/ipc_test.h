// The tests of IPC start this program again, as another process.
#pragma once

#include <optional>

namespace ringtree_emulator {

/// The exit status, if the arguments say that this is such a process.
std::optional<int> run_as_other_process(int argc, char** argv);

}  // namespace ringtree_emulator
