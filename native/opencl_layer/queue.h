// A command queue of the program: what was enqueued on it since the last wait, and what has been flushed.
//
// Enqueueing takes no lock and no memory: a kernel claims an entry of the queue's ring. Entries are read when the
// program has waited for them, under `reading`.
#pragma once

#include "opencl_layer/output.h"
#include "opencl_layer/steer.h"

namespace layer {

constexpr uint64_t kRing = 16384;

struct Entry {
  std::atomic<uint64_t> filled{0};     // its number + 1 once the rest is there
  std::atomic<P> event{nullptr};       // of a kernel: kept by the layer; of others: only to be recognised
  std::atomic<int64_t> flush_ns{-1};   // how long the flush behind it took; -1: none
  int64_t before_ns = 0;               // CLOCK_MONOTONIC around the enqueue
  int64_t after_ns = 0;
  bool kernel = false;
};

// Why the driver was told to submit.
enum class Why : int { period, wait, own, order, silence };

inline const char* why_name(int why) {
  constexpr const char* names[] = {"period", "wait", "own", "order", "silence"};
  return names[why];
}
constexpr int kWhys = 5;

// The kernels since the last wait, as far as they were read.
struct Segment {
  Array<int64_t> host_ns, queued_ns, submit_ns, start_ns, end_ns, flush_ns;
  Array<uint32_t> batches;
  uint32_t batch = 0;  // kernels since the last flush
  int64_t failed = 0;  // kernels without timestamps
  int64_t first_ns = 0;

  void clear() {
    for (Array<int64_t>* one : {&host_ns, &queued_ns, &submit_ns, &start_ns, &end_ns, &flush_ns}) one->clear();
    batches.clear();
    batch = 0;
    failed = 0;
    first_ns = 0;
  }
};

struct Queue {
  std::atomic<P> handle{nullptr};
  std::atomic<int> references{0};
  int number = 0;
  bool in_order = true;
  bool profiling = false;          // its events have timestamps
  bool profiling_added = false;    // which the program did not ask for
  L properties = 0;                // as the program gave them
  L list[16] = {};                 // of clCreateCommandQueueWithProperties
  uint32_t listed = 0;             // entries of it; 0: created otherwise

  // Since the last flush.
  std::atomic<uint32_t> pending{0};      // kernels
  std::atomic<bool> others{false};       // commands that are no kernels
  std::atomic<int64_t> owed_ns{0};       // when a flush of the program was swallowed; 0: none was
  std::atomic<bool> must_pass{false};    // the program's next flush has to reach the driver
  std::atomic<uint64_t> activity{0};     // calls; lets the watchdog see that the program is silent

  // Since the last wait.
  std::atomic<uint32_t> position{0};     // kernels
  std::atomic<int64_t> begin_ns{0};      // first command; 0: none yet
  std::atomic<int64_t> own_flushes{0};   // of the program
  std::atomic<int64_t> swallowed{0};     // of these

  // The latest command here that waits for one of another queue: a wait here is a wait there, up to that entry.
  std::atomic<Queue*> linked{nullptr};
  std::atomic<uint64_t> linked_head{0};

  // A callback for an event now and then is how some programs wait; one for every kernel is not.
  std::atomic<uint64_t> callbacks{0};
  std::atomic<bool> waited{false};       // the program waits otherwise
  uint64_t first = 0;                    // the ring's head when the queue was made

  std::atomic<uint64_t> head{0};
  std::atomic<uint64_t> tail{0};
  Entry* ring = nullptr;
  std::atomic<int64_t> dropped{0};       // kernels that found no entry

  pthread_mutex_t living = PTHREAD_MUTEX_INITIALIZER;   // held while another thread flushes, and while it is released
  pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;  // held while entries are read
  Segment segment;
  Line line;
  int64_t inferences = 0;
  int64_t shorter = 0;  // between two waits were too few kernels

  Dynamic dynamic;
  std::atomic<pthread_t> thread{};       // the one that enqueues, for dynamic
  std::atomic<bool> threads{false};      // there are several

