// The host's part of a kernel launch: the parameter work a framework does for a layer before it enqueues a kernel.
//
// It is an amount of *work*, not of time, so that T_prod follows the CPU's clock and its load as in a framework.
#pragma once

#include "klo/network.h"

namespace klo {

struct TensorInfo {
  uint64_t dims[4];
  uint64_t strides[4];
  uint64_t padding[4];
  uint64_t offset;
};

// What a kernel is enqueued with.
struct Window {
  size_t global[3];
  uint64_t config;  // hash of the layer's configuration, as a framework uses to look up a tuned kernel
};

class Producer {
 public:
  // One unit describes the four tensors of a layer (input, weights, bias, output): strides from shape, element size and
  // padding, the window over each, all folded into the configuration's hash. About 100 ns on a 3 GHz core; each step
  // needs the one before.
  void work(int64_t units, const Layer& layer) {
    const uint64_t shapes[4][4] = {
        {size(layer.in_w), size(layer.in_h), size(layer.in_c), 1},
        {size(layer.k), size(layer.k), size(layer.in_c), size(layer.out_c)},
        {size(layer.out_c), 1, 1, 1},
        {size(layer.out_w), size(layer.out_h), size(layer.out_c), 1},
    };
    for (int64_t unit = 0; unit < units; ++unit) {
      for (const auto& shape : shapes) describe(shape);
    }
  }

  // The launch window of a layer: one work-item an output element, in x, y and channel (or along x alone).
  Window window(const Layer& layer) {
    Window w{};
    w.global[0] = static_cast<size_t>(layer.out_w);
    w.global[1] = static_cast<size_t>(layer.out_h);
    w.global[2] = static_cast<size_t>(layer.out_c);
    if (layer.kind == Kind::custom) w.global[0] = 64;
    if (layer.kind == Kind::fc) {
      w.global[0] = static_cast<size_t>(layer.out_c);
      w.global[2] = 1;
    }
    for (const size_t extent : w.global) fold(extent);
    w.config = hash_;
    return w;
  }

  // Depends on all work done: printed at the end, so that none of it can be optimised away.
  uint64_t hash() const { return hash_; }

 private:
  static uint64_t size(int value) { return static_cast<uint64_t>(value); }

  void describe(const uint64_t shape[4]) {
    TensorInfo info{};
    for (int i = 0; i < 4; ++i) {
      info.dims[i] = shape[i];
      info.padding[i] = (hash_ >> (8 * i)) & 7;
    }
    info.strides[0] = 4;
    for (int i = 1; i < 4; ++i) info.strides[i] = info.strides[i - 1] * (info.dims[i - 1] + info.padding[i - 1]);
    info.offset = info.padding[0] * info.strides[0] + info.padding[1] * info.strides[1];
    for (int i = 0; i < 4; ++i) {
      const uint64_t step = 1 + (info.padding[i] & 3);
      fold((info.dims[i] + step - 1) / step * info.strides[i] + info.offset);
    }
  }

  void fold(uint64_t value) {
    hash_ ^= value;
    hash_ *= 1099511628211u;  // FNV-1a, 64 bits
    hash_ ^= hash_ >> 29;
  }

  uint64_t hash_ = 14695981039346656037u;
};

// Keeps this CPU busy for `ns` of its own time. Time in which another task had the CPU shows as a jump of the clock
// and counts for no more than `kJump`: cheaper and finer than asking the kernel for the thread's CPU time.
inline void burn_ns(int64_t ns) {
  constexpr int64_t kJump = 4000;
  int64_t last = now_ns();
  while (ns > 0) {
    const int64_t now = now_ns();
    const int64_t step = now - last;
    ns -= step < kJump ? step : kJump;
    last = now;
  }
}

}  // namespace klo
