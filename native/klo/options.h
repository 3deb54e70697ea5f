// Command line of klo.
#pragma once

#include <errno.h>

#include "klo/base.h"
#include "klo/model.h"
#include "tenant/open_loop.h"

namespace klo {

enum class Backend { automatic, opencl, emulated };
enum class Policy { none, constant, fixed, dynamic };

constexpr const char* kDefaultEmulation = "/sys/devicelab/emulation";
constexpr int64_t kMaxNs = 1000000000;
constexpr int64_t kMaxInferences = 100000;

// CPUs of the producer, of the driver's threads and of the foreground's; below 0: left to the kernel.
struct Pin {
  int producer = -1;
  int driver = -1;
  int foreground = -1;
};

// A foreground program's frame; period 0: there is none.
struct Frame {
  int64_t period_ns = 0;
  int64_t units = 0;
  int64_t ker_ns = 0;
  int64_t least = 0;  // plain inferences go on until so many frames were due
  bool shared = false;  // on the queue of the inferences
};

struct Options {
  Backend backend = Backend::automatic;
  const char* network = nullptr;
  Policy policy = Policy::none;
  int64_t k = 0;
  const char* schedule = nullptr;
  int64_t warmup = 3;
  int64_t inferences = 10;
  int64_t plain = 10;
  int64_t profile = 5;
  const char* platform = nullptr;
  const char* device = nullptr;
  const char* emulation = nullptr;
  const char* lut = nullptr;
  int64_t flush_ns = -1;  // -1: not given
  int64_t start_idle_ns = -1;
  int64_t gap_ns = -1;
  int64_t flush_per_kernel_ns = -1;
  bool costs_given = false;
  int64_t costs[kCosts] = {};
  Pin pin;
  Frame foreground;
  int64_t work_pct = 100;
  int64_t seed = 1;
  bool serving = false;  // requests of a tenant instead of a measurement
  bool requests_given = false;
  tenant::Settings requests;
  bool list_networks = false;
  bool list_devices = false;
};

constexpr const char* kUsage =
    "usage: klo [--backend opencl|emulated|auto] --network NAME|FILE --k K | --schedule FILE|CSV | --dynamic\n"
    "           [--warmup W] [--inferences N] [--plain M] [--profile P] [--platform P] [--device D]\n"
    "           [--emulation FILE] [--flush-ns NS] [--start-idle-ns NS] [--gap-ns NS]\n"
    "           [--flush-per-kernel-ns NS]\n"
    "           [--costs FLUSH,START_IDLE,GAP[,FLUSH_PER_KERNEL] | --lut FILE] [--work-pct PCT] [--seed S]\n"
    "           [--pin PRODUCER_CPU,DRIVER_CPU[,FOREGROUND_CPU]]\n"
    "           [--foreground PERIOD_NS,WORK_UNITS,KER_NS,FRAMES [--foreground-queue own|shared]]\n"
    "       klo --serve continuous|fixed:R|poisson:R|every:S [--duration-s D] [--queue Q] [--arrival-seed S]\n"
    "           [--windows N] [--pause-s P]\n"
    "           --network NAME|FILE --k K | --schedule FILE|CSV | --dynamic [the options above]\n"
    "       klo --list-networks\n"
    "       klo --list-devices\n"
    "\n"
    "One process is one repetition: W warm-up inferences, then N with every kernel's timestamps, then M without a\n"
    "profiling queue. The command queue is flushed every K kernels (0: once), after the batches of a schedule, or as\n"
    "planned at each flush (--dynamic: P inferences are profiled first; the planner uses the given launch costs).\n"
    "With --serve an inference is a request of a tenant: open loop, every one recorded from its scheduled time.\n";

[[noreturn]] inline void usage(const char* format, const char* detail) {
  fflush(stdout);
  fputs("klo: ", stderr);
  fprintf(stderr, format, detail);
  fprintf(stderr, "\n%s", kUsage);
  exit(kExitUsage);
}

inline int64_t number_option(const char* name, const char* text, int64_t low, int64_t high) {
  int64_t value = 0;
  if (!parse_int(text, low, high, value)) {
    fail(kExitUsage, "%s takes an integer from %" PRId64 " to %" PRId64 ", not %.40s", name, low, high, text);
  }
  return value;
}

// "A,B,C" or "A,B,C,D" as times in nanoseconds.
inline void costs_option(const char* text, int64_t costs[kCosts]) {
  Array<char> copy;
  for (const char* c = text; *c != '\0'; ++c) copy.push(*c == ',' ? ' ' : *c);
  copy.push('\0');
  char* words[kCosts];
  const int count = split_words(copy.data(), words, kCosts);
  if (count < 3 || count > kCosts) fail(kExitUsage, "--costs takes FLUSH,START_IDLE,GAP[,FLUSH_PER_KERNEL] in ns");
  for (int i = 0; i < count; ++i) costs[i] = number_option("--costs", words[i], 0, kMaxNs);
}

// "0,4" or "0,4,5": the CPUs of the producer, of the driver's threads and of the foreground's (else the producer's).
inline void pin_option(const char* text, Pin& pin) {
  Array<char> copy;
  for (const char* c = text; *c != '\0'; ++c) copy.push(*c == ',' ? ' ' : *c);
  copy.push('\0');
  char* words[3];
  const int count = split_words(copy.data(), words, 3);
  if (count != 2 && count != 3) fail(kExitUsage, "--pin takes PRODUCER_CPU,DRIVER_CPU[,FOREGROUND_CPU], not %.40s", text);
  pin.producer = static_cast<int>(number_option("--pin", words[0], 0, 1023));
  pin.driver = static_cast<int>(number_option("--pin", words[1], 0, 1023));
  pin.foreground = count == 3 ? static_cast<int>(number_option("--pin", words[2], 0, 1023)) : pin.producer;
  if (pin.producer == pin.driver || pin.foreground == pin.driver) fail(kExitUsage, "--pin takes different CPUs");
}

// "16666667,100,2000000,200": a frame's period, parameter work and kernel time, and how many are wanted.
inline void foreground_option(const char* text, Frame& frame) {
  Array<char> copy;
  for (const char* c = text; *c != '\0'; ++c) copy.push(*c == ',' ? ' ' : *c);
  copy.push('\0');
  char* words[4];
  if (split_words(copy.data(), words, 4) != 4) {
    fail(kExitUsage, "--foreground takes PERIOD_NS,WORK_UNITS,KER_NS,FRAMES, not %.60s", text);
  }
  frame.period_ns = number_option("--foreground", words[0], 100000, 10 * kMaxNs);
  frame.units = number_option("--foreground", words[1], 0, 10000000);
  frame.ker_ns = number_option("--foreground", words[2], 0, kMaxNs);
  frame.least = number_option("--foreground", words[3], 1, 100000);
}

inline void set_policy(Options& options, Policy policy) {
  if (options.policy != Policy::none) usage("%s", "only one of --k, --schedule and --dynamic");
  options.policy = policy;
}

// True: `name` belongs to --serve and its value was taken.
inline bool serve_option(const char* name, const char* value, Options& o) {
  const char* word = name;
  if (strcmp(name, "--serve") == 0) {
    o.serving = true;
    word = "--arrivals";
  } else if (strcmp(name, "--arrival-seed") == 0) {
    word = "--seed";
  } else if (strcmp(name, "--duration-s") != 0 && strcmp(name, "--queue") != 0 && strcmp(name, "--windows") != 0 &&
             strcmp(name, "--pause-s") != 0) {
    return false;
  }
  const char* why = nullptr;
  tenant::take_option(word, value, o.requests, why);
  if (why != nullptr) fail(kExitUsage, "%s: %.40s is not such a number", name, value);
  o.requests_given = true;
  return true;
}

inline Options parse_options(int argc, char** argv) {
  Options o;
  struct Number {
    const char* name;
    int64_t* value;
    int64_t low, high;
  };
  const Number numbers[] = {
      {"--warmup", &o.warmup, 0, kMaxInferences},
      {"--inferences", &o.inferences, 0, kMaxInferences},
      {"--plain", &o.plain, 0, kMaxInferences},
      {"--profile", &o.profile, 1, kMaxInferences},
      {"--flush-ns", &o.flush_ns, 0, kMaxNs},
      {"--start-idle-ns", &o.start_idle_ns, 0, kMaxNs},
      {"--gap-ns", &o.gap_ns, 0, kMaxNs},
      {"--flush-per-kernel-ns", &o.flush_per_kernel_ns, 0, kMaxNs},
      {"--work-pct", &o.work_pct, 0, 100000},
      {"--seed", &o.seed, 0, INT32_MAX},
  };
  struct Text {
    const char* name;
    const char** value;
  };
  const Text texts[] = {{"--network", &o.network},
                        {"--platform", &o.platform},
                        {"--device", &o.device},
                        {"--emulation", &o.emulation},
                        {"--lut", &o.lut}};
  for (int i = 1; i < argc; ++i) {
    const char* name = argv[i];
    if (strcmp(name, "--help") == 0) {
      fputs(kUsage, stdout);
      exit(0);
    }
    if (strcmp(name, "--dynamic") == 0) {
      set_policy(o, Policy::dynamic);
      continue;
    }
    if (strcmp(name, "--list-networks") == 0 || strcmp(name, "--list-devices") == 0) {
      (name[7] == 'n' ? o.list_networks : o.list_devices) = true;
      continue;
    }
    if (i + 1 == argc) usage("%.60s: unknown, or its value is missing", name);
    const char* value = argv[++i];
    bool known = serve_option(name, value, o);
    for (const Number& one : numbers) {
      if (strcmp(one.name, name) != 0) continue;
      *one.value = number_option(name, value, one.low, one.high);
      known = true;
    }
    for (const Text& one : texts) {
      if (strcmp(one.name, name) != 0) continue;
      *one.value = value;
      known = true;
    }
    if (strcmp(name, "--backend") == 0) {
      known = true;
      if (strcmp(value, "opencl") == 0) {
        o.backend = Backend::opencl;
      } else if (strcmp(value, "emulated") == 0) {
        o.backend = Backend::emulated;
      } else if (strcmp(value, "auto") != 0) {
        usage("no backend named %.40s", value);
      }
    } else if (strcmp(name, "--k") == 0) {
      known = true;
      set_policy(o, Policy::constant);
      o.k = number_option(name, value, 0, 1000000);
    } else if (strcmp(name, "--schedule") == 0) {
      known = true;
      set_policy(o, Policy::fixed);
      o.schedule = value;
    } else if (strcmp(name, "--pin") == 0) {
      known = true;
      pin_option(value, o.pin);
    } else if (strcmp(name, "--foreground") == 0) {
      known = true;
      foreground_option(value, o.foreground);
    } else if (strcmp(name, "--foreground-queue") == 0) {
      known = strcmp(value, "own") == 0 || strcmp(value, "shared") == 0;
      o.foreground.shared = strcmp(value, "shared") == 0;
    } else if (strcmp(name, "--costs") == 0) {
      known = true;
      o.costs_given = true;
      costs_option(value, o.costs);
    }
    if (!known) usage("unknown option %.60s", name);
  }
  if (o.list_networks || o.list_devices) return o;
  if (o.network == nullptr) usage("%s", "--network is missing");
  if (o.policy == Policy::none) usage("%s", "one of --k, --schedule and --dynamic is missing");
  if (o.requests_given && !o.serving) usage("%s", "--duration-s, --queue, --arrival-seed, --windows and --pause-s belong to --serve");
  if (!o.serving && o.inferences + o.plain == 0) usage("%s", "nothing to measure: --inferences and --plain are both 0");
  if (o.foreground.period_ns == 0 && o.foreground.shared) usage("%s", "--foreground-queue belongs to --foreground");
  if (o.foreground.period_ns > 0 && (o.serving || o.plain == 0)) {
    usage("%s", "--foreground runs beside the --plain inferences, and not with --serve");
  }
  if (o.costs_given && o.lut != nullptr) usage("%s", "only one of --costs and --lut");
  return o;
}

// Batch lengths from "1,2,3" or from a file of numbers separated by blanks, commas or line ends.
inline void read_schedule(const char* text, int kernels, Array<int>& batches) {
  Array<char> buffer;
  if (strspn(text, "0123456789,") == strlen(text)) {
    for (const char* c = text; *c != '\0'; ++c) buffer.push(*c);
    buffer.push('\0');
  } else if (!read_file(text, 1 << 20, buffer)) {
    fail(kExitUsage, "cannot read the schedule %s: %s", text, strerror(errno));
  }
  int64_t sum = 0;
  char* rest = nullptr;
  for (char* word = strtok_r(buffer.data(), ", \t\r\n", &rest); word != nullptr;
       word = strtok_r(nullptr, ", \t\r\n", &rest)) {
    const int64_t length = number_option("a schedule's batch", word, 1, 1000000);
    batches.push(static_cast<int>(length));
    sum += length;
    if (sum > kernels) break;
  }
  if (sum != kernels) {
    fail(kExitUsage, "the schedule's batches have to sum up to the network's %d kernels%s", kernels,
         sum > kernels ? " (they are more)" : " (they are fewer)");
  }
}

// "key value" lines; keys that are not asked for are left alone, the last may be missing. False: cannot be read, errno
// says why.
inline bool read_costs(const char* path, int64_t costs[kCosts]) {
  Array<char> text;
  if (!read_file(path, 1 << 16, text)) return false;
  constexpr const char* keys[kCosts] = {"flush_ns", "start_idle_ns", "gap_ns", "flush_per_kernel_ns"};
  bool seen[kCosts] = {false, false, false, true};
  char* rest = nullptr;
  for (char* line = strtok_r(text.data(), "\n", &rest); line != nullptr; line = strtok_r(nullptr, "\n", &rest)) {
    char* words[2];
    if (split_words(line, words, 2) != 2) continue;
    for (int i = 0; i < kCosts; ++i) {
      if (strcmp(words[0], keys[i]) != 0) continue;
      costs[i] = number_option(keys[i], words[1], 0, kMaxNs);
      seen[i] = true;
    }
  }
  for (int i = 0; i < kCosts; ++i) {
    if (!seen[i]) fail(kExitUsage, "%s does not say %s", path, keys[i]);
  }
  return true;
}

}  // namespace klo
