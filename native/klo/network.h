// Networks as sequences of GPU kernels: layer kind, shapes, and which buffers are read and written.
#pragma once

#include "klo/base.h"

namespace klo {

enum class Kind : int { conv, depthwise, pointwise, maxpool, avgpool, fc, add, custom };

inline const char* kind_name(Kind kind) {
  constexpr const char* names[] = {"conv", "depthwise", "pointwise", "maxpool", "avgpool", "fc", "add", "kernel"};
  return names[static_cast<int>(kind)];
}

constexpr int kInput = 4;  // the slot of the network's input, which no kernel writes
constexpr int kSlots = 5;
constexpr int kMaxKernels = 4096;

// One kernel. Tensors are planar (channel, row, column). `src2` is read by `add` only. The output is written into
// channels [out_at, out_at + out_c) of its slot, which is how the two halves of a concatenation meet.
struct Layer {
  Kind kind = Kind::custom;
  int in_h = 1, in_w = 1, in_c = 1;
  int out_h = 1, out_w = 1, out_c = 1;
  int k = 1, stride = 1, pad = 0;
  int src = kInput, src2 = kInput, dst = 0, out_at = 0;
  int64_t weight_at = 0;     // first weight of this layer in the common weight buffer
  int64_t custom_units = 0;  // Kind::custom: parameter work and kernel time as given
  int64_t custom_ker_ns = 0;

  int64_t outputs() const { return static_cast<int64_t>(out_h) * out_w * out_c; }
  int64_t inputs() const { return static_cast<int64_t>(in_h) * in_w * in_c; }

  int64_t weights() const {
    switch (kind) {
      case Kind::conv: return static_cast<int64_t>(out_c) * in_c * k * k;
      case Kind::depthwise: return static_cast<int64_t>(out_c) * k * k;
      case Kind::pointwise:
      case Kind::fc: return static_cast<int64_t>(out_c) * in_c;
      default: return 0;
    }
  }

  // Multiply-accumulates (comparisons or additions for pools and sums).
  int64_t macs() const {
    switch (kind) {
      case Kind::conv: return outputs() * in_c * k * k;
      case Kind::pointwise:
      case Kind::fc: return outputs() * in_c;
      case Kind::depthwise:
      case Kind::maxpool:
      case Kind::avgpool: return outputs() * k * k;
      default: return outputs();
    }
  }

  // Time on a nominal mobile GPU: 5 us fixed, 400 multiply-accumulates per ns (60 where data is not reused), 40 bytes
  // per ns. Used by the emulated backend alone.
  int64_t nominal_ker_ns() const {
    if (kind == Kind::custom) return custom_ker_ns;
    const bool reuse = kind == Kind::conv || kind == Kind::pointwise;
    const int64_t bytes = 4 * (inputs() + outputs() + weights());
    return 5000 + macs() / (reuse ? 400 : 60) + bytes / 40;
  }

  // Units of parameter work (producer.h) a framework spends on this kernel before it enqueues it.
  int64_t work_units() const {
    if (kind == Kind::custom) return custom_units;
    constexpr int base[] = {320, 240, 240, 120, 120, 160, 120};
    return base[static_cast<int>(kind)] + (in_c + out_c) / 8;
  }
};

struct Network {
  char name[64] = "";
  Array<Layer> layers;
  int64_t slot_elements = 1;  // every slot has this size, so no shape can reach beyond a buffer
  int64_t weight_elements = 1;

  int count() const { return layers.count(); }
};

// Builds a network layer by layer; keeps the shape and the slot of the last output.
class Builder {
 public:
  explicit Builder(Network& net, int h, int w, int c) : net_(net), h_(h), w_(w), c_(c) {}

  int slot() const { return slot_; }
  int channels() const { return c_; }
  // A block's input that later layers read: its slot is not overwritten until it is released.
  void keep(int slot) { kept_ = slot; }
  void release() { kept_ = -1; }

  Layer shape(Kind kind, int out_c, int k, int stride, int pad) const {
    Layer one;
    one.kind = kind;
    one.in_h = h_;
    one.in_w = w_;
    one.in_c = c_;
    one.out_c = out_c;
    one.k = k;
    one.stride = stride;
    one.pad = pad;
    one.out_h = (h_ + 2 * pad - k) / stride + 1;
    one.out_w = (w_ + 2 * pad - k) / stride + 1;
    one.src = slot_;
    one.dst = free_slot();
    return one;
  }

  void append(const Layer& one) {
    net_.layers.push(one);
    slot_ = one.dst;
    h_ = one.out_h;
    w_ = one.out_w;
    c_ = one.out_c;
  }

  void layer(Kind kind, int out_c, int k, int stride, int pad) { append(shape(kind, out_c, k, stride, pad)); }

  void fc(int out_c) {
    Layer one = shape(Kind::fc, out_c, 1, 1, 0);
    one.in_c = h_ * w_ * c_;
    one.in_h = one.in_w = one.out_h = one.out_w = 1;
    append(one);
  }

