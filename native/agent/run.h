// One run: steps, probes, gates, loads, settle, measurement, samples, kill, restore, one line in the journal.
#pragma once

#include "gates.h"
#include "run_frame.h"
#include "sampler.h"
#include "witness.h"

namespace agent {

class RunTask {
 public:
  // ``heartbeat()`` is called now and then, at harmless moments: it renews the lease.
  template <class Heartbeat>
  RunTask(const Surroundings& around, const Run& run, int64_t seq, Arena* arena, Heartbeat* heartbeat)
      : around_(around),
        run_(run),
        seq_(seq),
        arena_(arena),
        flags_(arena),
        scope_(around.undo, around.boot_id, around.token, around.dir, around.out),
        programs_(&scope_, &flags_, around.dir, around.out, around.token),
        witnesses_(run.witnesses, around.dir, around.out, around.token, arena),
        sampler_(run.sampling.nodes),
        idle_(run.sampling.nodes),
        others_(around.quiet, around.host),
        heartbeat_([](void* context) { (*static_cast<Heartbeat*>(context))(); }),
        context_(heartbeat) {}

  RunOutcome perform() {
    RunOutcome outcome;
    start_ns_ = mono_ns();
    start_unix_ns_ = unix_ns();
    Json json = around_.journal->begin("run-start");
    json.member("run_id", run_.run_id).member("seq", seq_).member("t_ns", start_ns_);
    outcome.journal_error = around_.journal->commit(false);  // after a power cut the run is done again in any case
    if (outcome.journal_error != 0) return outcome;
    outcome.done = observe();
    if (stopping()) {
      flags_.add("interrupted", "the agent was ended by signal %d", static_cast<int>(signals().stop));
      outcome.done = false;
      outcome.interrupted = true;
    }
    begins("restore");
    int left = programs_.end_all();
    if (left > 0) flags_.add("load-left-behind", "%d processes did not end within 5 s of SIGKILL", left);
    size_t failures = scope_.undo(&restored_);
    outcome.restored = failures == 0;
    if (failures > 0) complain_of_restore();
    write_line(outcome.done, left);
    outcome.journal_error = around_.journal->commit(true);
    return outcome;
  }

  const Flags& flags() const { return flags_; }

 private:
  // All up to the end of the window; false if the run could not be performed.
  bool observe() {
    begins("pin");
    if (!take_steps()) return false;
    begins("verify");
    if (!probe()) return false;
    begins("gates");
    wait_at_gates();
    if (stopping()) return false;
    look_around();
    if (!watch_idle()) return false;
    begins("loads");
    read_around(&before_);
    programs_.reserve(run_.programs.size);
    if (!start_loads()) return false;
    begins("settle");
    if (!settle(run_.settle_ms)) return false;
    begins("start");
    bool good = begin_measurement() && watch_window();
    if (window_end_ns_ > 0) read_around(&after_);
    return good;
  }

  void begins(const char* phase) { phases_.push({phase, mono_ns()}); }

  bool take_steps() {
    bool refused = false;
    for (const Step& step : run_.steps) {
      if (refused || stopping()) return false;
      steps_.push(scope_.take(step, "write-failed", &flags_, &refused));
    }
    return !refused;
  }

  bool probe() {
    bool good = true;
    for (const Probe& one : run_.probes) {
      ProbeResult result = ask_kernel(one);
      CpuSet wanted = CpuSet::of(one.cpus);
      if (result.error != 0 || !(result.granted == wanted)) {
        Buf asked, granted;
        wanted.print(&asked), result.granted.print(&granted);
        const char* said = result.error != 0 ? strerror(result.error) : granted.zero_ended();
        flags_.add("probe-failed", "CPUs %s: the kernel grants %s", asked.zero_ended(), said);
        good = false;
      }
      probes_.push(result);
    }
    return good;
  }

  void wait_at_gates() {
    for (const Gate& gate : run_.gates) {
      if (stopping()) return;
      GateResult result = GateWait(gate).run([this] { heartbeat_(context_); });
      if (!result.reached && !stopping()) {
        flags_.add("gate-timeout", "%s is %lld after %lld ms", gate.path.data, static_cast<long long>(result.value),
                   static_cast<long long>(result.waited_ms));
      }
      gates_.push(result);
    }
  }

