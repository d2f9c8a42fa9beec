// Our errors as users of torch.distributed know them.
#pragma once

#include <exception>
#include <utility>

namespace ringtree {

/// What to throw in place of `error`: DistBackendError with our text, ValueError for an InvalidArgument,
/// KeyboardInterrupt for an Interrupted; anything else as it is.
std::exception_ptr for_torch(const std::exception_ptr& error);

/// What `work` returns; what it throws, for torch.
template <class Work>
auto translated(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (...) {
    std::rethrow_exception(for_torch(std::current_exception()));
  }
}

}  // namespace ringtree
