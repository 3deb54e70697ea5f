// When to flush: a constant period, a schedule made beforehand, or planned at each flush.
#pragma once

#include <algorithm>

#include "klo/model.h"
#include "klo/network.h"
#include "klo/options.h"
#include "klo/samples.h"

namespace klo {

// The usual p and g of every kernel, from profiled inferences.
struct Profile {
  Array<int64_t> p_ns;
  Array<int64_t> g_ns;
  Array<double> p_sums;
  Array<double> g_sums;

  Sums sums() const { return {p_ns.count(), p_sums.data(), g_sums.data()}; }
};

inline int64_t median(Array<int64_t>& values) {
  qsort(values.data(), values.size(), sizeof(int64_t), [](const void* a, const void* b) {
    const int64_t left = *static_cast<const int64_t*>(a);
    const int64_t right = *static_cast<const int64_t*>(b);
    return left < right ? -1 : left > right ? 1 : 0;
  });
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Time kernel i took to be produced, without the flush before it. Not defined for the first one.
inline int64_t produced_ns(const Inference& one, size_t i) {
  size_t end = 0;
  int64_t flush_ns = 0;
  for (size_t b = 0; b < one.batches.size() && end <= i; ++b) {
    end += static_cast<size_t>(one.batches[b]);
    if (end == i) flush_ns = one.flush_ns[b];
  }
  return one.host_ns[i] - one.host_ns[i - 1] - flush_ns;
}

// Medians over the inferences of phase `profile`. The first kernel's p is invalid: it gets the mean of the others.
inline void make_profile(const Array<Inference>& inferences, int kernels, Profile& profile) {
  int64_t p_total = 0;
  for (int i = 0; i < kernels; ++i) {
    const size_t at = static_cast<size_t>(i);
    Array<int64_t> p;
    Array<int64_t> g;
    for (const Inference& one : inferences) {
      if (one.phase != Phase::profile) continue;
      if (i > 0) p.push(std::max<int64_t>(0, produced_ns(one, at)));
      g.push(std::max<int64_t>(0, one.finish_ns[at] - one.start_ns[at]));
    }
    profile.p_ns.push(i > 0 ? median(p) : 0);
    profile.g_ns.push(median(g));
    p_total += profile.p_ns[at];
  }
  profile.p_ns[0] = kernels > 1 ? p_total / (kernels - 1) : 0;
  profile.p_sums.push(0);
  profile.g_sums.push(0);
  for (size_t i = 0; i < profile.p_ns.size(); ++i) {
    profile.p_sums.push(profile.p_sums[i] + static_cast<double>(profile.p_ns[i]));
    profile.g_sums.push(profile.g_sums[i] + static_cast<double>(profile.g_ns[i]));
  }
}

// Gives the length of each batch. Told of every kernel produced and every flush.
class Pacer {
 public:
  // Every k kernels; 0: all in one batch.
  static Pacer constant(int64_t k, int kernels) {
    Pacer pacer(kernels);
    pacer.k_ = k == 0 || k > kernels ? kernels : static_cast<int>(k);
    return pacer;
  }
  static Pacer fixed(const Array<int>& schedule, int kernels) {
    Pacer pacer(kernels);
    pacer.schedule_ = &schedule;
    return pacer;
  }
  static Pacer dynamic(Planner& planner, int kernels) {
    Pacer pacer(kernels);
    pacer.planner_ = &planner;
    return pacer;
  }

  bool plans() const { return planner_ != nullptr; }

  int begin() {
    batch_ = 0;
    if (planner_ != nullptr) planner_->begin();
    return length(0, 0, 0);
  }
  // Kernel i was produced in `ns`. True: the length of its batch should be asked for again.
  bool produced(int i, int64_t ns) {
    if (planner_ == nullptr || i == 0) return false;
    planner_->produced(i, static_cast<double>(ns));
    return planner_->outdated();
  }
  // Kernels [from, to) are flushed at host_ns since the inference began: the length of the next batch.
  int flushed(int from, int to, int64_t host_ns) {
    if (planner_ != nullptr) planner_->flushed(from, to, static_cast<double>(host_ns));
    ++batch_;
    return to < kernels_ ? length(to, 0, host_ns) : 0;
  }
  // Length of the batch that begins with kernel `from`, of which `pending` are produced.
  int length(int from, int pending, int64_t host_ns) const {
    if (planner_ != nullptr) return planner_->next(from, pending, static_cast<double>(host_ns));
    const int wanted = schedule_ != nullptr ? (*schedule_)[static_cast<size_t>(batch_)] : k_;
    return std::min(wanted, kernels_ - from);
  }

 private:
  explicit Pacer(int kernels) : kernels_(kernels) {}

  int kernels_ = 0;
  int k_ = 1;
  int batch_ = 0;
  const Array<int>* schedule_ = nullptr;
  Planner* planner_ = nullptr;
};

}  // namespace klo
