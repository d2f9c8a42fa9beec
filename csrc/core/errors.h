// The errors that a caller can meet; errors.def is their only list.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ringtree {

enum class ErrorKind : std::uint32_t {
#define RINGTREE_ERROR(name, base, documentation) name,
#include "core/errors.def"
#undef RINGTREE_ERROR
};

constexpr const char* name_of(ErrorKind kind) {
  switch (kind) {
#define RINGTREE_ERROR(name, base, documentation) \
  case ErrorKind::name: return #name;
#include "core/errors.def"
#undef RINGTREE_ERROR
  }
  return "unknown";
}

/// `ranks` are the ranks at fault, as far as they are known.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text, std::vector<int> ranks = {})
      : std::runtime_error(text), kind_(kind), ranks_(std::move(ranks)) {}

  ErrorKind kind() const { return kind_; }
  const std::vector<int>& ranks() const { return ranks_; }

 private:
  ErrorKind kind_;
  std::vector<int> ranks_;
};

#define RINGTREE_ERROR(name, base, documentation)                       \
  class name : public Error {                                           \
   public:                                                              \
    explicit name(const std::string& text, std::vector<int> ranks = {}) \
        : Error(ErrorKind::name, text, std::move(ranks)) {}             \
  };
#include "core/errors.def"
#undef RINGTREE_ERROR

/// Not an error of ours: the user pressed Ctrl-C while a call waited. The binding turns it into what the
/// interpreter already has pending.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted by a signal"; }
};

}  // namespace ringtree
