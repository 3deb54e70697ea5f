// Writes to stdout what is appended to a file, sleeping in between, until the reader goes away.
#pragma once

#include <poll.h>
#include <sys/inotify.h>
#include <sys/vfs.h>

#include "state.h"

namespace agent {

class Follow {
 public:
  // ``state``: empty, or a state directory: then it also ends when the agent there has ended.
  Follow(const char* path, uint64_t offset, bool lines, Text state)
      : path_(path), at_(offset), lines_(lines), state_(state) {
    boot_ = boot_id(&arena_);
  }

  int run() {
    const int64_t begin = begin_ns_;
    for (;;) {
      bool agent_gone = state_.size > 0 && gone(begin);
      int code = pump();
      if (code >= 0) return code;
      if (agent_gone) return kDone;
      if (!sleep()) return kDone;
    }
  }

 private:
  static constexpr int64_t kStart = 10 * kSecond;  // so long an agent may take to appear

  // Writes what there is. Returns -1, or the exit code if it is over.
  int pump() {
    if (!file_.ok()) {
      file_.set(open(path_, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
      if (!file_.ok()) return errno == ENOENT ? -1 : fail("cannot read", errno);
      watch_file();
    }
    struct stat info{};
    if (fstat(file_.get(), &info) != 0) return fail("cannot read", errno);
    if (static_cast<uint64_t>(info.st_size) < at_ && info.st_size > 0) {
      fprintf(stderr, "agent: %s has become shorter than %llu bytes\n", path_, static_cast<unsigned long long>(at_));
      return kRefused;
    }
    Buf piece;
    for (;;) {
      piece.reserve(65536 + 1);
      size_t room = piece.capacity - piece.size;
      ssize_t got = pread(file_.get(), piece.data + piece.size, room, static_cast<off_t>(at_ + piece.size));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail("cannot read", errno);
      piece.size += static_cast<size_t>(got);
      size_t whole = piece.size;
      while (lines_ && whole > 0 && piece[whole - 1] != '\n') --whole;
      if (whole > 0 && write_all(1, piece.text().first(whole)) != 0) return kDone;  // nobody reads any more
      at_ += whole;
      memmove(piece.data, piece.data + whole, piece.size - whole);
      piece.size -= whole;
      if (got == 0) return -1;
      if (piece.size == piece.capacity) piece.reserve(piece.capacity * 2);
    }
  }

  int fail(const char* what, int error) {
    fprintf(stderr, "agent: %s %s: %s\n", what, path_, strerror(error));
    return kRefused;
  }

  void watch_file() {
    int fd = inotify_.ok() ? inotify_.get() : -1;
    if (fd < 0) inotify_.set(fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    watched_ = fd >= 0 && inotify_add_watch(fd, path_, IN_MODIFY | IN_ATTRIB) >= 0 && tells_changes();
  }

  // On FUSE and network file systems a change made elsewhere tells nobody.
  bool tells_changes() const {
    struct statfs info{};
    if (fstatfs(file_.get(), &info) != 0) return false;
    const unsigned long quiet[] = {0x65735546, 0x6969, 0x517b, 0xff534d42, 0x01021997};  // FUSE NFS SMB CIFS 9P
    for (unsigned long type : quiet) {
      if ((static_cast<unsigned long>(info.f_type) & 0xffffffff) == type) return false;
    }
    return true;
  }

  // False when the reader has gone.
  bool sleep() {
    pollfd fds[2] = {{1, 0, 0}, {inotify_.get(), POLLIN, 0}};
    bool events = watched_ && file_.ok();
    // A file that is to come is looked for more often as long as whoever makes it is just beginning.
    bool soon = !file_.ok() && mono_ns() - begin_ns_ < kSecond;
    int timeout = events ? (state_.size > 0 ? 2000 : 60000) : soon ? 5 : 200;
    poll(fds, events ? 2 : 1, timeout);
    if ((fds[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return false;
    char drain[4096];
    while (events && read(inotify_.get(), drain, sizeof drain) > 0) {
    }
    return true;
  }

  // The agent was there and is no more, or did not come for a while.
  bool gone(int64_t begin) {
    Arena scratch;
    AgentInfo info = AgentInfo::read(state_, &scratch);
    bool mine = info.out.size > 0 && dir_of(&scratch) == info.out;  // not an agent that executes another plan
    bool alive = mine && info.alive(boot_) && info.state == Text("running");
    seen_ = seen_ || alive;
    return !alive && (seen_ || mono_ns() - begin > kStart);
  }

  Text dir_of(Arena* scratch) const {
    size_t slash = strlen(path_);
    while (slash > 0 && path_[slash - 1] != '/') --slash;
    return absolute(slash > 0 ? scratch->copy({path_, slash}).data : ".", scratch);
  }

  const char* path_;
  uint64_t at_;
  bool lines_;
  const int64_t begin_ns_ = mono_ns();
  Text state_, boot_;
  Arena arena_;
  Fd file_, inotify_;
  bool watched_ = false, seen_ = false;
};

}  // namespace agent
