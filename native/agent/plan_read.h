// Reads a plan file. All runs are checked at the start; later each is parsed again when its turn comes, so that a plan
// of thousands of runs needs little more memory than its text.
#pragma once

#include "plan_fields.h"
#include "text_set.h"

namespace agent {

struct PlanHead {
  Text plan_id, campaign, device, holder;
  int64_t lease_ttl_s = 900;
  List<Step> setup;
  bool keep = false, live = false, stop_on_failure = false;
};

namespace plan_parts {

inline bool choice(Fields* fields, const char* name, const char* const* words, size_t count, bool needed,
                   size_t* into) {
  const JsonValue* value = fields->member(name, needed);
  if (value == nullptr) return fields->good();
  for (size_t i = 0; i < count; ++i) {
    if (value->kind == JsonValue::kString && value->text == Text(words[i])) {
      *into = i;
      return true;
    }
  }
  Place at{fields->place(), name, 0};
  return fields->fail(&at, "is none of the known words");
}

inline bool read_write(Fields* fields, Write* write) {
  static const char* const kVerify[] = {"exact", "first-int", "at-most", "word", "none"};
  fields->take_path("path", &write->path);
  fields->take_text("value", &write->value);
  fields->take_optional_text("expect", &write->expect);
  fields->take_optional_text("restore", &write->restore);
  size_t verify = 0;
  choice(fields, "verify", kVerify, 5, false, &verify);
  write->verify = static_cast<Verify>(verify);
  fields->take_ms("verify_ms", &write->verify_ms);
  fields->take_bool("hold", &write->hold);
  if (const JsonValue* floor = fields->member("floor", false); floor != nullptr && floor->kind != JsonValue::kNull) {
    Place at{fields->place(), "floor", 0};
    Fields parts(floor, &at, fields->arena(), fields->error());
    parts.take_path("path", &write->floor_path);
    parts.take_integer("min_value", INT64_MIN, INT64_MAX, &write->floor, true);
    if (!parts.done()) return fields->fail(&at, "is no floor");
  }
  return fields->good();
}

inline bool read_command(Fields* fields, Command* command) {
  fields->take_argv("do", &command->act);
  auto text = [&](const JsonValue* v, const Place* at, Text* t) { return fields->text(v, at, t); };
  command->has_undo = fields->take_list("undo", &command->undo, text, false, true);
  if (fields->good() && command->has_undo && (command->undo.size == 0 || command->undo[0].size == 0)) {
    Place at{fields->place(), "undo", 0};
    fields->fail(&at, "names no program");
  }
  fields->take_env("env", &command->env);
  fields->take_bool("survives_reboot", &command->survives_reboot);
  fields->take_ms("timeout_ms", &command->timeout_ms);
  return fields->good();
}

inline bool read_step(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Step* step) {
  static const char* const kKinds[] = {"write", "command"};
  Fields fields(value, place, arena, error);
  size_t kind = 0;
  Text why;
  if (!choice(&fields, "kind", kKinds, 2, true, &kind)) return false;
  step->is_write = kind == 0;
  fields.take_text("why", &why);
  fields.take_bool("required", &step->required);
  bool good = step->is_write ? read_write(&fields, &step->write) : read_command(&fields, &step->command);
  return good && fields.done();
}

inline bool read_gate(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Gate* gate) {
  Fields fields(value, place, arena, error);
  Text why;
  fields.take_path("path", &gate->path);
  gate->has_max = fields.take_optional_integer("max_value", &gate->max_value);
  gate->has_min = fields.take_optional_integer("min_value", &gate->min_value);
  gate->has_flat = fields.take_optional_integer("flat_within", &gate->flat_within);
  fields.take_ms("window_ms", &gate->window_ms);
  fields.take_ms("timeout_ms", &gate->timeout_ms);
  fields.take_text("why", &why);
  return fields.done();
}

inline bool read_probe(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Probe* probe) {
  Fields fields(value, place, arena, error);
  Text why;
  fields.take_cpus("cpus", &probe->cpus, true);
  fields.take_text("why", &why);
  return fields.done();
}

inline bool read_program(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Program* program) {
  static const char* const kRoles[] = {"load", "measure"};
  Fields fields(value, place, arena, error);
  size_t role = 0;
  int64_t nice = 0;
  fields.take_id("name", &program->name);
  choice(&fields, "role", kRoles, 2, true, &role);
  program->role = static_cast<Role>(role);
  fields.take_argv("argv", &program->argv);
  fields.take_env("env", &program->env);
  fields.take_texts("env_scrub", &program->env_scrub);
  program->pinned = fields.take_cpus("cpus", &program->cpus, false);
  fields.take_integer("nice", -20, 19, &nice);
  program->nice = static_cast<int>(nice);
  fields.take_paths("cgroups", &program->cgroups);
  fields.take_bool("barrier", &program->barrier);
  fields.take_ms("timeout_ms", &program->timeout_ms);
  fields.take_ms("ready_timeout_ms", &program->ready_timeout_ms);
  fields.take_integer("max_output_bytes", 0, int64_t{1} << 32, &program->max_output_bytes);
  return fields.done();
}

inline bool read_witness(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Witness* witness) {
  Fields fields(value, place, arena, error);
  fields.take_id("name", &witness->name);
  fields.take_argv("argv", &witness->argv);
  fields.take_env("env", &witness->env);
  fields.take_ms("timeout_ms", &witness->timeout_ms);
  return fields.done();
}

inline bool read_sampling(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Sampling* into) {
  Fields fields(value, place, arena, error);
  fields.take_ms("period_ms", &into->period_ms);
  fields.take_ms("idle_ms", &into->idle_ms);
  fields.take_paths("nodes", &into->nodes);
  fields.take_paths("around", &into->around);
  return fields.done();
}

// Binds a reader of one kind of item to its surroundings, for Fields::take_list.
template <class T>
auto with(bool (*read)(const JsonValue*, const Place*, Arena*, PlanError*, T*), Arena* arena, PlanError* error) {
  return [=](const JsonValue* value, const Place* place, T* into) { return read(value, place, arena, error, into); };
}

inline bool read_run(const JsonValue* value, const Place* place, Arena* arena, PlanError* error, Run* run) {
  Fields fields(value, place, arena, error);
  int64_t repetition = 0;
  fields.take_id("run_id", &run->run_id);
  fields.take_id("cell_id", &run->cell_id);
  fields.take_integer("repetition", 0, INT32_MAX, &repetition, true);
  fields.take_list("steps", &run->steps, with(read_step, arena, error));
  fields.take_list("attached", &run->attached, with(read_step, arena, error));
  fields.take_list("gates", &run->gates, with(read_gate, arena, error));
  fields.take_list("probes", &run->probes, with(read_probe, arena, error));
  fields.take_list("programs", &run->programs, with(read_program, arena, error));
  fields.take_list("witnesses", &run->witnesses, with(read_witness, arena, error));
  if (const JsonValue* sampling = fields.member("sampling", false)) {
    Place at{place, "sampling", 0};
    if (!read_sampling(sampling, &at, arena, error, &run->sampling)) return false;
  }
  fields.take_ms("settle_ms", &run->settle_ms);
  fields.take_ms("hold_ms", &run->hold_ms);
  fields.take_ms("cooldown_ms", &run->cooldown_ms);
  if (fields.good() && run->programs.size > 256) {
    Place at{place, "programs", 0};
    fields.fail(&at, "has more than 256 items");
  }
  for (size_t i = 0; fields.good() && i < run->attached.size; ++i) {
    Place list{place, "attached", 0}, at{&list, {}, i};
    if (run->attached[i].is_write) fields.fail(&at, "has to be a command");
  }
  for (size_t i = 0; fields.good() && i < run->programs.size; ++i) {
    for (size_t k = 0; k < i; ++k) {
      Place list{place, "programs", 0}, at{&list, {}, i};
      if (run->programs[i].name == run->programs[k].name) fields.fail(&at, "a program of that name stands before it");
    }
  }
  return fields.done();
}

inline bool read_head(const JsonValue* value, Arena* arena, PlanError* error, PlanHead* head) {
  Fields fields(value, nullptr, arena, error);
  int64_t version = 0;
  fields.take_integer("plan_version", 1, 1, &version);
  fields.take_id("plan_id", &head->plan_id);
  fields.take_text("campaign", &head->campaign);
  fields.take_text("device", &head->device);
  fields.take_id("holder", &head->holder);
  fields.take_integer("lease_ttl_s", 1, 86400 * 31, &head->lease_ttl_s);
  fields.take_list("setup", &head->setup, with(read_step, arena, error));
  fields.take_bool("keep", &head->keep);
  fields.take_bool("live", &head->live);
  fields.take_bool("stop_on_failure", &head->stop_on_failure);
  List<Text> none;
  fields.take_list("runs", &none, [](const JsonValue*, const Place*, Text*) { return false; });
  return fields.done();
}

}  // namespace plan_parts

class Plan {
 public:
  static constexpr size_t kMaxBytes = size_t{256} << 20;
  static constexpr size_t kMaxRuns = 1000000;

