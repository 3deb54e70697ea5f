// Pieces of the journal's records that several parts produce: step results and flags.
#pragma once

#include <stdarg.h>

#include "json_write.h"
#include "plan.h"

namespace agent {

struct StepResult {
  Text path;  // of a node; no data where the step was a command
  List<Text> command;
  Text before, after;  // no data where not read
  bool held = false;
  int error = 0;
  bool is_command = false;
  int exit_code = -1;  // of a command; -1: none
  Text output;

  StepResult() { path.data = before.data = after.data = output.data = nullptr; }

  void print(Json* json) const {
    json->open('{');
    if (path.data != nullptr) json->member("path", path);
    if (is_command) json->member_texts("do", command);
    if (before.data != nullptr) json->member("before", before);
    if (after.data != nullptr) json->member("after", after);
    json->member_bool("held", held);
    if (error != 0) json->member("errno", error);
    if (is_command && exit_code >= 0) json->member("exit_code", exit_code);
    if (output.data != nullptr && output.size > 0) json->member("output", output);
    json->close('}');
  }
};

inline void print_steps(Json* json, Text name, const Vec<StepResult>& results) {
  json->key(name).open('[');
  for (const StepResult& result : results) result.print(json);
  json->close(']');
}

struct Flag {
  const char* code;
  Text detail;
};

// Flags of a run or a plan, each code and detail once.
class Flags {
 public:
  explicit Flags(Arena* arena) : arena_(arena) {}

  __attribute__((format(printf, 3, 4))) void add(const char* code, const char* format, ...) {
    char detail[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    for (const Flag& flag : list_) {
      if (Text(flag.code) == Text(code) && flag.detail == Text(detail)) return;
    }
    if (list_.size < 256) list_.push({code, arena_->copy(detail)});
  }
  void print(Json* json) const {
    json->key("flags").open('[');
    for (const Flag& flag : list_) json->open('{').member("code", flag.code).member("detail", flag.detail).close('}');
    json->close(']');
  }
  size_t size() const { return list_.size; }
  void clear() { list_.clear(); }

 private:
  Arena* arena_;
  Vec<Flag> list_;
};

}  // namespace agent
