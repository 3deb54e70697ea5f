// The plan (devicelab/model/plan.py) as structs. A key that is not known, a missing one or a wrong type is an error.
#pragma once

#include "json_read.h"

namespace agent {

enum class Verify : uint8_t { kExact, kFirstInt, kAtMost, kWord, kNone };
enum class Role : uint8_t { kLoad, kMeasure };

struct Pair {
  Text name, value;
};

struct Write {
  Text path, value, expect, restore;  // expect, restore: data is null where absent
  Text floor_path;                    // of a number below which it is not done; empty: none
  int64_t floor = 0;
  Verify verify = Verify::kExact;
  int64_t verify_ms = 200;
  bool hold = false;
};

struct Command {
  List<Text> act, undo;
  List<Pair> env;
  bool has_undo = false, survives_reboot = false;
  int64_t timeout_ms = 30000;
};

struct Step {
  bool is_write = false, required = true;
  Write write;
  Command command;
};

struct Gate {
  Text path;
  bool has_max = false, has_min = false, has_flat = false;
  int64_t max_value = 0, min_value = 0, flat_within = 0, window_ms = 5000, timeout_ms = 600000;
};

struct Probe {
  List<int> cpus;
};

struct Program {
  Text name;
  Role role = Role::kLoad;
  List<Text> argv;
  List<Pair> env;
  List<Text> env_scrub;
  bool pinned = false;
  List<int> cpus;
  int nice = 0;
  List<Text> cgroups;
  bool barrier = false;
  int64_t timeout_ms = 600000, ready_timeout_ms = 120000, max_output_bytes = 64 << 20;
};

struct Witness {
  Text name;
  List<Text> argv;
  List<Pair> env;
  int64_t timeout_ms = 10000;
};

struct Sampling {
  int64_t period_ms = 100, idle_ms = 0;
  List<Text> nodes, around;
};

struct Run {
  Text run_id, cell_id;
  List<Step> steps;
  List<Step> attached;  // commands taken when the measured programs are there and have not begun
  List<Gate> gates;
  List<Probe> probes;
  List<Program> programs;
  List<Witness> witnesses;
  Sampling sampling;
  int64_t settle_ms = 500, hold_ms = 0, cooldown_ms = 0;
};

constexpr int kMaxCpus = 4096;

// What is wrong with a plan, for people: "$.runs[3].steps[0].path: expected an absolute path".
struct PlanError {
  char text[512] = "";
};

}  // namespace agent
