// Reads what the program has waited for: timestamps of its kernels, and an inference once the wait covers all of them.
#pragma once

#include "opencl_layer/layer.h"

namespace layer {

struct Stamps {
  int64_t at[4] = {0, 0, 0, 0};  // QUEUED, SUBMIT, START, END: the device's clock, ns
  bool whole = false;
};

inline Stamps stamps_of(P event) {
  Stamps got;
  got.whole = true;
  for (U i = 0; i < 4; ++i) {
    L value = 0;
    const U what = CL_PROFILING_COMMAND_QUEUED + i;
    if (state().next.clGetEventProfilingInfo(event, what, sizeof value, &value, nullptr) != CL_SUCCESS) got.whole = false;
    got.at[i] = static_cast<int64_t>(value);
  }
  return got;
}

// All sums leave out the first kernel of the inference, which has no predecessor, except that of T_ker.
struct Sums {
  int64_t prod_ns = 0;     // QUEUED to QUEUED
  int64_t ker_ns = 0;      // START to END
  int64_t idle_ns = 0;     // END to START of the next, signed
  int64_t starved_ns = 0;  // of that, the GPU had nothing submitted
  int64_t span_ns = 0;     // first QUEUED to last END
};

inline Sums sums_of(const Segment& one) {
  Sums sums;
  const size_t n = one.queued_ns.size();
  for (size_t i = 0; i < n; ++i) {
    sums.ker_ns += one.end_ns[i] - one.start_ns[i];
    if (i == 0) continue;
    const int64_t before = one.end_ns[i - 1];
    sums.prod_ns += one.queued_ns[i] - one.queued_ns[i - 1];
    sums.idle_ns += one.start_ns[i] - before;
    sums.starved_ns += std::max<int64_t>(0, std::min(one.submit_ns[i], one.start_ns[i]) - before);
  }
  if (n > 0) sums.span_ns = one.end_ns[n - 1] - one.queued_ns[0];
  return sums;
}

inline void write_inference(Queue& q, const char* wait, int64_t begin, int64_t end) {
  Layer& s = state();
  Segment& one = q.segment;
  Line& line = q.line;
  line.begin("inference");
  line.number("queue", q.number);
  line.number("i", q.inferences);
  line.number("kernels", static_cast<int64_t>(one.host_ns.size()));
  line.string("wait", wait);
  line.number("begin_ns", begin);
  line.number("total_ns", end - begin);
  line.number("planning_ns", s.settings.policy == Policy::dynamic ? q.dynamic.planned_ns() : 0);
  line.number("own_flushes", q.own_flushes.exchange(0, std::memory_order_relaxed));
  line.number("swallowed", q.swallowed.exchange(0, std::memory_order_relaxed));
  line.number("failed", one.failed);
  line.array("batches", one.batches.data(), one.batches.size());
  const bool stamped = q.profiling && one.failed == 0;
  if (stamped) {
    const Sums sums = sums_of(one);
    line.number("prod_sum_ns", sums.prod_ns);
    line.number("ker_sum_ns", sums.ker_ns);
    line.number("idle_sum_ns", sums.idle_ns);
    line.number("starved_sum_ns", sums.starved_ns);
    line.number("span_ns", sums.span_ns);
  }
  if (q.inferences < s.settings.detail) {
    line.array("flush_ns", one.flush_ns.data(), one.flush_ns.size());
    line.array("host_ns", one.host_ns.data(), one.host_ns.size(), begin);
    if (stamped) {
      // Times since `device_ns`, to be short.
      const int64_t base = one.queued_ns[0];
      line.number("device_ns", base);
      line.array("queued_ns", one.queued_ns.data(), one.queued_ns.size(), base);
      line.array("submit_ns", one.submit_ns.data(), one.submit_ns.size(), base);
      line.array("start_ns", one.start_ns.data(), one.start_ns.size(), base);
      line.array("end_ns", one.end_ns.data(), one.end_ns.size(), base);
    }
  }
  line.end();
  s.output.write(line);
  ++q.inferences;
}

// What the planner learns from an inference: production without the flush before it, and kernel times.
inline void teach(Queue& q) {
  Layer& s = state();
  const Segment& one = q.segment;
  if (s.settings.policy != Policy::dynamic || !q.profiling || one.failed > 0) return;
  if (q.threads.load() || !pthread_equal(q.thread.load(), pthread_self())) return;  // only while it does not enqueue
  Array<int64_t> p;
  Array<int64_t> g;
  size_t batch = 0;
  size_t left = one.batches.empty() ? 0 : one.batches[0];
  for (size_t i = 0; i < one.host_ns.size(); ++i) {
    int64_t made = i == 0 ? 0 : one.host_ns[i] - one.host_ns[i - 1];
    if (left == 0 && batch < one.batches.size()) {
      made -= one.flush_ns[batch];
      ++batch;
      left = batch < one.batches.size() ? one.batches[batch] : 0;
    }
    if (left > 0) --left;
    p.push(made);
    g.push(one.end_ns[i] - one.start_ns[i]);
  }
  if (!p.failed() && !g.failed()) q.dynamic.learn(s.settings, p.data(), g.data(), static_cast<int>(p.size()));
}

inline void close_segment(Queue& q, const char* wait, int64_t end) {
  Segment& one = q.segment;
  const size_t kernels = one.host_ns.size();
  if (one.batch > 0) {  // what the wait itself submitted
    one.batches.push(one.batch);
    one.flush_ns.push(0);
  }
  int64_t begin = q.begin_ns.load(std::memory_order_relaxed);
  if (begin == 0 || begin > one.first_ns) begin = one.first_ns;
  if (kernels >= static_cast<size_t>(state().settings.min_kernels)) {
    write_inference(q, wait, begin, end);
    teach(q);
  } else if (kernels > 0) {
    ++q.shorter;
  }
  one.clear();
}

inline void take(Queue& q, Entry& entry, P event) {
  Segment& one = q.segment;
  if (one.host_ns.empty()) one.first_ns = entry.before_ns;
  one.host_ns.push(entry.after_ns);
  ++one.batch;
  if (event == nullptr) return;
  const Stamps got = q.profiling ? stamps_of(event) : Stamps{};
  if (q.profiling && !got.whole) ++one.failed;
  one.queued_ns.push(got.at[0]);
  one.submit_ns.push(got.at[1]);
  one.start_ns.push(got.at[2]);
  one.end_ns.push(got.at[3]);
}

// Reads entries up to (without) number `upto`, as far as they are complete. Under q.reading.
inline void read_entries(Queue& q, uint64_t upto, bool all_complete) {
  Layer& s = state();
  uint64_t at = q.tail.load(std::memory_order_relaxed);
  for (; at < upto; ++at) {
    Entry& entry = q.ring[at % kRing];
    if (entry.filled.load(std::memory_order_acquire) != at + 1) break;  // another thread is just enqueueing it
    const P event = entry.event.load(std::memory_order_relaxed);
    if (entry.kernel) {
      I status = 0;
      if (event != nullptr && !all_complete) {
        s.next.clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, nullptr);
        if (status > CL_COMPLETE) break;
      }
      take(q, entry, event);
      if (event != nullptr) s.next.clReleaseEvent(event);
      entry.event.store(nullptr, std::memory_order_relaxed);
    }
    const int64_t flush_ns = entry.flush_ns.load(std::memory_order_acquire);
    if (flush_ns >= 0 && q.segment.batch > 0) {
      q.segment.batches.push(q.segment.batch);
      q.segment.flush_ns.push(flush_ns);
      q.segment.batch = 0;
    }
    q.tail.store(at + 1, std::memory_order_release);
  }
}