  // Takes over the text and checks all of it.
  bool load(Buf* text, PlanError* error) {
    text_.take(text);
    Buf head;
    if (!split(&head)) {  // broken at the top level: parse it whole, for the reason and its place
      Arena scratch;
      JsonError why;
      if (JsonParser(text_.text(), &scratch).parse(&why) != nullptr) why = {"expected an object", 0};
      return syntax(error, why, 0);
    }
    JsonError why;
    const JsonValue* root = JsonParser(head.text(), &head_arena_).parse(&why);
    if (root == nullptr) return syntax(error, why, why.offset > runs_begin_ ? runs_end_ - runs_begin_ - 2 : 0);
    if (!plan_parts::read_head(root, &head_arena_, error, &head_)) return false;
    Arena scratch;
    TextSet ids;
    for (size_t i = 0; i < extents_.size; ++i) {
      Run run_read;
      scratch.reset();
      if (!run(i, &scratch, &run_read, error)) return false;
      if (!ids.add(run_read.run_id)) {
        snprintf(error->text, sizeof error->text, "$.runs[%zu].run_id: an earlier run has the same", i);
        return false;
      }
    }
    return true;
  }

  const PlanHead& head() const { return head_; }
  size_t runs() const { return extents_.size; }

  // Parses run number ``index`` into the arena.
  bool run(size_t index, Arena* arena, Run* into, PlanError* error) const {
    Extent extent = extents_[index];
    JsonError why;
    const JsonValue* value = JsonParser(text_.text().from(extent.begin).first(extent.size), arena).parse(&why);
    if (value == nullptr) return syntax(error, why, extent.begin);
    Place list{nullptr, "runs", 0}, at{&list, {}, index};
    return plan_parts::read_run(value, &at, arena, error, into);
  }

