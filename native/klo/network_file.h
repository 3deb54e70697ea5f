// A network by name, or from a text file with one kernel a line:
//
//   conv      IN_H IN_W IN_C OUT_C K STRIDE PAD
//   depthwise IN_H IN_W C K STRIDE PAD
//   pointwise IN_H IN_W IN_C OUT_C
//   maxpool   IN_H IN_W C K STRIDE PAD        (avgpool likewise)
//   fc        IN OUT
//   add       H W C                           (the last two outputs)
//   kernel    WORK_UNITS KER_NS               (parameter work and kernel time as given)
//
// Every kernel reads the output of the one before. Blank lines and lines that begin with # are skipped.
#pragma once

#include <errno.h>

#include "klo/network.h"

namespace klo {

constexpr int kMaxShape = 1 << 20;
constexpr int64_t kMaxElements = int64_t{1} << 28;
constexpr size_t kMaxNetworkBytes = 1 << 20;

struct LineShape {
  const char* word;
  Kind kind;
  int numbers;
};

constexpr LineShape kLineShapes[] = {
    {"conv", Kind::conv, 7},       {"depthwise", Kind::depthwise, 6}, {"pointwise", Kind::pointwise, 4},
    {"maxpool", Kind::maxpool, 6}, {"avgpool", Kind::avgpool, 6},     {"fc", Kind::fc, 2},
    {"add", Kind::add, 3},         {"kernel", Kind::custom, 2},
};

inline void set_spatial(Layer& one, const int64_t* n) {
  one.in_h = static_cast<int>(n[0]);
  one.in_w = static_cast<int>(n[1]);
  one.in_c = one.out_c = static_cast<int>(n[2]);
}

inline void set_window(Layer& one, const int64_t* n) {
  one.k = static_cast<int>(n[0]);
  one.stride = static_cast<int>(n[1]);
  one.pad = static_cast<int>(n[2]);
}

// The layer that a line describes; null if it makes sense, else what is wrong.
inline const char* layer_of(const LineShape& shape, const int64_t* n, Layer& one) {
  one.kind = shape.kind;
  if (shape.kind == Kind::custom) {
    one.custom_units = n[0];
    one.custom_ker_ns = n[1];
    return nullptr;
  }
  for (int i = 0; i < shape.numbers; ++i) {
    if (n[i] > kMaxShape) return "a number is too large";
  }
  if (shape.kind == Kind::fc) {
    one.in_c = static_cast<int>(n[0]);
    one.out_c = static_cast<int>(n[1]);
  } else {
    set_spatial(one, n);
  }
  if (shape.kind == Kind::conv || shape.kind == Kind::pointwise) one.out_c = static_cast<int>(n[3]);
  if (shape.numbers == 7) set_window(one, n + 4);
  if (shape.numbers == 6) set_window(one, n + 3);
  if (one.in_h < 1 || one.in_w < 1 || one.in_c < 1 || one.out_c < 1 || one.k < 1 || one.stride < 1) {
    return "shapes, K and STRIDE start at 1";
  }
  if (one.pad >= one.k && one.k > 1) return "PAD has to be smaller than K";
  if (one.k == 1 && one.pad != 0) return "PAD has to be 0 where K is 1";
  if (one.k > one.in_h + 2 * one.pad || one.k > one.in_w + 2 * one.pad) return "K is larger than the padded input";
  one.out_h = (one.in_h + 2 * one.pad - one.k) / one.stride + 1;
  one.out_w = (one.in_w + 2 * one.pad - one.k) / one.stride + 1;
  const double inputs = static_cast<double>(one.in_h) * one.in_w * one.in_c;
  const double outputs = static_cast<double>(one.out_h) * one.out_w * one.out_c;
  const double weights = static_cast<double>(one.in_c) * one.out_c * one.k * one.k;
  if (inputs > kMaxElements || outputs > kMaxElements || weights > kMaxElements) return "a tensor is too large";
  return nullptr;
}

inline void read_network(const char* path, Network& net) {
  Array<char> text;
  if (!read_file(path, kMaxNetworkBytes, text)) {
    fail(kExitUsage, "no network named %s (see --list-networks), and no such file: %s", path, strerror(errno));
  }
  int line_number = 0;
  char* rest = text.data();
  while (rest != nullptr) {
    char* line = rest;
    rest = strchr(line, '\n');
    if (rest != nullptr) *rest++ = '\0';
    ++line_number;
    char* words[8];
    const int count = split_words(line, words, 8);
    if (count == 0 || words[0][0] == '#') continue;
    const LineShape* shape = nullptr;
    for (const LineShape& known : kLineShapes) {
      if (strcmp(known.word, words[0]) == 0) shape = &known;
    }
    if (shape == nullptr) fail(kExitUsage, "%s line %d: no layer kind named %.40s", path, line_number, words[0]);
    if (count != shape->numbers + 1) {
      fail(kExitUsage, "%s line %d: %s takes %d numbers", path, line_number, shape->word, shape->numbers);
    }
    int64_t numbers[7] = {};
    for (int i = 0; i < shape->numbers; ++i) {
      if (!parse_int(words[i + 1], 0, 1000000000, numbers[i])) {
        fail(kExitUsage, "%s line %d: %.40s is not a number", path, line_number, words[i + 1]);
      }
    }
    Layer one;
    const char* wrong = layer_of(*shape, numbers, one);
    if (wrong != nullptr) fail(kExitUsage, "%s line %d: %s", path, line_number, wrong);
    // Three slots in turn, so that `add` finds the last two outputs.
    const int i = net.count();
    one.src = i < 1 ? kInput : (i - 1) % 3;
    one.src2 = i < 2 ? kInput : (i - 2) % 3;
    one.dst = i % 3;
    if (net.count() == kMaxKernels) fail(kExitUsage, "%s has more than %d kernels", path, kMaxKernels);
    net.layers.push(one);
  }
  if (net.count() == 0) fail(kExitUsage, "%s has no kernels", path);
}

// Fills `net` from one of the built-in tables or from a file.
inline void load_network(const char* name, Network& net) {
  const NamedNetwork* known = nullptr;
  for (const NamedNetwork& one : kNetworks) {
    if (strcmp(one.name, name) == 0) known = &one;
  }
  const char* slash = strrchr(name, '/');
  snprintf(net.name, sizeof net.name, "%s", slash == nullptr ? name : slash + 1);
  if (known != nullptr) {
    known->build(net);
  } else {
    read_network(name, net);
  }
  for (size_t i = 0; i < net.layers.size(); ++i) {
    Layer& one = net.layers[i];
    one.weight_at = net.weight_elements;
    net.weight_elements += one.weights();
    const int64_t reach = static_cast<int64_t>(one.out_h) * one.out_w * (one.out_at + one.out_c);
    if (one.inputs() > net.slot_elements) net.slot_elements = one.inputs();
    if (reach > net.slot_elements) net.slot_elements = reach;
  }
  if (net.weight_elements > 2 * kMaxElements) fail(kExitUsage, "%s has too many weights", name);
}

}  // namespace klo
