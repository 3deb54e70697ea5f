// The device's GPU through OpenCL: one in-order queue with profiling and one without, a kernel object for each layer.
#pragma once

#include "klo/cl_kernels.h"
#include "klo/cl_library.h"
#include "klo/cores.h"
#include "klo/emulated.h"
#include "klo/foreground.h"
#include "klo/producer.h"
#include "klo/samples.h"

namespace klo {

class ClGpu {
 public:
  ClGpu(const Options& options, const Network& net, const ClLibrary& cl, const ClDevice& device)
      : options_(options), net_(net), cl_(cl), device_(device) {
    cl_int code = CL_SUCCESS;
    cores_.begin(options.pin);
    context_ = cl_.clCreateContext(nullptr, 1, &device_.device, nullptr, nullptr, &code);
    cl_check("clCreateContext", code);
    profiling_queue_ = cl_.clCreateCommandQueue(context_, device_.device, CL_QUEUE_PROFILING_ENABLE, &code);
    cl_check("clCreateCommandQueue with profiling", code);
    plain_queue_ = cl_.clCreateCommandQueue(context_, device_.device, 0, &code);
    cl_check("clCreateCommandQueue", code);
    build_program();
    create_buffers();
    events_.resize(static_cast<size_t>(net.count()), nullptr);
    relate_clocks();
    if (options.foreground.period_ns > 0) create_foreground();
    cores_.part();
  }

  ~ClGpu() {
    if (frame_queue_ != nullptr) cl_.clReleaseCommandQueue(frame_queue_);
    if (frame_kernel_ != nullptr) cl_.clReleaseKernel(frame_kernel_);
    for (const cl_kernel kernel : kernels_) cl_.clReleaseKernel(kernel);
    for (const cl_mem slot : slots_) cl_.clReleaseMemObject(slot);
    cl_.clReleaseMemObject(weights_);
    cl_.clReleaseProgram(program_);
    cl_.clReleaseCommandQueue(profiling_queue_);
    cl_.clReleaseCommandQueue(plain_queue_);
    cl_.clReleaseContext(context_);
  }
  ClGpu(const ClGpu&) = delete;
  ClGpu& operator=(const ClGpu&) = delete;

  uint64_t hash() const { return producer_.hash(); }
  bool own_costs(int64_t*) const { return false; }

  void print_header() const {
    printf(",\"simulated\":%s,\"device_type\":\"%s\",\"platform\":", is_noop() ? "true" : "false",
           device_type(device_.type));
    print_json_string(device_.platform_name.data());
    fputs(",\"device\":", stdout);
    print_json_string(device_.name.data());
    Array<char> text;
    device_text(cl_, device_.device, CL_DRIVER_VERSION, text);
    fputs(",\"driver\":", stdout);
    print_json_string(text.data());
    device_text(cl_, device_.device, CL_DEVICE_VERSION, text);
    fputs(",\"device_version\":", stdout);
    print_json_string(text.data());
    device_text(cl_, device_.device, CL_DEVICE_EXTENSIONS, text);
    fputs(",\"extensions\":", stdout);
    print_json_string(text.data());
    fputs(",\"library\":", stdout);
    print_json_string(cl_.path);
    if (options_.pin.producer >= 0) {
      printf(",\"producer_cpu\":%d,\"driver_cpu\":%d,\"driver_threads\":%d", options_.pin.producer, options_.pin.driver,
             cores_.driver_threads());
    }
    printf(",\"clock\":\"%s\",\"device_minus_host_ns\":%" PRId64, clock_, device_minus_host_ns_);
  }

  // The first outputs of the last layer: they prove that the layers were computed.
  void print_end() {
    const Layer& last = net_.layers[net_.layers.size() - 1];
    float values[8] = {};
    const size_t count = last.outputs() < 8 ? static_cast<size_t>(last.outputs()) : 8;
    const size_t at = static_cast<size_t>(last.out_at) * static_cast<size_t>(last.out_h * last.out_w) * sizeof(float);
    cl_check("clEnqueueReadBuffer",
             cl_.clEnqueueReadBuffer(plain_queue_, slots_[last.dst], CL_TRUE, at, count * sizeof(float), values, 0, nullptr,
                                     nullptr));
    fputs(",\"output\":[", stdout);
    for (size_t i = 0; i < count; ++i) {
      const bool finite = values[i] - values[i] == 0;
      if (i > 0) putchar(',');
      finite ? printf("%.7g", static_cast<double>(values[i])) : printf("null");
    }
    putchar(']');
  }

  // The foreground program runs beside the plain inferences.
  void before(Phase phase) {
    if (foreground_.open() && phase == Phase::plain) foreground_.start();
  }
  void after(Phase phase) {
    if (foreground_.open() && phase == Phase::plain) foreground_.stop();
  }
  // More plain inferences are wanted, for the foreground's sake.
  bool goes_on(Phase phase) const { return foreground_.open() && phase == Phase::plain && !foreground_.enough(); }
  void print_beside() const {
    if (foreground_.open()) foreground_.print();
  }

