// What every part of the layer uses: growable array, lock, number parsing.
//
// Nothing here ends the process or prints: the program in front of which the layer stands is somebody else's.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "clock.h"
#include "opencl_layer/api.h"

namespace layer {

// A growable array of plain values. Where memory is short it stops growing and says so.
template <typename T>
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data_); }

  bool reserve(size_t wanted) {
    if (wanted <= capacity_) return true;
    size_t room = capacity_ == 0 ? 64 : capacity_;
    while (room < wanted) room *= 2;
    void* bigger = realloc(data_, room * sizeof(T));
    if (bigger == nullptr) {
      failed_ = true;
      return false;
    }
    data_ = static_cast<T*>(bigger);
    capacity_ = room;
    return true;
  }
  void push(T value) {
    if (size_ < capacity_ || reserve(size_ + 1)) data_[size_++] = value;
  }
  void clear() {
    size_ = 0;
    failed_ = false;
  }
  bool failed() const { return failed_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  bool failed_ = false;
};

// As new, without the C++ library (phones' binaries link none); null where memory is short.
template <typename T, typename... A>
T* make(A... arguments) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignof(T) < sizeof(void*) ? sizeof(void*) : alignof(T), sizeof(T)) != 0) return nullptr;
  return new (memory) T(arguments...);
}

class Lock {
 public:
  explicit Lock(pthread_mutex_t& mutex) : mutex_(mutex) { pthread_mutex_lock(&mutex_); }
  ~Lock() { pthread_mutex_unlock(&mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

// Digits alone, at least `low` and at most `high`; `end` is set behind them.
inline bool read_number(const char* text, const char** end, int64_t low, int64_t high, int64_t& value) {
  int64_t sum = 0;
  const char* c = text;
  for (; *c >= '0' && *c <= '9'; ++c) {
    if (sum > (INT64_MAX - 9) / 10) return false;
    sum = sum * 10 + (*c - '0');
  }
  *end = c;
  if (c == text || sum < low || sum > high) return false;
  value = sum;
  return true;
}

}  // namespace layer
