// Ending what a plan started: by pid, by executable and by the mark its descendants carry, until none is left.
#pragma once

#include "undo.h"

namespace agent {

struct HuntResult {
  int killed = 0;  // processes that got SIGKILL
  int left = 0;    // still there at the end
};

// Does this process belong to one of the entries? The agent's own binary never does. Nobody who was there before
// ``since`` (ticks since boot) has the mark.
inline bool is_prey(pid_t pid, const ProcStat& stat, const Vec<UndoEntry>& entries, const Exe& agent_exe,
                    int64_t since) {
  Exe exe = Exe::of_process(pid);
  Text seen;  // entries of one agent share their token
  bool marked = false;
  for (const UndoEntry& entry : entries) {
    if (entry.kind != UndoEntry::kProgram && entry.kind != UndoEntry::kKeeper) continue;
    if (entry.token.data != nullptr && !(entry.token == seen)) {
      seen = entry.token;
      marked = stat.start_time >= since && has_token(pid, seen);
    }
    bool same = entry.id.pid == pid && entry.id.start_time == stat.start_time;
    if (entry.kind == UndoEntry::kKeeper) {
      if (same && exe == entry.exe) return true;
      continue;
    }
    if (marked) return true;
    // A fork that has not yet become the program still runs the agent's binary.
    if (same && (exe == agent_exe || runs_file(pid, exe, entry.exe, entry.exe_path))) return true;
    if (entry.by_exe && !(entry.exe == agent_exe) && runs_file(pid, exe, entry.exe, entry.exe_path)) return true;
  }
  return false;
}

// Kills until a look at all processes finds none of them, for at most five seconds. ``since``: when the agent began
// whose entries they are; 0 if that is not known.
inline HuntResult hunt(const Vec<UndoEntry>& entries, int64_t since = 0) {
  HuntResult result;
  bool any = false;
  for (const UndoEntry& entry : entries)
    any = any || entry.kind == UndoEntry::kProgram || entry.kind == UndoEntry::kKeeper;
  if (!any) return result;
  Exe agent_exe = Exe::of_file("/proc/self/exe");
  Vec<Identity> known;
  int64_t deadline = mono_ns() + 5 * kSecond;
  int64_t pause = kMs;
  for (;;) {
    result.left = 0;
    each_process([&](pid_t pid) {
      ProcStat stat;
      if (!proc_stat(pid, &stat) || stat.state == 'Z' || stat.state == 'X') return;
      if (!is_prey(pid, stat, entries, agent_exe, since)) return;
      ++result.left;
      bool counted = false;
      for (const Identity& id : known) counted = counted || (id.pid == pid && id.start_time == stat.start_time);
      if (kill(pid, SIGKILL) == 0 && !counted) {
        known.push({pid, stat.start_time});
        ++result.killed;
      }
    });
    int status = 0;  // those whose parent was ended have become the agent's
    while (result.left > 0 && waitpid(-1, &status, WNOHANG) > 0) {
    }
    if (result.left == 0 || mono_ns() >= deadline) return result;
    sleep_ns(pause);
    if (pause < 100 * kMs) pause *= 2;
  }
}

}  // namespace agent
