// Keeps the producer and the driver's threads on cores of their own. Where they share cores, who runs when decides more
// than K does.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "klo/options.h"

namespace klo {

class Cores {
 public:
  // Threads that the driver makes from now on are born on its core.
  void begin(const Pin& pin) {
    pin_ = pin;
    if (pin_.producer >= 0) put(0, pin_.driver);
  }

  // The producer goes to its core, whatever other threads there are by now to the driver's. A driver may make some late,
  // hence before every inference; outside the timed part. `foreground`: a thread of ours, 0: none.
  void part(pid_t foreground = 0) {
    if (pin_.producer < 0) return;
    put(0, pin_.producer);
    DIR* tasks = opendir("/proc/self/task");
    if (tasks == nullptr) fail(kExitFailed, "cannot list the driver's threads: %s", strerror(errno));
    driver_threads_ = 0;
    const pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
    while (const dirent* entry = readdir(tasks)) {
      int64_t thread = 0;
      if (!parse_int(entry->d_name, 1, INT32_MAX, thread) || thread == self) continue;
      if (thread == foreground) {
        put(foreground, pin_.foreground);
      } else if (put(static_cast<pid_t>(thread), pin_.driver)) {
        ++driver_threads_;
      }
    }
    closedir(tasks);
  }

  int driver_threads() const { return driver_threads_; }

 private:
  // False: the thread has ended meanwhile.
  static bool put(pid_t thread, int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(cpu), &set);
    if (sched_setaffinity(thread, sizeof set, &set) == 0) return true;
    if (errno == ESRCH) return false;
    fail(kExitFailed, "--pin: CPU %d is refused: %s", cpu, strerror(errno));
  }

  Pin pin_;
  int driver_threads_ = 0;
};

}  // namespace klo
