// Keeps the device from suspending while a plan is executed with the cable out (Documentation/ABI sysfs-power).
#pragma once

#include "sys.h"

namespace agent {

// The lock ends by itself after the lease's time, should the agent die; it is renewed with the lease. A kernel without
// wake locks has no such file.
inline void stay_awake(int64_t ttl_s) {
  char text[64];
  snprintf(text, sizeof text, "devicelab %lld", static_cast<long long>(ttl_s) * static_cast<long long>(kSecond));
  write_node("/sys/power/wake_lock", text);
}

inline void may_sleep() { write_node("/sys/power/wake_unlock", "devicelab"); }

}  // namespace agent
