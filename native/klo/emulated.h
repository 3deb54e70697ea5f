// A GPU that does not exist: its timeline is computed from the real times at which kernels are enqueued and flushed.
//
// The host's part is real: parameter work, flushes that cost CPU time, and a wait in real time until the computed end.
// No second thread runs, so nothing competes with the load under study. Whatever comes out says that it is simulated.
#pragma once

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "klo/options.h"
#include "klo/producer.h"
#include "klo/samples.h"

namespace klo {

constexpr int kMaxCpus = 512;

// How the emulated board behaves just now; read again before every inference, since clocks change.
struct Emulation {
  int64_t flush_ns = 12000;
  int64_t start_idle_ns = 30000;
  int64_t gap_ns = 8000;
  int64_t flush_per_kernel_ns = 0;
  int64_t gpu_pct = 100;
  int cpus = 0;
  int64_t cpu_pct[kMaxCpus] = {};
  const char* source = "nominal";
};

inline void read_emulation_line(const char* path, char* line, Emulation& e) {
  char* words[kMaxCpus + 1];
  const int count = split_words(line, words, kMaxCpus + 1);
  if (count == 0) return;
  const struct {
    const char* key;
    int64_t* value;
    int64_t low, high;
  } numbers[] = {{"flush_ns", &e.flush_ns, 0, kMaxNs},
                 {"start_idle_ns", &e.start_idle_ns, 0, kMaxNs},
                 {"gap_ns", &e.gap_ns, 0, kMaxNs},
                 {"flush_per_kernel_ns", &e.flush_per_kernel_ns, 0, kMaxNs},
                 {"gpu_time_pct", &e.gpu_pct, 1, 1000000}};
  for (const auto& one : numbers) {
    if (strcmp(words[0], one.key) != 0) continue;
    if (count != 2 || !parse_int(words[1], one.low, one.high, *one.value)) {
      fail(kExitUsage, "%s: %s is not a number in range", path, one.key);
    }
  }
  if (strcmp(words[0], "cpu_time_pct") == 0) {
    if (count > kMaxCpus + 1) fail(kExitUsage, "%s: more than %d CPUs", path, kMaxCpus);
    for (int i = 1; i < count; ++i) {
      if (!parse_int(words[i], 1, 1000000, e.cpu_pct[i - 1])) {
        fail(kExitUsage, "%s: cpu_time_pct holds %.40s", path, words[i]);
      }
    }
    e.cpus = count - 1;
  }
}

// The board's file if there is one, else nominal values; what was given as an argument goes before both.
inline void read_emulation(const Options& options, Emulation& e) {
  e = Emulation();
  const char* path = options.emulation != nullptr ? options.emulation : kDefaultEmulation;
  Array<char> text;
  if (read_file(path, 1 << 16, text)) {
    e.source = path;
    char* rest = nullptr;
    for (char* line = strtok_r(text.data(), "\n", &rest); line != nullptr; line = strtok_r(nullptr, "\n", &rest)) {
      read_emulation_line(path, line, e);
    }
  } else if (options.emulation != nullptr) {
    fail(kExitUsage, "cannot read %s: %s", path, strerror(errno));
  }
  if (options.flush_ns >= 0) e.flush_ns = options.flush_ns;
  if (options.start_idle_ns >= 0) e.start_idle_ns = options.start_idle_ns;
  if (options.gap_ns >= 0) e.gap_ns = options.gap_ns;
  if (options.flush_per_kernel_ns >= 0) e.flush_per_kernel_ns = options.flush_per_kernel_ns;
}

// The CPU this process works on: the one it is on, or the first it may use where that is none of those. (Of a virtual
// board's CPUs the C library knows nothing: it asks the host's.)
inline int present_cpu() {
  const int here = sched_getcpu();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return here;
  if (here >= 0 && here < CPU_SETSIZE && CPU_ISSET(static_cast<size_t>(here), &set)) return here;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<size_t>(i), &set)) return i;
  }
  return here;
}

