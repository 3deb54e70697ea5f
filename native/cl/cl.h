// Of OpenCL what klo and the layer use: types, constants and the functions of klo, from the Khronos specification.
// Functions are looked up at run time, so no OpenCL headers or libraries are needed to build.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {

using cl_int = int32_t;
using cl_uint = uint32_t;
using cl_ulong = uint64_t;
using cl_bool = cl_uint;
using cl_bitfield = cl_ulong;

using cl_platform_id = struct _cl_platform_id*;
using cl_device_id = struct _cl_device_id*;
using cl_context = struct _cl_context*;
using cl_command_queue = struct _cl_command_queue*;
using cl_mem = struct _cl_mem*;
using cl_program = struct _cl_program*;
using cl_kernel = struct _cl_kernel*;
using cl_event = struct _cl_event*;

}  // extern "C"

constexpr cl_int CL_SUCCESS = 0;
constexpr cl_int CL_DEVICE_NOT_FOUND = -1;
constexpr cl_int CL_PROFILING_INFO_NOT_AVAILABLE = -7;
constexpr cl_int CL_BUILD_PROGRAM_FAILURE = -11;
constexpr cl_int CL_INVALID_VALUE = -30;
constexpr cl_int CL_INVALID_OPERATION = -59;
constexpr cl_int CL_PLATFORM_NOT_FOUND_KHR = -1001;

constexpr cl_bool CL_TRUE = 1;
constexpr cl_uint CL_PLATFORM_NAME = 0x0902;
constexpr cl_uint CL_DEVICE_TYPE = 0x1000;
constexpr cl_uint CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010;
constexpr cl_uint CL_DEVICE_NAME = 0x102B;
constexpr cl_uint CL_DRIVER_VERSION = 0x102D;
constexpr cl_uint CL_DEVICE_VERSION = 0x102F;
constexpr cl_uint CL_DEVICE_EXTENSIONS = 0x1030;
constexpr cl_uint CL_DEVICE_PLATFORM = 0x1031;
constexpr cl_uint CL_DEVICE_NON_UNIFORM_WORK_GROUP_SUPPORT = 0x1065;
constexpr cl_bitfield CL_DEVICE_TYPE_CPU = 1 << 1;
constexpr cl_bitfield CL_DEVICE_TYPE_GPU = 1 << 2;
constexpr cl_bitfield CL_DEVICE_TYPE_ALL = 0xFFFFFFFF;
constexpr cl_uint CL_QUEUE_REFERENCE_COUNT = 0x1092;
constexpr cl_uint CL_QUEUE_PROPERTIES = 0x1093;
constexpr cl_uint CL_QUEUE_PRIORITY_KHR = 0x1096;
constexpr cl_uint CL_QUEUE_THROTTLE_KHR = 0x1097;
constexpr cl_uint CL_QUEUE_PROPERTIES_ARRAY = 0x1098;
constexpr cl_bitfield CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE = 1 << 0;
constexpr cl_bitfield CL_QUEUE_PROFILING_ENABLE = 1 << 1;
constexpr cl_bitfield CL_MEM_READ_WRITE = 1 << 0;
constexpr cl_uint CL_PROGRAM_BUILD_LOG = 0x1183;
constexpr cl_uint CL_EVENT_COMMAND_QUEUE = 0x11D0;
constexpr cl_uint CL_EVENT_REFERENCE_COUNT = 0x11D2;
constexpr cl_uint CL_EVENT_COMMAND_EXECUTION_STATUS = 0x11D3;
constexpr cl_int CL_COMPLETE = 0;
constexpr cl_uint CL_PROFILING_COMMAND_QUEUED = 0x1280;
constexpr cl_uint CL_PROFILING_COMMAND_SUBMIT = 0x1281;
constexpr cl_uint CL_PROFILING_COMMAND_START = 0x1282;
constexpr cl_uint CL_PROFILING_COMMAND_END = 0x1283;

