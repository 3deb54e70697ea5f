// The layer's state, and what it does about flushes.
//
// A swallowed flush is *owed*. It is made good before anything that could depend on it: a wait, a query of an event, a
// command on another queue that waits for one on this, the queue's release. What none of these tells (a program that
// watches memory, say) is caught by a watchdog when the program has been silent for a while.
#pragma once

#include "opencl_layer/queue.h"

namespace layer {

enum class Form : int { none, layer, stand_in };

struct Layer {
  Dispatch next{};  // the driver, or the loader's next layer
  std::atomic<Form> form{Form::none};
  Settings settings;
  Output output;
  Queues queues;
  std::atomic<bool> crossed{false};   // a queue has waited for another one
  std::atomic<bool> pass_all{false};  // a flush is never swallowed any more
  std::atomic<bool> watching{false};
  std::atomic<bool> ended{false};
  std::atomic<bool> begun{false};
  std::atomic<int64_t> flushes[kWhys] = {};
  std::atomic<int64_t> swallowed{0};
  std::atomic<int64_t> unseen{0};  // commands of extensions: passed on, not recorded
  std::atomic<uint32_t> noted{0};  // bits of Note

  bool steers() const { return settings.policy != Policy::own; }
};

// Made when the library is loaded; never destroyed, since the program may call OpenCL until its very end.
inline Layer* const the_layer = make<Layer>();

inline Layer& state() { return *the_layer; }

enum class Note : uint32_t {
  queue_untouched = 1,
  too_many_queues = 2,
  extension_commands = 4,
  destructor_callbacks = 8,
  ring_full = 16,
  several_threads = 32,
  out_of_order = 64,
  command_buffers = 128,
};

// Once for each kind.
inline void note(Note what, const char* text) {
  Layer& s = state();
  const uint32_t bit = static_cast<uint32_t>(what);
  if ((s.noted.load(std::memory_order_relaxed) & bit) != 0) return;
  if ((s.noted.fetch_or(bit) & bit) != 0) return;
  Line line;
  line.begin("note");
  line.string("text", text);
  line.end();
  s.output.write(line);
}

// Tells the driver to submit. The marks are taken back first: what is enqueued meanwhile counts for the next flush.
inline I flush(Queue& q, P handle, Why why) {
  Layer& s = state();
  q.owed_ns.store(0, std::memory_order_relaxed);
  q.must_pass.store(false, std::memory_order_relaxed);
  q.others.store(false, std::memory_order_relaxed);
  const uint32_t kernels = q.pending.exchange(0, std::memory_order_acq_rel);
  const uint64_t head = q.head.load(std::memory_order_acquire);
  const int64_t begin = now_ns();
  const I code = s.next.clFlush(handle);
  const int64_t took = now_ns() - begin;
  s.flushes[static_cast<int>(why)].fetch_add(1, std::memory_order_relaxed);
  if (kernels > 0 && head > q.tail.load(std::memory_order_acquire)) {
    q.ring[(head - 1) % kRing].flush_ns.store(took, std::memory_order_release);
  }
  return code;
}

inline bool flushed_late(const Queue& q) { return q.owed_ns.load(std::memory_order_relaxed) != 0; }

// What is owed on a queue that another thread may be releasing.
inline void make_good(Queue& q, Why why) {
  if (!flushed_late(q)) return;
  Lock lock(q.living);
  const P handle = q.handle.load(std::memory_order_acquire);
  if (handle != nullptr && flushed_late(q)) flush(q, handle, why);
}

inline void make_all_good(Why why, const Queue* except = nullptr) {
  for (Queue& q : state().queues) {
    if (&q != except) make_good(q, why);
  }
}

// Before the program waits for what is on this queue.
inline void before_wait(Queue& q) {
  Layer& s = state();
  if (!s.steers()) return;
  q.activity.fetch_add(1, std::memory_order_relaxed);
  if (q.pending.load(std::memory_order_acquire) > 0 || flushed_late(q)) {
    flush(q, q.handle.load(std::memory_order_relaxed), Why::wait);
  }
  if (s.crossed.load(std::memory_order_relaxed)) make_all_good(Why::order, &q);
}

// The queue of an event; null for user events and for queues that are left alone.
inline Queue* queue_of(P event) {
  Layer& s = state();
  P handle = nullptr;
  if (event == nullptr) return nullptr;
  const I code = s.next.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof handle, &handle, nullptr);
  return code == CL_SUCCESS ? s.queues.find(handle) : nullptr;
}

// Before a command with a wait list: what it waits for on other queues has to be submitted.
inline void before_dependent(Queue* q, U count, P list) {
  Layer& s = state();
  if (count == 0 || list == nullptr || s.queues.live() < (q == nullptr ? 1 : 2)) return;
  for (U i = 0; i < count; ++i) {
    Queue* other = queue_of(static_cast<P*>(list)[i]);
    if (other == nullptr || other == q) continue;
    s.crossed.store(true, std::memory_order_relaxed);
    make_good(*other, Why::order);
    const uint64_t head = q == nullptr ? 0 : other->behind(static_cast<P*>(list)[i]);
    if (head == 0) continue;
    q->linked_head.store(head, std::memory_order_relaxed);
    q->linked.store(other, std::memory_order_release);
  }
}

void* watch(void*);

