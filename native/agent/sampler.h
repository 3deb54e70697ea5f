// Evidence: /proc/stat per CPU and a few nodes, read at fixed times with little disturbance. Files stay open between
// samples, and nothing is allocated once the tables have grown.
#pragma once

#include "cpu_stat.h"
#include "json_write.h"

namespace agent {

class Sampler {
 public:
  static constexpr size_t kMaxText = size_t{64} << 20;  // bytes of node texts in one run
  static constexpr size_t kMaxTicks = size_t{1} << 23;  // pairs of counters: 128 MiB, twelve days at 1 Hz on 8 CPUs

  explicit Sampler(const List<Text>& nodes) : paths_(nodes) {
    Buf present;
    CpuSet set;
    if (read_file("/sys/devices/system/cpu/present", &present, 4096) == 0 && parse_cpus(trim(present.text()), &set)) {
      for (int cpu = 0; cpu < kMaxCpus; ++cpu) width_ = set.has(cpu) ? static_cast<size_t>(cpu) + 1 : width_;
    }
    // A kernel that hides /sys/.../present still lists its CPUs.
    stat_.read([&](int cpu, CpuTicks) {
      width_ = static_cast<size_t>(cpu) >= width_ ? static_cast<size_t>(cpu) + 1 : width_;
    });
    now_.reserve(width_);
    now_.size = width_;
    seen_.reserve(width_);
    seen_.size = width_;
    for (bool& seen : seen_) seen = false;
    for (size_t i = 0; i < nodes.size; ++i) {
      fds_.push(-1);
      last_.push({-1, 0});
    }
  }
  ~Sampler() {
    for (int fd : fds_) {
      if (fd >= 0) close(fd);
    }
  }

  // Takes one sample; false if the tables are full.
  bool take() {
    if (rows_.size >= kMaxTicks || cells_.size >= kMaxTicks || texts_.size >= kMaxText) return false;
    int64_t time = mono_ns();
    for (CpuTicks& ticks : now_) ticks = {};
    stat_.read([&](int cpu, CpuTicks ticks) {
      if (static_cast<size_t>(cpu) >= width_) return;
      now_[static_cast<size_t>(cpu)] = ticks;
      seen_[static_cast<size_t>(cpu)] = true;
    });
    times_.push(time);
    for (const CpuTicks& ticks : now_) rows_.push(ticks);
    for (size_t i = 0; i < paths_.size; ++i) cells_.push(read_cell(i));
    return true;
  }

  size_t count() const { return times_.size; }

  void print(Json* json) const {
    json->open('{').member("tick_hz", sysconf(_SC_CLK_TCK)).key("t_ns").open('[');
    for (int64_t time : times_) json->number(time);
    json->close(']');
    print_ticks(json, "busy", &CpuTicks::busy);
    print_ticks(json, "total", &CpuTicks::total);
    json->key("nodes").open('{');
    for (size_t node = 0; node < paths_.size; ++node) {
      json->key(paths_[node]).open('[');
      for (size_t row = 0; row < times_.size; ++row) json->text_or_null(cell(cells_[row * paths_.size + node]));
      json->close(']');
    }
    json->close('}').close('}');
  }

  // The newest sample alone, as members of an open object.
  void print_last(Json* json) const {
    size_t row = times_.size - 1;
    json->member("t_ns", times_[row]);
    for (int group = 0; group < 2; ++group) {
      bool busy = group == 0;
      json->key(busy ? "busy" : "total").open('{');
      for (size_t cpu = 0; cpu < width_; ++cpu) {
        char name[24];
        snprintf(name, sizeof name, "%zu", cpu);
        const CpuTicks& ticks = rows_[row * width_ + cpu];
        print_tick(&json->key(name), busy ? ticks.busy : ticks.total);
      }
      json->close('}');
    }
    json->key("nodes").open('{');
    for (size_t node = 0; node < paths_.size; ++node) {
      json->key(paths_[node]).text_or_null(cell(cells_[row * paths_.size + node]));
    }
    json->close('}');
  }

 private:
  struct Cell {
    int64_t begin;  // in texts_; -1: could not be read
    uint32_t size;
  };

  Cell read_cell(size_t node) {
    char text[4096];
    ssize_t got = -1;
    if (fds_[node] >= 0) got = pread(fds_[node], text, sizeof text, 0);
    if (got < 0) {  // the first time, or its CPU went away, or came back with new files
      if (fds_[node] >= 0) close(fds_[node]);
      fds_[node] = open(paths_[node].data, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
      if (fds_[node] >= 0) got = pread(fds_[node], text, sizeof text, 0);
    }
    if (got < 0) return last_[node] = {-1, 0};
    Text read = trim_end({text, static_cast<size_t>(got)});
    Cell before = last_[node];
    if (before.begin >= 0 && cell(before) == read) return before;
    last_[node] = {static_cast<int64_t>(texts_.size), static_cast<uint32_t>(read.size)};
    texts_.add(read);
    return last_[node];
  }

  Text cell(Cell cell) const {
    Text text;
    if (cell.begin < 0) {
      text.data = nullptr;
      return text;
    }
    return texts_.text().from(static_cast<size_t>(cell.begin)).first(cell.size);
  }

  static void print_tick(Json* json, int64_t ticks) {
    if (ticks < 0) {
      json->null();
    } else {
      json->number(ticks);
    }
  }

  void print_ticks(Json* json, Text name, int64_t CpuTicks::* which) const {
    json->key(name).open('{');
    for (size_t cpu = 0; cpu < width_; ++cpu) {
      if (!seen_[cpu]) continue;
      char number[24];
      snprintf(number, sizeof number, "%zu", cpu);
      json->key(number).open('[');
      for (size_t row = 0; row < times_.size; ++row) print_tick(json, rows_[row * width_ + cpu].*which);
      json->close(']');
    }
    json->close('}');
  }

  List<Text> paths_;
  size_t width_ = 0;
  CpuStat stat_;
  Vec<int> fds_;
  Vec<Cell> last_;
  Vec<CpuTicks> now_;
  Vec<bool> seen_;  // CPUs that were online at some sample
  Vec<int64_t> times_;
  Vec<CpuTicks> rows_;
  Vec<Cell> cells_;
  Buf texts_;
};

}  // namespace agent
