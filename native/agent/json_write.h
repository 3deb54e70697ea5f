// Writing JSON: to a buffer, or through a small buffer to a file with a running checksum of the line.
#pragma once

#include "sha256.h"
#include "sys.h"
#include "utf8.h"

namespace agent {

// Where JSON goes. With a file, what exceeds ``kChunk`` is written out at once; the first error is kept.
class Sink {
 public:
  explicit Sink(int fd = -1) : fd_(fd) {}
  void direct(int fd) { fd_ = fd; }

  void add(Text bytes) {
    pending_.add(bytes);
    if (fd_ >= 0 && pending_.size >= kChunk) flush();
  }
  void add(char c) { add(Text(&c, 1)); }
  void add_number(int64_t number) { pending_.add_number(number); }

  int flush() {
    if (hashing_) hash_.add(pending_.text().from(hashed_));
    if (fd_ >= 0) {
      if (error_ == 0) error_ = write_all(fd_, pending_.text());
      pending_.clear();
    }
    hashed_ = pending_.size;
    return error_;
  }

  // Starts and ends a sealed line: ``finish_line`` appends the checksum of all since ``begin_line``.
  void begin_line() {
    hash_ = Sha256();
    hashing_ = true;
    hashed_ = pending_.size;
  }
  void finish_line() {
    hash_.add(pending_.text().from(hashed_));
    hashing_ = false;
    char hex[65];
    hash_.finish(hex);
    add(Text(",\"line_sha256\":\""));
    add(Text(hex));
    add(Text("\"}\n"));
  }

  int error() const { return error_; }
  Text text() const { return pending_.text(); }
  void clear() {
    pending_.clear();
    hashed_ = 0;
    error_ = 0;
  }

 private:
  static constexpr size_t kChunk = 1 << 20;
  Buf pending_;
  Sha256 hash_;
  bool hashing_ = false;
  size_t hashed_ = 0;
  int fd_;
  int error_ = 0;
};

// Writes values with the commas between them. Text that is not UTF-8 becomes U+FFFD where it is not.
class Json {
 public:
  explicit Json(Sink* sink) : out_(sink) {}

  Json& open(char bracket) {
    separate();
    out_->add(bracket);
    comma_ = false;
    return *this;
  }
  Json& close(char bracket) {
    out_->add(bracket);
    comma_ = true;
    return *this;
  }
  Json& key(Text name) {
    text(name);
    out_->add(':');
    comma_ = false;
    return *this;
  }
  Json& number(int64_t value) {
    separate();
    out_->add_number(value);
    return *this;
  }
  Json& boolean(bool value) { return raw(value ? Text("true") : Text("false")); }
  Json& null() { return raw("null"); }
  Json& text(Text value) {
    separate();
    out_->add('"');
    characters(value);
    out_->add('"');
    return *this;
  }

  Json& member(Text name, Text value) { return key(name).text(value); }
  Json& member(Text name, const char* value) { return key(name).text(value); }
  Json& member(Text name, int64_t value) { return key(name).number(value); }
  Json& member_bool(Text name, bool value) { return key(name).boolean(value); }
  Json& member_numbers(Text name, const int* begin, size_t count) {
    key(name).open('[');
    for (size_t i = 0; i < count; ++i) number(begin[i]);
    return close(']');
  }
  Json& member_texts(Text name, const List<Text>& values) {
    key(name).open('[');
    for (Text value : values) text(value);
    return close(']');
  }
  // A text, or null where there is none (a null data pointer).
  Json& text_or_null(Text value) { return value.data == nullptr ? null() : text(value); }

  // Already JSON.
  Json& raw(Text json) {
    separate();
    out_->add(json);
    return *this;
  }
  // The inside of a string, for texts that come in pieces; the quotes are the caller's.
  void characters(Text value) {
    size_t plain = 0;
    for (size_t i = 0; i < value.size;) {
      unsigned char c = static_cast<unsigned char>(value.data[i]);
      size_t length = utf8_length(value.from(i));
      if (c >= 0x20 && c != '"' && c != '\\' && length > 0) {
        i += length;
        continue;
      }
      out_->add(Text(value.data + plain, i - plain));
      if (length == 0) {
        out_->add(Text("\xef\xbf\xbd"));
      } else {
        escape(c);
      }
      plain = ++i;
    }
    out_->add(value.from(plain));
  }
  Json& quote_open() {
    separate();
    out_->add('"');
    return *this;
  }
  void quote_close() { out_->add('"'); }

 private:
  void separate() {
    if (comma_) out_->add(',');
    comma_ = true;
  }
  void escape(unsigned char c) {
    char code[8];
    switch (c) {
      case '"': out_->add(Text("\\\"")); break;
      case '\\': out_->add(Text("\\\\")); break;
      case '\n': out_->add(Text("\\n")); break;
      case '\t': out_->add(Text("\\t")); break;
      case '\r': out_->add(Text("\\r")); break;
      default: snprintf(code, sizeof code, "\\u%04x", c); out_->add(Text(code));
    }
  }

  Sink* out_;
  bool comma_ = false;
};

// Base64 (RFC 4648) of a piece; only the last piece may have a length that is not a multiple of 3.
inline void base64(Sink* out, Text bytes) {
  static const char table[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size; i += 3) {
    size_t left = bytes.size - i;
    auto byte = [&](size_t k) -> uint32_t { return k < left ? static_cast<unsigned char>(bytes.data[i + k]) : 0; };
    uint32_t bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    char four[4] = {table[bits >> 18], table[bits >> 12 & 63], left > 1 ? table[bits >> 6 & 63] : '=',
                    left > 2 ? table[bits & 63] : '='};
    out->add(Text(four, 4));
  }
}

inline bool unbase64(Text from, Buf* into) {
  uint32_t bits = 0;
  int filled = 0;
  for (size_t i = 0; i < from.size && from.data[i] != '='; ++i) {
    char c = from.data[i];
    int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : is_digit(c)          ? c - '0' + 52
                : c == '+'             ? 62
                : c == '/'             ? 63
                                       : -1;
    if (digit < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    filled += 6;
    if (filled >= 8) {
      filled -= 8;
      into->add(static_cast<char>(static_cast<unsigned char>(bits >> filled)));
      bits &= (1u << filled) - 1;
    }
  }
  return true;
}

}  // namespace agent
