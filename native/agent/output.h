// A program's result in the journal, with its output embedded.
#pragma once

#include "programs.h"

namespace agent {

class Output {
 public:
  // Looks at the file once: length, checksum, and whether it is UTF-8. ``limit`` cuts.
  Output(int fd, int64_t limit) : fd_(fd) {
    struct stat info{};
    if (fd_ < 0 || fstat(fd_, &info) != 0) return;
    size_ = info.st_size < limit ? info.st_size : limit;
    Sha256 hash;
    Buf carried;  // the start of a character that a piece's end cut
    each([&](Text piece) {
      hash.add(piece);
      if (!utf8_) return;
      carried.add(piece);
      size_t cut = utf8_cut(carried.text());
      utf8_ = utf8_valid(carried.text().first(carried.size - cut));
      Buf rest;
      rest.add(carried.text().from(carried.size - cut));
      carried.take(&rest);
    });
    utf8_ = utf8_ && carried.size == 0;
    hash.finish(hex_);
  }

  void print(Json* json, Sink* sink) {
    json->member("stdout_bytes", size_);
    if (size_ == 0) return;
    json->member("stdout_sha256", hex_).key(utf8_ ? "stdout" : "stdout_b64").quote_open();
    Buf carried;
    each([&](Text piece) {
      carried.add(piece);
      size_t cut = utf8_ ? utf8_cut(carried.text()) : carried.size % 3;
      Text whole = carried.text().first(carried.size - cut);
      if (utf8_) {
        json->characters(whole);
      } else {
        base64(sink, whole);
      }
      Buf rest;
      rest.add(carried.text().from(carried.size - cut));
      carried.take(&rest);
    });
    if (!utf8_) base64(sink, carried.text());
    json->quote_close();
  }

 private:
  template <class Visit>
  void each(Visit visit) {
    char piece[32768];
    for (int64_t at = 0; at < size_;) {
      size_t want = size_ - at < static_cast<int64_t>(sizeof piece) ? static_cast<size_t>(size_ - at) : sizeof piece;
      ssize_t got = pread(fd_, piece, want, static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {  // shorter than it was: what is there counts
        size_ = at;
        return;
      }
      visit(Text(piece, static_cast<size_t>(got)));
      at += got;
    }
  }

  int fd_;
  int64_t size_ = 0;
  bool utf8_ = true;
  char hex_[65] = "";
};

// The last 4 KiB of what a program said on stderr.
inline Text tail_of(int fd, Arena* arena, size_t limit = 4096) {
  struct stat info{};
  if (fd < 0 || fstat(fd, &info) != 0) return {};
  off_t begin = info.st_size > static_cast<off_t>(limit) ? info.st_size - static_cast<off_t>(limit) : 0;
  char* bytes = static_cast<char*>(arena->take(limit));
  ssize_t got = pread(fd, bytes, limit, begin);
  return {bytes, got > 0 ? static_cast<size_t>(got) : 0};
}

inline void print_cpus(Json* json, const char* name, const CpuSet& set) {
  Vec<int> cpus;
  set.list(&cpus);
  json->member_numbers(name, cpus.data, cpus.size);
}

inline void print_program(Json* json, Sink* sink, const Started& one, Arena* arena) {
  json->open('{').member("name", one.program->name);
  json->member("role", one.program->role == Role::kLoad ? "load" : "measure").member("pid", one.watched.pid);
  json->member("start_ns", one.start_ns).member("end_ns", one.watched.end_ns);
  print_cpus(json, "granted", one.granted);
  print_cpus(json, "granted_end", one.granted_end);
  json->member("cpu_ns", one.watched.cpu_ns).member("window_cpu_ns", one.window_cpu_ns);
  if (one.watched.exit_code() >= 0) json->member("exit_code", one.watched.exit_code());
  if (one.watched.signal() != 0) json->member("signal", one.watched.signal());
  Output(one.out, one.limit()).print(json, sink);
  json->member("stderr_tail", tail_of(one.err, arena)).close('}');
}

}  // namespace agent
