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
      "       agent lease --state DIR take|renew|drop --holder HOLDER [--ttl SECONDS]\n"
      "       agent follow FILE OFFSET [--lines] [--state DIR]\n"
      "       agent sha256 FILE...\n"
      "       agent affinity CPULIST\n",
      stderr);
  return kUsage;
}

// The words behind the command: positional ones, options with a value, flags.
struct Arguments {
  const char* words[2] = {};
  size_t count = 0;
  const char* state = nullptr;
  const char* out = nullptr;
  const char* holder = nullptr;
  int64_t ttl_s = 900, timeout_ms = 60000;
  bool force = false, forget = false, lines = false;

  bool parse(int argc, char** argv) {
    for (int i = 2; i < argc; ++i) {
      Text word(argv[i]);
      const char** value = word == Text("--state")    ? &state
                           : word == Text("--out")    ? &out
                           : word == Text("--holder") ? &holder
                                                      : nullptr;
      int64_t* number = word == Text("--ttl") ? &ttl_s : word == Text("--timeout-ms") ? &timeout_ms : nullptr;
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

static int sha256(int count, char** files) {
  int code = kDone;
  for (int i = 0; i < count; ++i) {
    Fd fd(open(files[i], O_RDONLY | O_CLOEXEC));
    Sha256 hash;
    char piece[65536], hex[65];
    ssize_t got = fd.ok() ? 1 : -1;
    while (got > 0 && (got = read(fd.get(), piece, sizeof piece)) > 0) hash.add({piece, static_cast<size_t>(got)});
    if (got < 0) {
      code = complain("cannot read", files[i], errno);
      continue;
    }
    hash.finish(hex);
    printf("%s  %s\n", hex, files[i]);
  }
  return fflush(stdout) == 0 ? code : static_cast<int>(kRefused);
}

static int affinity(const char* list) {
  CpuSet wanted, granted;
  if (*list == '\0' || !parse_cpus(list, &wanted)) return usage();
  int error = set_affinity(0, wanted);
  if (error == 0) error = get_affinity(0, &granted);
  Vec<int> asked, got;
  wanted.list(&asked), granted.list(&got);
  Sink out(1);
  Json json(&out);
  json.open('{').member_numbers("cpus", asked.data, asked.size).member_numbers("granted", got.data, got.size);
  json.member("errno", error).close('}');
  out.add('\n');
  return out.flush() == 0 ? kDone : kRefused;
}

static int dispatch(int argc, char** argv) {
  Text command(argc > 1 ? argv[1] : "");
  if (command == Text("sha256") && argc > 2) return sha256(argc - 2, argv + 2);
  Arguments given;
  if (!given.parse(argc, argv)) return usage();
  bool alone = given.count == 0 && given.state != nullptr;
  if (command == Text("version") && argc == 2) return version();
  if (command == Text("affinity") && given.count == 1) return affinity(given.words[0]);
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
  if (command == Text("status") && alone) return status(given.state);
  bool leasing = command == Text("lease") && given.count == 1 && given.state != nullptr && given.holder != nullptr;
  if ((command == Text("restore") || command == Text("stop")) && !alone) return usage();
  if (leasing || command == Text("restore")) {
    int error = make_dirs(given.state);
    if (error != 0) return complain("cannot make the directory", given.state, error);
  }
  if (command == Text("restore")) return restore(given.state, given.force, given.forget);
  if (command == Text("stop")) return stop(given.state, given.timeout_ms);
  Text verb(given.count == 1 ? given.words[0] : "");
  bool known = verb == Text("take") || verb == Text("renew") || verb == Text("drop");
  return leasing && known && *given.holder != '\0' ? lease(given.state, verb, given.holder, given.ttl_s) : usage();
}

}  // namespace agent

int main(int argc, char** argv) { return agent::dispatch(argc, argv); }
