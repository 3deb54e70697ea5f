// The programs of a run: started in their places, watched, ended.
#pragma once

#include <sys/time.h>

#include "steps.h"

namespace agent {

// A child process whose end is noticed.
struct Watched {
  pid_t pid = 0;
  bool ended = false;
  int status = 0;
  int64_t end_ns = 0;
  int64_t cpu_ns = 0;  // with its waited-for children

  bool running() const { return pid > 0 && !ended; }
  int exit_code() const { return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
  int signal() const { return ended && WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
};

struct Started {
  const Program* program = nullptr;
  Watched watched;
  Child child;
  int out = -1, err = -1, ready_fd = -1, go_fd = -1;
  bool released = false, placed = false, ready = false, timed_out = false, cut = false, widened = false,
       reported = false;
  int64_t start_ns = 0, deadline_ns = 0;
  int64_t cpu_at_start = 0, cpu_before_window = 0, window_cpu_ns = 0;
  char announced[64] = "";  // what a barrier program has said so far
  CpuSet wanted, granted, granted_end;

  // Bytes of stdout that are kept: loads have little to say.
  int64_t limit() const {
    bool load = program->role == Role::kLoad;
    return load && program->max_output_bytes > 65536 ? 65536 : program->max_output_bytes;
  }
};

class Programs {
 public:
  Programs(Scope* scope, Flags* flags, Text dir, Text scratch, Text token)
      : scope_(scope), flags_(flags), dir_(dir), scratch_(scratch), token_(token) {}
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;
  ~Programs() {
    for (Started& one : list_) {
      drop(&one.out), drop(&one.err), drop(&one.ready_fd), drop(&one.go_fd);
      drop(&one.child.release), drop(&one.child.report);
    }
  }

  Vec<Started>& list() { return list_; }

  // The words with each "{pid:NAME}" replaced by that program's pid; one of no program stays as it is.
  List<Text> with_pids(const List<Text>& words, Arena* arena) const {
    List<Text> named{arena->make<Text>(words.size), words.size};
    for (size_t i = 0; i < words.size; ++i) {
      named[i] = words[i];
      for (const Started& one : list_) {
        if (words[i] != arena->join("{pid:", one.program->name, "}")) continue;
        char number[16];
        snprintf(number, sizeof number, "%d", static_cast<int>(one.watched.pid));
        named[i] = arena->copy(number);
      }
    }
    return named;
  }

  void reserve(size_t count) { list_.reserve(count); }

  // Forks the program, journals how to end it and leaves it waiting. False if the run cannot go on.
  bool hold(const Program* program) {
    Started& one = list_.push({});
    one.program = program;
    one.wanted = CpuSet::of(program->cpus);
    one.out = scratch_file(scratch_);
    one.err = scratch_file(scratch_);
    if (one.out < 0 || one.err < 0) return fail(one, "cannot make a file for its output", errno);
    Launch launch;
    launch.argv = program->argv, launch.env = program->env, launch.scrub = program->env_scrub;
    launch.dir = dir_, launch.token = token_;
    launch.cpus = program->pinned ? &one.wanted : nullptr;
    launch.nice = program->nice, launch.cgroups = program->cgroups;
    launch.out = one.out, launch.err = one.err;
    int ready[2] = {-1, -1}, go[2] = {-1, -1};
    if (program->barrier) {
      if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) return fail(one, "cannot make its pipes", errno);
      one.ready_fd = ready[0], one.go_fd = go[1];
      fcntl(one.ready_fd, F_SETFL, O_NONBLOCK);
      launch.ready = ready[1], launch.go = go[0];
    }
    int error = spawn(launch, scope_->arena(), &one.child);
    drop(&ready[1]), drop(&go[0]);
    if (error != 0) return fail(one, "cannot fork", error);
    one.watched.pid = one.child.id.pid;
    error = journal(one);
    return error == 0 || fail(one, "cannot journal the undo", error);
  }

  // Lets it run. False if the run cannot go on.
  bool let_go(Started& one) {
    one.start_ns = mono_ns();
    one.released = true;
    one.deadline_ns = one.start_ns + one.program->timeout_ms * kMs;
    LaunchReport report = release(&one.child);
    if (report.stage == Stage::kAffinity) {
      Buf wanted;
      one.wanted.print(&wanted);
      flags_->add("affinity-refused", "%s: the kernel refuses CPUs %s: %s", one.program->name.data, wanted.zero_ended(),
                  strerror(report.error));
      return false;
    }
    if (report.stage != Stage::kNone) return fail(one, stage_name(report.stage), report.error);
    get_affinity(one.watched.pid, &one.granted);
    one.granted_end = one.granted;
    one.placed = true;
    one.cpu_at_start = process_cpu_ns(one.watched.pid);
    if (one.program->pinned && !(one.granted == one.wanted)) {
      Buf wanted, granted;
      one.wanted.print(&wanted), one.granted.print(&granted);
      flags_->add("affinity-refused", "%s: asked for CPUs %s, granted %s", one.program->name.data, wanted.zero_ended(),
                  granted.zero_ended());
    }
    return true;
  }

  // It runs or sleeps as itself and has used CPU time.
  static bool works(const Started& one) {
    ProcStat stat;
    int64_t cpu = process_cpu_ns(one.watched.pid);
    if (cpu > one.cpu_at_start) return true;
    return cpu > 0 && proc_stat(one.watched.pid, &stat) && (stat.state == 'R' || stat.state == 'S');
  }

  // Reads announcements of barrier programs.
  void look_for_ready() {
    for (Started& one : list_) {
      while (one.ready_fd >= 0 && !one.ready) {
        size_t have = strlen(one.announced);
        if (have > sizeof one.announced / 2) {  // garbage before it: keep what may be its beginning
          memmove(one.announced, one.announced + have - 4, 5);
          have = 4;
        }
        ssize_t got = read(one.ready_fd, one.announced + have, sizeof one.announced - 1 - have);
        if (got <= 0) break;
        one.announced[have + static_cast<size_t>(got)] = '\0';
        one.ready = strstr(one.announced, "READY") != nullptr;
      }
    }
  }

  void send_go(Started& one, int64_t time_ns) {
    char line[32];
    int length = snprintf(line, sizeof line, "%lld\n", static_cast<long long>(time_ns));
    write_all(one.go_fd, Text(line, static_cast<size_t>(length)));
    drop(&one.go_fd);
    drop(&one.ready_fd);
    one.start_ns = time_ns;
    one.deadline_ns = time_ns + one.program->timeout_ms * kMs;
  }

  // Takes note of children that ended, ``extra`` and orphans too; false if none has.
  bool reap(Watched* extra = nullptr) {
    for (bool any = false;; any = true) {
      siginfo_t info{};
      if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return any;
      Started* one = find(info.si_pid);
      if (one != nullptr) get_affinity(info.si_pid, &one->granted_end);  // a zombie still has it
      int status = 0;
      struct rusage usage{};
      if (wait4(info.si_pid, &status, WNOHANG, &usage) != info.si_pid) return any;
      Watched* watched = one != nullptr                                  ? &one->watched
                         : extra != nullptr && extra->pid == info.si_pid ? extra
                                                                         : nullptr;
      if (watched == nullptr) continue;
      watched->ended = true;
      watched->status = status;
      watched->end_ns = mono_ns();
      watched->cpu_ns = to_ns(usage.ru_utime) + to_ns(usage.ru_stime);
    }
  }

  // Loads must outlive the measurement.
  void complain_of_dead_loads() {
    for (Started& one : list_) {
      if (one.program->role != Role::kLoad || !one.released || !one.watched.ended || one.reported) continue;
      one.reported = true;
      if (one.watched.signal() != 0) {
        flags_->add("load-died", "%s was ended by signal %d", one.program->name.data, one.watched.signal());
      } else {
        flags_->add("load-died", "%s ended by itself with exit code %d", one.program->name.data,
                    one.watched.exit_code());
      }
    }
  }

  // The mask a pinned program has now, against the one it was given: a core going offline widens it silently.
  void check_affinity() {
    for (Started& one : list_) {
      if (!one.program->pinned || !one.placed || one.widened) continue;
      if (one.watched.running() && get_affinity(one.watched.pid, &one.granted_end) != 0) continue;
      if (one.granted_end == one.granted) continue;
      one.widened = true;
      Buf before, after;
      one.granted.print(&before), one.granted_end.print(&after);
      flags_->add("affinity-changed", "%s: CPUs %s became %s", one.program->name.data, before.zero_ended(),
                  after.zero_ended());
    }
  }

  // Keeps outputs within their limits while the programs run; output is appended, so cutting the end is safe.
  void cut_outputs() {
    for (Started& one : list_) {
      struct stat info{};
      if (one.out >= 0 && fstat(one.out, &info) == 0 && info.st_size > one.limit()) {
        if (ftruncate(one.out, static_cast<off_t>(one.limit())) != 0) continue;
        if (!one.cut && one.program->role == Role::kMeasure) {
          flags_->add("output-cut", "%s wrote more than %lld bytes", one.program->name.data,
                      static_cast<long long>(one.program->max_output_bytes));
        }
        one.cut = true;
      }
      // Of the messages the newest count.
      if (one.err >= 0 && fstat(one.err, &info) == 0 && info.st_size > kMessages && ftruncate(one.err, 0) != 0)
        continue;
    }
  }

  void begin_window() {
    for (Started& one : list_) {
      int64_t cpu = one.watched.running() ? process_cpu_ns(one.watched.pid) : one.watched.cpu_ns;
      one.cpu_before_window = cpu > 0 ? cpu : 0;
    }
  }
  void end_window() {
    for (Started& one : list_) {
      int64_t cpu = one.watched.running() ? process_cpu_ns(one.watched.pid) : one.watched.cpu_ns;
      one.window_cpu_ns = cpu > one.cpu_before_window ? cpu - one.cpu_before_window : 0;
    }
  }

  void kill_group(Started& one) {
    if (!one.watched.running()) return;
    kill(-one.watched.pid, SIGKILL);
    kill(one.watched.pid, SIGKILL);
  }

  // SIGKILL by pid and by name, until none is left; returns the number of survivors.
  int end_all() {
    check_affinity();
    for (Started& one : list_) kill_group(one);
    int64_t deadline = mono_ns() + 5 * kSecond;
    bool running = true;
    for (reap(); running && mono_ns() < deadline; reap()) {
      running = false;
      for (Started& one : list_) running = running || one.watched.running();
      if (running) wait_until(mono_ns() + 100 * kMs);
    }
    HuntResult rest = hunt(scope_->entries(), Identity::of(getpid()).start_time);
    reap();
    return rest.left;
  }

 private:
  static constexpr int64_t kMessages = 65536;  // bytes of stderr before it starts anew

  static int64_t to_ns(const timeval& time) {
    return static_cast<int64_t>(time.tv_sec) * kSecond + time.tv_usec * 1000;
  }

  Started* find(pid_t pid) {
    for (Started& one : list_) {
      if (one.watched.pid == pid && !one.watched.ended) return &one;
    }
    return nullptr;
  }

  bool fail(const Started& one, const char* what, int error) {
    const Text& exe = one.program->argv[0];
    flags_->add("program-failed", "%s: %s (%s): %s", one.program->name.data, what, exe.data, strerror(error));
    return false;
  }

  int journal(const Started& one) {
    UndoEntry entry;
    entry.kind = UndoEntry::kProgram;
    Arena* arena = scope_->arena();
    entry.name = arena->copy(one.program->name);
    entry.id = one.child.id;
    entry.exe_path = arena->copy(one.child.exe);
    entry.exe = Exe::of_file(entry.exe_path.data);
    entry.by_exe = entry.exe.known() && entry.exe_path.starts_with(arena->join(dir_, "/"));
    int error = scope_->record(entry);
    // Behind su or another wrapper it is a later word that names the pushed binary.
    for (size_t i = 1; error == 0 && i < one.program->argv.size; ++i) {
      Text word = one.program->argv[i];
      if (!word.starts_with("{dir}/")) continue;
      Text first;
      next_word(&word, &first);
      UndoEntry wrapped = entry;
      wrapped.exe_path = expand(first, dir_, arena);
      wrapped.exe = Exe::of_file(wrapped.exe_path.data);
      wrapped.by_exe = true;
      if (wrapped.exe.known() && access(wrapped.exe_path.data, X_OK) == 0) error = scope_->record(wrapped);
    }
    return error;
  }

  Scope* scope_;
  Flags* flags_;
  Text dir_, scratch_, token_;
  Vec<Started> list_;
};

}  // namespace agent
