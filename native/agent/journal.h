// The journal of results: sealed lines, appended whole or not at all.
#pragma once

#include "text_set.h"
#include "undo.h"

namespace agent {

class Journal {
 public:
  // Opens or continues OUT/journal.jsonl. A last line that is cut is removed. Returns 0 or errno.
  int open_in(Text out_dir) {
    Buf path;
    path.add(out_dir), path.add(Text("/journal.jsonl"));
    fd_.set(open(path.zero_ended(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd_.ok()) return errno;
    sink_.direct(fd_.get());
    plan_id_.data = nullptr;
    int error = scan();
    if (error != 0) return error;
    if (ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) return errno;
    if (lseek(fd_.get(), static_cast<off_t>(size_), SEEK_SET) < 0) return errno;
    Buf dir;
    dir.add(out_dir);
    return sync_dir(dir.zero_ended());
  }

  // The plan it was begun for; no data if it is new.
  Text plan_id() const { return plan_id_; }
  bool has_run(Text run_id) { return runs_.has(run_id); }
  size_t runs() const { return runs_.size(); }

  // Starts a line; its members are written to the Json returned, then comes ``commit``.
  Json begin(Text event) {
    sink_.clear();
    sink_.begin_line();
    Json json(&sink_);
    json.open('{').member("event", event);
    return json;
  }

  // Ends the line. Returns 0, or errno with the journal as it was before the line.
  int commit(bool durable) {
    sink_.finish_line();
    int error = sink_.flush();
    if (error == 0 && durable && fdatasync(fd_.get()) != 0) error = errno;
    off_t end = lseek(fd_.get(), 0, SEEK_CUR);
    if (error == 0 && end < 0) error = EIO;
    if (error != 0) {
      if (ftruncate(fd_.get(), static_cast<off_t>(size_)) == 0) lseek(fd_.get(), static_cast<off_t>(size_), SEEK_SET);
      return error;
    }
    size_ = static_cast<uint64_t>(end);
    return 0;
  }

  Sink* sink() { return &sink_; }
  void count_run(Text run_id) { runs_.add(run_id); }

 private:
  // Notes the plan and the runs of all sound lines, and where the last whole line ends.
  int scan() {
    Buf chunk;
    chunk.reserve(65536);
    uint64_t begin = 0;
    for (uint64_t at = 0;;) {
      ssize_t got = pread(fd_.get(), chunk.data, 65536, static_cast<off_t>(at));
      if (got < 0) return errno;
      if (got == 0) break;
      for (ssize_t i = 0; i < got; ++i) {
        if (chunk.data[i] != '\n') continue;
        uint64_t end = at + static_cast<uint64_t>(i);
        note(begin, end - begin);
        begin = end + 1;
      }
      at += static_cast<uint64_t>(got);
    }
    size_ = begin;
    return 0;
  }

  void note(uint64_t begin, uint64_t length) {
    char head[2048];
    ssize_t got = pread(fd_.get(), head, length < sizeof head ? static_cast<size_t>(length) : sizeof head,
                        static_cast<off_t>(begin));
    Text start(head, got > 0 ? static_cast<size_t>(got) : 0);
    Text run("{\"event\":\"run\",\"run_id\":"), plan("{\"event\":\"plan-start\",\"plan_id\":");
    bool is_run = start.starts_with(run);
    if ((!is_run && !start.starts_with(plan)) || !sound(begin, length)) return;
    Text quoted = start.from(is_run ? run.size : plan.size);
    size_t end = 1;
    while (end < quoted.size && quoted.data[end] != '"') end += quoted.data[end] == '\\' ? 2 : 1;
    if (end >= quoted.size) return;
    Arena scratch;
    JsonError why;
    const JsonValue* id = JsonParser(quoted.first(end + 1), &scratch).parse(&why);
    if (id == nullptr || id->kind != JsonValue::kString) return;
    if (is_run && !interrupted(start, run.size + end + 1, begin, length)) runs_.add(id->text);
    if (!is_run && plan_id_.data == nullptr) plan_id_ = arena_.copy(id->text);
  }

  // The run was cut off as its agent was ended: it is done again. ``start`` is what was read of the line; behind the id
  // only a number and a fixed word stand before the flags, and what programs said comes after them.
  bool interrupted(Text start, size_t behind_id, uint64_t begin, uint64_t length) {
    Text mark(",\"flags\":[");
    size_t at = behind_id;
    while (at < start.size && !start.from(at).starts_with(mark)) ++at;
    if (at == start.size || start.from(at + mark.size).starts_with("]")) return false;
    Buf line;
    size_t wanted = length < kMaxFlags ? static_cast<size_t>(length) : kMaxFlags;
    line.reserve(wanted);
    ssize_t got = pread(fd_.get(), line.data, wanted, static_cast<off_t>(begin));
    if (got < 0 || static_cast<size_t>(got) < at + mark.size) return false;
    line.size = static_cast<size_t>(got);
    Text list = line.text().from(at + mark.size - 1);
    size_t end = 0;
    for (bool quoted = false; end < list.size && (quoted || list.data[end] != ']'); ++end) {
      if (quoted && list.data[end] == '\\') {
        ++end;
      } else if (list.data[end] == '"') {
        quoted = !quoted;
      }
    }
    if (end >= list.size) return false;
    Arena scratch;
    JsonError why;
    const JsonValue* flags = JsonParser(list.first(end + 1), &scratch).parse(&why);
    for (const JsonValue* flag = flags != nullptr ? flags->first : nullptr; flag != nullptr; flag = flag->next) {
      const JsonValue* code = flag->find("code");
      if (code != nullptr && code->kind == JsonValue::kString && code->text == Text("interrupted")) return true;
    }
    return false;
  }

  bool sound(uint64_t begin, uint64_t length) {
    if (length < kSealSize) return false;
    Sha256 hash;
    char piece[16384], hex[65], seal[kSealSize];
    uint64_t body = begin + length - kSealSize;
    for (uint64_t at = begin; at < body;) {
      size_t want = body - at < sizeof piece ? static_cast<size_t>(body - at) : sizeof piece;
      ssize_t got = pread(fd_.get(), piece, want, static_cast<off_t>(at));
      if (got <= 0) return false;
      hash.add({piece, static_cast<size_t>(got)});
      at += static_cast<uint64_t>(got);
    }
    hash.finish(hex);
    if (pread(fd_.get(), seal, sizeof seal, static_cast<off_t>(body)) != static_cast<ssize_t>(sizeof seal))
      return false;
    Text text(seal, sizeof seal), mark(",\"line_sha256\":\"");
    return text.starts_with(mark) && text.from(mark.size).first(64) == Text(hex);
  }

  static constexpr size_t kMaxFlags = 2 << 20;  // 256 flags of a kilobyte, each byte of them escaped

  Fd fd_;
  uint64_t size_ = 0;  // of the whole lines
  Text plan_id_;
  Arena arena_;
  TextSet runs_;
  Sink sink_;
};

}  // namespace agent
