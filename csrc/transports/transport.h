// A transport says who can be reached and gets the memory that the links lie in. catalogue.cpp lists all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace ringtree {

/// Memory that several ranks have in hand. Zeroed when created; unmapped with the object.
class Memory {
 public:
  Memory(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  virtual ~Memory() = default;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_;
  std::size_t size_;
};

class Transport {
 public:
  virtual ~Transport() = default;

  /// Equal on two ranks exactly if they can reach each other through this transport.
  virtual std::string reach() const = 0;

  /// How much more there is for create(), as far as is known.
  virtual std::size_t free_bytes() const = 0;

  /// Memory of `size` bytes, and the name under which other ranks open it. Throws TransportError.
  virtual std::pair<std::string, std::unique_ptr<Memory>> create(std::size_t size) = 0;

  /// The memory that another rank has created. Throws TransportError.
  virtual std::unique_ptr<Memory> open(const std::string& name, std::size_t size) = 0;

  /// Forgets the name. What is mapped stays mapped, and ends with its last user.
  virtual void forget(const std::string& name) noexcept = 0;
};

struct TransportEntry {
  const char* name;
  std::unique_ptr<Transport> (*make)();
};

/// All transports, in the order of csrc/CMakeLists.txt.
std::span<const TransportEntry> transports();

/// `name` as listed; throws InvalidArgument with the names there are.
std::unique_ptr<Transport> make_transport(const std::string& name);

/// 128 random bits as hexadecimal digits.
std::string random_name();

}  // namespace ringtree
