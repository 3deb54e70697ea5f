// Taking steps: what was there is read and journalled first, the effect is read back.
#pragma once

#include "guard.h"

namespace agent {

struct Held {
  Text path;
  int fd;
};

// Whether the number that a write depends on is too low by now, or cannot be read; ``value`` is what was read.
inline bool below_floor(const Write& write, int64_t* value) {
  return write.floor_path.size > 0 && is_below(write.floor_path, write.floor, value);
}
inline void say_below_floor(const Write& write, int64_t value, const char* therefore, Flags* flags) {
  flags->add("below-floor", "%s is %lld, below %lld: %s", write.floor_path.data, static_cast<long long>(value),
             static_cast<long long>(write.floor), therefore);
}

// The steps of a setup or of a run, with what undoes them.
class Scope {
 public:
  Scope(UndoLog* log, Text boot_id, Text token, Text dir, Text scratch)
      : log_(log), base_(log->size()), boot_id_(boot_id), token_(token), dir_(dir), scratch_(scratch) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() { drop_holds(); }

  Arena* arena() { return &arena_; }
  const Vec<UndoEntry>& entries() const { return entries_; }
  bool holding() const { return holds_.size > 0; }
  void release_holds() { drop_holds(); }

  // Journals an entry; returns 0, or errno with nothing journalled.
  int record(UndoEntry entry) {
    entry.boot_id = boot_id_, entry.token = token_;
    int error = log_->append(entry);
    if (error == 0) entries_.push(entry);
    return error;
  }

  StepResult take(const Step& step, const char* flag_code, Flags* flags, bool* refused) {
    const char* problem = nullptr;
    int64_t low = 0;
    if (step.is_write && below_floor(step.write, &low)) {
      StepResult left;
      left.path = arena_.copy(step.write.path);
      say_below_floor(step.write, low, "it is left as it is", flags);
      *refused = *refused || step.required;
      return left;
    }
    StepResult result = step.is_write ? write(step.write, &problem) : command(step.command, &problem);
    if (!result.held && step.required) {
      *refused = true;
      complain(step, result, problem, flag_code, flags);
    }
    return result;
  }

  // Undoes all and forgets it; where something failed (now or, with ``keep_journal``, before), the journal stays.
  // Returns the number of failures.
  size_t undo(Vec<StepResult>* results, bool keep_journal = false) {
    drop_holds();
    Replay replay(&arena_, scratch_);
    replay.run(entries_, boot_id_, results);
    if (replay.failed() == 0) end_guards(entries_, boot_id_);
    if (replay.failed() == 0 && !keep_journal) log_->truncate(base_);
    entries_.clear();
    guarded_ = false;
    return replay.failed();
  }

 private:
  void drop_holds() {
    for (const Held& held : holds_) close(held.fd);
    holds_.clear();
  }

  bool recorded(Text path) const {
    for (const UndoEntry& entry : entries_) {
      if (entry.kind == UndoEntry::kNode && entry.path == path) return true;
    }
    return false;
  }

  StepResult write(const Write& wanted, const char** problem) {
    StepResult result;
    result.path = arena_.copy(wanted.path);
    Reading before = read_node(result.path, &arena_);
    result.before = before.good() ? trim(before.text) : before.text;
    bool given = wanted.restore.data != nullptr;
    if (!given && !wanted.hold && (!before.good() || before.text.size >= kNodeLimit)) {
      // What cannot be read cannot be put back, so it is not touched.
      result.error = before.good() ? EFBIG : before.error;
      *problem = "cannot read the value to restore";
      return result;
    }
    result.error = journal(wanted, result.path, before, given);
    if (result.error != 0) {
      *problem = "cannot journal the undo";
      return result;
    }
    result.error = wanted.floor_path.size > 0 ? be_guarded() : 0;
    if (result.error != 0) {
      *problem = "cannot start what undoes it if the agent dies";
      return result;
    }
    if (wanted.hold) {
      int fd = open_node(result.path.data);
      result.error = fd < 0 ? errno : write_node_fd(fd, wanted.value);
      if (fd >= 0) holds_.push({result.path, fd});
    } else {
      result.error = write_node(result.path.data, wanted.value);
    }
    if (result.error == 0) verify(wanted, &result);
    return result;
  }

