// Starting a program: placed, in a session of its own, held back until its undo is journalled, with exec errors told.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>

#include "cpus.h"
#include "events.h"
#include "process.h"

namespace agent {

struct Launch {
  List<Text> argv;
  List<Pair> env;
  List<Text> scrub;
  Text dir;    // stands for "{dir}"
  Text token;  // marks descendants; empty for commands, whose daemons may stay
  const CpuSet* cpus = nullptr;
  int nice = 0;
  List<Text> cgroups;
  int out = -1, err = -1;  // -1: nowhere
  int ready = -1, go = -1;
  bool with_us = false;  // killed when the agent is
};

enum class Stage : int { kNone, kCgroup, kNice, kAffinity, kExec };

struct LaunchReport {
  Stage stage = Stage::kNone;
  int error = 0;
};

struct Child {
  Identity id;
  Text exe;  // resolved path
  int release = -1, report = -1;
};

inline const char* stage_name(Stage stage) {
  switch (stage) {
    case Stage::kCgroup: return "joining its cgroup";
    case Stage::kNice: return "setting its niceness";
    case Stage::kAffinity: return "placing it on its CPUs";
    default: return "starting it";
  }
}

inline Text expand(Text word, Text dir, Arena* arena) {
  Text mark("{dir}");
  return word.starts_with(mark) ? arena->join(dir, word.from(mark.size)) : arena->copy(word);
}

inline List<Text> expand_all(const List<Text>& words, Text dir, Arena* arena) {
  List<Text> expanded{arena->make<Text>(words.size), words.size};
  for (size_t i = 0; i < words.size; ++i) expanded[i] = expand(words[i], dir, arena);
  return expanded;
}

// The file that exec would take.
inline Text resolve(Text program, Arena* arena) {
  if (memchr(program.data, '/', program.size) != nullptr) return program;
  const char* path = getenv("PATH");
  Text rest(path != nullptr ? path
                            : "/system/bin:/system/xbin:/vendor/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
  while (rest.size > 0) {
    size_t end = 0;
    while (end < rest.size && rest.data[end] != ':') ++end;
    Text candidate = arena->join(rest.first(end), "/", program);
    if (end > 0 && access(candidate.data, X_OK) == 0) return candidate;
    rest = rest.from(end < rest.size ? end + 1 : end);
  }
  return program;
}

namespace spawn_parts {

inline bool scrubbed(Text entry, const List<Text>& patterns) {
  size_t end = 0;
  while (end < entry.size && entry.data[end] != '=') ++end;
  Text name = entry.first(end);
  for (Text pattern : patterns) {
    bool prefix = pattern.size > 0 && pattern.data[pattern.size - 1] == '*';
    if (prefix ? name.starts_with(pattern.first(pattern.size - 1)) : name == pattern) return true;
  }
  return false;
}

inline bool replaced(Text entry, const List<Pair>& env) {
  for (const Pair& pair : env) {
    if (entry.starts_with(pair.name) && entry.size > pair.name.size && entry.data[pair.name.size] == '=') return true;
  }
  return entry.starts_with("DEVICELAB_TOKEN=");
}

inline char** environment(const Launch& launch, Arena* arena) {
  size_t inherited = 0;
  while (environ[inherited] != nullptr) ++inherited;
  char** vars = arena->make<char*>(inherited + launch.env.size + 4);
  size_t count = 0;
  auto set = [&](Text name, Text value) { vars[count++] = const_cast<char*>(arena->join(name, "=", value).data); };
  if (launch.token.size > 0) vars[count++] = const_cast<char*>(launch.token.data);
  for (size_t i = 0; i < inherited; ++i) {
    if (!scrubbed(environ[i], launch.scrub) && !replaced(environ[i], launch.env)) vars[count++] = environ[i];
  }
  for (const Pair& pair : launch.env) set(pair.name, expand(pair.value, launch.dir, arena));
  char number[16];
  if (launch.ready >= 0) {
    snprintf(number, sizeof number, "%d", launch.ready);
    set("DEVICELAB_READY_FD", arena->copy(number));
    snprintf(number, sizeof number, "%d", launch.go);
    set("DEVICELAB_GO_FD", arena->copy(number));
  }
  return vars;
}

[[noreturn]] inline void give_up(int report, Stage stage, int error) {
  LaunchReport message{stage, error};
  if (write(report, &message, sizeof message) < 0) {
  }
  _exit(127);
}

// Every program is a session of its own, and with autogroups the kernel weighs sessions, not processes: without this a
// niceness says nothing about programs beside each other (sched(7)). A kernel without autogroups has no such file;
// users other than root may write only every 100 ms.
inline void nice_autogroup(int nice) {
  char text[8];
  snprintf(text, sizeof text, "%d", nice);
  for (int tries = 0; tries < 40 && write_node("/proc/self/autogroup", text) == EAGAIN; ++tries) sleep_ns(50000000);
}

[[noreturn]] inline void become(const Launch& launch, const char* exe, char** argv, char** envp, int hold, int report) {
  setsid();
  forget_signals();
  if (launch.with_us) prctl(PR_SET_PDEATHSIG, SIGKILL);
  char go;
  if (read(hold, &go, 1) != 1) _exit(127);  // the agent is gone
  char self[16];
  snprintf(self, sizeof self, "%d", static_cast<int>(getpid()));
  for (Text cgroup : launch.cgroups) {
    int fd = open(cgroup.data, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, self, strlen(self)) < 0) give_up(report, Stage::kCgroup, errno);
    close(fd);
  }
  errno = 0;
  if (launch.nice != 0 && setpriority(PRIO_PROCESS, 0, launch.nice) != 0) give_up(report, Stage::kNice, errno);
  if (launch.nice != 0) nice_autogroup(launch.nice);
  if (launch.cpus != nullptr) {
    int error = set_affinity(0, *launch.cpus);
    if (error != 0) give_up(report, Stage::kAffinity, error);
  }
  int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, 0);
  dup2(launch.out >= 0 ? launch.out : nowhere, 1);
  dup2(launch.err >= 0 ? launch.err : nowhere, 2);
  if (nowhere > 2) close(nowhere);
  if (launch.ready >= 0) fcntl(launch.ready, F_SETFD, 0);
  if (launch.go >= 0) fcntl(launch.go, F_SETFD, 0);
  execve(exe, argv, envp);
  give_up(report, Stage::kExec, errno);
}

}  // namespace spawn_parts

