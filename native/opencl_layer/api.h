// Every entry of an OpenCL library's dispatch table, in its order, from the Khronos specification (cl_khr_icd). Handles,
// pointers and callbacks are all P.
#pragma once

#include "cl/cl.h"

namespace layer {

using P = void*;
using H = void*;  // a handle or pointer whose error goes to the last parameter
using I = cl_int;
using U = cl_uint;
using L = cl_ulong;
using Z = size_t;
using V = void;

// X(name, result, parameters, arguments); HOLE(name): an entry that exists on other systems alone.
// clang-format off
#define LAYER_API(X, HOLE) \
  X(clGetPlatformIDs, I, (U a, P b, P c), (a, b, c)) \
  X(clGetPlatformInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clGetDeviceIDs, I, (P a, L b, U c, P d, P e), (a, b, c, d, e)) \
  X(clGetDeviceInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clCreateContext, H, (P a, U b, P c, P d, P e, P f), (a, b, c, d, e, f)) \
  X(clCreateContextFromType, H, (P a, L b, P c, P d, P e), (a, b, c, d, e)) \
  X(clRetainContext, I, (P a), (a)) \
  X(clReleaseContext, I, (P a), (a)) \
  X(clGetContextInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clCreateCommandQueue, H, (P a, P b, L c, P d), (a, b, c, d)) \
  X(clRetainCommandQueue, I, (P a), (a)) \
  X(clReleaseCommandQueue, I, (P a), (a)) \
  X(clGetCommandQueueInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clSetCommandQueueProperty, I, (P a, L b, U c, P d), (a, b, c, d)) \
  X(clCreateBuffer, H, (P a, L b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clCreateImage2D, H, (P a, L b, P c, Z d, Z e, Z f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clCreateImage3D, H, (P a, L b, P c, Z d, Z e, Z f, Z g, Z h, P i, P j), (a, b, c, d, e, f, g, h, i, j)) \
  X(clRetainMemObject, I, (P a), (a)) \
  X(clReleaseMemObject, I, (P a), (a)) \
  X(clGetSupportedImageFormats, I, (P a, L b, U c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clGetMemObjectInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clGetImageInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clCreateSampler, H, (P a, U b, U c, U d, P e), (a, b, c, d, e)) \
  X(clRetainSampler, I, (P a), (a)) \
  X(clReleaseSampler, I, (P a), (a)) \
  X(clGetSamplerInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clCreateProgramWithSource, H, (P a, U b, P c, P d, P e), (a, b, c, d, e)) \
  X(clCreateProgramWithBinary, H, (P a, U b, P c, P d, P e, P f, P g), (a, b, c, d, e, f, g)) \
  X(clRetainProgram, I, (P a), (a)) \
  X(clReleaseProgram, I, (P a), (a)) \
  X(clBuildProgram, I, (P a, U b, P c, P d, P e, P f), (a, b, c, d, e, f)) \
  X(clUnloadCompiler, I, (), ()) \
  X(clGetProgramInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clGetProgramBuildInfo, I, (P a, P b, U c, Z d, P e, P f), (a, b, c, d, e, f)) \
  X(clCreateKernel, H, (P a, P b, P c), (a, b, c)) \
  X(clCreateKernelsInProgram, I, (P a, U b, P c, P d), (a, b, c, d)) \
  X(clRetainKernel, I, (P a), (a)) \
  X(clReleaseKernel, I, (P a), (a)) \
  X(clSetKernelArg, I, (P a, U b, Z c, P d), (a, b, c, d)) \
  X(clGetKernelInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clGetKernelWorkGroupInfo, I, (P a, P b, U c, Z d, P e, P f), (a, b, c, d, e, f)) \
  X(clWaitForEvents, I, (U a, P b), (a, b)) \
  X(clGetEventInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clRetainEvent, I, (P a), (a)) \
  X(clReleaseEvent, I, (P a), (a)) \
  X(clGetEventProfilingInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clFlush, I, (P a), (a)) \
  X(clFinish, I, (P a), (a)) \
  X(clEnqueueReadBuffer, I, (P a, P b, U c, Z d, Z e, P f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueWriteBuffer, I, (P a, P b, U c, Z d, Z e, P f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueCopyBuffer, I, (P a, P b, P c, Z d, Z e, Z f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueReadImage, I, (P a, P b, U c, P d, P e, Z f, Z g, P h, U i, P j, P k), (a, b, c, d, e, f, g, h, i, j, k)) \
  X(clEnqueueWriteImage, I, (P a, P b, U c, P d, P e, Z f, Z g, P h, U i, P j, P k), (a, b, c, d, e, f, g, h, i, j, k)) \
  X(clEnqueueCopyImage, I, (P a, P b, P c, P d, P e, P f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueCopyImageToBuffer, I, (P a, P b, P c, P d, P e, Z f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueCopyBufferToImage, I, (P a, P b, P c, Z d, P e, P f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueMapBuffer, H, (P a, P b, U c, L d, Z e, Z f, U g, P h, P i, P j), (a, b, c, d, e, f, g, h, i, j)) \
  X(clEnqueueMapImage, H, (P a, P b, U c, L d, P e, P f, P g, P h, U i, P j, P k, P l), (a, b, c, d, e, f, g, h, i, j, k, l)) \
  X(clEnqueueUnmapMemObject, I, (P a, P b, P c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clEnqueueNDRangeKernel, I, (P a, P b, U c, P d, P e, P f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueTask, I, (P a, P b, U c, P d, P e), (a, b, c, d, e)) \
  X(clEnqueueNativeKernel, I, (P a, P b, P c, Z d, U e, P f, P g, U h, P i, P j), (a, b, c, d, e, f, g, h, i, j)) \
  X(clEnqueueMarker, I, (P a, P b), (a, b)) \
  X(clEnqueueWaitForEvents, I, (P a, U b, P c), (a, b, c)) \
  X(clEnqueueBarrier, I, (P a), (a)) \
  X(clGetExtensionFunctionAddress, P, (P a), (a)) \
  X(clCreateFromGLBuffer, H, (P a, L b, U c, P d), (a, b, c, d)) \
  X(clCreateFromGLTexture2D, H, (P a, L b, U c, I d, U e, P f), (a, b, c, d, e, f)) \
  X(clCreateFromGLTexture3D, H, (P a, L b, U c, I d, U e, P f), (a, b, c, d, e, f)) \
  X(clCreateFromGLRenderbuffer, H, (P a, L b, U c, P d), (a, b, c, d)) \
  X(clGetGLObjectInfo, I, (P a, P b, P c), (a, b, c)) \
  X(clGetGLTextureInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clEnqueueAcquireGLObjects, I, (P a, U b, P c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clEnqueueReleaseGLObjects, I, (P a, U b, P c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clGetGLContextInfoKHR, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  HOLE(clGetDeviceIDsFromD3D10KHR) \
  HOLE(clCreateFromD3D10BufferKHR) \
  HOLE(clCreateFromD3D10Texture2DKHR) \
  HOLE(clCreateFromD3D10Texture3DKHR) \
  HOLE(clEnqueueAcquireD3D10ObjectsKHR) \
  HOLE(clEnqueueReleaseD3D10ObjectsKHR) \
  X(clSetEventCallback, I, (P a, I b, P c, P d), (a, b, c, d)) \
  X(clCreateSubBuffer, H, (P a, L b, U c, P d, P e), (a, b, c, d, e)) \
  X(clSetMemObjectDestructorCallback, I, (P a, P b, P c), (a, b, c)) \
  X(clCreateUserEvent, H, (P a, P b), (a, b)) \
  X(clSetUserEventStatus, I, (P a, I b), (a, b)) \
  X(clEnqueueReadBufferRect, I, (P a, P b, U c, P d, P e, P f, Z g, Z h, Z i, Z j, P k, U l, P m, P n), (a, b, c, d, e, f, g, h, i, j, k, l, m, n)) \
  X(clEnqueueWriteBufferRect, I, (P a, P b, U c, P d, P e, P f, Z g, Z h, Z i, Z j, P k, U l, P m, P n), (a, b, c, d, e, f, g, h, i, j, k, l, m, n)) \
  X(clEnqueueCopyBufferRect, I, (P a, P b, P c, P d, P e, P f, Z g, Z h, Z i, Z j, U k, P l, P m), (a, b, c, d, e, f, g, h, i, j, k, l, m)) \
  X(clCreateSubDevicesEXT, I, (P a, P b, U c, P d, P e), (a, b, c, d, e)) \
  X(clRetainDeviceEXT, I, (P a), (a)) \
  X(clReleaseDeviceEXT, I, (P a), (a)) \
  X(clCreateEventFromGLsyncKHR, H, (P a, P b, P c), (a, b, c)) \
  X(clCreateSubDevices, I, (P a, P b, U c, P d, P e), (a, b, c, d, e)) \
  X(clRetainDevice, I, (P a), (a)) \
  X(clReleaseDevice, I, (P a), (a)) \
  X(clCreateImage, H, (P a, L b, P c, P d, P e, P f), (a, b, c, d, e, f)) \
  X(clCreateProgramWithBuiltInKernels, H, (P a, U b, P c, P d, P e), (a, b, c, d, e)) \
  X(clCompileProgram, I, (P a, U b, P c, P d, U e, P f, P g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clLinkProgram, H, (P a, U b, P c, P d, U e, P f, P g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clUnloadPlatformCompiler, I, (P a), (a)) \
  X(clGetKernelArgInfo, I, (P a, U b, U c, Z d, P e, P f), (a, b, c, d, e, f)) \
  X(clEnqueueFillBuffer, I, (P a, P b, P c, Z d, Z e, Z f, U g, P h, P i), (a, b, c, d, e, f, g, h, i)) \
  X(clEnqueueFillImage, I, (P a, P b, P c, P d, P e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clEnqueueMigrateMemObjects, I, (P a, U b, P c, L d, U e, P f, P g), (a, b, c, d, e, f, g)) \
  X(clEnqueueMarkerWithWaitList, I, (P a, U b, P c, P d), (a, b, c, d)) \
  X(clEnqueueBarrierWithWaitList, I, (P a, U b, P c, P d), (a, b, c, d)) \
  X(clGetExtensionFunctionAddressForPlatform, P, (P a, P b), (a, b)) \
  X(clCreateFromGLTexture, H, (P a, L b, U c, I d, U e, P f), (a, b, c, d, e, f)) \
  HOLE(clGetDeviceIDsFromD3D11KHR) \
  HOLE(clCreateFromD3D11BufferKHR) \
  HOLE(clCreateFromD3D11Texture2DKHR) \
  HOLE(clCreateFromD3D11Texture3DKHR) \
  HOLE(clCreateFromDX9MediaSurfaceKHR) \
  HOLE(clEnqueueAcquireD3D11ObjectsKHR) \
  HOLE(clEnqueueReleaseD3D11ObjectsKHR) \
  HOLE(clGetDeviceIDsFromDX9MediaAdapterKHR) \
  HOLE(clEnqueueAcquireDX9MediaSurfacesKHR) \
  HOLE(clEnqueueReleaseDX9MediaSurfacesKHR) \
  X(clCreateFromEGLImageKHR, H, (P a, P b, P c, L d, P e, P f), (a, b, c, d, e, f)) \
  X(clEnqueueAcquireEGLObjectsKHR, I, (P a, U b, P c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clEnqueueReleaseEGLObjectsKHR, I, (P a, U b, P c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clCreateEventFromEGLSyncKHR, H, (P a, P b, P c, P d), (a, b, c, d)) \
  X(clCreateCommandQueueWithProperties, H, (P a, P b, P c, P d), (a, b, c, d)) \
  X(clCreatePipe, H, (P a, L b, U c, U d, P e, P f), (a, b, c, d, e, f)) \
  X(clGetPipeInfo, I, (P a, U b, Z c, P d, P e), (a, b, c, d, e)) \
  X(clSVMAlloc, P, (P a, L b, Z c, U d), (a, b, c, d)) \
  X(clSVMFree, V, (P a, P b), (a, b)) \
  X(clEnqueueSVMFree, I, (P a, U b, P c, P d, P e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clEnqueueSVMMemcpy, I, (P a, U b, P c, P d, Z e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clEnqueueSVMMemFill, I, (P a, P b, P c, Z d, Z e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clEnqueueSVMMap, I, (P a, U b, L c, P d, Z e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clEnqueueSVMUnmap, I, (P a, P b, U c, P d, P e), (a, b, c, d, e)) \
  X(clCreateSamplerWithProperties, H, (P a, P b, P c), (a, b, c)) \
  X(clSetKernelArgSVMPointer, I, (P a, U b, P c), (a, b, c)) \
  X(clSetKernelExecInfo, I, (P a, U b, Z c, P d), (a, b, c, d)) \
  X(clGetKernelSubGroupInfoKHR, I, (P a, P b, U c, Z d, P e, Z f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clCloneKernel, H, (P a, P b), (a, b)) \
  X(clCreateProgramWithIL, H, (P a, P b, Z c, P d), (a, b, c, d)) \
  X(clEnqueueSVMMigrateMem, I, (P a, U b, P c, P d, L e, U f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clGetDeviceAndHostTimer, I, (P a, P b, P c), (a, b, c)) \
  X(clGetHostTimer, I, (P a, P b), (a, b)) \
  X(clGetKernelSubGroupInfo, I, (P a, P b, U c, Z d, P e, Z f, P g, P h), (a, b, c, d, e, f, g, h)) \
  X(clSetDefaultDeviceCommandQueue, I, (P a, P b, P c), (a, b, c)) \
  X(clSetProgramReleaseCallback, I, (P a, P b, P c), (a, b, c)) \
  X(clSetProgramSpecializationConstant, I, (P a, U b, Z c, P d), (a, b, c, d)) \
  X(clCreateBufferWithProperties, H, (P a, P b, L c, Z d, P e, P f), (a, b, c, d, e, f)) \
  X(clCreateImageWithProperties, H, (P a, P b, L c, P d, P e, P f, P g), (a, b, c, d, e, f, g)) \
  X(clSetContextDestructorCallback, I, (P a, P b, P c), (a, b, c))
// clang-format on

struct Dispatch {
#define LAYER_MEMBER(name, result, parameters, arguments) result(*name) parameters;
#define LAYER_HOLE(name) void* name;
  LAYER_API(LAYER_MEMBER, LAYER_HOLE)
#undef LAYER_MEMBER
#undef LAYER_HOLE
};

constexpr U kEntries = sizeof(Dispatch) / sizeof(void*);

}  // namespace layer
