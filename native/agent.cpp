// The agent: executes a plan on the device, alone. docs/reference/agent.md describes its commands and formats.

#include "agent/follow.h"
#include "agent/manage.h"
#include "agent/snapshot.h"

namespace agent {

static int usage() {
  fputs(
      "usage: agent version\n"
      "       agent snapshot FILE|-\n"
      "       agent run PLAN --state DIR --out DIR\n"
      "       agent restore --state DIR [--force] [--forget]\n"
      "       agent status --state DIR\n"
      "       agent stop --state DIR [--timeout-ms N]\n"
      "       agent follow FILE OFFSET [--lines] [--state DIR]\n"
      "       agent guard PID START --state DIR\n",
      stderr);
  return kUsage;
}

// The words behind the command: positional ones, options with a value, flags.
struct Arguments {
  const char* words[2] = {};
  size_t count = 0;
  const char* state = nullptr;
  const char* out = nullptr;
  int64_t timeout_ms = 60000;
  bool force = false, forget = false, lines = false;

  bool parse(int argc, char** argv) {
    for (int i = 2; i < argc; ++i) {
      Text word(argv[i]);
      const char** value = word == Text("--state") ? &state : word == Text("--out") ? &out : nullptr;
      int64_t* number = word == Text("--timeout-ms") ? &timeout_ms : nullptr;
      bool* flag = word == Text("--force")    ? &force
                   : word == Text("--forget") ? &forget
                   : word == Text("--lines")  ? &lines
                                              : nullptr;
      if (flag != nullptr) {
        *flag = true;
      } else if (value != nullptr || number != nullptr) {
        if (++i == argc) return false;
        if (value != nullptr) *value = argv[i];
        if (number != nullptr && (!parse_number(argv[i], number) || *number < 1 || *number > 86400000)) return false;
      } else if (word.starts_with("--") || count == 2) {
        return false;
      } else {
        words[count++] = argv[i];
      }
    }
    return true;
  }
};

static int version() {
  Sink out(1);
  Json(&out)
      .open('{')
      .member("agent_version", kVersion)
      .member("plan_version", kPlanVersion)
      .member("abi", kAbi)
      .close('}');
  out.add('\n');
  return out.flush() == 0 ? kDone : kRefused;
}

static int dispatch(int argc, char** argv) {
  Text command(argc > 1 ? argv[1] : "");
  Arguments given;
  if (!given.parse(argc, argv)) return usage();
  bool alone = given.count == 0 && given.state != nullptr;
  if (command == Text("version") && argc == 2) return version();
  if (command == Text("snapshot") && given.count == 1) return snapshot(given.words[0]);
  if (command == Text("run") && given.count == 1 && given.state != nullptr && given.out != nullptr) {
    return run_plan(given.words[0], given.state, given.out);
  }
  int64_t offset = 0;
  if (command == Text("follow") && given.count == 2 && parse_number(given.words[1], &offset) && offset >= 0) {
    signal(SIGPIPE, SIG_IGN);
    return Follow(given.words[0], static_cast<uint64_t>(offset), given.lines, given.state != nullptr ? given.state : "")
        .run();
  }
  if (command == Text("guard") && given.count == 2 && given.state != nullptr) {
    return guard(given.words[0], given.words[1], given.state);
  }
  if (command == Text("status") && alone) return status(given.state);
  if (command == Text("restore") && alone) {
    int error = make_dirs(given.state);
    if (error != 0) return complain("cannot make the directory", given.state, error);
    return restore(given.state, given.force, given.forget);
  }
  return command == Text("stop") && alone ? stop(given.state, given.timeout_ms) : usage();
}

}  // namespace agent

int main(int argc, char** argv) { return agent::dispatch(argc, argv); }
