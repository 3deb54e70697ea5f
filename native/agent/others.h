// Whose CPU time it was: the run's own, the kernel's threads', or that of programs which are not ours. Two looks at
// every /proc/PID/stat, one before and one behind the window, and /proc/stat beside them.
#pragma once

#include "cpu_stat.h"
#include "json_write.h"
#include "process.h"

namespace agent {

// The pid in a holder such as "user@host pid 4711", if that host is this machine; else 0.
inline pid_t holder_here(Text holder) {
  char name[256] = "";
  if (gethostname(name, sizeof name - 1) != 0) return 0;
  Text word, last;
  int64_t pid = 0;
  for (bool next = false; next_word(&holder, &word); next = word == Text("pid")) {
    if (next && parse_number(word, &pid)) break;
    if (word != Text("pid")) last = word;
  }
  size_t at = last.size;
  while (at > 0 && last.data[at - 1] != '@') --at;
  return at > 0 && last.from(at) == Text(name) && pid > 1 && pid < INT32_MAX ? static_cast<pid_t>(pid) : 0;
}

// Ticks by CPU between two instants.
class Span {
 public:
  // ``host`` is the process that holds the lease, where it runs on this machine; 0: elsewhere.
  void begin(CpuStat* stat, pid_t host) {
    rows_.clear();
    begin_ns_ = mono_ns();
    host_ = host;
    agent_ns_ = own_ns();
    stat->read([&](int cpu, CpuTicks ticks) { row(cpu).begin = ticks; });
  }
  void end(CpuStat* stat) {
    end_ns_ = mono_ns();
    agent_ns_ = own_ns() > agent_ns_ ? own_ns() - agent_ns_ : 0;
    stat->read([&](int cpu, CpuTicks ticks) { row(cpu).end = ticks; });
  }
  bool known() const { return end_ns_ > 0; }
  int64_t end_ns() const { return end_ns_; }
  // Nobody but the agent used more than a twentieth of all CPUs.
  bool calm() const {
    int64_t work = 0;
    for (const Row& one : rows_) work += one.begin.total < 0 || one.end.total < 0 ? 0 : one.end.work - one.begin.work;
    const int64_t tick_ns = kSecond / sysconf(_SC_CLK_TCK);
    return known() && (work * tick_ns - agent_ns_) * 20 <= ticks() * tick_ns;
  }
  // Of all CPUs together.
  int64_t ticks() const {
    int64_t sum = 0;
    for (const Row& one : rows_) sum += one.begin.total < 0 || one.end.total < 0 ? 0 : one.end.total - one.begin.total;
    return sum;
  }

  void print(Json* json) const {
    json->open('{').member("t_ns", begin_ns_).member("span_ns", end_ns_ - begin_ns_).member("agent_ns", agent_ns_);
    print_ticks(json, "work", &CpuTicks::work);
    print_ticks(json, "total", &CpuTicks::total);
    json->close('}');
  }

 private:
  struct Row {
    int cpu = 0;
    CpuTicks begin, end;
  };

  int64_t own_ns() const {
    int64_t host = host_ > 0 ? process_cpu_ns(host_) : 0;
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + (host > 0 ? host : 0);
  }
  Row& row(int cpu) {
    for (Row& one : rows_) {
      if (one.cpu == cpu) return one;
    }
    Row fresh;
    fresh.cpu = cpu;
    return rows_.push(fresh);
  }
  // CPUs that were online at both ends; counters may step back by a tick.
  void print_ticks(Json* json, const char* name, int64_t CpuTicks::* which) const {
    json->key(name).open('{');
    for (const Row& one : rows_) {
      if (one.begin.total < 0 || one.end.total < 0) continue;
      char number[24];
      snprintf(number, sizeof number, "%d", one.cpu);
      int64_t grown = one.end.*which - one.begin.*which;
      json->key(number).number(grown > 0 ? grown : 0);
    }
    json->close('}');
  }

  Vec<Row> rows_;
  pid_t host_ = 0;
  int64_t begin_ns_ = 0, end_ns_ = 0, agent_ns_ = 0;
};

class Others {
 public:
  static constexpr int64_t kQuiet = 200 * kMs;   // how long the device is looked at before anything of ours runs
  // For so long that look holds for further runs, so that they stay as short as they are programmed: one that found
  // somebody at work (or is all there is: others are hidden while a run lasts), and one that found nobody.
  static constexpr int64_t kFresh = 2 * kSecond, kCalm = 60 * kSecond;
  static constexpr size_t kMost = 32768;        // processes; further ones are not told apart
  static constexpr size_t kNamed = 5;

  // ``quiet`` outlives the run: the look at the device before it, or before one just earlier.
  Others(Span* quiet, pid_t host) : quiet_(quiet), host_(host) {}

  bool quiet_is_fresh() const {
    return quiet_->known() && mono_ns() - quiet_->end_ns() < (quiet_->calm() && !hidden() ? kCalm : kFresh);
  }
  void begin_quiet() { quiet_->begin(&stat_, host_); }
  void end_quiet() { quiet_->end(&stat_); }
  void begin(Text token) {
    token_ = token;
    own_exe_ = Exe::of_process(getpid());
    hidden_ = hidden();
    look(&first_);
    during_.begin(&stat_, host_);
  }
  void end() {
    during_.end(&stat_);
    Vec<Seen> now;
    look(&now);
    compare(now);
  }