  int be_guarded() {
    if (guarded_) return 0;
    int error = start_guard(log_->state(), &arena_, [this](const UndoEntry& entry) { return record(entry); });
    guarded_ = error == 0;
    return error;
  }

  int journal(const Write& wanted, Text path, const Reading& before, bool given) {
    UndoEntry entry;
    entry.path = path;
    if (wanted.hold) {
      entry.kind = UndoEntry::kHold;
      int error = record(entry);
      if (error != 0 || !given) return error;
    }
    if (recorded(path)) return 0;
    entry.kind = UndoEntry::kNode;
    entry.write = given ? arena_.copy(wanted.restore) : text_to_restore(wanted.verify, before.text, &arena_);
    entry.before = before.text;
    entry.set = arena_.copy(wanted.value);
    entry.verify = wanted.verify;
    entry.verify_ms = wanted.verify_ms;
    entry.given = given;
    entry.floor_path = arena_.copy(wanted.floor_path), entry.floor = wanted.floor;
    return record(entry);
  }

  void verify(const Write& wanted, StepResult* result) {
    Text expected = wanted.expect.data != nullptr ? wanted.expect : wanted.value;
    int64_t deadline = mono_ns() + wanted.verify_ms * kMs;
    for (;;) {
      Reading after = read_node(result->path, &arena_);
      result->after = after.good() ? trim(after.text) : after.text;
      result->held = wanted.verify == Verify::kNone || (after.good() && shows(wanted.verify, expected, after.text));
      int64_t now = mono_ns();
      if (result->held || now >= deadline || stopping()) return;
      wait_until(now + 20 * kMs < deadline ? now + 20 * kMs : deadline);
    }
  }

  StepResult command(const Command& wanted, const char** problem) {
    StepResult result;
    result.is_command = true;
    Launch launch;
    launch.argv = result.command = expand_all(wanted.act, dir_, &arena_);
    launch.env = copy(wanted.env);
    if (wanted.has_undo) {
      UndoEntry entry;
      entry.kind = UndoEntry::kCommand;
      entry.argv = expand_all(wanted.undo, dir_, &arena_);
      entry.env = launch.env;
      entry.timeout_ms = wanted.timeout_ms;
      entry.survives_reboot = wanted.survives_reboot;
      result.error = record(entry);
      if (result.error != 0) {
        *problem = "cannot journal the undo";
        return result;
      }
    }
    CommandResult done = run_command(launch, wanted.timeout_ms, scratch_, true, &arena_);
    result.error = done.timed_out ? ETIMEDOUT : done.error;
    result.exit_code = done.exit_code;
    result.output = done.output;
    result.held = done.good();
    return result;
  }

  List<Pair> copy(const List<Pair>& env) {
    List<Pair> copied{arena_.make<Pair>(env.size), env.size};
    for (size_t i = 0; i < env.size; ++i) {
      copied[i] = {arena_.copy(env[i].name), expand(env[i].value, dir_, &arena_)};
    }
    return copied;
  }

  static void complain(const Step& step, const StepResult& result, const char* problem, const char* code,
                       Flags* flags) {
    const char* name = step.is_write ? step.write.path.data : result.command[0].data;
    auto length = [](Text text) { return static_cast<int>(text.size < 200 ? text.size : 200); };
    if (problem != nullptr) {
      flags->add(code, "%s: %s: %s", name, problem, strerror(result.error));
    } else if (result.error != 0 && step.is_write) {
      flags->add(code, "%s: writing '%s': %s", name, step.write.value.data, strerror(result.error));
    } else if (result.error != 0) {
      flags->add(code, "%s: %s", name, strerror(result.error));
    } else if (step.is_write && result.after.data == nullptr) {
      flags->add(code, "%s cannot be read after writing '%s'", name, step.write.value.data);
    } else if (step.is_write) {
      flags->add(code, "%s reads '%.*s' after writing '%s'", name, length(result.after), result.after.data,
                 step.write.value.data);
    } else {
      Text said = trim(result.output);
      flags->add(code, "%s: exit code %d: %.*s", name, result.exit_code, length(said), said.data);
    }
  }

  UndoLog* log_;
  size_t base_;
  bool guarded_ = false;
  Text boot_id_, token_, dir_, scratch_;
  Arena arena_;
  Vec<UndoEntry> entries_;
  Vec<Held> holds_;
};

}  // namespace agent