  // An entry for a command, or null if the ring is full.
  Entry* claim(uint64_t& number_) {
    uint64_t at = head.load(std::memory_order_relaxed);
    do {
      if (at - tail.load(std::memory_order_acquire) >= kRing) return nullptr;
    } while (!head.compare_exchange_weak(at, at + 1, std::memory_order_acq_rel, std::memory_order_relaxed));
    number_ = at;
    Entry* entry = &ring[at % kRing];
    entry->flush_ns.store(-1, std::memory_order_relaxed);
    return entry;
  }
  // Number behind the entry of an event (the most recent one: handles are used again); 0 if it has none.
  uint64_t behind(P event) const {
    const uint64_t oldest = tail.load(std::memory_order_acquire);
    for (uint64_t at = head.load(std::memory_order_acquire); at > oldest; --at) {
      const Entry& entry = ring[(at - 1) % kRing];
      if (entry.filled.load(std::memory_order_acquire) == at && entry.event.load(std::memory_order_relaxed) == event) {
        return at;
      }
    }
    return 0;
  }
  bool waits_by_callback() const {
    const uint64_t commands = head.load(std::memory_order_relaxed) - first;
    return !waited.load(std::memory_order_relaxed) && 2 * callbacks.load(std::memory_order_relaxed) <= commands;
  }
  static void fill(Entry* entry, uint64_t number_) { entry->filled.store(number_ + 1, std::memory_order_release); }

  void reset() {
    references.store(1, std::memory_order_relaxed);
    in_order = true;
    profiling = profiling_added = false;
    properties = 0;
    listed = 0;
    pending.store(0, std::memory_order_relaxed);
    others.store(false, std::memory_order_relaxed);
    owed_ns.store(0, std::memory_order_relaxed);
    must_pass.store(false, std::memory_order_relaxed);
    position.store(0, std::memory_order_relaxed);
    begin_ns.store(0, std::memory_order_relaxed);
    own_flushes.store(0, std::memory_order_relaxed);
    swallowed.store(0, std::memory_order_relaxed);
    linked.store(nullptr, std::memory_order_relaxed);
    callbacks.store(0, std::memory_order_relaxed);
    waited.store(false, std::memory_order_relaxed);
    first = head.load(std::memory_order_relaxed);
    tail.store(head.load(std::memory_order_relaxed), std::memory_order_relaxed);
    segment.clear();
    thread.store(pthread_t{}, std::memory_order_relaxed);
    threads.store(false, std::memory_order_relaxed);
  }
};

// The queues that the layer looks after, found by their handle without a lock. Queues that are gone leave their place
// to others; a place is never given back to the system, since another thread may be looking at it.
class Queues {
 public:
  static constexpr uint32_t kPlaces = 256;  // more live queues than that are left alone

  Queue* find(P handle) const {
    if (handle == nullptr) return nullptr;
    const uint32_t used = used_.load(std::memory_order_acquire);
    const uint32_t hint = hint_of(handle);
    const uint32_t guess = hints_[hint].load(std::memory_order_relaxed);
    if (guess < used && places_[guess].handle.load(std::memory_order_acquire) == handle) {
      return const_cast<Queue*>(&places_[guess]);
    }
    for (uint32_t i = 0; i < used; ++i) {
      if (places_[i].handle.load(std::memory_order_acquire) != handle) continue;
      hints_[hint].store(i, std::memory_order_relaxed);
      return const_cast<Queue*>(&places_[i]);
    }
    return nullptr;
  }

  // A place for a new queue; null where there is none. Publish it by storing its handle.
  Queue* add() {
    Lock lock(mutex_);
    const uint32_t used = used_.load(std::memory_order_relaxed);
    uint32_t at = used;
    if (free_count_ > 0) {
      at = free_[--free_count_];
    } else if (used == kPlaces) {
      return nullptr;
    }
    Queue& one = places_[at];
    if (one.ring == nullptr) {
      one.ring = static_cast<Entry*>(calloc(kRing, sizeof(Entry)));
      for (uint64_t i = 0; one.ring != nullptr && i < kRing; ++i) new (&one.ring[i]) Entry;
    }
    if (one.ring == nullptr) return nullptr;
    one.reset();
    one.number = ++count_;
    if (at == used) used_.store(used + 1, std::memory_order_release);
    live_.fetch_add(1, std::memory_order_relaxed);
    return &one;
  }

  void give_back(Queue* one) {
    Lock lock(mutex_);
    free_[free_count_++] = static_cast<uint32_t>(one - places_);
    live_.fetch_sub(1, std::memory_order_relaxed);
  }

  int live() const { return live_.load(std::memory_order_relaxed); }
  Queue* begin() { return places_; }
  Queue* end() { return places_ + used_.load(std::memory_order_acquire); }

 private:
  static constexpr uint32_t kHints = 64;
  static uint32_t hint_of(P handle) {
    const uint64_t bits = reinterpret_cast<uintptr_t>(handle);
    return static_cast<uint32_t>(((bits >> 4) * 0x9E3779B97F4A7C15u) >> 58) % kHints;
  }

  Queue places_[kPlaces];
  mutable std::atomic<uint32_t> hints_[kHints] = {};
  std::atomic<uint32_t> used_{0};
  std::atomic<int> live_{0};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  uint32_t free_[kPlaces] = {};
  uint32_t free_count_ = 0;
  int count_ = 0;
};

}  // namespace layer