// Forks; the child waits for ``release``. Returns 0 or errno.
inline int spawn(const Launch& launch, Arena* arena, Child* child) {
  List<Text> words = expand_all(launch.argv, launch.dir, arena);
  char** argv = arena->make<char*>(words.size + 1);
  for (size_t i = 0; i < words.size; ++i) argv[i] = const_cast<char*>(words[i].data);
  child->exe = resolve(words[0], arena);
  char** envp = spawn_parts::environment(launch, arena);
  int hold[2], report[2];
  if (pipe2(hold, O_CLOEXEC) != 0) return errno;
  if (pipe2(report, O_CLOEXEC) != 0) {
    int error = errno;
    close(hold[0]), close(hold[1]);
    return error;
  }
  pid_t pid = fork();
  int error = pid < 0 ? errno : 0;
  if (pid == 0) {
    close(hold[1]), close(report[0]);
    spawn_parts::become(launch, child->exe.data, argv, envp, hold[0], report[1]);
  }
  close(hold[0]), close(report[1]);
  if (error != 0) {
    close(hold[1]), close(report[0]);
    return error;
  }
  child->id = Identity::of(pid);
  child->release = hold[1];
  child->report = report[0];
  return 0;
}

inline void drop(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

// Lets the child go on to exec and waits until it has: the report is empty if it did.
inline LaunchReport release(Child* child) {
  LaunchReport report;
  if (write(child->release, "g", 1) != 1) report = {Stage::kExec, errno};
  drop(&child->release);
  pollfd wanted{child->report, POLLIN, 0};
  int64_t deadline = mono_ns() + 10 * kSecond;
  while (wait_until(deadline, &wanted, 1) == 0 && mono_ns() < deadline) {
  }
  if (wanted.revents == 0) {
    report = {Stage::kExec, ETIMEDOUT};
  } else {
    LaunchReport message;
    if (read(child->report, &message, sizeof message) == static_cast<ssize_t>(sizeof message)) report = message;
  }
  drop(&child->report);
  return report;
}

// A file without a name for a program's output; -1 if there is no room for it.
inline int scratch_file(Text dir) {
  static unsigned counter = 0;
  Buf path;
  path.add(dir);
  char name[48];
  snprintf(name, sizeof name, "/.output.%d.%u", static_cast<int>(getpid()), counter++);
  path.add(Text(name));
  int fd = open(path.zero_ended(), O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0) unlink(path.zero_ended());
  return fd;
}

struct CommandResult {
  int error = 0;       // it could not be started
  int exit_code = -1;  // -1: ended by a signal
  bool timed_out = false;
  Text output;  // stdout and stderr together, the first 4 KiB
  bool good() const { return error == 0 && exit_code == 0; }
};

// Runs a command to its end. With ``stoppable`` a request to end the agent also ends the command.
inline CommandResult run_command(const Launch& wanted, int64_t timeout_ms, Text scratch, bool stoppable, Arena* arena) {
  CommandResult result;
  Launch launch = wanted;
  Fd output(scratch_file(scratch));
  launch.out = launch.err = output.get();
  launch.with_us = true;  // else it might still take effect when all has been undone
  Child child;
  result.error = spawn(launch, arena, &child);
  if (result.error != 0) return result;
  LaunchReport report = release(&child);
  if (report.error != 0) result.error = report.error;
  int64_t deadline = mono_ns() + timeout_ms * kMs;
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(child.id.pid, &status, WNOHANG)) == 0) {
    bool stop = stoppable && stopping();
    if (report.error == ETIMEDOUT || stop || mono_ns() >= deadline) {
      result.timed_out = !stop;
      kill(-child.id.pid, SIGKILL);
      kill(child.id.pid, SIGKILL);
      ended = waitpid(child.id.pid, &status, 0);
      break;
    }
    wait_until(deadline);
  }
  if (ended == child.id.pid && WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  char head[4096];
  ssize_t got = output.ok() ? pread(output.get(), head, sizeof head, 0) : 0;
  result.output = arena->copy({head, got > 0 ? static_cast<size_t>(got) : 0});
  return result;
}

}  // namespace agent
