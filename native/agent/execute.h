// A plan from its lease to its end: recovery of what a dead agent left, setup, runs, restore.
#pragma once

#include "plan_read.h"
#include "run.h"
#include "state.h"
#include "version.h"
#include "wake.h"

namespace agent {

inline int complain(const char* what, const char* name, int error) {
  fprintf(stderr, "agent: %s %s: %s\n", what, name, strerror(error));
  return kRefused;
}

inline Text random_token(Arena* arena) {
  unsigned char bytes[16] = {};
  Buf read;
  if (read_file("/dev/urandom", &read, sizeof bytes) == 0 && read.size == sizeof bytes)
    memcpy(bytes, read.data, sizeof bytes);
  char text[64];
  int length = snprintf(text, sizeof text, "DEVICELAB_TOKEN=%llx", static_cast<unsigned long long>(mono_ns()));
  for (unsigned char byte : bytes)
    length += snprintf(text + length, sizeof text - static_cast<size_t>(length), "%02x", byte);
  return arena->copy(text);
}

// The directory of the agent's binary: the plan's other binaries lie beside it.
inline Text own_dir(Arena* arena) {
  Text text = own_exe(arena);
  size_t slash = text.size;
  while (slash > 0 && text.data[slash - 1] != '/') --slash;
  return arena->copy(slash > 1 ? text.first(slash - 1) : Text("/"));
}

// Descriptors inherited from whoever started the agent must not reach the programs.
inline void close_on_exec() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) return;
  while (dirent* entry = readdir(dir)) {
    int64_t fd = 0;
    if (parse_number(entry->d_name, &fd) && fd > 2) fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC);
  }
  closedir(dir);
}

class Execution {
 public:
  Execution(const Plan& plan, Text state, Text out)
      : plan_(plan), head_(plan.head()), state_(state), out_(out), flags_(&arena_) {
    boot_ = boot_id(&arena_);
    token_ = random_token(&arena_);
    dir_ = own_dir(&arena_);
    self_ = Identity::of(getpid());
  }

  int run() {
    int code = begin();
    if (code != kDone) {
      give_up_lease();
      return code;
    }
    Scope setup(&undo_, boot_, token_, dir_, out_);
    const char* reason = "failure";
    if (take_setup(&setup) && start_line() == 0) reason = do_runs();
    bool keep = head_.keep && Text(reason) == Text("complete");
    code = finish(&setup, reason, keep);
    if (keep && setup.holding()) return hold_on(&setup);
    give_up_lease();
    return code;
  }

 private:
  void give_up_lease() {
    if (!leased_) return;
    may_sleep();
    Lease::drop(state_, head_.holder, &arena_);
  }

  int begin() {
    int error = lock_state(&lock_, state_, boot_);
    if (error == EWOULDBLOCK) {
      AgentInfo other = AgentInfo::read(state_, &arena_);
      Lease theirs = Lease::read(state_, &arena_);
      fprintf(stderr, "agent: busy: an agent (pid %d) executes plan %s for %s\n", static_cast<int>(other.id.pid),
              other.plan_id.data, theirs.holder.data);
      return kBusy;
    }
    if (error != 0) return complain("cannot lock", state_.data, error);
    Lease found;
    error = renew(&arena_, &found);
    if (error == EBUSY) {
      fprintf(stderr, "agent: busy: %s holds the lease for %lld s more\n", found.holder.data,
              static_cast<long long>(found.expires - boot_s()));
      return kBusy;
    }
    if (error != 0) return complain("cannot write the lease in", state_.data, error);
    leased_ = true;
    error = journal_.open_in(out_);
    if (error != 0) return complain("cannot write the journal in", out_.data, error);
    if (journal_.plan_id().data != nullptr && journal_.plan_id() != head_.plan_id) {
      fprintf(stderr, "agent: plan invalid: %s holds the journal of plan %s\n", out_.data, journal_.plan_id().data);
      return kUsage;
    }
    info_.id = self_, info_.exe = Exe::of_file("/proc/self/exe"), info_.boot = boot_;
    info_.plan_id = head_.plan_id, info_.out = out_, info_.state = "running";
    info_.runs_total = static_cast<int64_t>(plan_.runs());
    error = info_.write(state_);
    if (error != 0) return complain("cannot write agent.json in", state_.data, error);
    return recover();
  }