  // Who else works here, while nothing of the run does yet.
  void look_around() {
    if (run_.sampling.period_ms <= 0 || others_.quiet_is_fresh()) return;
    others_.begin_quiet();
    int64_t end = mono_ns() + Others::kQuiet;
    while (!stopping() && mono_ns() < end) rest(end);
    others_.end_quiet();
  }

  // What the board does by itself, before anything of the run works.
  bool watch_idle() {
    int64_t period = run_.sampling.period_ms * kMs, end = mono_ns() + run_.sampling.idle_ms * kMs;
    if (run_.sampling.idle_ms <= 0 || period <= 0) return true;
    begins("idle");
    for (int64_t next = mono_ns(); !stopping() && idle_.take() && mono_ns() < end;) {
      next = earliest(next + period, end);
      while (!stopping() && mono_ns() < next) rest(next);
    }
    return !stopping();
  }

  void read_around(Vec<Text>* texts) {
    for (Text path : run_.sampling.around) {
      Reading reading = read_node(path, arena_);
      texts->push(reading.good() ? trim_end(reading.text) : reading.text);
    }
  }

  // Waits for signals and for announcements of barrier programs, and takes note of who ended.
  void pause(int64_t until) {
    Vec<pollfd> fds;
    for (const Started& one : programs_.list()) {
      if (one.ready_fd >= 0 && !one.ready && one.watched.running()) fds.push({one.ready_fd, POLLIN, 0});
    }
    // Its signal may have come while something else was waited for, so who has ended is asked before sleeping.
    if (programs_.reap(witnesses_.child())) return;
    wait_until(until, fds.data, fds.size);
    programs_.reap(witnesses_.child());
    programs_.look_for_ready();
  }

  bool start_loads() {
    for (const Program& program : run_.programs) {
      if (program.role != Role::kLoad) continue;
      if (stopping() || !programs_.hold(&program)) return false;
      Started& one = programs_.list()[programs_.list().size - 1];
      if (!programs_.let_go(one)) return false;
      if (program.barrier) {
        if (!await_ready(one)) return false;
        programs_.send_go(one, mono_ns() + 50 * kMs);
      }
    }
    int64_t deadline = mono_ns() + 5 * kSecond;
    bool all = false;
    while (!all && !stopping() && mono_ns() < deadline) {
      all = true;
      for (const Started& one : programs_.list()) all = all && (one.watched.ended || programs_.works(one));
      if (!all) pause(mono_ns() + kMs);
    }
    programs_.reap();
    for (const Started& one : programs_.list()) {
      if (one.watched.ended || programs_.works(one)) continue;
      flags_.add("load-not-running", "%s was not seen to run within 5 s", one.program->name.data);
    }
    programs_.complain_of_dead_loads();
    return !stopping();
  }

  // As ``pause``, at most a second long, with the lease kept alive: for waits outside the window.
  void rest(int64_t until) {
    heartbeat_(context_);
    pause(earliest(until, mono_ns() + kSecond));
  }

  bool settle(int64_t ms) {
    int64_t end = mono_ns() + ms * kMs;
    while (!stopping() && mono_ns() < end) rest(end);
    programs_.complain_of_dead_loads();
    return !stopping();
  }

  bool await_ready(Started& one) {
    int64_t deadline = one.start_ns + one.program->ready_timeout_ms * kMs;
    while (!one.ready && one.watched.running() && !stopping() && mono_ns() < deadline) rest(deadline);
    if (one.ready) return true;
    if (!stopping()) {
      flags_.add("not-ready", one.watched.ended ? "%s ended before it was ready" : "%s did not announce READY in time",
                 one.program->name.data);
    }
    return false;
  }

  // What goes with the measured programs, which are there and have not begun: a tracer of theirs alone.
  bool attach() {
    bool refused = false;
    for (const Step& step : run_.attached) {
      if (refused || stopping()) return false;
      Step named = step;
      named.command.act = programs_.with_pids(step.command.act, arena_);
      steps_.push(scope_.take(named, "write-failed", &flags_, &refused));
    }
    return !refused;
  }

