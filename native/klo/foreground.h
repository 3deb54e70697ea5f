// Somebody else who wants the GPU: once a period a frame of one kernel is enqueued, flushed and waited for, as a user
// interface does, while inferences run beside it.
#pragma once

#include <pthread.h>

#include <atomic>

#include "klo/cl_library.h"
#include "klo/cores.h"
#include "klo/producer.h"

namespace klo {

// A frame is late by more than its own time where the GPU was busy with something that it does not put down. A frame
// that was due while another one was drawn is drawn with the next, and its time counts from when it was due: nothing is
// left out because the GPU was slow.
class Foreground {
 public:
  void open(const Frame& frame, const ClLibrary& cl, cl_command_queue queue, cl_kernel kernel) {
    frame_ = frame;
    cl_ = &cl;
    queue_ = queue;
    kernel_ = kernel;
    layer_.custom_units = frame_.units;
    scheduled_.reserve(kMostFrames);
    ended_.reserve(kMostFrames);
  }

  bool open() const { return cl_ != nullptr; }

  void start() {
    stop_.store(false);
    if (pthread_create(&thread_, nullptr, [](void* self) -> void* {
          static_cast<Foreground*>(self)->draw();
          return nullptr;
        }, this) != 0) {
      fail(kExitFailed, "cannot start the foreground's thread");
    }
    while (id_.load() == 0) sched_yield();
  }

  // Ends after the frame that is being drawn.
  void stop() {
    stop_.store(true);
    pthread_join(thread_, nullptr);
    id_.store(0);
  }

  // Enough frames were due, whatever became of them.
  bool enough() const { return due_.load() >= frame_.least; }

  // Its thread, 0: none runs.
  pid_t id() const { return id_.load(); }

  void print() const {
    printf("{\"event\":\"foreground\",\"period_ns\":%" PRId64 ",\"units\":%" PRId64 ",\"ker_ns\":%" PRId64
           ",\"queue\":\"%s\",\"drawn\":%" PRId64,
           frame_.period_ns, frame_.units, frame_.ker_ns, frame_.shared ? "shared" : "own", drawn_);
    print_json_array("scheduled_ns", scheduled_.data(), scheduled_.size());
    print_json_array("end_ns", ended_.data(), ended_.size());
    fputs("}\n", stdout);
  }

 private:
  static constexpr size_t kMostFrames = 200000;

  void draw() {
    id_.store(static_cast<pid_t>(syscall(SYS_gettid)));
    const int64_t begin = now_ns() + frame_.period_ns;
    for (int64_t slot = 0; !stop_.load();) {
      if (!sleep_until(begin + slot * frame_.period_ns)) break;
      const int64_t due = (now_ns() - begin) / frame_.period_ns + 1;
      draw_one();
      const int64_t end = now_ns();
      ++drawn_;
      for (; slot < due && scheduled_.size() < kMostFrames; ++slot) {
        scheduled_.push(slot * frame_.period_ns);
        ended_.push(end - begin);
      }
      due_.store(slot);
      if (scheduled_.size() == kMostFrames) break;
    }
  }

  // In short steps, so that the end is not waited for. False: it has come.
  bool sleep_until(int64_t at) const {
    constexpr int64_t kStepNs = 50000000;
    for (int64_t now = now_ns(); now < at; now = now_ns()) {
      if (stop_.load()) return false;
      const int64_t wake = at - now > kStepNs ? now + kStepNs : at;
      timespec until{};
      until.tv_sec = static_cast<time_t>(wake / 1000000000);
      until.tv_nsec = static_cast<long>(wake % 1000000000);
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    }
    return !stop_.load();
  }

  void draw_one() {
    producer_.work(layer_.work_units(), layer_);
    const Window window = producer_.window(layer_);
    cl_event event = nullptr;
    cl_check("clEnqueueNDRangeKernel (foreground)",
             cl_->clEnqueueNDRangeKernel(queue_, kernel_, 3, nullptr, window.global, nullptr, 0, nullptr, &event));
    cl_check("clFlush (foreground)", cl_->clFlush(queue_));
    cl_check("clWaitForEvents (foreground)", cl_->clWaitForEvents(1, &event));
    cl_->clReleaseEvent(event);
  }

  Frame frame_;
  const ClLibrary* cl_ = nullptr;
  cl_command_queue queue_ = nullptr;
  cl_kernel kernel_ = nullptr;
  Layer layer_;
  Producer producer_;
  pthread_t thread_{};
  std::atomic<pid_t> id_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> due_{0};
  int64_t drawn_ = 0;
  Array<int64_t> scheduled_;
  Array<int64_t> ended_;
};

}  // namespace klo
