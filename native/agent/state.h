// The state directory: who may use the device (lease), who uses it now (lock, agent.json).
#pragma once

#include <sys/file.h>

#include "json_read.h"
#include "json_write.h"
#include "process.h"

namespace agent {

// Exit codes of the program; docs/reference/agent.md lists them.
enum Exit : int { kDone = 0, kBug = 1, kUsage = 2, kBusy = 3, kRefused = 4, kRestoreFailed = 8, kSignalBase = 128 };

inline Text in_dir(Text dir, Text name, Arena* arena) { return arena->join(dir, "/", name); }

// A parsed file of the state directory; null if there is none or it is not JSON.
inline const JsonValue* read_json(Text dir, Text name, Arena* arena) {
  Buf text;
  if (read_file(in_dir(dir, name, arena).data, &text, 65536) != 0) return nullptr;
  JsonError why;
  const JsonValue* value = JsonParser(arena->copy(text.text()), arena).parse(&why);
  return value != nullptr && value->kind == JsonValue::kObject ? value : nullptr;
}

inline Text member_text(const JsonValue* object, const char* name) {
  const JsonValue* value = object != nullptr ? object->find(name) : nullptr;
  return value != nullptr && value->kind == JsonValue::kString ? value->text : Text();
}
inline int64_t member_number(const JsonValue* object, const char* name) {
  const JsonValue* value = object != nullptr ? object->find(name) : nullptr;
  return value != nullptr && value->kind == JsonValue::kInteger ? value->number : 0;
}

// An exclusive lock that ends with the process; programs do not inherit it.
class Lock {
 public:
  // Returns 0, EWOULDBLOCK if another process has it, or another errno.
  int take(Text dir, Text name, bool wait) {
    Arena arena;
    fd_.set(open(in_dir(dir, name, &arena).data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd_.ok()) return errno;
    while (flock(fd_.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) != 0) {
      if (errno == EINTR) continue;
      int error = errno;
      fd_.shut();
      return error;
    }
    return 0;
  }
  void release() { fd_.shut(); }

 private:
  Fd fd_;
};

struct Lease {
  Text holder, boot;
  int64_t expires = 0;  // CLOCK_BOOTTIME seconds
  Identity agent;       // who renewed it, if that was an agent

  // The lease of a boot that is over, of an agent that died, or one that ran out, binds nobody.
  bool valid(Text boot_id) const {
    bool orphaned = agent.pid != 0 && !agent.alive();
    return holder.size > 0 && boot == boot_id && expires > boot_s() && !orphaned;
  }

  static Lease read(Text dir, Arena* arena) {
    Lease lease;
    const JsonValue* file = read_json(dir, "lease.json", arena);
    lease.holder = member_text(file, "holder");
    lease.boot = member_text(file, "boot_id");
    lease.expires = member_number(file, "expires");
    lease.agent = {static_cast<pid_t>(member_number(file, "pid")), member_number(file, "start_time")};
    return lease;
  }

  int write(Text dir) const {
    Sink sink;
    Json json(&sink);
    json.open('{').member("holder", holder).member("expires", expires).member("boot_id", boot);
    json.member("pid", agent.pid).member("start_time", agent.start_time).close('}');
    sink.add('\n');
    return replace_file(dir, "lease.json", sink.text());
  }

  // Takes or prolongs it. Returns 0, EBUSY (``found`` tells whose it is) or another errno.
  static int take(Text dir, Text holder, int64_t ttl_s, Identity agent, Text boot_id, Arena* arena, Lease* found) {
    Lock guard;
    int error = guard.take(dir, "lease.lock", true);
    if (error != 0) return error;
    *found = read(dir, arena);
    if (found->valid(boot_id) && found->holder != holder) return EBUSY;
    Lease mine;
    mine.holder = holder, mine.boot = boot_id, mine.expires = boot_s() + ttl_s, mine.agent = agent;
    return mine.write(dir);
  }

  // Gives it up if it is the holder's.
  static int drop(Text dir, Text holder, Arena* arena) {
    Lock guard;
    int error = guard.take(dir, "lease.lock", true);
    if (error != 0) return error;
    Lease found = read(dir, arena);
    if (found.holder != holder) return 0;
    return unlink(in_dir(dir, "lease.json", arena).data) == 0 || errno == ENOENT ? 0 : errno;
  }
};

// The agent that works in a state directory, or the last one that did.
struct AgentInfo {
  bool known = false;
  Identity id;
  Exe exe;
  Text boot, plan_id, out, state;  // state: running, keeping, ended
  int64_t runs_done = 0, runs_total = 0;

  static AgentInfo read(Text dir, Arena* arena) {
    AgentInfo info;
    const JsonValue* file = read_json(dir, "agent.json", arena);
    info.known = file != nullptr;
    info.id = {static_cast<pid_t>(member_number(file, "pid")), member_number(file, "start_time")};
    info.exe = {static_cast<uint64_t>(member_number(file, "exe_device")),
                static_cast<uint64_t>(member_number(file, "exe_inode"))};
    info.boot = member_text(file, "boot_id");
    info.plan_id = member_text(file, "plan_id");
    info.out = member_text(file, "out");
    info.state = member_text(file, "state");
    info.runs_done = member_number(file, "runs_done");
    info.runs_total = member_number(file, "runs_total");
    return info;
  }

  // The very process that wrote it is still there.
  bool alive(Text boot_id) const { return known && boot == boot_id && id.alive() && Exe::of_process(id.pid) == exe; }

  int write(Text dir, bool durable = true) const {
    Sink sink;
    Json json(&sink);
    json.open('{').member("pid", id.pid).member("start_time", id.start_time).member("boot_id", boot);
    json.member("exe_device", static_cast<int64_t>(exe.device)).member("exe_inode", static_cast<int64_t>(exe.inode));
    json.member("plan_id", plan_id).member("out", out).member("state", state);
    json.member("runs_done", runs_done).member("runs_total", runs_total).close('}');
    sink.add('\n');
    return replace_file(dir, "agent.json", sink.text(), durable);
  }
};

// Takes the lock of the agents. One that has just died may have left a fork behind that had not yet become a program:
// it has the lock too and ends at once. Returns 0, EWOULDBLOCK if an agent is at work, or another errno.
inline int lock_state(Lock* lock, Text dir, Text boot_id) {
  int64_t deadline = mono_ns() + 2 * kSecond;
  for (;;) {
    int error = lock->take(dir, "lock", false);
    Arena scratch;
    if (error != EWOULDBLOCK || AgentInfo::read(dir, &scratch).alive(boot_id) || mono_ns() >= deadline) return error;
    sleep_ns(5 * kMs);
  }
}

}  // namespace agent