  void global_average() {
    Layer one = shape(Kind::avgpool, c_, h_, 1, 0);
    one.out_h = one.out_w = 1;
    append(one);
  }

  void add(int other) {
    Layer one = shape(Kind::add, c_, 1, 1, 0);
    one.src2 = other;
    if (one.dst == other) one.dst = free_slot(other);
    append(one);
  }

  // The last output is only a part of the tensor in its slot, which has so many channels.
  void concatenated(int channels) { c_ = channels; }

  int free_slot(int also = -1) const {
    int slot = 0;
    while (slot == slot_ || slot == kept_ || slot == also) ++slot;
    return slot;
  }

 private:
  Network& net_;
  int h_, w_, c_;
  int slot_ = kInput;
  int kept_ = -1;
};

inline void build_mobilenet_v1(Network& net) {
  Builder b(net, 224, 224, 3);
  b.layer(Kind::conv, 32, 3, 2, 1);
  constexpr int blocks[13][2] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                                 {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
  for (const auto& [out_c, stride] : blocks) {
    b.layer(Kind::depthwise, b.channels(), 3, stride, 1);
    b.layer(Kind::pointwise, out_c, 1, 1, 0);
  }
  b.global_average();
  b.fc(1000);
}

inline void build_mobilenet_v2(Network& net) {
  Builder b(net, 224, 224, 3);
  b.layer(Kind::conv, 32, 3, 2, 1);
  // Expansion, output channels, repeats, stride of the first (Sandler et al. 2018, table 2).
  constexpr int rows[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                              {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (const auto& [expand, out_c, repeats, first_stride] : rows) {
    for (int i = 0; i < repeats; ++i) {
      const int in_c = b.channels();
      const int stride = i == 0 ? first_stride : 1;
      const int input = b.slot();
      const bool residual = stride == 1 && in_c == out_c;
      if (residual) b.keep(input);
      if (expand != 1) b.layer(Kind::pointwise, in_c * expand, 1, 1, 0);
      b.layer(Kind::depthwise, b.channels(), 3, stride, 1);
      b.layer(Kind::pointwise, out_c, 1, 1, 0);
      if (residual) b.add(input);
      b.release();
    }
  }
  b.layer(Kind::pointwise, 1280, 1, 1, 0);
  b.global_average();
  b.fc(1000);
}

inline void build_resnet50(Network& net) {
  Builder b(net, 224, 224, 3);
  b.layer(Kind::conv, 64, 7, 2, 3);
  b.layer(Kind::maxpool, 64, 3, 2, 1);
  // Width, repeats, stride of the first (He et al. 2015, table 1).
  constexpr int stages[4][3] = {{64, 3, 1}, {128, 4, 2}, {256, 6, 2}, {512, 3, 2}};
  for (const auto& [width, repeats, first_stride] : stages) {
    for (int i = 0; i < repeats; ++i) {
      const int stride = i == 0 ? first_stride : 1;
      int shortcut = b.slot();
      if (i == 0) {
        // The projection is produced first; the block goes on from its own input.
        Layer projection = b.shape(Kind::pointwise, width * 4, 1, stride, 0);
        net.layers.push(projection);
        shortcut = projection.dst;
      }
      b.keep(shortcut);
      b.layer(Kind::pointwise, width, 1, 1, 0);
      b.layer(Kind::conv, width, 3, stride, 1);
      b.layer(Kind::pointwise, width * 4, 1, 1, 0);
      b.add(shortcut);
      b.release();
    }
  }
  b.global_average();
  b.fc(1000);
}

inline void build_squeezenet(Network& net) {
  Builder b(net, 224, 224, 3);
  b.layer(Kind::conv, 96, 7, 2, 0);
  b.layer(Kind::maxpool, 96, 3, 2, 0);
  // Squeeze and expand channels; a pool after fire 4 and fire 8 (Iandola et al. 2016, version 1.0).
  constexpr int fires[8][3] = {{16, 64, 0},  {16, 64, 0},  {32, 128, 1}, {32, 128, 0},
                               {48, 192, 0}, {48, 192, 0}, {64, 256, 1}, {64, 256, 0}};
  for (const auto& [squeeze, expand, pool] : fires) {
    b.layer(Kind::pointwise, squeeze, 1, 1, 0);
    Layer small = b.shape(Kind::pointwise, expand, 1, 1, 0);
    Layer large = b.shape(Kind::conv, expand, 3, 1, 1);
    large.out_at = expand;
    net.layers.push(small);
    b.append(large);
    b.concatenated(2 * expand);
    if (pool != 0) b.layer(Kind::maxpool, b.channels(), 3, 2, 0);
  }
  b.layer(Kind::pointwise, 1000, 1, 1, 0);
  b.global_average();
}

struct NamedNetwork {
  const char* name;
  void (*build)(Network&);
};

constexpr NamedNetwork kNetworks[] = {
    {"mobilenet_v1", build_mobilenet_v1},
    {"mobilenet_v2", build_mobilenet_v2},
    {"resnet50", build_resnet50},
    {"squeezenet", build_squeezenet},
};

}  // namespace klo
