// Commands about a state directory: status, restore, stop.
#pragma once

#include "execute.h"

namespace agent {

// An entry of the undo journal for people.
inline Text describe(const UndoEntry& entry, Arena* arena) {
  Buf text;
  switch (entry.kind) {
    case UndoEntry::kNode: text.add(entry.path), text.add(Text(" = ")), text.add(trim(entry.write).first(200)); break;
    case UndoEntry::kHold: text.add(entry.path), text.add(Text(" (held open)")); break;
    case UndoEntry::kCommand:
      for (Text word : entry.argv) {
        if (text.size > 0) text.add(' ');
        text.add(word);
      }
      break;
    case UndoEntry::kProgram:
    case UndoEntry::kKeeper:
    case UndoEntry::kGuard:
      text.add(Text("process ")), text.add(entry.name), text.add(Text(" (pid "));
      text.add_number(entry.id.pid), text.add(')');
      break;
    default: break;
  }
  return arena->copy(text.text());
}

inline bool is_effect(const UndoEntry& entry) {
  return entry.kind != UndoEntry::kOpen && entry.kind != UndoEntry::kKept && entry.kind != UndoEntry::kGuard;
}

// `agent status --state DIR`
inline int status(Text state) {
  Arena arena;
  Text boot = boot_id(&arena);
  Lease lease = Lease::read(state, &arena);
  AgentInfo info = AgentInfo::read(state, &arena);
  bool alive = info.alive(boot) && info.state == Text("running");
  UndoList undo;
  int error = undo.read(in_dir(state, "undo.jsonl", &arena).data);
  if (error != 0) return complain("cannot read the undo journal in", state.data, error);
  Sink out(1);
  Json json(&out);
  json.open('{').member("agent_version", kVersion).member("boot_id", boot).member("now_s", boot_s());
  json.key("lease");
  if (lease.holder.size == 0) {
    json.null();
  } else {
    bool valid = lease.valid(boot);
    json.open('{').member("holder", lease.holder).member("expires_s", lease.expires).member("boot_id", lease.boot);
    json.member("remaining_s", valid ? lease.expires - boot_s() : 0).member_bool("expired", !valid).close('}');
  }
  json.key("agent");
  if (!info.known) {
    json.null();
  } else {
    json.open('{').member("pid", info.id.pid).member_bool("alive", alive).member("state", info.state);
    json.member("plan_id", info.plan_id).member("out", info.out);
    json.member("runs_done", info.runs_done).member("runs_total", info.runs_total).close('}');
  }
  json.key("undo").open('{');
  const char* const kGroups[] = {"pending", "active", "kept", "stale"};
  for (int group = 0; group < 4; ++group) {
    json.key(kGroups[group]).open('[');
    for (const UndoEntry& entry : undo.entries) {
      bool stale = !(entry.boot_id == boot) && !entry.survives_reboot;
      int belongs = stale ? 3 : entry.begin < undo.kept_end && entry.boot_id == boot ? 2 : alive ? 1 : 0;
      if (is_effect(entry) && belongs == group) json.text(describe(entry, &arena));
    }
    json.close(']');
  }
  json.member("damaged", static_cast<int64_t>(undo.damaged)).close('}').close('}');
  out.add('\n');
  return out.flush() == 0 ? kDone : kRefused;
}

// Waits until no agent holds the lock; false if one still does at the end.
inline bool await_lock(Lock* lock, Text state, int64_t timeout_ms) {
  int64_t deadline = mono_ns() + timeout_ms * kMs;
  while (lock->take(state, "lock", false) != 0) {
    if (mono_ns() >= deadline) return false;
    sleep_ns(20 * kMs);
  }
  return true;
}

// The plan-end line of the journal as it stands there, without its newline; empty if it is not the last one.
inline Text last_line(Text out, Arena* arena) {
  Fd fd(open(in_dir(out, "journal.jsonl", arena).data, O_RDONLY | O_CLOEXEC));
  struct stat info{};
  if (!fd.ok() || fstat(fd.get(), &info) != 0) return {};
  const off_t most = 1 << 20;
  Buf tail;
  if (lseek(fd.get(), info.st_size > most ? info.st_size - most : 0, SEEK_SET) < 0) return {};
  if (read_fd(fd.get(), &tail, static_cast<size_t>(most)) != 0 || tail.size == 0 || tail[tail.size - 1] != '\n')
    return {};
  size_t begin = --tail.size;
  while (begin > 0 && tail[begin - 1] != '\n') --begin;
  Text line = tail.text().from(begin);
  return line.starts_with("{\"event\":\"plan-end\"") && seal_fits(line) ? arena->copy(line) : Text();
}

// `agent stop --state DIR`
inline int stop(Text state, int64_t timeout_ms) {
  Arena arena;
  Text boot = boot_id(&arena);
  AgentInfo info = AgentInfo::read(state, &arena);
  Vec<Identity> asked;
  bool running = info.alive(boot) && info.state == Text("running");
  if (running && kill(info.id.pid, SIGTERM) == 0) asked.push(info.id);
  UndoList undo;
  undo.read(in_dir(state, "undo.jsonl", &arena).data);
  for (const UndoEntry& entry : undo.entries) {
    bool keeper = !running && entry.kind == UndoEntry::kKeeper && entry.boot_id == boot && entry.id.alive();
    if (keeper && Exe::of_process(entry.id.pid) == entry.exe && kill(entry.id.pid, SIGTERM) == 0) asked.push(entry.id);
  }
  int64_t deadline = mono_ns() + timeout_ms * kMs;
  bool ended = false;
  while (!ended && mono_ns() < deadline) {
    ended = true;
    for (const Identity& id : asked) ended = ended && !id.alive();
    if (!ended) sleep_ns(20 * kMs);
  }
  Sink out(1);
  Json json(&out);
  json.open('{').member_bool("stopped", ended && asked.size > 0).member("agents", static_cast<int64_t>(asked.size));
  if (info.known) json.member("pid", info.id.pid).member("plan_id", info.plan_id);
  Text end = asked.size > 0 && info.known ? last_line(info.out, &arena) : Text();
  json.key("plan_end");
  if (end.size > 0) {
    json.raw(end);
  } else {
    json.null();
  }
  json.close('}');
  out.add('\n');
  out.flush();
  if (ended || asked.size == 0) return kDone;
  fprintf(stderr, "agent: busy: pid %d did not end within %lld ms\n", static_cast<int>(asked[0].pid),
          static_cast<long long>(timeout_ms));
  return kBusy;
}

struct RestoreAnswer {
  Vec<StepResult> steps;
  HuntResult hunted;
  UndoList list;
  Text boot;

