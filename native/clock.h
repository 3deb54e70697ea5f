// The clock of everything that is measured.
#pragma once

#include <stdint.h>
#include <time.h>

// CLOCK_MONOTONIC in nanoseconds.
inline int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}