  // Starts what is measured; the window begins when all may run.
  bool begin_measurement() {
    size_t first = programs_.list().size;
    bool barrier = false;
    for (const Program& program : run_.programs) {
      if (program.role != Role::kMeasure) continue;
      if (!programs_.hold(&program)) return false;
      barrier = barrier || program.barrier;
    }
    if (!attach()) return false;
    Vec<Started>& list = programs_.list();
    for (size_t i = first; i < list.size; ++i) {
      if (list[i].program->barrier && !programs_.let_go(list[i])) return false;
    }
    for (size_t i = first; i < list.size; ++i) {
      if (list[i].program->barrier && !await_ready(list[i])) return false;
    }
    if (run_.sampling.period_ms > 0) others_.begin(around_.token);
    int64_t go = barrier ? mono_ns() + 50 * kMs : 0;
    for (size_t i = first; i < list.size; ++i) {
      if (list[i].program->barrier) programs_.send_go(list[i], go);
    }
    while (barrier && !stopping() && mono_ns() < go) pause(go);
    if (stopping()) return false;
    programs_.begin_window();
    window_start_ns_ = barrier ? go : mono_ns();
    phases_.push({"measure", window_start_ns_});
    agent_cpu_ns_ = own_cpu_ns();
    if (run_.sampling.period_ms > 0) sample();
    for (size_t i = first; i < list.size; ++i) {
      if (!list[i].program->barrier && !programs_.let_go(list[i])) return false;
    }
    witnesses_.begin(barrier ? window_start_ns_ : window_start_ns_ + 500 * kMs);
    return true;
  }

  bool watch_window() {
    int64_t period = run_.sampling.period_ms * kMs;
    int64_t next_sample = window_start_ns_ + period, next_look = window_start_ns_ + kSecond;
    const int64_t never = INT64_MAX;
    bool measuring = false;
    for (const Started& one : programs_.list()) measuring = measuring || one.program->role == Role::kMeasure;
    int64_t hold_end = measuring ? never : window_start_ns_ + run_.hold_ms * kMs;
    for (;;) {
      int64_t now = mono_ns();
      int64_t next = end_late_programs(now, measuring);
      if (sunk_ || stopping() || now >= hold_end || (measuring && !any_measuring())) break;
      if (period > 0 && now >= next_sample) {
        sample();
        while (next_sample <= now) next_sample += period;
      }
      programs_.cut_outputs();
      if (now >= next_look) {
        programs_.check_affinity();
        heartbeat_(context_);
        check_floors();
        next_look = now + kSecond;
      }
      next = earliest(next, witnesses_.work(&programs_, never));
      next = earliest(earliest(next, hold_end), earliest(next_look, period > 0 ? next_sample : never));
      pause(next);
      programs_.complain_of_dead_loads();
    }
    return end_window();
  }

  bool end_window() {
    int64_t last = 0;
    for (const Started& one : programs_.list()) {
      if (one.program->role == Role::kMeasure && one.watched.end_ns > last) last = one.watched.end_ns;
    }
    if (run_.sampling.period_ms > 0) sample();
    window_end_ns_ = last > 0 && !stopping() ? last : mono_ns();
    agent_cpu_ns_ = own_cpu_ns() - agent_cpu_ns_;
    programs_.end_window();
    if (run_.sampling.period_ms > 0) others_.end();
    programs_.check_affinity();
    programs_.cut_outputs();
    witnesses_.end(&programs_);
    complain_of_programs();
    int64_t length = window_end_ns_ - window_start_ns_;
    if (agent_cpu_ns_ > 20 * kMs && agent_cpu_ns_ > length / 50) {
      flags_.add("agent-busy", "sampling took %lld ms of CPU time in a window of %lld ms",
                 static_cast<long long>(agent_cpu_ns_ / kMs), static_cast<long long>(length / kMs));
    }
    return !stopping();
  }

  // A charge that is too low by now ends the run, so that what it depends on is put back.
  void check_floors() {
    for (const Step& step : run_.steps) {
      int64_t value = 0;
      if (sunk_ || !step.is_write || !below_floor(step.write, &value)) continue;
      sunk_ = true;
      say_below_floor(step.write, value, "the run ends here", &flags_);
    }
  }

  static int64_t earliest(int64_t a, int64_t b) { return a < b ? a : b; }

  bool any_measuring() {
    for (const Started& one : programs_.list()) {
      if (one.program->role == Role::kMeasure && one.watched.running()) return true;
    }
    return false;
  }

