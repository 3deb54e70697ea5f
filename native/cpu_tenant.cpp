// A light tenant that runs anywhere: requests of real CPU work, open loop, every one recorded in ns.
//
//   cpu_tenant --work-us W [--arrivals continuous|fixed:R|poisson:R|every:S] [--duration-s D] [--seed N] [--queue Q]
//              [--windows N] [--pause-s P]
//
// A request is a fixed number of rounds of arithmetic, calibrated once at the start so that it takes W microseconds on
// an idle core at the present clock; under contention it takes longer, which is what is measured.
#include "tenant/open_loop.h"

namespace {

int usage(const char* why) {
  fprintf(stderr,
          "cpu_tenant: %s\nusage: cpu_tenant --work-us W [--arrivals continuous|fixed:R|poisson:R|every:S] "
          "[--duration-s D] [--seed N] [--queue Q] [--windows N] [--pause-s P]\n",
          why);
  return 2;
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
  return static_cast<int64_t>(t.tv_sec) * tenant::kSecond + t.tv_nsec;
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

}  // namespace

int main(int argc, char** argv) {
  tenant::Settings settings;
  double work_us = 0;
  const char* why = nullptr;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 >= argc) return usage("an option has no value");
    if (strcmp(argv[i], "--work-us") == 0) {
      if (!tenant::parse_number(argv[i + 1], 0.1, 1e8, work_us)) return usage("--work-us: a number from 0.1 is expected");
    } else if (!tenant::take_option(argv[i], argv[i + 1], settings, why)) {
      return usage("unknown option");
    }
    if (why != nullptr) return usage(why);
  }
  if (work_us <= 0) return usage("--work-us is missing");
  tenant::OpenLoop loop(settings);
  if (!loop.prepare()) return usage("--arrivals: not such arrivals");
  const uint64_t rounds = static_cast<uint64_t>(work_us * calibrate()) + 1;
  if (!loop.run([rounds] { work(rounds); })) {
    fputs("cpu_tenant: the agent went away before the start\n", stderr);
    return 1;
  }
  printf("{\"tool\":\"cpu_tenant\",\"version\":1,\"device_name\":\"cpu\",\"work_us\":%.3f,\"rounds\":%" PRIu64, work_us, rounds);
  loop.print_settings();
  printf("}\n");
  loop.print_requests();
  return fflush(stdout) == 0 ? 0 : 1;
}
