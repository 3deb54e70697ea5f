// What is kept of one inference, and how it is printed.
#pragma once

#include "klo/base.h"

namespace klo {

// A warm-up is done for each of the two queues, just before it is used.
enum class Phase : int { warmup, profile, profiled, plain_warmup, plain };

inline bool has_stamps(Phase phase) { return phase != Phase::plain && phase != Phase::plain_warmup; }

inline const char* phase_name(Phase phase) {
  constexpr const char* names[] = {"warmup", "profile", "profiled", "warmup", "plain"};
  return names[static_cast<int>(phase)];
}

struct Inference {
  Phase phase = Phase::warmup;
  int64_t begin_ns = 0;  // CLOCK_MONOTONIC of the host
  int64_t end_ns = 0;
  int64_t planning_ns = 0;
  int cpu = -1;
  int64_t cpu_pct = 100;
  int64_t gpu_pct = 100;
  Array<int64_t> batches;    // lengths as flushed
  Array<int64_t> flush_ns;   // host time each flush took
  Array<int64_t> host_ns;    // host clock after each enqueue, since begin_ns
  Array<int64_t> queued_ns;  // the device's clock, one per kernel; empty without profiling
  Array<int64_t> submit_ns;
  Array<int64_t> start_ns;
  Array<int64_t> finish_ns;

  // All memory is taken here, so that none is in the timed part.
  void reserve(int kernels) {
    const size_t n = static_cast<size_t>(kernels);
    Array<int64_t>* all[] = {&batches, &flush_ns, &host_ns, &queued_ns, &submit_ns, &start_ns, &finish_ns};
    for (Array<int64_t>* one : all) one->reserve(n);
  }
};

// Kernels whose timestamps contradict QUEUED <= SUBMIT <= START <= END or the order of enqueueing.
inline int64_t out_of_order(const Inference& one) {
  int64_t count = 0;
  for (size_t i = 0; i < one.queued_ns.size(); ++i) {
    const bool backwards = i > 0 && one.queued_ns[i] < one.queued_ns[i - 1];
    const bool crossed = one.queued_ns[i] > one.submit_ns[i] || one.submit_ns[i] > one.start_ns[i] ||
                         one.start_ns[i] > one.finish_ns[i];
    if (backwards || crossed) ++count;
  }
  return count;
}

inline void print_inference(const Inference& one, int index) {
  printf("{\"event\":\"inference\",\"i\":%d,\"phase\":\"%s\",\"begin_ns\":%" PRId64 ",\"total_ns\":%" PRId64
         ",\"planning_ns\":%" PRId64 ",\"cpu\":%d,\"cpu_pct\":%" PRId64 ",\"gpu_pct\":%" PRId64,
         index, phase_name(one.phase), one.begin_ns, one.end_ns - one.begin_ns, one.planning_ns, one.cpu, one.cpu_pct,
         one.gpu_pct);
  print_json_array("batches", one.batches.data(), one.batches.size());
  print_json_array("flush_ns", one.flush_ns.data(), one.flush_ns.size());
  if (!one.queued_ns.empty()) {
    print_json_array("host_ns", one.host_ns.data(), one.host_ns.size());
    print_json_array("queued_ns", one.queued_ns.data(), one.queued_ns.size());
    print_json_array("submit_ns", one.submit_ns.data(), one.submit_ns.size());
    print_json_array("start_ns", one.start_ns.data(), one.start_ns.size());
    print_json_array("end_ns", one.finish_ns.data(), one.finish_ns.size());
  }
  fputs("}\n", stdout);
}

}  // namespace klo