  // Kills measured programs beyond their time; returns when the next one is due.
  int64_t end_late_programs(int64_t now, bool measuring) {
    int64_t next = INT64_MAX;
    for (Started& one : programs_.list()) {
      if (!measuring || one.program->role != Role::kMeasure || !one.watched.running()) continue;
      if (now < one.deadline_ns) {
        next = earliest(next, one.deadline_ns);
      } else if (!one.timed_out) {
        one.timed_out = true;
        programs_.kill_group(one);
        flags_.add("timeout", "%s did not end within %lld ms", one.program->name.data,
                   static_cast<long long>(one.program->timeout_ms));
      }
    }
    return next;
  }

  void complain_of_programs() {
    for (const Started& one : programs_.list()) {
      if (one.program->role != Role::kMeasure || !one.watched.ended || one.timed_out) continue;
      const char* name = one.program->name.data;
      if (one.watched.signal() != 0)
        flags_.add("program-failed", "%s was ended by signal %d", name, one.watched.signal());
      if (one.watched.exit_code() > 0) flags_.add("program-failed", "%s: exit code %d", name, one.watched.exit_code());
    }
  }

  void complain_of_restore() {
    for (const StepResult& result : restored_) {
      if (result.held) continue;
      const char* name = result.is_command ? result.command[0].data : result.path.data;
      flags_.add("restore-failed", "%s: %s", name,
                 result.error != 0 ? strerror(result.error) : "it does not show its old value");
    }
  }

  void sample() {
    if (!sampler_.take()) {
      flags_.add("output-cut", "the samples need more memory than the agent gives them; the last ones are missing");
      return;
    }
    if (!around_.live) return;
    Json json = around_.journal->begin("sample");
    json.member("run_id", run_.run_id);
    sampler_.print_last(&json);
    around_.journal->commit(false);
  }

  static int64_t own_cpu_ns() { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

  template <class T>
  static void print_all(Json* json, const char* name, const Vec<T>& items) {
    json->key(name).open('[');
    for (const T& item : items) item.print(json);
    json->close(']');
  }

  void print_nodes(Json* json, const char* name, const Vec<Text>& texts) const {
    json->key(name).open('{');
    for (size_t i = 0; i < texts.size; ++i) json->key(run_.sampling.around[i]).text_or_null(texts[i]);
    json->close('}');
  }

  void write_line(bool done, int left) {
    Sink* sink = around_.journal->sink();
    Json json = around_.journal->begin("run");
    json.member("run_id", run_.run_id).member("seq", seq_).member("status", done ? "done" : "failed");
    flags_.print(&json);
    json.member("t_start_ns", start_ns_).member("t_end_ns", mono_ns()).member("t_unix_ns", start_unix_ns_);
    json.member("window_start_ns", window_start_ns_).member("window_end_ns", window_end_ns_);
    print_all(&json, "phases", phases_);
    print_steps(&json, "steps", steps_);
    print_all(&json, "probes", probes_);
    print_all(&json, "gates", gates_);
    json.key("programs").open('[');
    for (const Started& one : programs_.list()) print_program(&json, sink, one, arena_);
    json.close(']');
    witnesses_.print(&json);
    json.key("samples");
    sampler_.print(&json);
    if (idle_.count() > 0) idle_.print(&json.key("idle"));
    if (run_.sampling.period_ms > 0) others_.print(&json.key("others"));
    print_nodes(&json, "before", before_);
    print_nodes(&json, "after", after_);
    print_steps(&json, "restore", restored_);
    json.member("agent_cpu_ns", window_end_ns_ > 0 ? agent_cpu_ns_ : 0).member("left_behind", left);
  }

  const Surroundings& around_;
  const Run& run_;
  int64_t seq_;
  Arena* arena_;
  Flags flags_;
  Scope scope_;
  Programs programs_;
  Witnesses witnesses_;
  Sampler sampler_, idle_;
  Others others_;
  bool sunk_ = false;
  void (*heartbeat_)(void*);
  void* context_;
  Vec<StepResult> steps_, restored_;
  Vec<ProbeResult> probes_;
  Vec<GateResult> gates_;
  Vec<Phase> phases_;
  Vec<Text> before_, after_;
  int64_t start_ns_ = 0, start_unix_ns_ = 0, window_start_ns_ = 0, window_end_ns_ = 0, agent_cpu_ns_ = 0;
};

}  // namespace agent