// Started with the first flush that is swallowed. It takes no signals of the program's.
inline void start_watchdog() {
  Layer& s = state();
  if (s.watching.load(std::memory_order_relaxed) || s.watching.exchange(true)) return;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, watch, nullptr) == 0) {
    pthread_detach(thread);
  } else {
    s.pass_all.store(true);  // without a watchdog nothing is swallowed
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

inline void* watch(void*) {
  Layer& s = state();
  const int64_t silent_ns = s.settings.watchdog_ms * 1000000;
  static uint64_t seen[Queues::kPlaces];
  static int64_t since[Queues::kPlaces];
  for (;;) {
    const timespec nap{0, static_cast<long>(std::min<int64_t>(silent_ns / 2, 500000000))};
    nanosleep(&nap, nullptr);
    const int64_t now = now_ns();
    size_t i = 0;
    for (Queue& q : s.queues) {
      const uint64_t activity = q.activity.load(std::memory_order_relaxed);
      if (activity != seen[i] || since[i] == 0) {
        seen[i] = activity;
        since[i] = now;
      }
      const int64_t owed = q.owed_ns.load(std::memory_order_relaxed);
      // Also a program that goes on enqueueing does not wait for ever.
      if (owed != 0 && (now - since[i] >= silent_ns || now - owed >= 20 * silent_ns)) make_good(q, Why::silence);
      ++i;
    }
  }
  return nullptr;
}

// The program's own clFlush.
inline I own_flush(Queue& q, P handle) {
  Layer& s = state();
  q.activity.fetch_add(1, std::memory_order_relaxed);
  q.own_flushes.fetch_add(1, std::memory_order_relaxed);
  const bool nothing = q.pending.load(std::memory_order_acquire) == 0 && !q.others.load(std::memory_order_acquire);
  if (!s.steers()) return flush(q, handle, Why::own);
  if (s.pass_all.load(std::memory_order_relaxed) || q.must_pass.load(std::memory_order_relaxed)) {
    return flush(q, handle, Why::order);
  }
  if (!s.watching.load(std::memory_order_relaxed)) {
    start_watchdog();
    if (s.pass_all.load()) return flush(q, handle, Why::order);
  }
  s.swallowed.fetch_add(1, std::memory_order_relaxed);
  q.swallowed.fetch_add(1, std::memory_order_relaxed);
  if (!nothing && !flushed_late(q)) q.owed_ns.store(now_ns(), std::memory_order_release);
  return CL_SUCCESS;
}

// A command was enqueued that is no kernel. `opaque`: it can act on the program before the program asks (callbacks,
// other interfaces): the next flush of the program is passed on.
inline void commanded(Queue& q, P event, int64_t before, bool opaque) {
  q.activity.fetch_add(1, std::memory_order_relaxed);
  q.others.store(true, std::memory_order_release);
  if (opaque) q.must_pass.store(true, std::memory_order_relaxed);
  if (q.begin_ns.load(std::memory_order_relaxed) == 0) q.begin_ns.store(before, std::memory_order_relaxed);
  if (event == nullptr) return;
  uint64_t number = 0;
  Entry* entry = q.claim(number);
  if (entry == nullptr) return;
  entry->kernel = false;
  entry->event.store(event, std::memory_order_relaxed);
  entry->before_ns = entry->after_ns = before;
  Queue::fill(entry, number);
}

inline bool ends_batch(Queue& q, uint32_t position, uint32_t pending, int64_t before, int64_t after) {
  const Settings& settings = state().settings;
  switch (settings.policy) {
    case Policy::own: return false;
    case Policy::constant: return settings.k > 0 && pending >= static_cast<uint64_t>(settings.k);
    case Policy::schedule:
      if (position < settings.flush_at.size()) return settings.flush_at[position] == 1;
      return pending >= settings.batches[settings.batches.size() - 1];  // longer than it was made for
    case Policy::dynamic: break;
  }
  const pthread_t self = pthread_self();
  pthread_t known = q.thread.load(std::memory_order_relaxed);
  if (known == pthread_t{} && q.thread.compare_exchange_strong(known, self)) known = self;
  if (!pthread_equal(known, self)) {
    q.threads.store(true, std::memory_order_relaxed);
    note(Note::several_threads, "several threads enqueue on one queue: dynamic K is off there, K = 4");
  }
  if (q.threads.load(std::memory_order_relaxed)) return pending >= kProfileK;
  const int64_t begin = q.begin_ns.load(std::memory_order_relaxed);
  return q.dynamic.ends_batch(static_cast<int>(position), pending, begin == 0 ? before : begin, after);
}

// A kernel was enqueued. `event` is kept; `own`: the program does not know it.
inline void launched(Queue& q, P handle, P event, bool own, int64_t before, int64_t after) {
  Layer& s = state();
  q.activity.fetch_add(1, std::memory_order_relaxed);
  if (q.begin_ns.load(std::memory_order_relaxed) == 0) q.begin_ns.store(before, std::memory_order_relaxed);
  uint64_t number = 0;
  Entry* entry = q.claim(number);
  if (entry == nullptr) {
    q.dropped.fetch_add(1, std::memory_order_relaxed);
    note(Note::ring_full, "a program that never waits: kernels beyond 16384 were not recorded");
    if (own) s.next.clReleaseEvent(event);
  } else {
    if (event != nullptr && !own) s.next.clRetainEvent(event);
    entry->kernel = true;
    entry->event.store(event, std::memory_order_relaxed);
    entry->before_ns = before;
    entry->after_ns = after;
    Queue::fill(entry, number);
  }
  const uint32_t position = q.position.fetch_add(1, std::memory_order_relaxed);
  const uint32_t pending = q.pending.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (!ends_batch(q, position, pending, before, after)) return;
  flush(q, handle, Why::period);
  if (s.settings.policy == Policy::dynamic && !q.threads.load(std::memory_order_relaxed)) {
    q.dynamic.flushed(static_cast<int>(position), now_ns());
  }
}

}  // namespace layer