  // Undoes what a dead agent left. What a ``keep`` plan left on purpose stays, unless a reboot has ended it.
  int recover() {
    UndoList left;
    Text path = in_dir(state_, "undo.jsonl", &arena_);
    int error = left.read(path.data);
    if (error != 0) return complain("cannot read", path.data, error);
    size_t keep = left.kept_end;
    for (const UndoEntry& entry : left.entries) keep = entry.boot_id == boot_ ? keep : 0;
    UndoList due;
    for (const UndoEntry& entry : left.entries) {
      if (entry.begin >= keep) due.entries.push(entry);
    }
    hunt(due.entries);
    Vec<StepResult> results;
    Replay replay(&arena_, out_);
    replay.run(due.entries, boot_, &results);
    recovered_ = static_cast<int64_t>(results.size);
    if (replay.failed() > 0 || left.damaged > 0) {
      fprintf(stderr, "agent: what an earlier agent changed cannot be undone; see `agent restore --state %s`\n",
              state_.data);
      return kRestoreFailed;
    }
    end_guards(due.entries, boot_);
    error = undo_.open_at(state_, keep);
    UndoEntry open;
    open.boot_id = boot_, open.token = token_;
    if (error == 0) error = undo_.append(open);
    base_ = keep;
    return error == 0 ? kDone : complain("cannot write", path.data, error);
  }

  int renew(Arena* arena, Lease* found) {
    int error = Lease::take(state_, head_.holder, head_.lease_ttl_s, self_, boot_, arena, found);
    if (error != 0) return error;
    lease_until_ = boot_s() + head_.lease_ttl_s;
    stay_awake(head_.lease_ttl_s);
    return 0;
  }

  // Prolongs the lease well before it ends; a lease that another holder took by force ends the plan.
  void heartbeat() {
    int64_t left = lease_until_ - boot_s();
    if (left > head_.lease_ttl_s / 3 || lease_lost_) return;
    Arena scratch;
    Lease found;
    lease_lost_ = renew(&scratch, &found) == EBUSY;  // with the disk full it is tried again
  }

  bool take_setup(Scope* setup) {
    bool refused = false;
    for (const Step& step : head_.setup) {
      if (refused || stopping()) break;
      setup_.push(setup->take(step, "write-failed", &flags_, &refused));
    }
    if (refused) start_line();  // so that the reason stands in the journal
    return !refused;
  }

  int start_line() {
    Json json = journal_.begin("plan-start");
    json.member("plan_id", head_.plan_id).member("agent_version", kVersion).member("agent_pid", self_.pid);
    json.member("boot_id", boot_).member("t_ns", mono_ns()).member("t_unix_ns", unix_ns());
    print_steps(&json, "setup", setup_);
    flags_.print(&json);
    json.member("recovered", recovered_);
    journal_error_ = journal_.commit(true);
    return journal_error_;
  }

  // The reason why the runs ended.
  const char* do_runs() {
    Span quiet;
    Surroundings around{&undo_, &journal_, boot_, token_, dir_, out_, head_.live, &quiet, holder_here(head_.holder)};
    auto beat = [this] { heartbeat(); };
    for (size_t i = 0; i < plan_.runs(); ++i) {
      if (stopping()) return "signal";
      if (lease_lost_) return "lease-lost";
      Arena arena;
      Run run;
      PlanError error;
      if (!plan_.run(i, &arena, &run, &error)) return "failure";  // it was valid when the plan was read
      if (journal_.has_run(run.run_id)) continue;
      renew_before_run();
      RunTask task(around, run, static_cast<int64_t>(i), &arena, &beat);
      RunOutcome outcome = task.perform();
      journal_error_ = outcome.journal_error;
      if (journal_error_ == 0 && !outcome.interrupted) journal_.count_run(run.run_id);
      runs_done_ += outcome.done;
      info_.runs_done = static_cast<int64_t>(journal_.runs());
      info_.write(state_, false);  // progress; who works here is on the disk since the plan began
      if (!outcome.restored) restore_failed_ = true;
      if (stopping()) return "signal";
      bool stop = !outcome.done && head_.stop_on_failure;
      if (journal_error_ != 0 || restore_failed_ || stop) return "failure";
      if (i + 1 < plan_.runs()) cool_down(run.cooldown_ms);
    }
    return stopping() ? "signal" : "complete";
  }

  void renew_before_run() {
    if (lease_until_ - boot_s() > head_.lease_ttl_s * 2 / 3) return;
    lease_until_ = 0;
    heartbeat();
  }

  void cool_down(int64_t ms) {
    int64_t end = mono_ns() + ms * kMs;
    while (!stopping() && !lease_lost_ && mono_ns() < end) {
      heartbeat();
      int64_t soon = mono_ns() + kSecond;
      wait_until(soon < end ? soon : end);
    }
  }

