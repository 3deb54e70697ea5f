// The system calls the agent needs, each with one meaning: clocks, whole files, atomic replacement.
#pragma once

#include <errno.h>
#include <time.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "text.h"

namespace agent {

constexpr int64_t kMs = 1000000;  // nanoseconds
constexpr int64_t kSecond = 1000000000;
constexpr size_t kNodeLimit = 65536;  // bytes of a node that are looked at

inline int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * kSecond + now.tv_nsec;
}
inline int64_t mono_ns() { return clock_ns(CLOCK_MONOTONIC); }
inline int64_t unix_ns() { return clock_ns(CLOCK_REALTIME); }
// CLOCK_BOOTTIME also counts while the device sleeps, so a lease ends on time.
inline int64_t boot_s() { return clock_ns(CLOCK_BOOTTIME) / kSecond; }

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { shut(); }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void set(int fd) {
    shut();
    fd_ = fd;
  }
  void shut() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// Writes all bytes; returns 0 or errno.
inline int write_all(int fd, Text bytes) {
  while (bytes.size > 0) {
    ssize_t wrote = write(fd, bytes.data, bytes.size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    if (wrote == 0) return EIO;
    bytes = bytes.from(static_cast<size_t>(wrote));
  }
  return 0;
}

// Appends up to ``limit`` bytes of an open file, from its present position on; returns 0 or errno. ``whole``: its end
// is not looked for behind a first piece that is shorter than a page.
inline int read_fd(int fd, Buf* into, size_t limit, bool whole = false) {
  while (limit > 0) {
    size_t part = limit < 16384 ? limit : 16384;
    into->reserve(into->size + part);
    ssize_t got = read(fd, into->data + into->size, part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return 0;
    into->size += static_cast<size_t>(got);
    limit -= static_cast<size_t>(got);
    if (whole && got < 4096) return 0;
  }
  return 0;
}

// Appends up to ``limit`` bytes of a file; never waits for a writer (FIFO, device). Returns 0 or errno.
inline int read_file(const char* path, Buf* into, size_t limit, bool whole = false) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  return fd.ok() ? read_fd(fd.get(), into, limit, whole) : errno;
}

// One write call of the whole text, as sysfs wants it, with a newline unless it is to be put back byte by byte. The
// file is never created. Returns 0 or errno.
inline int write_node_fd(int fd, Text text, bool as_it_is = false) {
  Buf line;
  line.add(text);
  if (text.size == 0 || (!as_it_is && text.data[text.size - 1] != '\n')) line.add('\n');
  ssize_t wrote;
  do {
    wrote = write(fd, line.data, line.size);
  } while (wrote < 0 && errno == EINTR);
  if (wrote < 0) return errno;
  return static_cast<size_t>(wrote) == line.size ? 0 : EIO;
}

inline int open_node(const char* path) { return open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); }

inline int write_node(const char* path, Text text, bool as_it_is = false) {
  Fd fd(open_node(path));
  return fd.ok() ? write_node_fd(fd.get(), text, as_it_is) : errno;
}

inline int sync_dir(const char* path) {
  Fd fd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return errno;
  return fsync(fd.get()) == 0 || errno == EINVAL ? 0 : errno;
}

// Replaces ``dir/name``: after a crash there is the old or the new content, never a part. ``durable``: also after a
// power cut.
inline int replace_file(Text dir, const char* name, Text content, bool durable = true) {
  Buf temporary, target;
  temporary.add(dir), temporary.add(Text("/.")), temporary.add(Text(name)), temporary.add(Text(".new"));
  target.add(dir), target.add('/'), target.add(Text(name));
  int error = 0;
  {
    Fd fd(open(temporary.zero_ended(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.ok()) return errno;
    error = write_all(fd.get(), content);
    if (error == 0 && durable && fsync(fd.get()) != 0) error = errno;
  }
  if (error == 0 && rename(temporary.zero_ended(), target.zero_ended()) != 0) error = errno;
  if (error != 0) {
    unlink(temporary.zero_ended());
    return error;
  }
  if (!durable) return 0;
  Buf parent;
  parent.add(dir);
  return sync_dir(parent.zero_ended());
}

// mkdir -p with mode 0700; returns 0 or errno.
inline int make_dirs(const char* path) {
  Buf part;
  for (const char* c = path;; ++c) {
    if ((*c == '/' || *c == '\0') && part.size > 0) {
      if (mkdir(part.zero_ended(), 0700) != 0 && errno != EEXIST) {
        struct stat info{};
        if (stat(part.zero_ended(), &info) != 0 || !S_ISDIR(info.st_mode)) return errno != 0 ? errno : ENOTDIR;
      }
    }
    if (*c == '\0') break;
    part.add(*c);
  }
  struct stat info{};
  if (stat(path, &info) != 0) return errno;
  return S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
}

// The absolute name of an existing path, in the arena; empty if there is none.
inline Text absolute(const char* path, Arena* arena) {
  char* real = realpath(path, nullptr);
  if (real == nullptr) return {};
  Text copy = arena->copy(real);
  free(real);
  return copy;
}

inline Text boot_id(Arena* arena) {
  Buf text;
  read_file("/proc/sys/kernel/random/boot_id", &text, 128);
  return arena->copy(trim(text.text()));
}

inline void sleep_ns(int64_t ns) {
  timespec pause{};
  pause.tv_sec = static_cast<time_t>(ns / kSecond);
  pause.tv_nsec = static_cast<long>(ns % kSecond);
  nanosleep(&pause, nullptr);
}

}  // namespace agent
