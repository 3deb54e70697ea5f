// What every part of klo uses: growable array, number parsing, errors, JSON text.
#pragma once

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <new>

#include "clock.h"

namespace klo {

constexpr int kExitFailed = 1;  // the device or the system refused
constexpr int kExitUsage = 2;   // an argument or a file is wrong

[[noreturn]] inline void fail(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

[[noreturn]] inline void fail(int code, const char* format, ...) {
  fflush(stdout);
  fputs("klo: ", stderr);
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(code);
}

// A growable array of values that may be moved in memory bytewise (all of klo's may). Not copyable, so that no copy is
// made by accident in a timed part.
template <typename T>
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  Array(Array&& other) noexcept : data_(other.data_), size_(other.size_), capacity_(other.capacity_) {
    other.data_ = nullptr;
    other.size_ = other.capacity_ = 0;
  }
  Array& operator=(Array&& other) noexcept {
    if (this != &other) {
      release();
      data_ = other.data_;
      size_ = other.size_;
      capacity_ = other.capacity_;
      other.data_ = nullptr;
      other.size_ = other.capacity_ = 0;
    }
    return *this;
  }
  ~Array() { release(); }

  void reserve(size_t wanted) {
    if (wanted <= capacity_) return;
    if (wanted > SIZE_MAX / sizeof(T)) fail(kExitFailed, "out of memory");
    void* bigger = realloc(static_cast<void*>(data_), wanted * sizeof(T));
    if (bigger == nullptr) fail(kExitFailed, "out of memory (%zu bytes)", wanted * sizeof(T));
    data_ = static_cast<T*>(bigger);
    capacity_ = wanted;
  }
  void push(const T& value) {
    if (size_ == capacity_) reserve(capacity_ == 0 ? 16 : capacity_ * 2);
    data_[size_++] = value;
  }
  // Moves a value in, for those that cannot be copied.
  void take(T& value) {
    if (size_ == capacity_) reserve(capacity_ == 0 ? 16 : capacity_ * 2);
    new (data_ + size_++) T(static_cast<T&&>(value));
  }
  void resize(size_t wanted, const T& value) {
    reserve(wanted);
    for (size_t i = size_; i < wanted; ++i) data_[i] = value;
    size_ = wanted;
  }
  void clear() { size_ = 0; }
  size_t size() const { return size_; }
  int count() const { return static_cast<int>(size_); }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  void release() {
    for (size_t i = 0; i < size_; ++i) data_[i].~T();
    free(static_cast<void*>(data_));
  }

  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// Digits alone, at least `low` and at most `high`.
inline bool parse_int(const char* text, int64_t low, int64_t high, int64_t& value) {
  if (*text == '\0') return false;
  int64_t sum = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9') return false;
    const int64_t digit = *text - '0';
    if (sum > (INT64_MAX - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  if (sum < low || sum > high) return false;
  value = sum;
  return true;
}

// A small text file as a string; `max_bytes` protects from /dev/zero and the like. False: errno says why.
inline bool read_file(const char* path, size_t max_bytes, Array<char>& text) {
  FILE* file = fopen(path, "re");
  if (file == nullptr) return false;
  text.clear();
  char chunk[4096];
  size_t got = 0;
  while ((got = fread(chunk, 1, sizeof chunk, file)) > 0) {
    if (text.size() + got > max_bytes) {
      fclose(file);
      fail(kExitUsage, "%s is longer than %zu bytes", path, max_bytes);
    }
    for (size_t i = 0; i < got; ++i) text.push(chunk[i]);
  }
  const bool fine = ferror(file) == 0;
  fclose(file);
  text.push('\0');
  return fine;
}

// Splits at blanks in place; at most `max` words, the count of words found (more than `max` if there were more).
inline int split_words(char* line, char** words, int max) {
  int count = 0;
  char* rest = nullptr;
  for (char* word = strtok_r(line, " \t\r", &rest); word != nullptr; word = strtok_r(nullptr, " \t\r", &rest)) {
    if (count < max) words[count] = word;
    ++count;
  }
  return count;
}

// A JSON string. Bytes that are not printable ASCII are written as \u00XX, so the line is valid whatever a driver says.
inline void print_json_string(const char* text) {
  putchar('"');
  for (; *text != '\0'; ++text) {
    const unsigned char c = static_cast<unsigned char>(*text);
    if (c == '"' || c == '\\') {
      printf("\\%c", c);
    } else if (c < 0x20 || c > 0x7e) {
      printf("\\u%04x", c);
    } else {
      putchar(c);
    }
  }
  putchar('"');
}

inline void print_json_array(const char* key, const int64_t* values, size_t count) {
  printf(",\"%s\":[", key);
  for (size_t i = 0; i < count; ++i) printf(i == 0 ? "%" PRId64 : ",%" PRId64, values[i]);
  putchar(']');
}

}  // namespace klo
