// A light tenant that runs anywhere: requests of real CPU work, open loop, every one recorded in ns.
//
//   cpu_tenant --work-us W [--arrivals continuous|fixed:R|poisson:R|every:S] [--duration-s D] [--seed N] [--queue Q]
//
// The same arrivals, barrier and output as workloads/scripts/torch_tenant.py. A request is a fixed number of rounds of
// arithmetic, calibrated once at the start so that it takes W microseconds on an idle core at the present clock; under
// contention it takes longer, which is what is measured.
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

namespace {

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
  void push(const T& value) {
    if (size == capacity) {
      capacity = capacity == 0 ? 4096 : capacity * 2;
      T* bigger = capacity > kMaxRequests * 2 ? nullptr : static_cast<T*>(realloc(data, capacity * sizeof(T)));
      if (bigger == nullptr) {
        fputs("cpu_tenant: out of memory\n", stderr);
        exit(1);
      }
      data = bigger;
    }
    data[size++] = value;
  }
};

struct Options {
  double work_us = 0;
  const char* arrivals = "continuous";
  double duration_s = 10;
  int64_t seed = 1;
  int64_t queue = 0;
};

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * kSecond + t.tv_nsec;
}

int usage(const char* why) {
  fprintf(stderr,
          "cpu_tenant: %s\nusage: cpu_tenant --work-us W [--arrivals continuous|fixed:R|poisson:R|every:S] "
          "[--duration-s D] [--seed N] [--queue Q]\n",
          why);
  return 2;
}

bool parse_number(const char* text, double low, double high, double& value) {
  char* end = nullptr;
  errno = 0;
  value = strtod(text, &end);
  return end != text && *end == '\0' && errno == 0 && value >= low && value <= high;
}

bool parse_integer(const char* text, double high, int64_t& value) {
  double number = 0;
  if (!parse_number(text, 0, high, number) || number != floor(number)) return false;
  value = static_cast<int64_t>(number);
  return true;
}

