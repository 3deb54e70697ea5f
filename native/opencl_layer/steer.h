// When to flush: a constant period, a schedule made beforehand, or planned at each flush with klo's planner.
#pragma once

#include <algorithm>

#include "klo/model.h"
#include "opencl_layer/settings.h"

namespace layer {

constexpr uint32_t kProfileK = 4;  // flush period while a profile is taken for the planner, as in klo

// Dynamic steering of one queue. Enqueues of several threads on one queue would race: then, and for kernels beyond
// those that were profiled, the period is kProfileK. Written by the thread that enqueues; `learn` runs while it waits.
class Dynamic {
 public:
  bool planning() const { return planner_ != nullptr; }
  int64_t planned_ns() const { return planned_ns_; }

  // Kernel `i` of an inference has been enqueued: true if it ends its batch. All times CLOCK_MONOTONIC.
  bool ends_batch(int i, uint32_t pending, int64_t begin_ns, int64_t now) {
    if (!planning() || i >= kernels_) return pending >= kProfileK;
    if (i == 0) {
      planner_->begin();
      planned_ns_ = 0;
      from_ = 0;
      begin_ns_ = begin_ns;
      length_ = planner_->next(0, 0, 0);
      mark_ = passed(now);
      return length_ <= 1;
    }
    planner_->produced(i, static_cast<double>(now - mark_));
    mark_ = now;
    if (i + 1 - from_ < length_ && planner_->outdated()) {
      length_ = planner_->next(from_, i + 1 - from_, static_cast<double>(now - begin_ns_));
      mark_ = passed(now);
    }
    return i + 1 - from_ >= length_;
  }

  // The batch that ended with kernel `i` has been flushed.
  void flushed(int i, int64_t now) {
    if (!planning() || i + 1 >= kernels_ || i < from_) return;
    planner_->flushed(from_, i + 1, static_cast<double>(now - begin_ns_));
    from_ = i + 1;
    length_ = planner_->next(from_, 0, static_cast<double>(now - begin_ns_));
    mark_ = passed(now);
  }

  // A profiled inference: p and g of its kernels, ns. After enough of the same length the planner begins; when
  // inferences have got another length for good, it learns anew.
  void learn(const Settings& settings, const int64_t* p, const int64_t* g, int kernels) {
    if (planner_ != nullptr) {
      strangers_ = kernels == kernels_ ? 0 : strangers_ + 1;
      if (strangers_ < 3) return;
      free(planner_);
      planner_ = nullptr;
      seen_ = 0;
    }
    if (seen_ > 0 && kernels != kernels_) seen_ = 0;
    if (seen_ == 0) {
      samples_.clear();
      kernels_ = kernels;
    }
    for (int i = 0; i < kernels; ++i) samples_.push(std::max<int64_t>(0, p[i]));
    for (int i = 0; i < kernels; ++i) samples_.push(std::max<int64_t>(0, g[i]));
    if (++seen_ < settings.profile || samples_.failed()) return;
    const size_t n = static_cast<size_t>(kernels);
    p_.clear();
    g_.clear();
    p_.push(0);
    g_.push(0);
    double total = 0;
    for (size_t i = 1; i < n; ++i) total += static_cast<double>(middle(i));
    // The first kernel has no T_prod: it gets the mean of the others.
    for (size_t i = 0; i < n; ++i) {
      p_.push(p_[i] + (i > 0 ? static_cast<double>(middle(i)) : n > 1 ? total / static_cast<double>(n - 1) : 0.0));
    }
    for (size_t i = 0; i < n; ++i) g_.push(g_[i] + static_cast<double>(middle(n + i)));
    if (p_.failed() || g_.failed()) return;
    planner_ = make<klo::Planner>(klo::Sums{kernels, p_.data(), g_.data()}, klo::costs_of(settings.costs));
    strangers_ = 0;
  }

 private:
  // Time that planning took does not count as production of the next kernel.
  int64_t passed(int64_t since) {
    const int64_t now = now_ns();
    planned_ns_ += now - since;
    return now;
  }
  // The median of one of the 2 n values of every profiled inference.
  int64_t middle(size_t which) {
    const size_t width = 2 * static_cast<size_t>(kernels_);
    sorted_.clear();
    for (int64_t i = 0; i < seen_; ++i) sorted_.push(samples_[static_cast<size_t>(i) * width + which]);
    // Not std::sort: libc++ keeps it in its library, which not every toolchain links.
    qsort(sorted_.data(), sorted_.size(), sizeof(int64_t), [](const void* a, const void* b) {
      const int64_t left = *static_cast<const int64_t*>(a);
      const int64_t right = *static_cast<const int64_t*>(b);
      return left < right ? -1 : left > right ? 1 : 0;
    });
    return sorted_.empty() ? 0 : sorted_[sorted_.size() / 2];
  }

  Array<int64_t> samples_;
  Array<int64_t> sorted_;
  Array<double> p_;
  Array<double> g_;
  klo::Planner* planner_ = nullptr;
  int kernels_ = 0;
  int64_t seen_ = 0;
  int strangers_ = 0;
  int from_ = 0;
  int length_ = 1;
  int64_t begin_ns_ = 0;
  int64_t mark_ = 0;
  int64_t planned_ns_ = 0;
};

}  // namespace layer
