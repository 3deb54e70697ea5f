// A load that holds its use of one core: after every period it has had the CPU time it was asked for, whatever the
// clock, the compiler and the neighbours do. Its own CPU clock is compared with the time that passes, and what is
// missing or too much is put right in the next period.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "clock.h"
#include "overhead/digits.h"

namespace overhead {

// Parts of a million of one core.
constexpr int64_t kWhole = 1000000;

// No multiple of it comes near a multiple of 1, 10/3, 4 or 10 ms: a kernel that tells a core's use by looking at every
// tick (HZ 1000, 300, 250, 100) sees work and sleep in their true proportion (the phases' discrepancy is 0.4 % after a
// second).
constexpr int64_t kPeriodNs = 2267000;

// Periods whose work may be owed: what a core did not give for longer is not made up for later. Where it was taken away
// in the middle of work that was owed, that is finished first, and so much is owed once more.
constexpr int64_t kOwedPeriods = 50;

inline int64_t own_cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// The straight line of wanted CPU time over time, which forgets what is too far from it.
class Line {
 public:
  Line(int64_t share, int64_t now_ns, int64_t used_ns)
      : part_ns_(kPeriodNs / 1000 * share / (kWhole / 1000)), end_ns_(now_ns + kPeriodNs), goal_ns_(used_ns + part_ns_) {}

  int64_t part_ns() const { return part_ns_; }
  // The end of the present period.
  int64_t end_ns() const { return end_ns_; }

  // CPU time that the thread has to have had by then.
  int64_t goal_ns(int64_t used_ns) {
    const int64_t most = part_ns_ * (kOwedPeriods + 1), least = -part_ns_ * kOwedPeriods;
    const int64_t owed = goal_ns_ - used_ns;
    goal_ns_ = used_ns + (owed > most ? most : owed < least ? least : owed);
    return goal_ns_;
  }

  // On to the first period that is not over; those in between are owed.
  void advance(int64_t now_ns) {
    const int64_t periods = now_ns < end_ns_ ? 1 : (now_ns - end_ns_) / kPeriodNs + 1;
    end_ns_ += periods * kPeriodNs;
    goal_ns_ += periods * part_ns_;
  }

 private:
  int64_t part_ns_, end_ns_, goal_ns_;
};

// Adds random numbers up until its thread has had so much CPU time.
class Work {
 public:
  // Returns the CPU time it has had.
  int64_t until(int64_t goal_ns) {
    int64_t used = own_cpu_ns();
    while (goal_ns - used > kNearNs) {
      const double wanted = static_cast<double>(goal_ns - used) * per_ns_;
      const int64_t count = wanted < kMost ? static_cast<int64_t>(wanted) + 1 : kMost;
      uint64_t sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += static_cast<uint64_t>(rand());
      sum_ = sum;
      const int64_t now = own_cpu_ns();
      if (now > used) per_ns_ = static_cast<double>(count) / static_cast<double>(now - used);
      used = now;
    }
    return used;
  }

  // Random numbers in so much CPU time.
  int64_t count_in(int64_t ns) const { return static_cast<int64_t>(static_cast<double>(ns) * per_ns_); }

 private:
  static constexpr int64_t kNearNs = 1000;   // about what reading the clock takes
  static constexpr int64_t kMost = 1000000;  // a clock may drop meanwhile

  double per_ns_ = 0.001;
  // Volatile: a sum that nobody reads would not be worked for.
  volatile uint64_t sum_ = 0;
};

// Until it is ended from outside.
[[noreturn]] inline void hold(int64_t share) {
  // The kernel lets timers of a process be 50 us late unless it says otherwise (prctl(2)).
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  constexpr int64_t kToldAfter = 100;  // periods: the clock has come up by then
  Work work;
  Line line(share, now_ns(), own_cpu_ns());
  for (int64_t period = 0;; ++period) {
    work.until(line.goal_ns(own_cpu_ns()));
    if (period == kToldAfter) {
      Digits sleep, count;
      const char* words[] = {"near ", sleep.of(static_cast<uint64_t>((kPeriodNs - line.part_ns()) / 1000)), " ",
                             count.of(static_cast<uint64_t>(work.count_in(line.part_ns()))), "\n"};
      for (const char* word : words) fputs(word, stdout);
      fflush(stdout);
    }
    const int64_t now = now_ns(), end = line.end_ns();
    if (now < end) {
      timespec until{};
      until.tv_sec = static_cast<time_t>(end / 1000000000);
      until.tv_nsec = static_cast<long>(end % 1000000000);
      while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
      }
    }
    line.advance(now);
  }
}

}  // namespace overhead