// SplitMix64 (Steele, Lea, Flood 2014): the same sequence as the Python tenant's.
double uniform(uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

// Offsets from the common start. False: not such arrivals.
bool schedule(const Options& options, int64_t duration_ns, Array<int64_t>& offsets) {
  const char* colon = strchr(options.arrivals, ':');
  double value = 0;
  if (colon == nullptr || !parse_number(colon + 1, 1e-6, 1e7, value)) return false;
  const size_t length = static_cast<size_t>(colon - options.arrivals);
  auto is = [&](const char* name) {
    return strlen(name) == length && strncmp(options.arrivals, name, length) == 0;
  };
  if (is("poisson")) {
    uint64_t state = static_cast<uint64_t>(options.seed);
    double at = 0;
    while (true) {
      at += -log1p(-uniform(state)) / value * 1e9;
      if (at >= static_cast<double>(duration_ns) || offsets.size >= kMaxRequests) return true;
      offsets.push(static_cast<int64_t>(at));
    }
  }
  if (!is("fixed") && !is("every")) return false;
  const double period_ns = is("fixed") ? 1e9 / value : value * 1e9;
  for (size_t k = 0; k < kMaxRequests; ++k) {
    const double at = static_cast<double>(k) * period_ns;
    if (at >= static_cast<double>(duration_ns)) break;
    offsets.push(static_cast<int64_t>(at));
  }
  return true;
}

volatile uint64_t sink;

void work(uint64_t rounds) {
  uint64_t x = 88172645463325252ULL;
  for (uint64_t i = 0; i < rounds; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  sink = x;
}

int64_t cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<int64_t>(t.tv_sec) * kSecond + t.tv_nsec;
}

// Rounds a microsecond of CPU time, from the fastest of several tries: the neighbours calibrate at the same time, and
// what they take of the core must not make our requests smaller.
double calibrate() {
  constexpr uint64_t kRounds = 200000;
  int64_t best = INT64_MAX;
  for (int i = 0; i < 100; ++i) {
    const int64_t start = cpu_ns();
    work(kRounds);
    const int64_t took = cpu_ns() - start;
    if (took < best) best = took;
  }
  return static_cast<double>(kRounds) * 1000.0 / static_cast<double>(best > 0 ? best : 1);
}

void wait_until(int64_t at_ns) {
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

// Say READY and wait for the common start time; without an agent the start is now. Negative: the agent went away.
int64_t gate() {
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

void serve(const Options& options, const Array<int64_t>* offsets, uint64_t rounds, int64_t start, int64_t duration,
           Array<Request>& done, Array<int64_t>& dropped) {
  const int64_t end = start + duration;
  for (size_t next = 0;;) {
    int64_t scheduled = 0;
    if (offsets != nullptr) {
      if (next >= offsets->size) return;
      wait_until(start + offsets->data[next]);
      if (options.queue > 0) {
        const int64_t now = now_ns() - start;
        size_t waiting = next;
        while (waiting < offsets->size && offsets->data[waiting] <= now) ++waiting;
        while (waiting - next > static_cast<size_t>(options.queue)) dropped.push(offsets->data[next++]);
      }
    }
    const int64_t begin = now_ns();
    if (begin >= end) {
      if (offsets != nullptr) {
        while (next < offsets->size) dropped.push(offsets->data[next++]);
      }
      return;
    }
    scheduled = offsets != nullptr ? offsets->data[next++] : begin - start;
    work(rounds);
    done.push(Request{scheduled, begin - start, now_ns() - start});
  }
}

void print_column(const char* name, const Request* requests, size_t count, int64_t Request::* field, const char* tail) {
  printf("\"%s\":[", name);
  for (size_t i = 0; i < count; ++i) printf("%s%" PRId64, i == 0 ? "" : ",", requests[i].*field);
  printf("]%s", tail);
}

void report(const Options& options, uint64_t rounds, int64_t start, const Array<Request>& done,
            const Array<int64_t>& dropped) {
  printf("{\"tool\":\"cpu_tenant\",\"version\":1,\"device_name\":\"cpu\",\"pid\":%d,\"work_us\":%.3f,\"rounds\":%" PRIu64
         ",\"arrivals\":\"%s\",\"duration_s\":%.6f,\"seed\":%" PRId64 ",\"queue\":%" PRId64 ",\"start_ns\":%" PRId64 "}\n",
         static_cast<int>(getpid()), options.work_us, rounds, options.arrivals, options.duration_s, options.seed,
         options.queue, start);
  for (size_t at = 0; at < done.size; at += kChunk) {
    const size_t count = done.size - at < kChunk ? done.size - at : kChunk;
    printf("{\"requests\":{");
    print_column("scheduled_ns", done.data + at, count, &Request::scheduled, ",");
    print_column("start_ns", done.data + at, count, &Request::start, ",");
    print_column("end_ns", done.data + at, count, &Request::end, "}}\n");
  }
  printf("{\"end\":true,\"requests\":%zu,\"dropped\":%zu,\"dropped_scheduled_ns\":[", done.size, dropped.size);
  for (size_t i = 0; i < dropped.size; ++i) printf("%s%" PRId64, i == 0 ? "" : ",", dropped.data[i]);
  printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const char* name = argv[i];
    if (i + 1 >= argc) return usage("an option has no value");
    const char* text = argv[i + 1];
    if (strcmp(name, "--work-us") == 0) {
      if (!parse_number(text, 0.1, 1e8, options.work_us)) return usage("--work-us: a number from 0.1 is expected");
    } else if (strcmp(name, "--arrivals") == 0) {
      options.arrivals = text;
    } else if (strcmp(name, "--duration-s") == 0) {
      if (!parse_number(text, 0.001, 1e6, options.duration_s)) return usage("--duration-s: seconds are expected");
    } else if (strcmp(name, "--seed") == 0) {
      if (!parse_integer(text, 9e15, options.seed)) return usage("--seed: an integer from 0 is expected");
    } else if (strcmp(name, "--queue") == 0) {
      if (!parse_integer(text, 1e9, options.queue)) return usage("--queue: an integer from 0 is expected");
    } else {
      return usage("unknown option");
    }
  }
  if (options.work_us <= 0) return usage("--work-us is missing");
  const int64_t duration_ns = static_cast<int64_t>(options.duration_s * 1e9);
  Array<int64_t> offsets;
  const bool continuous = strcmp(options.arrivals, "continuous") == 0;
  if (!continuous && !schedule(options, duration_ns, offsets)) return usage("--arrivals: not such arrivals");
  double rounds_per_us = calibrate();
  const uint64_t rounds = static_cast<uint64_t>(options.work_us * rounds_per_us) + 1;
  Array<Request> done;
  Array<int64_t> dropped;
  const int64_t start = gate();
  if (start < 0) {
    fputs("cpu_tenant: the agent went away before the start\n", stderr);
    return 1;
  }
  wait_until(start);
  serve(options, continuous ? nullptr : &offsets, rounds, start, duration_ns, done, dropped);
  report(options, rounds, start, done, dropped);
  free(done.data);
  free(dropped.data);
  free(offsets.data);
  return fflush(stdout) == 0 ? 0 : 1;
}
