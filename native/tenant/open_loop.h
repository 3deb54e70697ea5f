// A tenant's open loop: arrivals computed beforehand, a common start, every request recorded in ns, printed at the end.
//
// The same arrivals, barrier and output as workloads/scripts/torch_tenant.py.
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

namespace tenant {

constexpr int64_t kSecond = 1000000000;
// Spin for the last stretch before a scheduled time: a sleeping thread wakes up late by the timer's slack.
constexpr int64_t kSpinNs = 150000;
constexpr size_t kMaxRequests = 50 * 1000 * 1000;
constexpr size_t kChunk = 2000;

struct Request {
  int64_t scheduled, start, end;
};

template <typename T>
struct Array {
  T* data = nullptr;
  size_t size = 0, capacity = 0;
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data); }
  void push(const T& value) {
    if (size == capacity) grow(capacity == 0 ? 4096 : capacity * 2);
    data[size++] = value;
  }
  // Room for so many, in memory that is there: a request that makes the kernel find a page begins late.
  void reserve(size_t count) {
    if (count <= capacity) return;
    grow(count);
    memset(static_cast<void*>(data + size), 0, (capacity - size) * sizeof(T));
  }
  void grow(size_t count) {
    T* bigger = count > kMaxRequests * 2 ? nullptr : static_cast<T*>(realloc(data, count * sizeof(T)));
    if (bigger == nullptr) {
      fputs("out of memory for requests\n", stderr);
      exit(1);
    }
    data = bigger;
    capacity = count;
  }
};

struct Settings {
  const char* arrivals = "continuous";
  double duration_s = 10;
  int64_t seed = 1;
  int64_t queue = 0;
  int64_t windows = 1;
  double pause_s = 0;
};

inline bool parse_number(const char* text, double low, double high, double& value) {
  char* end = nullptr;
  errno = 0;
  value = strtod(text, &end);
  return end != text && *end == '\0' && errno == 0 && value >= low && value <= high;
}

inline bool parse_integer(const char* text, double high, int64_t& value) {
  double number = 0;
  if (!parse_number(text, 0, high, number) || number != floor(number)) return false;
  value = static_cast<int64_t>(number);
  return true;
}

// Takes one option of the open loop; `why` is set if its value is wrong. False: not one of its options.
inline bool take_option(const char* name, const char* text, Settings& settings, const char*& why) {
  if (strcmp(name, "--arrivals") == 0) {
    settings.arrivals = text;
  } else if (strcmp(name, "--duration-s") == 0) {
    if (!parse_number(text, 0.001, 1e6, settings.duration_s)) why = "--duration-s: seconds are expected";
  } else if (strcmp(name, "--seed") == 0) {
    if (!parse_integer(text, 9e15, settings.seed)) why = "--seed: an integer from 0 is expected";
  } else if (strcmp(name, "--queue") == 0) {
    if (!parse_integer(text, 1e9, settings.queue)) why = "--queue: an integer from 0 is expected";
  } else if (strcmp(name, "--windows") == 0) {
    if (!parse_integer(text, 1e6, settings.windows) || settings.windows < 1) why = "--windows: an integer from 1 is expected";
  } else if (strcmp(name, "--pause-s") == 0) {
    if (!parse_number(text, 0, 1e6, settings.pause_s)) why = "--pause-s: seconds are expected";
  } else {
    return false;
  }
  return true;
}

