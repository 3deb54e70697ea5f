// Finds the OpenCL library of the device at run time, and one of its devices.
#pragma once

#include <dlfcn.h>

#include "cl/cl.h"
#include "cl/paths.h"
#include "klo/options.h"

namespace klo {

struct ClLibrary {
  const char* path = "";
#define KLO_CL_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  KLO_CL_FUNCTIONS(KLO_CL_MEMBER)
#undef KLO_CL_MEMBER
  clGetDeviceAndHostTimer_fn clGetDeviceAndHostTimer = nullptr;
};

// Looks up the functions of the library; false if the file is not a (whole) OpenCL library.
[[maybe_unused]] inline bool look_up(void* handle, ClLibrary& cl) {
  bool whole = true;
  const auto find = [&](const char* name, auto& function) {
    void* address = dlsym(handle, name);
    memcpy(&function, &address, sizeof address);
    return address != nullptr;
  };
#define KLO_CL_FIND(name, result, parameters) whole = find(#name, cl.name) && whole;
  KLO_CL_FUNCTIONS(KLO_CL_FIND)
#undef KLO_CL_FIND
  find("clGetDeviceAndHostTimer", cl.clGetDeviceAndHostTimer);
  return whole;
}

// False: no library; `why` tells what was tried. KLO_OPENCL_LIB goes before all of kOpenClPaths.
inline bool load_cl(ClLibrary& cl, Array<char>& why) {
  const auto tell = [&](const char* text) {
    for (; *text != '\0'; ++text) why.push(*text);
  };
#ifdef DEVICELAB_STATIC
  // A static C library's dlopen refuses (musl) or crashes in a library made for another one (glibc).
  tell("\n  this build of klo is statically linked and loads no libraries");
  why.push('\0');
  (void)cl;
  return false;
#else
  const auto try_path = [&](const char* path) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr && look_up(handle, cl)) {
      cl.path = path;
      return true;
    }
    const char* said = handle != nullptr ? "lacks OpenCL functions" : dlerror();
    tell("\n  ");
    tell(path);
    tell(": ");
    tell(said != nullptr ? said : "cannot be loaded");
    return false;
  };
  const char* named = getenv("KLO_OPENCL_LIB");
  bool found = false;
  if (named != nullptr && named[0] != '\0') {
    found = try_path(named);
  } else {
    for (const char* path : kOpenClPaths) {
      if (!found) found = try_path(path);
    }
  }
  why.push('\0');
  return found;
#endif
}

[[noreturn]] inline void cl_failed(const char* what, cl_int code) {
  const char* meaning = "";
  switch (code) {
    case CL_DEVICE_NOT_FOUND: meaning = " (no device)"; break;
    case -4: meaning = " (out of device memory)"; break;
    case -5: meaning = " (out of resources)"; break;
    case -6: meaning = " (out of host memory)"; break;
    case CL_PROFILING_INFO_NOT_AVAILABLE: meaning = " (profiling information not available)"; break;
    case CL_BUILD_PROGRAM_FAILURE: meaning = " (the kernels do not compile)"; break;
    case CL_PLATFORM_NOT_FOUND_KHR: meaning = " (no driver is installed)"; break;
    default: break;
  }
  fail(kExitFailed, "OpenCL: %s gave error %d%s", what, code, meaning);
}

inline void cl_check(const char* what, cl_int code) {
  if (code != CL_SUCCESS) cl_failed(what, code);
}

struct ClDevice {
  cl_platform_id platform = nullptr;
  cl_device_id device = nullptr;
  int platform_index = 0;
  int device_index = 0;
  cl_bitfield type = 0;
  Array<char> platform_name;
  Array<char> name;
};

// "gpu", "cpu", "other", or "noop": a driver of Mesa's in front of a device that throws the work away.
inline const char* device_type(cl_bitfield type) {
  if (is_noop()) return "noop";
  return (type & CL_DEVICE_TYPE_GPU) != 0 ? "gpu" : (type & CL_DEVICE_TYPE_CPU) != 0 ? "cpu" : "other";
}

inline void device_text(const ClLibrary& cl, cl_device_id device, cl_uint what, Array<char>& text) {
  size_t size = 0;
  if (cl.clGetDeviceInfo(device, what, 0, nullptr, &size) != CL_SUCCESS || size > 1 << 20) size = 0;
  text.resize(size + 1, '\0');
  if (size > 0 && cl.clGetDeviceInfo(device, what, size, text.data(), nullptr) != CL_SUCCESS) text[0] = '\0';
}

// All devices of all platforms; an empty list if there are none.
inline void list_devices(const ClLibrary& cl, Array<ClDevice>& found) {
  constexpr cl_uint kMost = 16;
  cl_platform_id platforms[kMost];
  cl_uint platform_count = 0;
  if (cl.clGetPlatformIDs(kMost, platforms, &platform_count) != CL_SUCCESS) return;
  for (cl_uint p = 0; p < platform_count && p < kMost; ++p) {
    cl_device_id devices[kMost];
    cl_uint device_count = 0;
    if (cl.clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, kMost, devices, &device_count) != CL_SUCCESS) continue;
    for (cl_uint d = 0; d < device_count && d < kMost; ++d) {
      ClDevice one;
      one.platform = platforms[p];
      one.device = devices[d];
      one.platform_index = static_cast<int>(p);
      one.device_index = static_cast<int>(d);
      cl.clGetDeviceInfo(devices[d], CL_DEVICE_TYPE, sizeof one.type, &one.type, nullptr);
      one.platform_name.resize(256, '\0');
      cl.clGetPlatformInfo(platforms[p], CL_PLATFORM_NAME, 255, one.platform_name.data(), nullptr);
      device_text(cl, devices[d], CL_DEVICE_NAME, one.name);
      found.take(one);
    }
  }
}

// `wanted` is an index or a part of the name; null fits all.
inline bool fits(const char* wanted, int index, const char* name) {
  if (wanted == nullptr) return true;
  int64_t number = 0;
  if (parse_int(wanted, 0, 1000, number)) return number == index;
  return strstr(name, wanted) != nullptr;
}

// The first GPU that fits the arguments, else the first device that does; null if none does.
inline const ClDevice* choose_device(const Array<ClDevice>& devices, const Options& options) {
  const ClDevice* best = nullptr;
  for (const ClDevice& one : devices) {
    if (!fits(options.platform, one.platform_index, one.platform_name.data())) continue;
    if (!fits(options.device, one.device_index, one.name.data())) continue;
    const bool gpu = (one.type & CL_DEVICE_TYPE_GPU) != 0;
    if (best == nullptr || (gpu && (best->type & CL_DEVICE_TYPE_GPU) == 0)) best = &one;
  }
  return best;
}

inline void print_devices(const ClLibrary& cl, const Array<ClDevice>& devices) {
  for (const ClDevice& one : devices) {
    const char* type = device_type(one.type);
    Array<char> driver;
    device_text(cl, one.device, CL_DRIVER_VERSION, driver);
    printf("{\"platform\":%d,\"device\":%d,\"type\":\"%s\",\"platform_name\":", one.platform_index, one.device_index, type);
    print_json_string(one.platform_name.data());
    fputs(",\"name\":", stdout);
    print_json_string(one.name.data());
    fputs(",\"driver\":", stdout);
    print_json_string(driver.data());
    fputs(",\"library\":", stdout);
    print_json_string(cl.path);
    fputs("}\n", stdout);
  }
}

}  // namespace klo