  int finish(Scope* setup, const char* reason, bool keep) {
    Vec<StepResult> restored;
    Flags flags(&arena_);
    if (keep) {
      UndoEntry kept;
      kept.kind = UndoEntry::kKept;
      if (setup->holding() && record_keeper(setup) != 0) keep = false;
      if (keep && undo_.append(kept) != 0) keep = false;
      if (!keep) flags.add("write-failed", "the undo journal cannot be written, so the setup is undone");
    }
    if (!keep) {
      if (restore_failed_) flags.add("restore-failed", "what the last run changed is not back as it was");
      bool failed = setup->undo(&restored, restore_failed_) > 0;
      restore_failed_ = restore_failed_ || failed;
      if (!restore_failed_) undo_.truncate(base_);
    }
    for (const StepResult& result : restored) {
      if (result.held) continue;
      const char* name = result.is_command ? result.command[0].data : result.path.data;
      flags.add("restore-failed", "%s: %s", name,
                result.error != 0 ? strerror(result.error) : "it does not show its old value");
    }
    if (journal_error_ != 0) flags.add("interrupted", "the journal cannot be written: %s", strerror(journal_error_));
    Json json = journal_.begin("plan-end");
    json.member("reason", reason).member("t_ns", mono_ns()).member("runs_done", runs_done_);
    print_steps(&json, "restore", restored);
    flags.print(&json);
    int error = journal_.commit(true);
    if (journal_error_ == 0) journal_error_ = error;
    info_.state = keep && setup->holding() ? "keeping" : "ended";
    info_.write(state_);
    if (journal_error_ != 0) complain("cannot write the journal in", out_.data, journal_error_);
    return exit_code(reason);
  }

  int exit_code(Text reason) const {
    if (restore_failed_) return kRestoreFailed;
    if (reason == Text("signal")) return kSignalBase + static_cast<int>(signals().stop);
    if (reason == Text("lease-lost")) return kBusy;
    return journal_error_ != 0 || reason == Text("failure") ? kRefused : kDone;
  }

  // The agent itself becomes something to undo: what it holds open ends with it.
  int record_keeper(Scope* setup) {
    UndoEntry keeper;
    keeper.kind = UndoEntry::kKeeper;
    keeper.name = "agent";
    keeper.id = self_;
    keeper.exe = info_.exe;
    keeper.exe_path = arena_.join(dir_, "/agent");
    return setup->record(keeper);
  }

  // Others may work meanwhile; at the end all is undone by whoever gets the lock.
  int hold_on(Scope* setup) {
    give_up_lease();
    lock_.release();
    while (!stopping()) wait_until(mono_ns() + 3600 * kSecond);
    if (lock_.take(state_, "lock", false) != 0) return kSignalBase + static_cast<int>(signals().stop);
    UndoList all;
    Vec<StepResult> restored;
    setup->release_holds();
    if (all.read(in_dir(state_, "undo.jsonl", &arena_).data) != 0) return kRestoreFailed;
    hunt(all.entries);
    Replay replay(&arena_, out_);
    replay.run(all.entries, boot_, &restored);
    if (replay.failed() > 0 || all.damaged > 0) return kRestoreFailed;
    end_guards(all.entries, boot_);
    undo_.truncate(0);
    info_.state = "ended";
    info_.write(state_);
    return kSignalBase + static_cast<int>(signals().stop);
  }

  const Plan& plan_;
  const PlanHead& head_;
  Arena arena_;
  Text state_, out_, boot_, token_, dir_;
  Identity self_;
  Flags flags_;
  Lock lock_;
  UndoLog undo_;
  Journal journal_;
  AgentInfo info_;
  Vec<StepResult> setup_;
  size_t base_ = 0;
  bool leased_ = false, lease_lost_ = false, restore_failed_ = false;
  int journal_error_ = 0;
  int64_t lease_until_ = 0, recovered_ = 0, runs_done_ = 0;
};

// `agent run PLAN --state DIR --out DIR`
inline int run_plan(const char* plan_path, const char* state, const char* out) {
  Buf text;
  int error = read_file(plan_path, &text, Plan::kMaxBytes + 1);
  if (error != 0) {
    fprintf(stderr, "agent: plan invalid: cannot read %s: %s\n", plan_path, strerror(error));
    return kUsage;
  }
  if (text.size > Plan::kMaxBytes) {
    fprintf(stderr, "agent: plan invalid: %s is larger than %zu bytes\n", plan_path, Plan::kMaxBytes);
    return kUsage;
  }
  Plan plan;
  PlanError why;
  if (!plan.load(&text, &why)) {
    fprintf(stderr, "agent: plan invalid: %s\n", why.text);
    return kUsage;
  }
  const char* const dirs[] = {state, out};
  for (const char* dir : dirs) {
    error = make_dirs(dir);
    if (error != 0) return complain("cannot make the directory", dir, error);
  }
  setsid();  // fails where the caller made it a leader already, which is as good
  close_on_exec();
  watch_signals();
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Arena arena;
  Execution execution(plan, absolute(state, &arena), absolute(out, &arena));
  return execution.run();
}

}  // namespace agent
