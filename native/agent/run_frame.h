// What stands around a run: what it is given, its phases, and how it ended.
#pragma once

#include "journal.h"
#include "others.h"

namespace agent {

// What a run needs from its plan.
struct Surroundings {
  UndoLog* undo;
  Journal* journal;
  Text boot_id, token, dir, out;
  bool live;
  Span* quiet;  // who else worked here before the last run that looked
  pid_t host;   // who holds the lease, where it is a process of this machine
};

// What the agent does from ``t_ns`` on, until the next one.
struct Phase {
  const char* name;
  int64_t t_ns;

  void print(Json* json) const {
    json->open('{');
    json->member("name", name).member("t_ns", t_ns);
    json->close('}');
  }
};

struct RunOutcome {
  bool done = false;         // else it could not be performed
  bool interrupted = false;  // the agent was ended meanwhile: it is to be done again
  bool restored = true;
  int journal_error = 0;
};

}  // namespace agent
