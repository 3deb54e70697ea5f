/* In front of Mesa's no-op device for Panfrost (mesa-drm-shim), which answers all a driver asks but two things: the export
 * of a sync object as a file (there is no work to wait for, so it is ready at once) and, since kernel 6.12, the time,
 * without which no queue has timestamps. Numbers from Linux' include/uapi/drm/drm.h and panfrost_drm.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>

enum { VERSION = 0x6400, GET_PARAM = 0x6444, SYNCOBJ_HANDLE_TO_FD = 0x64c1 }; /* type 'd' and number */
enum { SYSTEM_TIMESTAMP = 41, SYSTEM_TIMESTAMP_FREQUENCY = 42 };

int ioctl(int fd, unsigned long request, ...) {
  static int (*next)(int, unsigned long, void*);
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  if (next == NULL) *(void**)&next = dlsym(RTLD_NEXT, "ioctl");
  const unsigned what = request & 0xffff;
  if (what == SYNCOBJ_HANDLE_TO_FD) { /* handle, flags, fd */
    ((int32_t*)argument)[2] = eventfd(1, EFD_CLOEXEC);
    return 0;
  }
  if (what == GET_PARAM) { /* param, pad, value */
    uint64_t* value = (uint64_t*)argument + 1;
    const uint32_t param = *(uint32_t*)argument;
    if (param == SYSTEM_TIMESTAMP_FREQUENCY) return *value = 1000000000, 0;
    if (param == SYSTEM_TIMESTAMP) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return *value = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, 0;
    }
  }
  const int code = next(fd, request, argument);
  int32_t* version = argument; /* major, minor: 1.3 is the first with the time */
  if (what == VERSION && code == 0 && version[0] == 1 && version[1] < 3) version[1] = 3;
  return code;
}
