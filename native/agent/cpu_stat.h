// The counters of /proc/stat by CPU. The file stays open, and nothing is allocated once its buffer has grown.
#pragma once

#include "cpus.h"

namespace agent {

// In ticks since boot; -1: offline.
struct CpuTicks {
  int64_t busy = -1, total = -1;
  int64_t work = -1;  // of busy, what tasks used: without interrupts and what a hypervisor took
};

class CpuStat {
 public:
  CpuStat() {
    stat_.set(open("/proc/stat", O_RDONLY | O_CLOEXEC));
    buffer_.reserve(16384);
  }

  // Calls ``visit(cpu, ticks)`` for every online CPU.
  template <class Visit>
  void read(Visit visit) {
    if (!stat_.ok()) return;
    ssize_t got;
    while ((got = pread(stat_.get(), buffer_.data, buffer_.capacity, 0)) == static_cast<ssize_t>(buffer_.capacity) &&
           !cpus_end({buffer_.data, static_cast<size_t>(got)})) {
      buffer_.reserve(buffer_.capacity * 2);  // the interrupt line comes behind the CPUs and may be cut
    }
    const char* at = buffer_.data;
    const char* end = at + (got > 0 ? got : 0);
    while (end - at > 4 && memcmp(at, "cpu", 3) == 0) {
      const char* line_end = static_cast<const char*>(memchr(at, '\n', static_cast<size_t>(end - at)));
      if (line_end == nullptr) return;
      if (is_digit(at[3])) parse_line(at + 3, line_end, visit);
      at = line_end + 1;
    }
  }

 private:
  static bool cpus_end(Text text) {
    for (size_t i = 0; i + 1 < text.size; ++i) {
      if (text.data[i] == '\n' && text.data[i + 1] != 'c') return true;
    }
    return false;
  }

  // user nice system idle iowait irq softirq steal; what guests used is part of user.
  template <class Visit>
  static void parse_line(const char* at, const char* end, Visit visit) {
    int64_t values[9] = {};
    int count = 0;
    while (at < end && count < 9) {
      int64_t value = 0;
      while (at < end && is_digit(*at)) value = value * 10 + (*at++ - '0');
      values[count++] = value;
      while (at < end && !is_digit(*at)) ++at;
    }
    if (count < 5 || values[0] >= kMaxCpus) return;
    CpuTicks ticks{0, 0, 0};
    for (int i = 1; i < count; ++i) {
      ticks.total += values[i];
      if (i != 4 && i != 5) ticks.busy += values[i];
      if (i <= 3) ticks.work += values[i];
    }
    visit(static_cast<int>(values[0]), ticks);
  }

  Fd stat_;
  Buf buffer_;
};

}  // namespace agent