  void begin(Inference& one) {
    cores_.part(foreground_.id());
    one.cpu = present_cpu();
    profiled_ = has_stamps(one.phase);
    queue_ = profiled_ ? profiling_queue_ : plain_queue_;
  }

  void enqueue(int i) {
    const size_t at = static_cast<size_t>(i);
    const Layer& layer = net_.layers[at];
    producer_.work(layer.work_units() * options_.work_pct / 100, layer);
    const Window window = producer_.window(layer);
    set_arguments(kernels_[at], layer, scales_[at]);
    const cl_int code = cl_.clEnqueueNDRangeKernel(queue_, kernels_[at], 3, nullptr, window.global, nullptr, 0, nullptr,
                                                   profiled_ ? &events_[at] : nullptr);
    if (code != CL_SUCCESS) cl_failed("clEnqueueNDRangeKernel", code);
  }

  void flush() { cl_check("clFlush", cl_.clFlush(queue_)); }
  void finish() { cl_check("clFinish", cl_.clFinish(queue_)); }

  // Outside the timed part.
  void collect(Inference& one) {
    if (!profiled_) return;
    check_complete();
    struct Stamp {
      cl_uint what;
      Array<int64_t>* values;
    };
    const Stamp stamps[] = {{CL_PROFILING_COMMAND_QUEUED, &one.queued_ns},
                            {CL_PROFILING_COMMAND_SUBMIT, &one.submit_ns},
                            {CL_PROFILING_COMMAND_START, &one.start_ns},
                            {CL_PROFILING_COMMAND_END, &one.finish_ns}};
    for (cl_event& event : events_) {
      for (const Stamp& stamp : stamps) stamp.values->push(stamp_of(event, stamp.what));
      cl_.clReleaseEvent(event);
      event = nullptr;
    }
  }

 private:
  // A driver whose clFinish does not wait would give times that mean nothing.
  void check_complete() const {
    cl_int status = -1;
    cl_check("clGetEventInfo", cl_.clGetEventInfo(events_[events_.size() - 1], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status,
                                                  &status, nullptr));
    if (status < 0) cl_failed("a kernel", status);
    if (status != CL_COMPLETE) fail(kExitFailed, "OpenCL: clFinish came back before the last kernel was complete");
  }

  int64_t stamp_of(cl_event event, cl_uint what) const {
    cl_ulong value = 0;
    cl_check("clGetEventProfilingInfo", cl_.clGetEventProfilingInfo(event, what, sizeof value, &value, nullptr));
    return static_cast<int64_t>(value);
  }

  void create_foreground() {
    cl_int code = CL_SUCCESS;
    if (!options_.foreground.shared) {
      frame_queue_ = cl_.clCreateCommandQueue(context_, device_.device, 0, &code);
      cl_check("clCreateCommandQueue (foreground)", code);
    }
    frame_kernel_ = cl_.clCreateKernel(program_, "custom", &code);
    cl_check("clCreateKernel (foreground)", code);
    Layer frame;
    frame.custom_ker_ns = options_.foreground.ker_ns;
    set_arguments(frame_kernel_, frame, scale_of(frame));
    const cl_command_queue queue = options_.foreground.shared ? plain_queue_ : frame_queue_;
    foreground_.open(options_.foreground, cl_, queue, frame_kernel_);
  }

  void build_program() {
    const char* source = kClSource;
    cl_int code = CL_SUCCESS;
    program_ = cl_.clCreateProgramWithSource(context_, 1, &source, nullptr, &code);
    cl_check("clCreateProgramWithSource", code);
    code = cl_.clBuildProgram(program_, 1, &device_.device, "", nullptr, nullptr);
    if (code != CL_SUCCESS) {
      Array<char> log;
      log.resize(1 << 14, '\0');
      cl_.clGetProgramBuildInfo(program_, device_.device, CL_PROGRAM_BUILD_LOG, log.size() - 1, log.data(), nullptr);
      fprintf(stderr, "%s\n", log.data());
      cl_failed("clBuildProgram", code);
    }
    for (const Layer& layer : net_.layers) {
      const char* name = layer.kind == Kind::custom ? "custom" : kind_name(layer.kind);
      kernels_.push(cl_.clCreateKernel(program_, name, &code));
      cl_check("clCreateKernel", code);
      scales_.push(scale_of(layer));
    }
  }

  cl_mem buffer(int64_t elements) const {
    cl_ulong most = 0;
    cl_.clGetDeviceInfo(device_.device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most, nullptr);
    const uint64_t bytes = static_cast<uint64_t>(elements) * sizeof(float);
    if (bytes > most) {
      fail(kExitFailed, "%s needs a buffer of %" PRIu64 " bytes; the device allows %" PRIu64, net_.name, bytes, most);
    }
    cl_int code = CL_SUCCESS;
    const cl_mem one = cl_.clCreateBuffer(context_, CL_MEM_READ_WRITE, bytes, nullptr, &code);
    cl_check("clCreateBuffer", code);
    return one;
  }

