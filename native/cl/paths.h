// Where the OpenCL library of a device may lie, and whether there is a device behind it.
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Where Android vendors and Linux distributions put it, in the order in which they are tried.
constexpr const char* kOpenClPaths[] = {
#if UINTPTR_MAX > UINT32_MAX
    "/vendor/lib64/libOpenCL.so",
    "/system/vendor/lib64/libOpenCL.so",
    "/system/lib64/libOpenCL.so",
    "/vendor/lib64/egl/libGLES_mali.so",
    "/system/vendor/lib64/egl/libGLES_mali.so",
    "/vendor/lib64/libPVROCL.so",
    "/system/vendor/lib64/libPVROCL.so",
#else
    "/vendor/lib/libOpenCL.so",
    "/system/vendor/lib/libOpenCL.so",
    "/system/lib/libOpenCL.so",
    "/vendor/lib/egl/libGLES_mali.so",
    "/system/vendor/lib/egl/libGLES_mali.so",
    "/vendor/lib/libPVROCL.so",
    "/system/vendor/lib/libPVROCL.so",
#endif
    "libOpenCL.so.1",
    "libOpenCL.so",
};

// Mesa's drm-shim answers for the device: the driver is real, the work is thrown away.
inline bool is_noop() {
  const char* preloaded = getenv("LD_PRELOAD");
  return preloaded != nullptr && strstr(preloaded, "noop_drm_shim") != nullptr;
}
