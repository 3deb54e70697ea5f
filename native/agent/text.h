// Text views, a growing byte buffer, a vector and an arena: all the agent has in place of the C++ library.
#pragma once

#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64  // journals beyond 2 GiB on 32-bit devices
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

namespace agent {

[[noreturn]] inline void out_of_memory() {
  static const char message[] = "agent: out of memory\n";
  if (write(2, message, sizeof message - 1) < 0) {
  }
  _exit(1);
}

inline void* allocate(void* old, size_t size) {
  void* memory = realloc(old, size);
  if (memory == nullptr) out_of_memory();
  return memory;
}

// A view of bytes; never owns them.
struct Text {
  const char* data = "";
  size_t size = 0;

  Text() = default;
  Text(const char* bytes, size_t length) : data(bytes), size(length) {}
  Text(const char* zero_ended) : data(zero_ended), size(strlen(zero_ended)) {}

  bool operator==(Text other) const { return size == other.size && memcmp(data, other.data, size) == 0; }
  bool operator!=(Text other) const { return !(*this == other); }
  bool starts_with(Text prefix) const { return size >= prefix.size && memcmp(data, prefix.data, prefix.size) == 0; }
  Text from(size_t offset) const { return {data + offset, size - offset}; }
  Text first(size_t length) const { return {data, length < size ? length : size}; }
};

inline bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

inline Text trim_end(Text text) {
  while (text.size > 0 && is_blank(text.data[text.size - 1])) --text.size;
  return text;
}

inline Text trim(Text text) {
  text = trim_end(text);
  while (text.size > 0 && is_blank(*text.data)) text = text.from(1);
  return text;
}

// A decimal number that fills the whole text; false if it is none or does not fit.
inline bool parse_number(Text text, int64_t* number) {
  bool negative = text.size > 0 && *text.data == '-';
  if (negative) text = text.from(1);
  if (text.size == 0) return false;
  int64_t value = 0;
  for (size_t i = 0; i < text.size; ++i) {
    if (!is_digit(text.data[i])) return false;
    int digit = text.data[i] - '0';
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, digit, &value)) return false;
  }
  if (!negative && value == INT64_MIN) return false;
  *number = negative ? value : -value;
  return true;
}

// The first integer that stands anywhere in the text ("377000 / user" has 377000).
inline bool first_number(Text text, Text* found) {
  for (size_t i = 0; i < text.size; ++i) {
    if (!is_digit(text.data[i])) continue;
    size_t end = i;
    while (end < text.size && is_digit(text.data[end])) ++end;
    size_t begin = i > 0 && text.data[i - 1] == '-' ? i - 1 : i;
    *found = {text.data + begin, end - begin};
    return true;
  }
  return false;
}

// Walks over blank-separated words.
inline bool next_word(Text* rest, Text* word) {
  while (rest->size > 0 && is_blank(*rest->data)) *rest = rest->from(1);
  size_t length = 0;
  while (length < rest->size && !is_blank(rest->data[length])) ++length;
  *word = rest->first(length);
  *rest = rest->from(length);
  return length > 0;
}

// Plain-data vector.
template <class T>
struct Vec {
  static_assert(__is_trivially_copyable(T), "moved with realloc");
  T* data = nullptr;
  size_t size = 0;
  size_t capacity = 0;

  Vec() = default;
  Vec(const Vec&) = delete;
  Vec& operator=(const Vec&) = delete;
  ~Vec() { free(data); }

  void reserve(size_t wanted) {
    if (wanted <= capacity) return;
    size_t grown = capacity * 2 > wanted ? capacity * 2 : wanted;
    if (grown > SIZE_MAX / sizeof(T)) out_of_memory();
    data = static_cast<T*>(allocate(data, grown * sizeof(T)));
    capacity = grown;
  }
  T& push(const T& item) {
    T copy = item;  // the item may lie in this very vector
    reserve(size + 1);
    data[size] = copy;
    return data[size++];
  }
  T& operator[](size_t index) { return data[index]; }
  const T& operator[](size_t index) const { return data[index]; }
  T* begin() { return data; }
  T* end() { return data + size; }
  const T* begin() const { return data; }
  const T* end() const { return data + size; }
  void clear() { size = 0; }
  void take(Vec* other) {
    free(data);
    data = other->data, size = other->size, capacity = other->capacity;
    other->data = nullptr, other->size = other->capacity = 0;
  }
};

// Bytes that grow.
struct Buf : Vec<char> {
  Text text() const { return {data != nullptr ? data : "", size}; }
  void add(Text more) {
    reserve(size + more.size);
    if (more.size > 0) memcpy(data + size, more.data, more.size);
    size += more.size;
  }
  void add(char c) { push(c); }
  void add_number(int64_t number) {
    char digits[24];
    add(Text(digits, static_cast<size_t>(snprintf(digits, sizeof digits, "%lld", static_cast<long long>(number)))));
  }
  // The bytes with a zero behind them; valid until the next change.
  const char* zero_ended() {
    reserve(size + 1);
    data[size] = '\0';
    return data;
  }
};

// Memory that is given back all at once: what was parsed or built for one run.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { reset(); }

  void reset() {
    while (newest_ != nullptr) {
      Block* older = newest_->older;
      free(newest_);
      newest_ = older;
    }
  }

  void* take(size_t size) {
    if (size > SIZE_MAX / 2) out_of_memory();
    size = (size + kAlign - 1) & ~(kAlign - 1);
    if (newest_ == nullptr || newest_->capacity - newest_->used < size) grow(size);
    void* memory = reinterpret_cast<char*>(newest_) + kHeader + newest_->used;
    newest_->used += size;
    return memory;
  }

  template <class T>
  T* make(size_t count = 1) {
    static_assert(__is_trivially_copyable(T), "nobody calls a destructor");
    if (count > SIZE_MAX / 2 / sizeof(T)) out_of_memory();
    T* items = static_cast<T*>(take(count * sizeof(T)));
    T blank{};
    for (size_t i = 0; i < count; ++i) memcpy(static_cast<void*>(&items[i]), &blank, sizeof(T));
    return items;
  }

  // A copy that is also zero-ended.
  Text copy(Text text) {
    char* bytes = static_cast<char*>(take(text.size + 1));
    if (text.size > 0) memcpy(bytes, text.data, text.size);
    bytes[text.size] = '\0';
    return {bytes, text.size};
  }

  Text join(Text a, Text b, Text c = {}) {
    char* bytes = static_cast<char*>(take(a.size + b.size + c.size + 1));
    memcpy(bytes, a.data, a.size);
    memcpy(bytes + a.size, b.data, b.size);
    memcpy(bytes + a.size + b.size, c.data, c.size);
    bytes[a.size + b.size + c.size] = '\0';
    return {bytes, a.size + b.size + c.size};
  }

 private:
  static constexpr size_t kAlign = alignof(max_align_t);
  struct Block {
    Block* older;
    size_t used, capacity;
  };
  static constexpr size_t kHeader = (sizeof(Block) + kAlign - 1) & ~(kAlign - 1);

  void grow(size_t size) {
    size_t capacity = size > 16384 ? size : 16384;
    Block* block = static_cast<Block*>(allocate(nullptr, kHeader + capacity));
    *block = {newest_, 0, capacity};
    newest_ = block;
  }

  Block* newest_ = nullptr;
};

// A list in an arena.
template <class T>
struct List {
  T* data = nullptr;
  size_t size = 0;
  T* begin() const { return data; }
  T* end() const { return data + size; }
  T& operator[](size_t index) const { return data[index]; }
};

}  // namespace agent
