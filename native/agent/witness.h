// Witnesses: commands run one after the other while the measurement lasts, whose output proves the treatment.
#pragma once

#include "output.h"

namespace agent {

class Witnesses {
 public:
  Witnesses(const List<Witness>& list, Text dir, Text scratch, Text token, Arena* arena)
      : list_(list), dir_(dir), scratch_(scratch), token_(token), arena_(arena) {
    for (size_t i = 0; i < list.size; ++i) results_.push({});
  }
  Witnesses(const Witnesses&) = delete;
  Witnesses& operator=(const Witnesses&) = delete;
  ~Witnesses() { drop(&out_), drop(&err_); }

  void begin(int64_t first_ns) { first_ns_ = first_ns; }
  Watched* child() { return running_ ? &child_ : nullptr; }

  // Starts, ends and notes what is due; returns when to look again (or ``idle``).
  int64_t work(Programs* programs, int64_t idle) {
    int64_t now = mono_ns();
    if (running_ && (child_.ended || now >= deadline_)) finish(programs);
    while (!running_ && next_ < list_.size && now >= first_ns_) start(programs);
    if (running_) return deadline_;
    return next_ < list_.size ? first_ns_ : idle;
  }

  // The measurement is over.
  void end(Programs* programs) {
    if (running_) finish(programs);
    for (; next_ < list_.size; ++next_) results_[next_].err = "the measurement ended before";
  }

  void print(Json* json) const {
    json->key("witnesses").open('[');
    for (size_t i = 0; i < list_.size; ++i) {
      json->open('{').member("name", list_[i].name);
      if (results_[i].exit_code >= 0) json->member("exit_code", results_[i].exit_code);
      json->member("stdout", results_[i].out).member("stderr", results_[i].err).close('}');
    }
    json->close(']');
  }

 private:
  struct Result {
    int exit_code = -1;
    Text out, err;
  };

  void start(Programs* programs) {
    const Witness& witness = list_[next_];
    out_ = scratch_file(scratch_), err_ = scratch_file(scratch_);
    Launch launch;
    launch.argv = programs->with_pids(witness.argv, arena_), launch.env = witness.env;
    launch.dir = dir_, launch.token = token_, launch.out = out_, launch.err = err_;
    Child child;
    int error = spawn(launch, arena_, &child);
    child_ = {};
    child_.pid = error == 0 ? child.id.pid : 0;
    if (error == 0) error = release(&child).error;
    running_ = child_.pid > 0;
    deadline_ = mono_ns() + witness.timeout_ms * kMs;
    if (error != 0) {
      results_[next_].err = arena_->join("cannot start it: ", strerror(error));
      failed_ = true;
    }
    if (!running_) finish(programs);
  }

  void finish(Programs* programs) {
    Result& result = results_[next_];
    if (running_ && !child_.ended) {
      kill(-child_.pid, SIGKILL);
      kill(child_.pid, SIGKILL);
      while (!child_.ended && waitpid(child_.pid, &child_.status, 0) == child_.pid) child_.ended = true;
      result.err = "took too long";
      failed_ = true;
    }
    if (!failed_) {
      result.exit_code = child_.exit_code();
      result.out = tail_of(out_, arena_, 65536);
      result.err = tail_of(err_, arena_);
    }
    drop(&out_), drop(&err_);
    running_ = failed_ = false;
    ++next_;
    programs->reap();
  }

  List<Witness> list_;
  Text dir_, scratch_, token_;
  Arena* arena_;
  Vec<Result> results_;
  size_t next_ = 0;
  bool running_ = false, failed_ = false;
  Watched child_;
  int out_ = -1, err_ = -1;
  int64_t first_ns_ = 0, deadline_ = 0;
};

}  // namespace agent