// Sleep until shortly before, then watch the clock: a sleep alone would add its own wake-up time to the result.
inline void wait_until(int64_t end_ns) {
  constexpr int64_t kSpinNs = 80000;
  const int64_t wake = end_ns - kSpinNs;
  if (wake > now_ns()) {
    timespec at{};
    at.tv_sec = static_cast<time_t>(wake / 1000000000);
    at.tv_nsec = static_cast<long>(wake % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
    }
  }
  while (now_ns() < end_ns) {
  }
}

class EmulatedGpu {
 public:
  EmulatedGpu(const Options& options, const Network& net) : options_(options), net_(net) {
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    read_emulation(options_, emulation_);
  }

  const Emulation& emulation() const { return emulation_; }
  uint64_t hash() const { return producer_.hash(); }

  void print_header() const {
    fputs(",\"simulated\":true,\"platform\":\"devicelab\",\"device\":\"emulated GPU\",\"driver\":\"klo emulation\"", stdout);
    fputs(",\"extensions\":\"\",\"clock\":\"host\",\"device_minus_host_ns\":0,\"emulation\":", stdout);
    print_json_string(emulation_.source);
    printf(",\"flush_ns\":%" PRId64 ",\"start_idle_ns\":%" PRId64 ",\"gap_ns\":%" PRId64 ",\"flush_per_kernel_ns\":%" PRId64,
           emulation_.flush_ns, emulation_.start_idle_ns, emulation_.gap_ns, emulation_.flush_per_kernel_ns);
  }
  void before(Phase) {}
  void after(Phase) {}
  bool goes_on(Phase) const { return false; }
  void print_beside() const {}
  void print_end() const {}
  // The costs this GPU really has, for a planner that was given none.
  bool own_costs(int64_t costs[kCosts]) const {
    costs[0] = emulation_.flush_ns;
    costs[1] = emulation_.start_idle_ns;
    costs[2] = emulation_.gap_ns;
    costs[3] = emulation_.flush_per_kernel_ns;
    return true;
  }

  // Outside the timed part.
  void begin(Inference& one) {
    read_emulation(options_, emulation_);
    const int cpu = present_cpu();
    const bool known = cpu >= 0 && cpu < emulation_.cpus;
    one.cpu = cpu;
    one.cpu_pct = emulation_.cpus == 0 ? 100 : emulation_.cpu_pct[known ? cpu : 0];
    one.gpu_pct = emulation_.gpu_pct;
    profiled_ = has_stamps(one.phase);
    record_ = &one;
    first_ = 0;
    enqueued_ = 0;
    gpu_end_ns_ = 0;
  }

  void enqueue(int i) {
    const Layer& layer = net_.layers[static_cast<size_t>(i)];
    producer_.work(layer.work_units() * options_.work_pct / 100 * record_->cpu_pct / 100, layer);
    producer_.window(layer);
    if (profiled_) record_->queued_ns.push(now_ns());
    ++enqueued_;
  }

  void flush() {
    // A flush is work of this CPU, so a slow clock makes it longer.
    const int64_t cost = emulation_.flush_ns + (enqueued_ - first_) * emulation_.flush_per_kernel_ns;
    burn_ns(cost * record_->cpu_pct / 100);
    const int64_t flushed = now_ns();
    int64_t start = flushed + emulation_.start_idle_ns;
    if (gpu_end_ns_ + emulation_.gap_ns > start) start = gpu_end_ns_ + emulation_.gap_ns;
    for (; first_ < enqueued_; ++first_) {
      const int64_t end = start + net_.layers[static_cast<size_t>(first_)].nominal_ker_ns() * record_->gpu_pct / 100;
      if (profiled_) {
        record_->submit_ns.push(flushed);
        record_->start_ns.push(start);
        record_->finish_ns.push(end);
      }
      start = end;
    }
    gpu_end_ns_ = start;
  }

  void finish() { wait_until(gpu_end_ns_); }
  void collect(Inference&) {}

 private:
  const Options& options_;
  const Network& net_;
  Emulation emulation_;
  Producer producer_;
  Inference* record_ = nullptr;
  bool profiled_ = false;
  int first_ = 0;
  int enqueued_ = 0;
  int64_t gpu_end_ns_ = 0;
};

}  // namespace klo