 private:
  struct Extent {
    size_t begin, size;
  };

  bool syntax(PlanError* error, JsonError why, size_t base) const {
    size_t offset = why.offset + base, line = 1;
    for (size_t i = 0; i < offset && i < text_.size; ++i) line += text_[i] == '\n';
    snprintf(error->text, sizeof error->text, "not JSON: line %zu (byte %zu): %s", line, offset, why.reason);
    return false;
  }

  // Finds the extents of the runs by counting brackets, and copies all the rest, with "[]" for them, to ``head``.
  bool split(Buf* head) {
    Text text = text_.text();
    size_t at = 0, depth = 0;
    bool key_next = false, found = false;
    for (; at < text.size; ++at) {
      char c = text.data[at];
      if (c == '"') {
        size_t begin = at;
        if (!skip_string(text, &at)) return false;
        bool runs = depth == 1 && key_next && !found && Text(text.data + begin, at - begin + 1) == Text("\"runs\"");
        key_next = false;
        if (!runs) continue;
        size_t list = at + 1;
        while (list < text.size && is_blank(text.data[list])) ++list;
        if (list >= text.size || text.data[list] != ':') continue;
        do ++list;
        while (list < text.size && is_blank(text.data[list]));
        if (list >= text.size || text.data[list] != '[') continue;
        found = true;
        runs_begin_ = list;
        if (!split_runs(text, list + 1, &at)) return false;
        runs_end_ = at + 1;
      } else if (c == '{' || c == '[') {
        key_next = c == '{' && depth == 0;
        ++depth;
      } else if (c == '}' || c == ']') {
        if (depth-- == 0) return false;
      } else if (c == ',') {
        key_next = depth == 1;
      }
    }
    if (depth != 0) return false;
    if (!found) runs_begin_ = runs_end_ = text.size;
    head->add(text.first(runs_begin_));
    if (found) head->add(Text("[]"));
    head->add(text.from(runs_end_));
    return true;
  }

  static bool skip_string(Text text, size_t* at) {
    for (++*at; *at < text.size; ++*at) {
      if (text.data[*at] == '\\') {
        ++*at;
      } else if (text.data[*at] == '"') {
        return true;
      }
    }
    return false;
  }

  bool split_runs(Text text, size_t begin, size_t* end) {
    size_t depth = 0;
    bool blank = true;
    for (size_t at = begin; at < text.size; ++at) {
      char c = text.data[at];
      bool closes = depth == 0 && c == ']';
      if (closes || (depth == 0 && c == ',')) {
        if (!(closes && blank && extents_.size == 0)) extents_.push({begin, at - begin});
        begin = at + 1;
        blank = true;
        *end = at;
        if (closes) return true;
        if (extents_.size > kMaxRuns) return false;
        continue;
      }
      if (!is_blank(c)) blank = false;
      if (c == '"' && !skip_string(text, &at)) return false;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && depth-- == 0) return false;
    }
    return false;
  }

  Buf text_;
  Arena head_arena_;
  PlanHead head_;
  Vec<Extent> extents_;
  size_t runs_begin_ = 0, runs_end_ = 0;
};

}  // namespace agent
