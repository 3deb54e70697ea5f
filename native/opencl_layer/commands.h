// Wrappers of everything that enqueues.
#pragma once

#include <type_traits>
#include <utility>

#include "opencl_layer/reading.h"

namespace layer {

inline uint64_t word(P value) { return reinterpret_cast<uintptr_t>(value); }
inline uint64_t word(U value) { return value; }
inline uint64_t word(L value) { return value; }
inline uint64_t word(I value) { return static_cast<uint64_t>(static_cast<int64_t>(value)); }

template <typename T>
T word_as(uint64_t value) {
  return static_cast<T>(value);
}
template <>
inline P word_as<P>(uint64_t value) {
  return reinterpret_cast<P>(static_cast<uintptr_t>(value));
}

inline bool fine(I result) { return result == CL_SUCCESS; }
inline bool fine(P result) { return result != nullptr; }

enum class Kind : int { plain, opaque };

// A command whose wait list and event are its last parameters (before the error of those that return a pointer).
// `blocking`: index of the flag after the queue, -1 if it has none.
template <auto member, typename F, int blocking, Kind kind>
struct Command;

template <auto member, typename R, typename... A, int blocking, Kind kind>
struct Command<member, R (*)(P, A...), blocking, kind> {
  static R call(P handle, A... rest) {
    constexpr int kCount = static_cast<int>(sizeof...(A));
    constexpr int kList = kCount - (std::is_same_v<R, I> ? 3 : 4);
    const uint64_t words[] = {word(rest)...};
    Layer& s = state();
    Queue* q = s.queues.find(handle);
    before_dependent(q, static_cast<U>(words[kList]), word_as<P>(words[kList + 1]));
    if (q == nullptr) return (s.next.*member)(handle, rest...);
    bool waits = false;
    if constexpr (blocking >= 0) waits = words[blocking] != 0;
    if (waits) before_wait(*q);
    const uint64_t head = q->head.load(std::memory_order_acquire);
    const int64_t before = now_ns();
    const R result = (s.next.*member)(handle, rest...);
    if (!fine(result)) return result;
    if (waits) {
      after_wait(*q, head, q->in_order, "command", now_ns());
    } else {
      P* event = static_cast<P*>(word_as<P>(words[kList + 2]));
      commanded(*q, event == nullptr ? nullptr : *event, before, kind == Kind::opaque);
    }
    return result;
  }
};

// Work-groups that do not divide the work: only where the layer has announced that they may.
inline bool uneven(U dims, P global, P local) {
  for (U i = 0; local != nullptr && global != nullptr && i < dims && i < 3; ++i) {
    const size_t group = static_cast<const size_t*>(local)[i];
    if (group == 0 || static_cast<const size_t*>(global)[i] % group != 0) return true;
  }
  return false;
}

// A kernel; `enqueue` passes it on, with the place for its event.
template <typename F>
I launch(P handle, U count, P list, P event, F enqueue) {
  Queue* q = state().queues.find(handle);
  before_dependent(q, count, list);
  if (q == nullptr) return enqueue(event);
  P own = nullptr;
  P* wanted = event != nullptr ? static_cast<P*>(event) : q->profiling ? &own : nullptr;
  const int64_t before = now_ns();
  const I code = enqueue(wanted);
  const int64_t after = now_ns();
  if (code == CL_SUCCESS) launched(*q, handle, wanted == nullptr ? nullptr : *wanted, event == nullptr, before, after);
  return code;
}

inline I enqueue_kernel(P handle, P kernel, U dims, P offset, P global, P local, U count, P list, P event) {
  Layer& s = state();
  if (s.settings.non_uniform && uneven(dims, global, local)) local = nullptr;  // the driver chooses
  return launch(handle, count, list, event, [&](P wanted) {
    return s.next.clEnqueueNDRangeKernel(handle, kernel, dims, offset, global, local, count, list, wanted);
  });
}

inline I enqueue_task(P handle, P kernel, U count, P list, P event) {
  return launch(handle, count, list, event,
                [&](P wanted) { return state().next.clEnqueueTask(handle, kernel, count, list, wanted); });
}

// Those of OpenCL 1.0, without wait list or event.
inline I enqueue_marker(P handle, P event) {
  Queue* q = state().queues.find(handle);
  const int64_t before = now_ns();
  const I code = state().next.clEnqueueMarker(handle, event);
  if (code == CL_SUCCESS && q != nullptr) commanded(*q, event == nullptr ? nullptr : *static_cast<P*>(event), before, false);
  return code;
}

inline I enqueue_barrier(P handle) {
  Queue* q = state().queues.find(handle);
  const int64_t before = now_ns();
  const I code = state().next.clEnqueueBarrier(handle);
  if (code == CL_SUCCESS && q != nullptr) commanded(*q, nullptr, before, false);
  return code;
}

inline I enqueue_wait(P handle, U count, P list) {
  Queue* q = state().queues.find(handle);
  before_dependent(q, count, list);
  const int64_t before = now_ns();
  const I code = state().next.clEnqueueWaitForEvents(handle, count, list);
  if (code == CL_SUCCESS && q != nullptr) commanded(*q, nullptr, before, false);
  return code;
}

// Commands of extensions, found by name, that nobody has told us about. They are passed on as they are, with as many
// words as any of them takes; those that were not given are rubbish that the function does not read. What is owed is
// made good before, since such a command may wait; afterwards the program's next flush reaches the driver.
using Words = intptr_t (*)(intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t,
                           intptr_t, intptr_t, intptr_t);

constexpr int kExtensions = 48;

struct Extensions {
  std::atomic<P> targets[kExtensions] = {};
  std::atomic<int> count{0};
};

inline Extensions the_extensions;

template <int index>
intptr_t extension(intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f, intptr_t g, intptr_t h,
                   intptr_t i, intptr_t j, intptr_t k, intptr_t l) {
  Layer& s = state();
  make_all_good(Why::order);
  s.unseen.fetch_add(1, std::memory_order_relaxed);
  const Words target = reinterpret_cast<Words>(the_extensions.targets[index].load(std::memory_order_acquire));
  const intptr_t result = target(a, b, c, d, e, f, g, h, i, j, k, l);
  Queue* q = s.queues.find(reinterpret_cast<P>(a));
  for (Queue& one : s.queues) {
    if (q != nullptr && &one != q) continue;
    one.others.store(true, std::memory_order_relaxed);
    one.must_pass.store(true, std::memory_order_relaxed);
  }
  return result;
}

template <int... index>
inline P wrapper_at(int at, std::integer_sequence<int, index...>) {
  constexpr Words all[] = {extension<index>...};
  return reinterpret_cast<P>(all[at]);
}

// A wrapper for an extension's command; the function itself where there are too many of them.
inline P wrap_extension(P target) {
  Extensions& known = the_extensions;
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  Lock lock(mutex);
  const int count = known.count.load(std::memory_order_relaxed);
  int at = 0;
  while (at < count && known.targets[at].load(std::memory_order_relaxed) != target) ++at;
  if (at == kExtensions) {
    state().pass_all.store(true);
    return target;
  }
  if (at == count) {
    known.targets[at].store(target, std::memory_order_release);
    known.count.store(count + 1, std::memory_order_relaxed);
  }
  return wrapper_at(at, std::make_integer_sequence<int, kExtensions>{});
}

}  // namespace layer
