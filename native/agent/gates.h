// Gates (waiting for heat to pass) and probes (will the kernel place a task on these CPUs?).
#pragma once

#include "programs.h"

namespace agent {

struct GateResult {
  Text path;
  bool has_value = false, reached = false;
  int64_t value = 0, waited_ms = 0;

  void print(Json* json) const {
    json->open('{').member("path", path);
    if (has_value) json->member("value", value);
    json->member("waited_ms", waited_ms).member_bool("reached", reached).close('}');
  }
};

class GateWait {
 public:
  explicit GateWait(const Gate& gate) : gate_(gate) { result_.path = gate.path; }

  // Waits until the gate is reached, it timed out, or the agent is to end. ``meanwhile()`` is called at every look.
  template <class Meanwhile>
  GateResult run(Meanwhile meanwhile) {
    int64_t begin = mono_ns();
    int64_t period = clamp(gate_.window_ms * kMs / 32, 50 * kMs, kSecond);
    int64_t seen = begin;  // when it was last readable
    for (;;) {
      Arena scratch;
      int64_t now = mono_ns();
      Reading reading = read_node(gate_.path, &scratch, 4096);
      Text digits;
      result_.has_value = reading.good() && first_number(reading.text, &digits) && parse_number(digits, &result_.value);
      if (result_.has_value) seen = now;
      result_.reached = result_.has_value && in_band() && flat(now);
      result_.waited_ms = (now - begin) / kMs;
      bool gone = now - seen > kUnreadable && !result_.has_value;
      if (result_.reached || gone || stopping() || now - begin >= gate_.timeout_ms * kMs) return result_;
      meanwhile();
      int64_t end = begin + gate_.timeout_ms * kMs;
      wait_until(now + period < end ? now + period : end);
    }
  }

 private:
  static constexpr int64_t kUnreadable = 5 * kSecond;  // then it will not become readable by waiting

  static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
  }

  bool in_band() const {
    return !(gate_.has_max && result_.value > gate_.max_value) && !(gate_.has_min && result_.value < gate_.min_value);
  }

  // The readings of the last window span it and differ by little.
  bool flat(int64_t now) {
    if (!gate_.has_flat) return true;
    readings_.push({now, result_.value});
    int64_t window = gate_.window_ms * kMs;
    size_t old = 0;  // of those that are older than the window the newest is kept: it shows that the window is spanned
    while (old + 1 < readings_.size && now - readings_[old + 1].time >= window) ++old;
    memmove(readings_.data, readings_.data + old, (readings_.size - old) * sizeof(At));
    readings_.size -= old;
    int64_t low = result_.value, high = result_.value;
    for (const At& at : readings_) {
      low = at.value < low ? at.value : low;
      high = at.value > high ? at.value : high;
    }
    return now - readings_[0].time >= window && high - low <= gate_.flat_within;
  }

  struct At {
    int64_t time, value;
  };

  const Gate& gate_;
  GateResult result_;
  Vec<At> readings_;
};

struct ProbeResult {
  const Probe* probe;
  CpuSet granted;
  int error = 0;

  void print(Json* json) const {
    json->open('{').member_numbers("cpus", probe->cpus.data, probe->cpus.size);
    Vec<int> cpus;
    granted.list(&cpus);
    json->member_numbers("granted", cpus.data, cpus.size).member("errno", error).close('}');
  }
};

// Asks in a child, so that the agent's own placement never changes.
inline ProbeResult ask_kernel(const Probe& probe) {
  struct Answer {
    int error;
    CpuSet granted;
  };
  ProbeResult result{&probe, {}, 0};
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    result.error = errno;
    return result;
  }
  pid_t pid = fork();
  if (pid == 0) {
    Answer answer;
    answer.error = set_affinity(0, CpuSet::of(probe.cpus));
    if (answer.error == 0) answer.error = get_affinity(0, &answer.granted);
    write_all(ends[1], Text(reinterpret_cast<const char*>(&answer), sizeof answer));
    _exit(0);
  }
  result.error = pid < 0 ? errno : EIO;
  close(ends[1]);
  Buf bytes;
  if (pid > 0) {
    int status = 0;
    if (read_fd(ends[0], &bytes, sizeof(Answer)) == 0 && bytes.size == sizeof(Answer)) {
      Answer answer;
      memcpy(static_cast<void*>(&answer), bytes.data, sizeof answer);
      result.error = answer.error;
      result.granted = answer.granted;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
  close(ends[0]);
  return result;
}

}  // namespace agent
