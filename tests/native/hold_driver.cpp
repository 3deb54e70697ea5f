// A held load on a core that gives it so much of its time, without waiting for any of it.
//
//   hold_driver SHARE OVERSHOOT_NS { SECONDS PERMILLE }...
//
// Prints for each stretch the CPU time, in ns, that a load of SHARE parts of a million had in it, on a core that gave it
// at most PERMILLE of its time; every piece of work ended OVERSHOOT_NS of CPU time late.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "overhead/hold.h"

namespace {

class Core {
 public:
  Core(int count, char** stretches) : count_(count), stretches_(stretches) { begin(); }

  bool over() const { return at_ >= count_; }
  int64_t now() const { return now_; }
  int64_t used() const { return used_; }

  void work(int64_t ns) {
    while (!over() && ns > 0) {
      const int64_t left = end_ - now_;
      const int64_t most = left * permille_ / 1000;
      const int64_t got = ns < most ? ns : most;
      used_ += got;
      ns -= got;
      pass(got < most || ns == 0 ? got * 1000 / (permille_ > 0 ? permille_ : 1) : left);
    }
  }
  void sleep_until(int64_t then) {
    while (!over() && now_ < then) pass((then < end_ ? then : end_) - now_);
  }

 private:
  void begin() {
    if (over()) return;
    end_ = now_ + atoll(stretches_[at_]) * 1000000000;
    permille_ = atoll(stretches_[at_ + 1]);
    before_ = used_;
  }
  void pass(int64_t ns) {
    now_ += ns < end_ - now_ ? ns : end_ - now_;
    if (now_ < end_) return;
    printf("%" PRId64 "\n", used_ - before_);
    at_ += 2;
    begin();
  }

  int count_, at_ = 0;
  char** stretches_;
  int64_t now_ = 0, used_ = 0, end_ = 0, permille_ = 0, before_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5 || argc % 2 == 0) return 2;
  const int64_t overshoot = atoll(argv[2]);
  Core core(argc - 3, argv + 3);
  overhead::Line line(atoll(argv[1]), core.now(), core.used());
  while (!core.over()) {
    const int64_t missing = line.goal_ns(core.used()) - core.used();
    if (missing > 0) core.work(missing + overshoot);
    const int64_t now = core.now();
    core.sleep_until(line.end_ns());
    line.advance(now);
  }
  return 0;
}