constexpr cl_uint CL_LAYER_API_VERSION = 0x4240;
constexpr cl_uint CL_LAYER_NAME = 0x4241;
constexpr cl_uint CL_LAYER_API_VERSION_100 = 100;

// Name, result and parameters of every function used; X is expanded once for the members, once for the look-up.
#define KLO_CL_FUNCTIONS(X)                                                                                             \
  X(clGetPlatformIDs, cl_int, (cl_uint, cl_platform_id*, cl_uint*))                                                     \
  X(clGetPlatformInfo, cl_int, (cl_platform_id, cl_uint, size_t, void*, size_t*))                                       \
  X(clGetDeviceIDs, cl_int, (cl_platform_id, cl_bitfield, cl_uint, cl_device_id*, cl_uint*))                            \
  X(clGetDeviceInfo, cl_int, (cl_device_id, cl_uint, size_t, void*, size_t*))                                           \
  X(clCreateContext, cl_context,                                                                                        \
    (const intptr_t*, cl_uint, const cl_device_id*, void (*)(const char*, const void*, size_t, void*), void*, cl_int*)) \
  X(clReleaseContext, cl_int, (cl_context))                                                                             \
  X(clCreateCommandQueue, cl_command_queue, (cl_context, cl_device_id, cl_bitfield, cl_int*))                           \
  X(clReleaseCommandQueue, cl_int, (cl_command_queue))                                                                  \
  X(clCreateBuffer, cl_mem, (cl_context, cl_bitfield, size_t, void*, cl_int*))                                          \
  X(clReleaseMemObject, cl_int, (cl_mem))                                                                               \
  X(clCreateProgramWithSource, cl_program, (cl_context, cl_uint, const char**, const size_t*, cl_int*))                 \
  X(clBuildProgram, cl_int,                                                                                             \
    (cl_program, cl_uint, const cl_device_id*, const char*, void (*)(cl_program, void*), void*))                        \
  X(clGetProgramBuildInfo, cl_int, (cl_program, cl_device_id, cl_uint, size_t, void*, size_t*))                         \
  X(clReleaseProgram, cl_int, (cl_program))                                                                             \
  X(clCreateKernel, cl_kernel, (cl_program, const char*, cl_int*))                                                      \
  X(clReleaseKernel, cl_int, (cl_kernel))                                                                               \
  X(clSetKernelArg, cl_int, (cl_kernel, cl_uint, size_t, const void*))                                                  \
  X(clEnqueueNDRangeKernel, cl_int,                                                                                     \
    (cl_command_queue, cl_kernel, cl_uint, const size_t*, const size_t*, const size_t*, cl_uint, const cl_event*,       \
     cl_event*))                                                                                                        \
  X(clEnqueueReadBuffer, cl_int,                                                                                        \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void*, cl_uint, const cl_event*, cl_event*))                    \
  X(clEnqueueWriteBuffer, cl_int,                                                                                       \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void*, cl_uint, const cl_event*, cl_event*))              \
  X(clEnqueueMarkerWithWaitList, cl_int, (cl_command_queue, cl_uint, const cl_event*, cl_event*))                       \
  X(clFlush, cl_int, (cl_command_queue))                                                                                \
  X(clFinish, cl_int, (cl_command_queue))                                                                               \
  X(clWaitForEvents, cl_int, (cl_uint, const cl_event*))                                                                \
  X(clGetEventInfo, cl_int, (cl_event, cl_uint, size_t, void*, size_t*))                                                \
  X(clGetEventProfilingInfo, cl_int, (cl_event, cl_uint, size_t, void*, size_t*))                                       \
  X(clReleaseEvent, cl_int, (cl_event))

// OpenCL 2.1, and often absent: device and host time read together.
using clGetDeviceAndHostTimer_fn = cl_int (*)(cl_device_id, cl_ulong*, cl_ulong*);