// SplitMix64 (Steele, Lea, Flood 2014): the same sequence as the Python tenant's.
inline double uniform(uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

class OpenLoop {
 public:
  explicit OpenLoop(const Settings& settings)
      : settings_(settings), duration_ns_(static_cast<int64_t>(settings.duration_s * 1e9)),
        every_ns_(duration_ns_ + static_cast<int64_t>(settings.pause_s * 1e9)) {}

  // Computes the arrivals, those of every window from a seed of its own. False: not such arrivals.
  bool prepare() {
    // The kernel lets timers of a process be 50 us late unless it says otherwise (prctl(2)).
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    continuous_ = strcmp(settings_.arrivals, "continuous") == 0;
    if (continuous_) {
      done_.reserve(4096);
      return true;
    }
    for (int64_t window = 0; window < settings_.windows; ++window) {
      if (!schedule(static_cast<uint64_t>(settings_.seed + window), window * every_ns_)) return false;
      ends_.push(static_cast<int64_t>(offsets_.size));
    }
    done_.reserve(offsets_.size);
    return true;
  }

  // Says READY, waits for the common start time (without an agent the start is now) and performs requests until the
  // window ends. False: the agent went away.
  template <typename Work>
  bool run(Work work) {
    start_ns_ = gate();
    if (start_ns_ < 0) return false;
    for (int64_t window = 0; window < settings_.windows; ++window) {
      wait_until(start_ns_ + window * every_ns_);
      serve(work, window);
    }
    return true;
  }

  // What every header says of the loop, as members of an open object.
  void print_settings() const {
    printf(",\"arrivals\":\"%s\",\"duration_s\":%.6f,\"seed\":%" PRId64 ",\"queue\":%" PRId64 ",\"start_ns\":%" PRId64
           ",\"pid\":%d,\"windows\":%" PRId64 ",\"pause_s\":%.6f",
           settings_.arrivals, settings_.duration_s, settings_.seed, settings_.queue, start_ns_,
           static_cast<int>(getpid()), settings_.windows, settings_.pause_s);
  }

  // Everything that was recorded; nothing is printed while requests are served.
  void print_requests() const {
    for (size_t at = 0; at < done_.size; at += kChunk) {
      const size_t count = done_.size - at < kChunk ? done_.size - at : kChunk;
      printf("{\"requests\":{");
      print_column("scheduled_ns", done_.data + at, count, &Request::scheduled, ",");
      print_column("start_ns", done_.data + at, count, &Request::start, ",");
      print_column("end_ns", done_.data + at, count, &Request::end, "}}\n");
    }
    printf("{\"end\":true,\"requests\":%zu,\"dropped\":%zu,\"dropped_scheduled_ns\":[", done_.size, dropped_.size);
    for (size_t i = 0; i < dropped_.size; ++i) printf("%s%" PRId64, i == 0 ? "" : ",", dropped_.data[i]);
    printf("]}\n");
  }

 private:
  // Offsets from the common start of the requests of the window that begins `from` after it.
  bool schedule(uint64_t state, int64_t from) {
    const char* colon = strchr(settings_.arrivals, ':');
    double value = 0;
    if (colon == nullptr || !parse_number(colon + 1, 1e-6, 1e7, value)) return false;
    const size_t length = static_cast<size_t>(colon - settings_.arrivals);
    auto is = [&](const char* name) {
      return strlen(name) == length && strncmp(settings_.arrivals, name, length) == 0;
    };
    const double duration = static_cast<double>(duration_ns_);
    if (is("poisson")) {
      double at = 0;
      while (true) {
        at += -log1p(-uniform(state)) / value * 1e9;
        if (at >= duration || offsets_.size >= kMaxRequests) return true;
        offsets_.push(from + static_cast<int64_t>(at));
      }
    }
    if (!is("fixed") && !is("every")) return false;
    const double period_ns = is("fixed") ? 1e9 / value : value * 1e9;
    for (size_t k = 0; k < kMaxRequests; ++k) {
      const double at = static_cast<double>(k) * period_ns;
      if (at >= duration) break;
      offsets_.push(from + static_cast<int64_t>(at));
    }
    return true;
  }

  // The common start time; negative: the agent went away.
  static int64_t gate() {
    const char* ready = getenv("DEVICELAB_READY_FD");
    const char* go = getenv("DEVICELAB_GO_FD");
    if (ready == nullptr || go == nullptr) return now_ns() + 10000000;
    const char text[] = "READY\n";
    if (write(atoi(ready), text, sizeof text - 1) != static_cast<ssize_t>(sizeof text - 1)) return -1;
    char line[64];
    size_t length = 0;
    while (length < sizeof line - 1) {
      const ssize_t got = read(atoi(go), line + length, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return -1;
      if (line[length++] == '\n') break;
    }
    line[length] = '\0';
    return strtoll(line, nullptr, 10);
  }

  static void wait_until(int64_t at_ns) {
    while (true) {
      const int64_t left = at_ns - now_ns();
      if (left <= 0) return;
      if (left > kSpinNs) {
        const int64_t wake = at_ns - kSpinNs;
        timespec t{};
        t.tv_sec = static_cast<time_t>(wake / kSecond);
        t.tv_nsec = static_cast<long>(wake % kSecond);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr);
      }
    }
  }

  template <typename Work>
  void serve(Work work, int64_t window) {
    const int64_t end = start_ns_ + window * every_ns_ + duration_ns_;
    const size_t last = continuous_ ? 0 : static_cast<size_t>(ends_.data[window]);
    size_t next = continuous_ || window == 0 ? 0 : static_cast<size_t>(ends_.data[window - 1]);
    for (;;) {
      if (!continuous_) {
        if (next >= last) return;
        wait_until(start_ns_ + offsets_.data[next]);
        if (settings_.queue > 0) {
          const int64_t now = now_ns() - start_ns_;
          size_t waiting = next;
          while (waiting < last && offsets_.data[waiting] <= now) ++waiting;
          while (waiting - next > static_cast<size_t>(settings_.queue)) dropped_.push(offsets_.data[next++]);
        }
      }
      const int64_t begin = now_ns();
      if (begin >= end) {
        while (!continuous_ && next < last) dropped_.push(offsets_.data[next++]);
        return;
      }
      const int64_t scheduled = continuous_ ? begin - start_ns_ : offsets_.data[next++];
      work();
      done_.push(Request{scheduled, begin - start_ns_, now_ns() - start_ns_});
    }
  }

  static void print_column(const char* name, const Request* requests, size_t count, int64_t Request::* field,
                           const char* tail) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < count; ++i) printf("%s%" PRId64, i == 0 ? "" : ",", requests[i].*field);
    printf("]%s", tail);
  }

  const Settings settings_;
  const int64_t duration_ns_, every_ns_;
  bool continuous_ = true;
  int64_t start_ns_ = 0;
  Array<int64_t> offsets_, ends_, dropped_;
  Array<Request> done_;
};

}  // namespace tenant
