// Signals and waiting. The signals are blocked except inside ``wait_until``, so none is lost between two looks.
#pragma once

#include <signal.h>

#include <poll.h>
#include <sys/prctl.h>

#include "sys.h"

namespace agent {

struct Signals {
  volatile sig_atomic_t stop = 0;  // the signal that asked the agent to end
  sigset_t waiting{};              // the mask while it waits
  sigset_t original{};             // the mask programs get
};

inline Signals& signals() {
  static Signals instance;
  return instance;
}

constexpr int kWatched[] = {SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGPIPE, SIGXFSZ};

inline void on_signal(int number) {
  if (number != SIGCHLD) signals().stop = number;
}

inline void watch_signals() {
  sigset_t block;
  sigemptyset(&block);
  struct sigaction action{};
  for (int number : kWatched) {
    bool ignored = number == SIGHUP || number == SIGPIPE || number == SIGXFSZ;
    action.sa_handler = ignored ? SIG_IGN : on_signal;
    if (!ignored) sigaddset(&block, number);
    sigaction(number, &action, nullptr);
  }
  sigprocmask(SIG_BLOCK, &block, &signals().original);
  for (int number : kWatched) sigdelset(&signals().original, number);
  signals().waiting = signals().original;
}

inline bool stopping() { return signals().stop != 0; }

// In a new child: what a program expects, whatever we (or a shell that started us in the background) ignore.
inline void forget_signals() {
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < 32; ++number) sigaction(number, &action, nullptr);
  sigprocmask(SIG_SETMASK, &signals().original, nullptr);
}

// Sleeps until the time (CLOCK_MONOTONIC), a signal, or something to read; returns the number of descriptors ready.
inline int wait_until(int64_t deadline_ns, pollfd* fds = nullptr, size_t count = 0) {
  int64_t left = deadline_ns - mono_ns();
  if (left < 0) left = 0;
  if (left > 3600 * kSecond) left = 3600 * kSecond;
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(left / kSecond);
  timeout.tv_nsec = static_cast<long>(left % kSecond);
  int ready = ppoll(fds, static_cast<nfds_t>(count), &timeout, &signals().waiting);
  return ready > 0 ? ready : 0;
}

}  // namespace agent