  void print(Json* json) const {
    json->open('{').member("tick_hz", sysconf(_SC_CLK_TCK)).member_bool("hidden", hidden_);
    if (quiet_->known()) quiet_->print(&json->key("before"));
    if (during_.known()) {
      during_.print(&json->key("during"));
      const int64_t tick_ns = kSecond / sysconf(_SC_CLK_TCK);
      json->member("ours_ns", sums_[kOurs] * tick_ns).member("kernel_ns", sums_[kKernel] * tick_ns);
      json->member("others_ns", sums_[kOther] * tick_ns);
      json->key("heaviest").open('[');
      for (size_t i = 0; i < named_; ++i) {
        const Seen& one = heaviest_[i];
        json->open('{').member("pid", one.pid).member("name", Text(one.name));
        json->member("cpu", one.cpu).member("cpu_ns", one.ticks * tick_ns).close('}');
      }
      json->close(']');
    }
    json->close('}');
  }

 private:
  enum Owner { kOurs, kKernel, kOther, kOwners };
  struct Seen {
    pid_t pid, parent;
    int64_t start_time, ticks;  // its own and those of children that it waited for
    int cpu;
    char name[16];
  };

  static void look(Vec<Seen>* into) {
    auto add = [&](pid_t pid) {
      ProcStat stat;
      if (into->size >= kMost || !proc_stat(pid, &stat)) return;
      Seen one{pid, stat.parent, stat.start_time, stat.cpu_ticks + stat.child_ticks, stat.cpu, ""};
      memcpy(one.name, stat.name, sizeof one.name);
      size_t at = into->size;
      into->push(one);
      // /proc lists them in order of their pids, as a rule.
      for (; at > 0 && into->data[at - 1].pid > pid; --at) into->data[at] = into->data[at - 1];
      into->data[at] = one;
    };
    add(1);
    each_process(add);
    add(getpid());
  }

  static Seen* find(const Vec<Seen>& among, pid_t pid) {
    size_t low = 0, high = among.size;
    while (low < high) {
      size_t middle = (low + high) / 2;
      if (among.data[middle].pid < pid) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < among.size && among.data[low].pid == pid ? among.data + low : nullptr;
  }

  // The agent reaps whatever the run's programs leave, so all of them descend from it. What reads its journal on
  // this very machine is ours too.
  Owner owner(const Vec<Seen>& among, const Seen& one, pid_t self) const {
    if (one.pid == 2 || one.parent == 2) return kKernel;
    if (one.pid == host_) return kOurs;  // not its children: they may be anything
    const Seen* at = &one;
    for (int depth = 0; at != nullptr && depth < 64; ++depth) {
      if (at->pid == self) return kOurs;
      at = at->parent > 1 ? find(among, at->parent) : nullptr;
    }
    return kOther;
  }

  // Who has a process's time by now: itself, or of those it descends from the first that still lives.
  const Seen* heir(const Vec<Seen>& now, const Seen& one) const {
    const Seen* at = &one;
    for (int depth = 0; at != nullptr && depth < 64; ++depth) {
      const Seen* still = find(now, at->pid);
      if (still != nullptr && still->start_time == at->start_time) return still;
      at = find(first_, at->parent);
    }
    return nullptr;
  }

  // What each process used between the looks. The time of one that ended in between is its parent's now, and what it
  // had used before the first look is taken off there.
  void compare(Vec<Seen>& now) {
    const int64_t most = during_.ticks();
    Vec<int64_t> before;
    for (size_t i = 0; i < now.size; ++i) before.push(0);
    for (const Seen& one : first_) {
      const Seen* still = heir(now, one);
      if (still != nullptr) before[static_cast<size_t>(still - now.data)] += one.ticks;
    }
    for (size_t i = 0; i < now.size; ++i) {
      int64_t used = now[i].ticks - before[i];
      // Of a child that hid behind another parent only the sum is known, and it may be old.
      now[i].ticks = used < 0 ? 0 : used < most ? used : most;
    }
    const pid_t self = getpid();
    for (const Seen& one : now) {
      Owner whose = owner(now, one, self);
      // What a root service started for us has another parent; the host's other commands are the agent's file.
      if (whose == kOther && one.ticks > 1 && (has_token(one.pid, token_) || Exe::of_process(one.pid) == own_exe_))
        whose = kOurs;
      sums_[whose] += one.ticks;
      if (whose == kOther && one.ticks > 0) keep(one);
    }
  }

  // Whether other users' processes cannot be seen (``hidepid``).
  static bool hidden() {
    ProcStat init;
    return !proc_stat(1, &init);
  }

  void keep(const Seen& one) {
    if (named_ == kNamed && heaviest_[kNamed - 1].ticks >= one.ticks) return;
    size_t at = named_ < kNamed ? named_++ : kNamed - 1;
    for (; at > 0 && heaviest_[at - 1].ticks < one.ticks; --at) heaviest_[at] = heaviest_[at - 1];
    heaviest_[at] = one;
  }

  CpuStat stat_;
  Span* quiet_;
  pid_t host_;
  Span during_;
  Text token_;
  Exe own_exe_;
  bool hidden_ = false;
  Vec<Seen> first_;
  int64_t sums_[kOwners] = {};
  Seen heaviest_[kNamed] = {};
  size_t named_ = 0;
};

}  // namespace agent