// The program has waited for everything that was on the queue when `head` was its ring's head (all = true), or for the
// command that is entry head - 1. Under q.reading.
inline void close_up_to(Queue& q, uint64_t head, bool all, const char* wait, int64_t end) {
  if (head < q.tail.load(std::memory_order_relaxed)) return;  // it was read already
  read_entries(q, head, all);
  if (q.tail.load(std::memory_order_relaxed) < head) return;  // out of order: a later wait covers the rest
  close_segment(q, wait, end);
  q.begin_ns.store(0, std::memory_order_relaxed);
  // Kernels that were enqueued beyond belong to the next inference.
  uint32_t ahead = 0;
  const uint64_t last = q.head.load(std::memory_order_acquire);
  for (uint64_t at = head; at < last; ++at) {
    Entry& entry = q.ring[at % kRing];
    if (entry.filled.load(std::memory_order_acquire) == at + 1 && entry.kernel) ++ahead;
  }
  q.position.store(ahead, std::memory_order_relaxed);
}

inline void after_wait(Queue& q, uint64_t head, bool all, const char* wait, int64_t end) {
  q.activity.fetch_add(1, std::memory_order_relaxed);
  {
    Lock lock(q.reading);
    if (q.tail.load(std::memory_order_relaxed) < head) q.waited.store(true, std::memory_order_relaxed);
    close_up_to(q, head, all, wait, end);
  }
  Queue* other = q.linked.exchange(nullptr, std::memory_order_acq_rel);
  if (other == nullptr) return;
  Lock lock(other->reading);
  close_up_to(*other, q.linked_head.load(std::memory_order_relaxed), other->in_order, wait, end);
}

// The program saw that this event is complete. In a callback of the driver nothing may block: `hurried`.
inline void after_event(Queue& q, P event, const char* wait, int64_t end, bool hurried = false) {
  if (q.head.load(std::memory_order_acquire) == q.tail.load(std::memory_order_acquire)) return;
  const uint64_t head = q.behind(event);
  if (head == 0) return;  // of a command that the layer does not see, or read already
  if (!hurried) {
    after_wait(q, head, q.in_order, wait, end);
  } else if (pthread_mutex_trylock(&q.reading) == 0) {
    close_up_to(q, head, q.in_order, wait, end);
    pthread_mutex_unlock(&q.reading);
  }
}

// How often the layer keeps an event that the program may ask about.
inline U kept(Queue& q, P event) {
  Lock lock(q.reading);
  U count = 0;
  const uint64_t last = q.head.load(std::memory_order_acquire);
  for (uint64_t at = q.tail.load(std::memory_order_relaxed); at < last; ++at) {
    Entry& entry = q.ring[at % kRing];
    if (entry.filled.load(std::memory_order_acquire) != at + 1 || !entry.kernel) continue;
    if (entry.event.load(std::memory_order_relaxed) == event) ++count;
  }
  return count;
}

// The queue goes: what is complete is read, the rest is let go.
inline void read_rest(Queue& q) {
  Layer& s = state();
  Lock lock(q.reading);
  const uint64_t head = q.head.load(std::memory_order_acquire);
  read_entries(q, head, false);
  for (uint64_t at = q.tail.load(std::memory_order_relaxed); at < head; ++at) {
    Entry& entry = q.ring[at % kRing];
    if (entry.filled.load(std::memory_order_acquire) != at + 1 || !entry.kernel) continue;
    const P event = entry.event.exchange(nullptr, std::memory_order_relaxed);
    if (event != nullptr) s.next.clReleaseEvent(event);
    q.dropped.fetch_add(1, std::memory_order_relaxed);
  }
  if (!q.segment.host_ns.empty()) close_segment(q, "release", now_ns());
  q.tail.store(head, std::memory_order_release);
}

}  // namespace layer
