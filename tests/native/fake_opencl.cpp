// An OpenCL library that computes nothing, for tests of what klo does when a driver misbehaves.
//   FAKE_CL_FAIL=FUNCTION:CODE  that function gives that error
//   FAKE_CL_LOG=FILE            one letter a call: e enqueue, E enqueue with an event, f flush, F finish
//   FAKE_CL_CROSSED=1           START lies before SUBMIT
//   FAKE_CL_STATUS=NUMBER       what an event's status is after clFinish
//   FAKE_CL_NAME=TEXT           the device's name

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cl/cl.h"

struct _cl_event {
  cl_ulong queued;
};

namespace {

char object;

cl_int failure(const char* name) {
  const char* wanted = getenv("FAKE_CL_FAIL");
  const size_t length = strlen(name);
  if (wanted == nullptr || strncmp(wanted, name, length) != 0 || wanted[length] != ':') return CL_SUCCESS;
  return atoi(wanted + length + 1);
}

void note(char letter) {
  const char* path = getenv("FAKE_CL_LOG");
  FILE* file = path == nullptr ? nullptr : fopen(path, "a");
  if (file == nullptr) return;
  fputc(letter, file);
  fclose(file);
}

cl_ulong now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<cl_ulong>(t.tv_sec) * 1000000000 + static_cast<cl_ulong>(t.tv_nsec) + 5000000;
}

cl_int answer(const char* text, size_t size, void* value, size_t* needed) {
  if (needed != nullptr) *needed = strlen(text) + 1;
  if (value != nullptr && size > strlen(text)) strcpy(static_cast<char*>(value), text);
  return CL_SUCCESS;
}

template <typename T>
T create(const char* name, cl_int* code) {
  *code = failure(name);
  return reinterpret_cast<T>(&object);
}

cl_int event_at(cl_event* event) {
  if (event != nullptr) *event = new _cl_event{now()};
  return CL_SUCCESS;
}

}  // namespace

extern "C" {

cl_int clGetPlatformIDs(cl_uint, cl_platform_id* ids, cl_uint* count) {
  if (ids != nullptr) ids[0] = reinterpret_cast<cl_platform_id>(&object);
  *count = 1;
  return failure("clGetPlatformIDs");
}
cl_int clGetPlatformInfo(cl_platform_id, cl_uint, size_t size, void* value, size_t* needed) {
  return answer("fake", size, value, needed);
}
cl_int clGetDeviceIDs(cl_platform_id, cl_bitfield, cl_uint, cl_device_id* ids, cl_uint* count) {
  ids[0] = reinterpret_cast<cl_device_id>(&object);
  *count = 1;
  return failure("clGetDeviceIDs");
}
cl_int clGetDeviceInfo(cl_device_id, cl_uint what, size_t size, void* value, size_t* needed) {
  if (what == CL_DEVICE_TYPE || what == CL_DEVICE_MAX_MEM_ALLOC_SIZE) {
    const cl_ulong number = what == CL_DEVICE_TYPE ? CL_DEVICE_TYPE_GPU : 64 << 20;
    memcpy(value, &number, sizeof number);
    return CL_SUCCESS;
  }
  const char* name = getenv("FAKE_CL_NAME");
  const char* text = what != CL_DEVICE_NAME ? "cl_arm_scheduling_controls" : name != nullptr ? name : "Fake GPU";
  return answer(text, size, value, needed);
}
cl_context clCreateContext(const intptr_t*, cl_uint, const cl_device_id*, void (*)(const char*, const void*, size_t, void*),
                           void*, cl_int* code) {
  return create<cl_context>("clCreateContext", code);
}
cl_command_queue clCreateCommandQueue(cl_context, cl_device_id, cl_bitfield, cl_int* code) {
  return create<cl_command_queue>("clCreateCommandQueue", code);
}
cl_mem clCreateBuffer(cl_context, cl_bitfield, size_t, void*, cl_int* code) {
  return create<cl_mem>("clCreateBuffer", code);
}
cl_program clCreateProgramWithSource(cl_context, cl_uint, const char**, const size_t*, cl_int* code) {
  return create<cl_program>("clCreateProgramWithSource", code);
}
cl_int clBuildProgram(cl_program, cl_uint, const cl_device_id*, const char*, void (*)(cl_program, void*), void*) {
  return failure("clBuildProgram");
}
cl_int clGetProgramBuildInfo(cl_program, cl_device_id, cl_uint, size_t size, void* value, size_t* needed) {
  return answer("line 7: no such thing", size, value, needed);
}
cl_kernel clCreateKernel(cl_program, const char*, cl_int* code) { return create<cl_kernel>("clCreateKernel", code); }
cl_int clSetKernelArg(cl_kernel, cl_uint, size_t, const void*) { return failure("clSetKernelArg"); }
cl_int clEnqueueNDRangeKernel(cl_command_queue, cl_kernel, cl_uint, const size_t*, const size_t*, const size_t*, cl_uint,
                              const cl_event*, cl_event* event) {
  note(event != nullptr ? 'E' : 'e');
  event_at(event);
  return failure("clEnqueueNDRangeKernel");
}
cl_int clEnqueueReadBuffer(cl_command_queue, cl_mem, cl_bool, size_t, size_t size, void* to, cl_uint, const cl_event*,
                           cl_event*) {
  memset(to, 0xff, size);  // not a number
  return failure("clEnqueueReadBuffer");
}
cl_int clEnqueueWriteBuffer(cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void*, cl_uint, const cl_event*,
                            cl_event*) {
  return failure("clEnqueueWriteBuffer");
}
cl_int clEnqueueMarkerWithWaitList(cl_command_queue, cl_uint, const cl_event*, cl_event* event) { return event_at(event); }
cl_int clFlush(cl_command_queue) {
  note('f');
  return failure("clFlush");
}
cl_int clFinish(cl_command_queue) {
  note('F');
  return failure("clFinish");
}
cl_int clWaitForEvents(cl_uint, const cl_event*) { return failure("clWaitForEvents"); }
cl_int clGetEventInfo(cl_event, cl_uint, size_t, void* value, size_t*) {
  const char* status = getenv("FAKE_CL_STATUS");
  const cl_int number = status == nullptr ? CL_COMPLETE : atoi(status);
  memcpy(value, &number, sizeof number);
  return failure("clGetEventInfo");
}
cl_int clGetEventProfilingInfo(cl_event event, cl_uint what, size_t, void* value, size_t*) {
  cl_ulong at = event->queued + 1000 * (what - CL_PROFILING_COMMAND_QUEUED);
  if (what == CL_PROFILING_COMMAND_START && getenv("FAKE_CL_CROSSED") != nullptr) at = event->queued;
  memcpy(value, &at, sizeof at);
  return failure("clGetEventProfilingInfo");
}
cl_int clReleaseEvent(cl_event event) {
  delete event;
  return CL_SUCCESS;
}
cl_int clReleaseContext(cl_context) { return CL_SUCCESS; }
cl_int clReleaseCommandQueue(cl_command_queue) { return CL_SUCCESS; }
cl_int clReleaseMemObject(cl_mem) { return CL_SUCCESS; }
cl_int clReleaseProgram(cl_program) { return CL_SUCCESS; }
cl_int clReleaseKernel(cl_kernel) { return CL_SUCCESS; }

}  // extern "C"
