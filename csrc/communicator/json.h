// Writes JSON, as little of it as dumps need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ringtree {

class Json {
 public:
  void open_object() { open('{'); }
  void close_object() { close('}'); }
  void open_array() { open('['); }
  void close_array() { close(']'); }

  /// What comes next is the value of `name`.
  void key(std::string_view name) {
    separate();
    quote(name);
    text_ += ':';
    needs_comma_ = false;
  }

  void string(std::string_view value) {
    separate();
    quote(value);
  }
  void number(std::uint64_t value) { plain(std::to_string(value)); }
  void number(std::int64_t value) { plain(std::to_string(value)); }
  void boolean(bool value) { plain(value ? "true" : "false"); }
  void null() { plain("null"); }

  const std::string& text() const { return text_; }

 private:
  void separate() {
    if (needs_comma_) text_ += ',';
    needs_comma_ = true;
  }
  void plain(std::string_view value) {
    separate();
    text_ += value;
  }
  void open(char bracket) {
    separate();
    text_ += bracket;
    needs_comma_ = false;
  }
  void close(char bracket) {
    text_ += bracket;
    needs_comma_ = true;
  }
  void quote(std::string_view value) {
    constexpr char kHex[] = "0123456789abcdef";
    text_ += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') {
        text_ += '\\';
        text_ += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        text_ += "\\u00";
        text_ += kHex[static_cast<unsigned char>(c) >> 4U];
        text_ += kHex[static_cast<unsigned char>(c) & 15U];
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace ringtree
