// Processes as /proc shows them: who they are, whether they are still the same, and ending them.
#pragma once

#include <signal.h>

#include <dirent.h>

#include "sys.h"

namespace agent {

struct ProcStat {
  char state = '?';
  pid_t parent = 0, group = 0, session = 0;
  int64_t cpu_ticks = 0;    // user + system, without children
  int64_t child_ticks = 0;  // of children that were waited for, with theirs
  int64_t start_time = 0;   // ticks since boot: with the pid, an identity
  int cpu = -1;             // where it ran last
  char name[16] = "";       // as the kernel keeps it: at most 15 bytes
};

inline bool proc_stat(pid_t pid, ProcStat* into) {
  char path[40], text[1024];
  // Of its own /proc/PID/stat a program under qemu is shown a made-up one with another start time; its main thread's
  // is the kernel's, and every other process reads the same there.
  const char* shape = pid == getpid() ? "/proc/self/task/%d/stat" : "/proc/%d/stat";
  snprintf(path, sizeof path, shape, static_cast<int>(pid));
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return false;
  ssize_t got = read(fd.get(), text, sizeof text - 1);
  if (got <= 0) return false;
  Text rest(text, static_cast<size_t>(got));
  size_t name_end = rest.size;  // the name may hold brackets and blanks: the last bracket counts
  while (name_end > 0 && rest.data[name_end - 1] != ')') --name_end;
  if (name_end == 0) return false;
  size_t name_begin = 0;
  while (name_begin + 1 < name_end && rest.data[name_begin] != '(') ++name_begin;
  size_t length = 0;
  for (size_t i = name_begin + 1; i + 1 < name_end && length + 1 < sizeof into->name; ++i)
    into->name[length++] = rest.data[i];
  into->name[length] = '\0';
  rest = rest.from(name_end);
  Text word;
  for (int field = 3; field <= 39; ++field) {
    if (!next_word(&rest, &word)) return field > 22;
    int64_t value = 0;
    if (field == 3) into->state = *word.data;
    if (field > 3 && !parse_number(word, &value)) value = 0;
    if (field == 4) into->parent = static_cast<pid_t>(value);
    if (field == 5) into->group = static_cast<pid_t>(value);
    if (field == 6) into->session = static_cast<pid_t>(value);
    if (field == 14) into->cpu_ticks = value;
    if (field == 15) into->cpu_ticks += value;
    if (field == 16 || field == 17) into->child_ticks += value;
    if (field == 22) into->start_time = value;
    if (field == 39) into->cpu = static_cast<int>(value);
  }
  return true;
}

// A process by pid and start time, which together are never given out twice in one boot.
struct Identity {
  pid_t pid = 0;
  int64_t start_time = 0;

  static Identity of(pid_t pid) {
    ProcStat stat;
    return {pid, proc_stat(pid, &stat) ? stat.start_time : 0};
  }
  // Still there and not merely a zombie.
  bool alive() const {
    ProcStat stat;
    return pid > 0 && proc_stat(pid, &stat) && stat.start_time == start_time && stat.state != 'Z' && stat.state != 'X';
  }
};

// An executable file by device and inode: it stays the same when it is renamed or deleted while it runs.
struct Exe {
  uint64_t device = 0, inode = 0;
  bool known() const { return inode != 0; }
  bool operator==(const Exe& other) const { return device == other.device && inode == other.inode; }

  static Exe of_file(const char* path) {
    struct stat info{};
    if (stat(path, &info) != 0) return {};
    return {static_cast<uint64_t>(info.st_dev), static_cast<uint64_t>(info.st_ino)};
  }
  static Exe of_process(pid_t pid) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/exe", static_cast<int>(pid));
    return of_file(path);
  }
};

// The file this program runs.
inline Text own_exe(Arena* arena) {
  char path[4096];
  ssize_t got = readlink("/proc/self/exe", path, sizeof path);
  return arena->copy({path, got > 0 ? static_cast<size_t>(got) : 0});
}

// CPU time of a process with its threads, to the nanosecond where the kernel gives it, else to the tick; -1 if gone.
inline int64_t process_cpu_ns(pid_t pid) {
  timespec time{};
  clockid_t clock = static_cast<clockid_t>((~static_cast<unsigned>(pid) << 3) | 2u);
  if (clock_gettime(clock, &time) == 0) return static_cast<int64_t>(time.tv_sec) * kSecond + time.tv_nsec;
  ProcStat stat;
  if (!proc_stat(pid, &stat)) return -1;
  return stat.cpu_ticks * (kSecond / sysconf(_SC_CLK_TCK));
}

// The words of a /proc/PID file whose parts end in zero bytes.
inline bool proc_words(pid_t pid, const char* file, Buf* into, size_t limit) {
  char path[48];
  snprintf(path, sizeof path, "/proc/%d/%s", static_cast<int>(pid), file);
  into->clear();
  return read_file(path, into, limit) == 0 && into->size > 0;
}

inline bool has_part(Text parts, Text wanted, size_t among) {
  for (size_t i = 0; i < among && parts.size > 0; ++i) {
    size_t end = 0;
    while (end < parts.size && parts.data[end] != '\0') ++end;
    if (parts.first(end) == wanted) return true;
    parts = parts.from(end < parts.size ? end + 1 : end);
  }
  return false;
}

// The process, whose executable was ``seen``, runs this file: by that, or by its command line where qemu executes a
// foreign binary.
inline bool runs_file(pid_t pid, const Exe& seen, const Exe& exe, Text path) {
  if (!seen.known() || !exe.known()) return false;
  if (seen == exe) return true;
  char link[40], target[512];
  snprintf(link, sizeof link, "/proc/%d/exe", static_cast<int>(pid));
  ssize_t got = readlink(link, target, sizeof target);
  Text name(target, got > 0 ? static_cast<size_t>(got) : 0);
  size_t slash = name.size;
  while (slash > 0 && name.data[slash - 1] != '/') --slash;
  Buf words;
  return name.from(slash).starts_with("qemu-") && proc_words(pid, "cmdline", &words, 4096) &&
         has_part(words.text(), path, 4);
}

// The variable stands first in the environment of every program of a run, so that its descendants can be found.
inline bool has_token(pid_t pid, Text token) {
  Buf words;
  return token.size > 0 && proc_words(pid, "environ", &words, 131072) && has_part(words.text(), token, 4096);
}

// Calls ``visit(pid)`` for every process but this one.
template <class Visit>
void each_process(Visit visit) {
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return;
  while (dirent* entry = readdir(dir)) {
    int64_t pid = 0;
    if (parse_number(entry->d_name, &pid) && pid > 1 && pid != getpid()) visit(static_cast<pid_t>(pid));
  }
  closedir(dir);
}

}  // namespace agent