  bool good(bool forget) const {
    bool clean = hunted.left == 0 && (list.damaged == 0 || forget);
    for (const StepResult& step : steps) clean = clean && (step.held || forget);
    return clean;
  }

  void print(Arena* arena) const {
    Sink out(1);
    Json json(&out);
    json.open('{').member("boot_id", boot);
    for (int group = 0; group < 2; ++group) {
      bool held = group == 0;
      json.key(held ? "restored" : "failed").open('[');
      for (const StepResult& step : steps) {
        if (step.held == held) json.text(sentence(step, arena));
      }
      if (!held && list.damaged > 0) json.text("damaged lines in the undo journal");
      if (!held && hunted.left > 0) json.text("processes that do not end");
      json.close(']');
    }
    json.key("stale").open('[');
    for (const UndoEntry& entry : list.entries) {
      bool stale = !(entry.boot_id == boot) && !entry.survives_reboot;
      if (is_effect(entry) && stale) json.text(describe(entry, arena));
    }
    json.close(']');
    print_steps(&json, "steps", steps);
    json.member("killed", hunted.killed).member("left_behind", hunted.left);
    json.member("damaged", static_cast<int64_t>(list.damaged)).close('}');
    out.add('\n');
    out.flush();
  }

  static Text sentence(const StepResult& step, Arena* arena) {
    Buf text;
    if (step.path.data != nullptr) text.add(step.path);
    for (Text word : step.command) {
      if (text.size > 0) text.add(' ');
      text.add(word);
    }
    if (step.after.data != nullptr) {
      text.add(Text(step.held ? " = " : " reads "));
      text.add(step.after.first(200));
    }
    if (step.error != 0) text.add(Text(": ")), text.add(Text(strerror(step.error)));
    return arena->copy(text.text());
  }
};

// `agent restore --state DIR [--force] [--forget]`
inline int restore(Text state, bool force, bool forget) {
  Arena arena;
  RestoreAnswer answer;
  answer.boot = boot_id(&arena);
  Lock lock;
  int error = lock_state(&lock, state, answer.boot);
  if (error == EWOULDBLOCK) {
    AgentInfo info = AgentInfo::read(state, &arena);
    if (!force) {
      fprintf(stderr, "agent: busy: an agent (pid %d) executes plan %s; --force ends it\n",
              static_cast<int>(info.id.pid), info.plan_id.data);
      return kBusy;
    }
    bool known = info.alive(answer.boot);
    if (known) kill(info.id.pid, SIGTERM);
    bool free = await_lock(&lock, state, 30000);
    if (!free && known && info.alive(answer.boot)) kill(info.id.pid, SIGKILL);
    if (!free && !await_lock(&lock, state, 5000)) {
      fprintf(stderr, "agent: busy: pid %d does not end\n", static_cast<int>(info.id.pid));
      return kBusy;
    }
  } else if (error != 0) {
    return complain("cannot lock", state.data, error);
  }
  watch_signals();
  close_on_exec();
  Text path = in_dir(state, "undo.jsonl", &arena);
  error = answer.list.read(path.data);
  if (error != 0) return complain("cannot read", path.data, error);
  Vec<UndoEntry> processes;
  for (const UndoEntry& entry : answer.list.entries) {
    if (entry.boot_id == answer.boot) processes.push(entry);
  }
  answer.hunted = hunt(processes);
  Replay replay(&arena, state);
  replay.run(answer.list.entries, answer.boot, &answer.steps);
  answer.print(&arena);
  if (!answer.good(forget)) return kRestoreFailed;
  end_guards(answer.list.entries, answer.boot);
  if (unlink(path.data) != 0 && errno != ENOENT) return complain("cannot remove", path.data, errno);
  Lease lease = Lease::read(state, &arena);
  bool orphaned = lease.agent.pid > 0 && !lease.agent.alive();
  if (orphaned) Lease::drop(state, lease.holder, &arena);
  may_sleep();
  return kDone;
}

}  // namespace agent
