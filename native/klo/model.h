// The launch model and the planner that uses it while an inference runs. Pure; times are nanoseconds as double.
//
//   P_b = sum of p + f up to the end of batch b + b F    S_b = max(P_b + L_s, E_{b-1} + L_b),  S_1 = P_1 + L_s
//   E_b = S_b + sum of g in batch b                      makespan = E_last
#pragma once

#include <stdint.h>

namespace klo {

struct Costs {
  double flush_ns = 0;       // F: CPU time of one flush
  double start_idle_ns = 0;  // L_s: flush to start when the GPU is idle
  double gap_ns = 0;         // L_b: gap between two batches that follow each other
  double flush_per_kernel_ns = 0;  // f: what each kernel of the batch adds to its flush

  double flush(int kernels) const { return flush_ns + kernels * flush_per_kernel_ns; }
};

constexpr int kCosts = 4;  // how many there are, in the order above

inline Costs costs_of(const int64_t ns[kCosts]) {
  return {static_cast<double>(ns[0]), static_cast<double>(ns[1]), static_cast<double>(ns[2]), static_cast<double>(ns[3])};
}

// Where the host and the GPU stand: the host's clock and the end of what was flushed, since the inference began.
struct State {
  double host_ns = 0;
  double gpu_ns = -1;  // below 0: nothing was flushed yet
};

// Kernels [0, n): running sums of p and g, both with n + 1 entries and 0 first. Not owned.
struct Sums {
  int n = 0;
  const double* p = nullptr;
  const double* g = nullptr;
};

// Produce kernels [from, to) with p scaled by `scale`, then flush them as one batch.
inline State after_batch(const Sums& sums, const Costs& costs, const State& at, int from, int to, double scale) {
  State next;
  next.host_ns = at.host_ns + scale * (sums.p[to] - sums.p[from]) + costs.flush(to - from);
  double start = next.host_ns + costs.start_idle_ns;
  if (at.gpu_ns >= 0 && at.gpu_ns + costs.gap_ns > start) start = at.gpu_ns + costs.gap_ns;
  next.gpu_ns = start + sums.g[to] - sums.g[from];
  return next;
}

// Makespan when kernels [from, n) are flushed every k; gives up as soon as it must exceed `limit`.
inline double finish_every(const Sums& sums, const Costs& costs, State at, int from, int k, double scale, double limit) {
  for (int i = from; i < sums.n && at.gpu_ns < limit;) {
    const int to = sums.n - i < k ? sums.n : i + k;
    at = after_batch(sums, costs, at, i, to, scale);
    i = to;
  }
  return at.gpu_ns;
}

// Makespan of a schedule given as batch lengths.
inline double makespan(const Sums& sums, const Costs& costs, const int* batches, int count) {
  State at;
  int from = 0;
  for (int b = 0; b < count; ++b) {
    at = after_batch(sums, costs, at, from, from + batches[b], 1.0);
    from += batches[b];
  }
  return at.gpu_ns;
}

// The k with the smallest makespan for kernels [from, n) (the smallest of equals).
inline int best_every(const Sums& sums, const Costs& costs, const State& at, int from, double scale) {
  int best_k = 1;
  double best = 1e300;
  for (int k = 1; k <= sums.n - from; ++k) {
    const double one = finish_every(sums, costs, at, from, k, scale, best);
    if (one < best) {
      best = one;
      best_k = k;
    }
  }
  return best_k;
}

// Receding horizon: at each flush the next batch is the one after which flushing at a constant period would end
// soonest, with p as smoothed from what was observed. Only the next batch is taken; then it is planned anew, also before
// the batch is full if production has become faster or slower meanwhile.
class Planner {
 public:
  Planner(const Sums& sums, const Costs& costs) : sums_(sums), costs_(costs) {}

  // The scale of p lasts from one inference to the next: a load does too. It starts from the profile, never from the
  // first reading.
  void begin() { gpu_ns_ = -1; }

  // Kernel i was produced in `ns` (without flush or planning). The first of an inference has no predecessor and is not
  // told. One preempted kernel must not look like a new speed, hence the bound.
  void produced(int i, double ns) {
    const double usual = sums_.p[i + 1] - sums_.p[i];
    if (usual <= 0) return;
    double ratio = ns / usual;
    if (ratio > 4 * scale_) ratio = 4 * scale_;
    scale_ += kSmoothing * (ratio - scale_);
  }

  // Production is no longer what the present batch was planned with.
  bool outdated() const { return scale_ > kTolerance * planned_scale_ || planned_scale_ > kTolerance * scale_; }

  // Kernels [from, to) were flushed; the flush ended at host_ns.
  void flushed(int from, int to, double host_ns) {
    double start = host_ns + costs_.start_idle_ns;
    if (gpu_ns_ >= 0 && gpu_ns_ + costs_.gap_ns > start) start = gpu_ns_ + costs_.gap_ns;
    gpu_ns_ = start + sums_.g[to] - sums_.g[from];
  }

  // Length of the batch that begins with kernel `from`, of which `pending` are produced already, at host_ns.
  int next(int from, int pending, double host_ns) {
    planned_scale_ = scale_;
    const int left = sums_.n - from;
    if (left <= 1) return left;
    const State at{host_ns - scale_ * (sums_.p[from + pending] - sums_.p[from]), gpu_ns_};
    const int usual = best_every(sums_, costs_, at, from, scale_);
    const int tails[] = {usual, usual / 2 > 0 ? usual / 2 : 1, 2 * usual};
    const int shortest = pending > 1 ? pending : 1;
    const int reach = shortest + kReach * usual;
    int best_length = shortest;
    double best = 1e300;
    for (int length = shortest; length <= (left < reach ? left : reach); ++length) {
      const State then = after_batch(sums_, costs_, at, from, from + length, scale_);
      for (const int k : tails) {
        const double one = finish_every(sums_, costs_, then, from + length, k, scale_, best);
        if (one < best) {
          best = one;
          best_length = length;
        }
      }
    }
    return best_length;
  }

  double scale() const { return scale_; }

 private:
  static constexpr double kSmoothing = 0.25;
  static constexpr double kTolerance = 1.2;
  static constexpr int kReach = 4;

  Sums sums_;
  Costs costs_;
  double scale_ = 1;
  double planned_scale_ = 1;
  double gpu_ns_ = -1;
};

}  // namespace klo
