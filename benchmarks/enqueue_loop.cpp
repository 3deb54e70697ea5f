// enqueue_loop LIBRARY KERNELS INFERENCES: nanoseconds of a clEnqueueNDRangeKernel, median over inferences. Each ends with
// a clFinish, which is not counted.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <vector>

namespace {
void* library;

template <typename R, typename... A>
R (*find(const char* name, R (*)(A...)))(A...) {
  void* found = dlsym(library, name);
  if (found == nullptr) {
    fprintf(stderr, "no %s\n", name);
    exit(1);
  }
  return reinterpret_cast<R (*)(A...)>(found);
}

double now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

using P = void*;
using U = unsigned;
using Ids = int (*)(U, P*, U*);
using Devices = int (*)(P, uint64_t, U, P*, U*);
using Context = P (*)(P, U, P*, P, P, int*);
using MakeQueue = P (*)(P, P, uint64_t, int*);
using Program = P (*)(P, U, const char**, P, int*);
using Build = int (*)(P, U, P*, const char*, P, P);
using Kernel = P (*)(P, const char*, int*);
using Enqueue = int (*)(P, P, U, P, size_t*, P, U, P, P);
using Finish = int (*)(P);
}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 || (library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL)) == nullptr) {
    fprintf(stderr, "%s\n", argc == 4 ? dlerror() : "enqueue_loop LIBRARY KERNELS INFERENCES");
    return 1;
  }
  P platform = nullptr;
  P device = nullptr;
  U count = 0;
  int code = 0;
  if (find("clGetPlatformIDs", Ids{})(1, &platform, &count) != 0) return 1;
  if (find("clGetDeviceIDs", Devices{})(platform, 0xFFFFFFFF, 1, &device, &count) != 0) return 1;
  const P context = find("clCreateContext", Context{})(nullptr, 1, &device, nullptr, nullptr, &code);
  const uint64_t properties = getenv("ENQUEUE_LOOP_PROFILING") != nullptr ? 2 : 0;
  const P queue = find("clCreateCommandQueue", MakeQueue{})(context, device, properties, &code);
  const char* source = "kernel void nothing() {}";
  const P program = find("clCreateProgramWithSource", Program{})(context, 1, &source, nullptr, &code);
  find("clBuildProgram", Build{})(program, 1, &device, "", nullptr, nullptr);
  const P kernel = find("clCreateKernel", Kernel{})(program, "nothing", &code);
  const Enqueue enqueue = find("clEnqueueNDRangeKernel", Enqueue{});
  const Finish finish = find("clFinish", Finish{});
  const int kernels = atoi(argv[2]);
  std::vector<double> taken;
  size_t global = 1;
  for (int i = 0; i < atoi(argv[3]); ++i) {
    const double begin = now_ns();
    for (int j = 0; j < kernels; ++j) {
      code |= enqueue(queue, kernel, 1, nullptr, &global, nullptr, 0, nullptr, nullptr);
    }
    taken.push_back((now_ns() - begin) / kernels);
    code |= finish(queue);
  }
  if (code != 0 || taken.empty()) return 1;
  std::nth_element(taken.begin(), taken.begin() + static_cast<long>(taken.size() / 2), taken.end());
  printf("%.1f\n", taken[taken.size() / 2]);
  return 0;
}
