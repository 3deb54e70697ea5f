// The guard: gives back what must not stay once its agent is dead, a charger that was kept away from a phone. It is a
// process of its own (`agent guard`), started before the write that it guards and ended after that has been undone, so
// that neither the agent's death nor the host's leaves a phone to run empty.
#pragma once

#include "replay.h"
#include "state.h"

namespace agent {

// Whether the number in a node is below the least that is wanted, or cannot be read; ``value`` is what was read.
inline bool is_below(Text path, int64_t least, int64_t* value) {
  Arena scratch;
  Text digits;
  Reading reading = read_node(path, &scratch, 4096);
  *value = 0;
  return !(reading.good() && first_number(reading.text, &digits) && parse_number(digits, value) && *value >= least);
}

// Starts a guard of the calling agent; ``record(entry)`` journals it before it runs. Returns 0 or errno.
template <class Record>
int start_guard(Text state, Arena* arena, Record record) {
  Identity self = Identity::of(getpid());
  char pid[24], since[24];
  snprintf(pid, sizeof pid, "%lld", static_cast<long long>(self.pid));
  snprintf(since, sizeof since, "%lld", static_cast<long long>(self.start_time));
  Text words[] = {own_exe(arena), "guard", pid, since, "--state", state};
  Launch launch;  // without a token: what ends a run's programs passes it by
  launch.argv = {words, sizeof words / sizeof *words};
  Child child;
  int error = spawn(launch, arena, &child);
  if (error != 0) return error;
  UndoEntry entry;
  entry.kind = UndoEntry::kGuard;
  entry.name = "guard";
  entry.id = child.id;
  entry.exe_path = words[0];
  entry.exe = Exe::of_file(entry.exe_path.data);
  error = record(entry);
  if (error == 0) return release(&child).error;
  drop(&child.release), drop(&child.report);  // it ends at once
  return error;
}

// Ends the guards among the entries, which have nothing left to guard.
inline void end_guards(const Vec<UndoEntry>& entries, Text boot_id) {
  for (const UndoEntry& entry : entries) {
    if (entry.kind != UndoEntry::kGuard || !(entry.boot_id == boot_id) || !entry.id.alive()) continue;
    if (kill(entry.id.pid, SIGKILL) != 0) continue;
    for (int64_t deadline = mono_ns() + kSecond; entry.id.alive() && mono_ns() < deadline;) sleep_ns(kMs);
    waitpid(entry.id.pid, nullptr, WNOHANG);
  }
}

class Guard {
 public:
  Guard(Identity ward, Text state) : ward_(ward), state_(state), self_(Identity::of(getpid())) {
    boot_ = boot_id(&arena_);
    path_ = in_dir(state, "undo.jsonl", &arena_);
  }

  // Until everything is given back, by whomever.
  int watch() {
    for (int low = 0;; sleep_ns(kLook)) {
      UndoList list;
      const UndoEntry* own = find(&list);
      if (own == nullptr) return gone_wild() ? give_back() : kDone;
      if (wards_.size == 0) continue;  // not readable yet
      bool kept = own->begin < list.kept_end;
      if (!kept && !ward_.alive()) {
        if (inherit()) return kDone;
        continue;
      }
      // A living agent ends its run by itself; one that hangs, or that left this on purpose, does not.
      low = charge_is_low() ? low + 1 : 0;
      if (low >= kLowLooks && give_back() == kDone) return kDone;
    }
  }

 private:
  static constexpr int64_t kLook = 2 * kSecond;
  static constexpr int kLowLooks = 3;

  // This guard's own entry; what it guards is remembered. Null once all has been undone.
  const UndoEntry* find(UndoList* list) {
    if (list->read(path_.data) != 0) return &unread_;  // looked at again
    const UndoEntry* own = nullptr;
    for (const UndoEntry& entry : list->entries) {
      bool same = entry.kind == UndoEntry::kGuard && entry.id.pid == self_.pid;
      if (same && entry.id.start_time == self_.start_time && entry.boot_id == boot_) own = &entry;
    }
    if (own == nullptr) return nullptr;
    size_t count = 0;
    for (const UndoEntry& entry : list->entries) {
      if (entry.kind != UndoEntry::kNode || entry.floor_path.size == 0 || !(entry.token == own->token)) continue;
      if (++count > wards_.size) remember(entry);
    }
    return own;
  }

  void remember(const UndoEntry& entry) {
    UndoEntry kept = entry;
    kept.boot_id = boot_, kept.token = {};
    kept.path = arena_.copy(entry.path), kept.write = arena_.copy(entry.write), kept.set = arena_.copy(entry.set);
    if (entry.before.data != nullptr) kept.before = arena_.copy(entry.before);
    kept.floor_path = arena_.copy(entry.floor_path);
    wards_.push(kept);
  }

  // The dead agent's duty, unless another agent (or a restore) is at it: whoever has the lock undoes all of it.
  bool inherit() {
    Lock lock;
    if (lock.take(state_, "lock", false) != 0) return false;
    UndoList list;
    return find(&list) == nullptr ? !gone_wild() || give_back() == kDone : give_back() == kDone;
  }

  // The whole directory was removed, by somebody who undid nothing: the nodes still show what was set.
  bool gone_wild() {
    if (access(path_.data, F_OK) == 0) return false;
    for (const UndoEntry& ward : wards_) {
      Arena scratch;
      Reading now = read_node(ward.path, &scratch);
      if (now.good() && shows(ward.verify, ward.set, now.text)) return true;
    }
    return false;
  }

  bool charge_is_low() const {
    int64_t value = 0;
    for (const UndoEntry& ward : wards_) {
      if (is_below(ward.floor_path, ward.floor, &value)) return true;
    }
    return false;
  }

  int give_back() {
    Arena scratch;
    Vec<StepResult> results;
    Replay replay(&scratch, state_);
    replay.run(wards_, boot_, &results);
    return replay.failed() == 0 ? kDone : kRestoreFailed;
  }

  Arena arena_;
  Identity ward_;
  Text state_, boot_, path_;
  Identity self_;
  Vec<UndoEntry> wards_;
  UndoEntry unread_;
};

// `agent guard PID START --state DIR`: started by the agent that it names, for what that has journalled.
inline int guard(const char* pid, const char* since, Text state) {
  int64_t number = 0, start_time = 0;
  if (!parse_number(pid, &number) || !parse_number(since, &start_time)) return kUsage;
  Identity ward;
  ward.pid = static_cast<pid_t>(number), ward.start_time = start_time;
  return Guard(ward, state).watch();
}

}  // namespace agent
