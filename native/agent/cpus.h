// Sets of CPUs and affinity by the bare system calls, so that CPU numbers beyond a libc's cpu_set_t fit.
#pragma once

#include <errno.h>

#include <sys/syscall.h>
#include <sys/types.h>

#include "plan.h"

namespace agent {

struct CpuSet {
  unsigned long bits[kMaxCpus / 8 / sizeof(unsigned long)] = {};

  static constexpr int kPerWord = 8 * sizeof(unsigned long);
  void add(int cpu) { bits[cpu / kPerWord] |= 1ul << (cpu % kPerWord); }
  bool has(int cpu) const { return (bits[cpu / kPerWord] >> (cpu % kPerWord) & 1) != 0; }
  bool operator==(const CpuSet& other) const { return memcmp(bits, other.bits, sizeof bits) == 0; }

  static CpuSet of(const List<int>& cpus) {
    CpuSet set;
    for (int cpu : cpus) set.add(cpu);
    return set;
  }
  void list(Vec<int>* into) const {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (has(cpu)) into->push(cpu);
    }
  }
  // As the kernel writes lists: "0-3,7".
  void print(Buf* out) const {
    bool first = true;
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (!has(cpu)) continue;
      int last = cpu;
      while (last + 1 < kMaxCpus && has(last + 1)) ++last;
      if (!first) out->add(',');
      first = false;
      out->add_number(cpu);
      if (last > cpu) {
        out->add('-');
        out->add_number(last);
      }
      cpu = last;
    }
    if (first) out->add(Text("none"));
  }
};

// Both return 0 or errno. Pid 0 is the caller.
inline int set_affinity(pid_t pid, const CpuSet& set) {
  return syscall(SYS_sched_setaffinity, pid, sizeof set.bits, set.bits) < 0 ? errno : 0;
}
inline int get_affinity(pid_t pid, CpuSet* set) {
  *set = CpuSet();
  return syscall(SYS_sched_getaffinity, pid, sizeof set->bits, set->bits) < 0 ? errno : 0;
}

// Parses "0-3,7"; false if it is no such list.
inline bool parse_cpus(Text text, CpuSet* set) {
  while (text.size > 0) {
    size_t end = 0;
    while (end < text.size && text.data[end] != ',') ++end;
    Text part = trim(text.first(end));
    text = text.from(end < text.size ? end + 1 : end);
    size_t dash = 0;
    while (dash < part.size && part.data[dash] != '-') ++dash;
    int64_t low = 0, high = 0;
    if (!parse_number(part.first(dash), &low)) return false;
    high = low;
    if (dash < part.size && !parse_number(part.from(dash + 1), &high)) return false;
    if (low < 0 || high < low || high >= kMaxCpus) return false;
    for (int64_t cpu = low; cpu <= high; ++cpu) set->add(static_cast<int>(cpu));
  }
  return true;
}

}  // namespace agent
