// The networks' layers in OpenCL C, for planar tensors (channel, row, column) of 32-bit floats. Every kernel takes the
// same parameters, set anew before each launch as frameworks do.
#pragma once

namespace klo {

constexpr const char* kClSource = R"CLC(
#define PARAMETERS                                                                                                    \
  __global const float* src, __global const float* src2, __global float* dst, __global const float* weights,          \
      int in_h, int in_w, int in_c, int out_h, int out_w, int out_c, int k, int stride, int pad, int dst_at,          \
      int weight_at, float scale, int rounds
#define X ((int)get_global_id(0))
#define Y ((int)get_global_id(1))
#define C ((int)get_global_id(2))
#define OUT dst[dst_at + (C * out_h + Y) * out_w + X]

float relu6(float value) { return clamp(value, 0.0f, 6.0f); }

__kernel void conv(PARAMETERS) {
  float sum = 0.0f;
  for (int c = 0; c < in_c; ++c) {
    __global const float* plane = src + c * in_h * in_w;
    __global const float* w = weights + weight_at + (C * in_c + c) * k * k;
    for (int i = 0; i < k; ++i) {
      const int row = Y * stride - pad + i;
      if (row < 0 || row >= in_h) continue;
      for (int j = 0; j < k; ++j) {
        const int column = X * stride - pad + j;
        if (column < 0 || column >= in_w) continue;
        sum += plane[row * in_w + column] * w[i * k + j];
      }
    }
  }
  OUT = relu6(sum * scale);
}

__kernel void depthwise(PARAMETERS) {
  __global const float* plane = src + C * in_h * in_w;
  __global const float* w = weights + weight_at + C * k * k;
  float sum = 0.0f;
  for (int i = 0; i < k; ++i) {
    const int row = Y * stride - pad + i;
    if (row < 0 || row >= in_h) continue;
    for (int j = 0; j < k; ++j) {
      const int column = X * stride - pad + j;
      if (column < 0 || column >= in_w) continue;
      sum += plane[row * in_w + column] * w[i * k + j];
    }
  }
  OUT = relu6(sum * scale);
}

__kernel void pointwise(PARAMETERS) {
  __global const float* w = weights + weight_at + C * in_c;
  const int at = Y * stride * in_w + X * stride;
  float sum = 0.0f;
  for (int c = 0; c < in_c; ++c) sum += src[c * in_h * in_w + at] * w[c];
  OUT = relu6(sum * scale);
}

__kernel void maxpool(PARAMETERS) {
  __global const float* plane = src + C * in_h * in_w;
  float best = -INFINITY;
  for (int i = 0; i < k; ++i) {
    const int row = Y * stride - pad + i;
    if (row < 0 || row >= in_h) continue;
    for (int j = 0; j < k; ++j) {
      const int column = X * stride - pad + j;
      if (column >= 0 && column < in_w) best = fmax(best, plane[row * in_w + column]);
    }
  }
  OUT = best;
}

__kernel void avgpool(PARAMETERS) {
  __global const float* plane = src + C * in_h * in_w;
  float sum = 0.0f;
  int count = 0;
  for (int i = 0; i < k; ++i) {
    const int row = Y * stride - pad + i;
    if (row < 0 || row >= in_h) continue;
    for (int j = 0; j < k; ++j) {
      const int column = X * stride - pad + j;
      if (column < 0 || column >= in_w) continue;
      sum += plane[row * in_w + column];
      ++count;
    }
  }
  OUT = sum / count;
}

__kernel void fc(PARAMETERS) {
  __global const float* w = weights + weight_at + X * in_c;
  float sum = 0.0f;
  for (int c = 0; c < in_c; ++c) sum += src[c] * w[c];
  dst[dst_at + X] = sum * scale;
}

__kernel void add(PARAMETERS) {
  const int at = (C * out_h + Y) * out_w + X;
  dst[dst_at + at] = relu6(src[at] + src2[at]);
}

// As many dependent steps as asked for: a kernel of a chosen length.
__kernel void custom(PARAMETERS) {
  float value = src[0] + X;
  for (int i = 0; i < rounds; ++i) value = value * 0.999f + 0.5f;
  if (value < -1.0f) dst[dst_at] = value;
}
)CLC";

}  // namespace klo
