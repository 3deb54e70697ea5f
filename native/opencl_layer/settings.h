// What the layer is told: environment variables, read once.
#pragma once

#include "klo/model.h"
#include "opencl_layer/base.h"

namespace layer {

enum class Policy : int { own, constant, schedule, dynamic };

inline const char* policy_name(Policy policy) {
  constexpr const char* names[] = {"own", "constant", "static", "dynamic"};
  return names[static_cast<int>(policy)];
}

constexpr int kMaxSchedule = 1 << 16;

struct Settings {
  Policy policy = Policy::own;
  int64_t k = 0;                 // constant: kernels a flush; 0: all that lies between two waits
  Array<uint32_t> batches;       // static
  Array<unsigned char> flush_at;  // static: 1 where a batch ends
  int64_t costs[klo::kCosts] = {};  // dynamic: flush, start on an idle GPU, gap, flush per kernel; ns
  int64_t profile = 5;           // dynamic: inferences that give the planner its p and g
  const char* out = nullptr;     // file that the records are appended to
  bool profiling = true;         // timestamps of every kernel
  int64_t detail = 200;          // inferences with an array of every timestamp; later ones are sums
  int64_t min_kernels = 2;       // fewer between two waits are no inference
  int64_t watchdog_ms = 200;     // a swallowed flush is made good when the program is silent for that long
  bool non_uniform = false;      // say that work-groups need not be uniform
  char wrong[160] = "";          // what cannot be understood: then nothing is steered
};

inline void complain(Settings& s, const char* name, const char* text) {
  if (s.wrong[0] == '\0') snprintf(s.wrong, sizeof s.wrong, "%s=%.80s is not understood", name, text);
}

inline void number_setting(Settings& s, const char* name, int64_t low, int64_t high, int64_t& value) {
  const char* text = getenv(name);
  if (text == nullptr || *text == '\0') return;
  const char* end = nullptr;
  if (!read_number(text, &end, low, high, value) || *end != '\0') complain(s, name, text);
}

inline void flag_setting(Settings& s, const char* name, bool& value) {
  int64_t number = value ? 1 : 0;
  number_setting(s, name, 0, 1, number);
  value = number == 1;
}

// "4,4,8"
inline void schedule_setting(Settings& s, const char* name, const char* text) {
  const char* at = text;
  size_t sum = 0;
  for (;;) {
    int64_t length = 0;
    if (!read_number(at, &at, 1, kMaxSchedule, length) || sum + static_cast<size_t>(length) > kMaxSchedule) break;
    sum += static_cast<size_t>(length);
    s.batches.push(static_cast<uint32_t>(length));
    for (int64_t i = 1; i < length; ++i) s.flush_at.push(0);
    s.flush_at.push(1);
    if (*at == '\0') return;
    if (*at++ != ',') break;
  }
  complain(s, name, text);
}

inline void costs_setting(Settings& s, const char* name) {
  const char* text = getenv(name);
  const char* at = text;
  for (int i = 0; text != nullptr && i < klo::kCosts; ++i) {
    if (!read_number(at, &at, 0, 1000000000, s.costs[i])) break;
    if (*at == '\0' && i >= 2) return;  // the last may be missing
    if (*at++ != ',') break;
  }
  complain(s, name, text == nullptr ? "" : text);
}

inline void read_settings(Settings& s) {
  const char* k = getenv("DEVICELAB_LAYER_K");
  const char* schedule = getenv("DEVICELAB_LAYER_SCHEDULE");
  bool dynamic = false;
  flag_setting(s, "DEVICELAB_LAYER_DYNAMIC", dynamic);
  const bool constant = k != nullptr && *k != '\0';
  const bool fixed = schedule != nullptr && *schedule != '\0';
  if (static_cast<int>(constant) + static_cast<int>(fixed) + static_cast<int>(dynamic) > 1) {
    complain(s, "DEVICELAB_LAYER_K", "with a schedule or dynamic: only one of them");
  }
  if (constant) {
    s.policy = Policy::constant;
    number_setting(s, "DEVICELAB_LAYER_K", 0, 1000000, s.k);
  } else if (fixed) {
    s.policy = Policy::schedule;
    schedule_setting(s, "DEVICELAB_LAYER_SCHEDULE", schedule);
  } else if (dynamic) {
    s.policy = Policy::dynamic;
    costs_setting(s, "DEVICELAB_LAYER_COSTS");
  }
  flag_setting(s, "DEVICELAB_LAYER_PROFILING", s.profiling);
  flag_setting(s, "DEVICELAB_LAYER_NON_UNIFORM", s.non_uniform);
  number_setting(s, "DEVICELAB_LAYER_PROFILE", 1, 1000, s.profile);
  number_setting(s, "DEVICELAB_LAYER_DETAIL", 0, 1000000, s.detail);
  number_setting(s, "DEVICELAB_LAYER_MIN_KERNELS", 1, 1000000, s.min_kernels);
  number_setting(s, "DEVICELAB_LAYER_WATCHDOG_MS", 1, 60000, s.watchdog_ms);
  s.out = getenv("DEVICELAB_LAYER_OUT");
  if (s.policy == Policy::dynamic && !s.profiling) complain(s, "DEVICELAB_LAYER_PROFILING", "0 with dynamic");
  if (s.wrong[0] != '\0' || s.batches.failed() || s.flush_at.failed()) s.policy = Policy::own;
}

}  // namespace layer