  // Weights and input in [-1, 1), the same on every device for the same seed.
  void fill(cl_mem target, int64_t elements, uint32_t state) const {
    constexpr size_t kChunk = 1 << 16;
    Array<float> chunk;
    chunk.resize(kChunk, 0);
    for (int64_t at = 0; at < elements; at += static_cast<int64_t>(kChunk)) {
      const int64_t left = elements - at;
      const size_t count = left < static_cast<int64_t>(kChunk) ? static_cast<size_t>(left) : kChunk;
      for (size_t i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        chunk[i] = static_cast<float>(state >> 8) / static_cast<float>(1 << 23) - 1.0f;
      }
      cl_check("clEnqueueWriteBuffer",
               cl_.clEnqueueWriteBuffer(plain_queue_, target, CL_TRUE, static_cast<size_t>(at) * sizeof(float),
                                        count * sizeof(float), chunk.data(), 0, nullptr, nullptr));
    }
  }

  void create_buffers() {
    const uint32_t seed = static_cast<uint32_t>(options_.seed);
    weights_ = buffer(net_.weight_elements);
    fill(weights_, net_.weight_elements, seed);
    for (cl_mem& slot : slots_) slot = buffer(net_.slot_elements);
    fill(slots_[kInput], net_.slot_elements, seed + 1);
  }

  // Keeps the spread of the outputs about that of the inputs: 3 / (whole root of the number of inputs of one output).
  static float scale_of(const Layer& one) {
    const int64_t inputs = static_cast<int64_t>(one.k) * one.k * (one.kind == Kind::depthwise ? 1 : one.in_c);
    int64_t root = 1;
    while ((root + 1) * (root + 1) <= inputs) ++root;
    return 3.0f / static_cast<float>(root);
  }

  void set_arguments(cl_kernel kernel, const Layer& one, float scale) const {
    const cl_int dst_at = one.out_at * one.out_h * one.out_w;
    const cl_int weight_at = static_cast<cl_int>(one.weight_at);
    const cl_int rounds = static_cast<cl_int>(one.custom_ker_ns / 4);
    const cl_int numbers[] = {one.in_h, one.in_w, one.in_c, one.out_h, one.out_w, one.out_c,
                              one.k,    one.stride, one.pad, dst_at,   weight_at};
    const cl_mem buffers[] = {slots_[one.src], slots_[one.src2], slots_[one.dst], weights_};
    cl_uint index = 0;
    for (const cl_mem& each : buffers) cl_.clSetKernelArg(kernel, index++, sizeof each, &each);
    for (const cl_int& each : numbers) cl_.clSetKernelArg(kernel, index++, sizeof each, &each);
    cl_.clSetKernelArg(kernel, index++, sizeof scale, &scale);
    const cl_int code = cl_.clSetKernelArg(kernel, index, sizeof rounds, &rounds);
    if (code != CL_SUCCESS) cl_failed("clSetKernelArg", code);
  }

  // How far the device's clock is ahead of CLOCK_MONOTONIC, so that both fit on one time line.
  void relate_clocks() {
    cl_ulong device_ns = 0;
    cl_ulong host_ns = 0;
    int64_t before = now_ns();
    if (cl_.clGetDeviceAndHostTimer != nullptr &&
        cl_.clGetDeviceAndHostTimer(device_.device, &device_ns, &host_ns) == CL_SUCCESS) {
      clock_ = "device-and-host-timer";
      device_minus_host_ns_ = static_cast<int64_t>(device_ns) - (before + now_ns()) / 2;
      return;
    }
    cl_event marker = nullptr;
    before = now_ns();
    cl_check("clEnqueueMarkerWithWaitList", cl_.clEnqueueMarkerWithWaitList(profiling_queue_, 0, nullptr, &marker));
    const int64_t after = now_ns();
    cl_check("clFinish", cl_.clFinish(profiling_queue_));
    clock_ = "marker";
    device_minus_host_ns_ = stamp_of(marker, CL_PROFILING_COMMAND_QUEUED) - (before + after) / 2;
    cl_.clReleaseEvent(marker);
  }

  const Options& options_;
  const Network& net_;
  const ClLibrary& cl_;
  const ClDevice& device_;
  Producer producer_;
  Cores cores_;
  cl_context context_ = nullptr;
  cl_command_queue profiling_queue_ = nullptr;
  cl_command_queue plain_queue_ = nullptr;
  cl_command_queue queue_ = nullptr;
  cl_program program_ = nullptr;
  cl_mem weights_ = nullptr;
  cl_mem slots_[kSlots] = {};
  Array<cl_kernel> kernels_;
  Array<float> scales_;
  Array<cl_event> events_;
  bool profiled_ = false;
  const char* clock_ = "none";
  cl_command_queue frame_queue_ = nullptr;
  cl_kernel frame_kernel_ = nullptr;
  Foreground foreground_;
  int64_t device_minus_host_ns_ = 0;
};

}  // namespace klo
