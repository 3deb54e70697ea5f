// What the agent says about itself.
#pragma once

namespace agent {

constexpr const char* kVersion = "0.2.0";
constexpr int kPlanVersion = 1;

#if defined(__aarch64__)
constexpr const char* kAbi = "arm64-v8a";
#elif defined(__arm__)
constexpr const char* kAbi = "armeabi-v7a";
#elif defined(__x86_64__)
constexpr const char* kAbi = "x86_64";
#elif defined(__i386__)
constexpr const char* kAbi = "x86";
#elif defined(__riscv)
constexpr const char* kAbi = "riscv64";
#else
constexpr const char* kAbi = "unknown";
#endif

}  // namespace agent
