// The undo journal: what has to be done so that the device is as it was found. Every entry is written before the effect
// it undoes takes place, so that it outlives the agent; one whose effect outlives a power cut is on the disk by then.
#pragma once

#include "process.h"
#include "results.h"
#include "spawn.h"
#include "json_read.h"

namespace agent {

struct UndoEntry {
  enum Kind : uint8_t { kOpen, kKept, kNode, kHold, kCommand, kProgram, kKeeper, kGuard };
  Kind kind = kOpen;
  Text boot_id;  // of the boot in which it was written
  Text token;
  size_t begin = 0;  // offset of its line

  // kNode, kHold. ``write`` is what undoes it, ``before`` what was read, ``set`` what the step wrote.
  Text path, write, before, set;
  Verify verify = Verify::kExact;
  int64_t verify_ms = 0;
  bool given = false;  // the undo text was given in the plan
  Text floor_path;     // of a number below which it must not stay; empty: none
  int64_t floor = 0;

  // kCommand
  List<Text> argv;
  List<Pair> env;
  int64_t timeout_ms = 0;
  bool survives_reboot = false;

  // kProgram, kKeeper, kGuard
  Text name, exe_path;
  Identity id;
  Exe exe;
  bool by_exe = false;  // a pushed binary: any process that runs it is the plan's

  // Whether another boot still needs it. Nodes and processes are what they are after a reboot, with or without a line.
  bool outlives_boot() const { return kind == kOpen || kind == kKept || (kind == kCommand && survives_reboot); }
};

namespace undo_parts {

constexpr const char* kKinds[] = {"open", "kept", "node", "hold", "command", "program", "keeper", "guard"};
constexpr size_t kKindCount = sizeof kKinds / sizeof *kKinds;
constexpr const char* kVerify[] = {"exact", "first-int", "at-most", "word", "none"};

// Texts of nodes may hold any byte; those that are not UTF-8 go as base64.
inline void print_bytes(Json* json, Sink* sink, const char* name, const char* name_b64, Text bytes) {
  if (utf8_valid(bytes)) {
    json->member(name, bytes);
    return;
  }
  json->key(name_b64).quote_open();
  base64(sink, bytes);
  json->quote_close();
}

inline void print(Json* json, Sink* sink, const UndoEntry& entry) {
  json->open('{').member("undo", kKinds[entry.kind]);
  switch (entry.kind) {
    case UndoEntry::kOpen: json->member("boot_id", entry.boot_id).member("token", entry.token); break;
    case UndoEntry::kKept: break;
    case UndoEntry::kHold: json->member("path", entry.path); break;
    case UndoEntry::kNode:
      json->member("path", entry.path);
      print_bytes(json, sink, "write", "write_b64", entry.write);
      if (entry.before.data != nullptr) print_bytes(json, sink, "before", "before_b64", entry.before);
      json->member("set", entry.set).member("verify", kVerify[static_cast<int>(entry.verify)]);
      json->member("verify_ms", entry.verify_ms).member_bool("given", entry.given);
      if (entry.floor_path.size > 0) json->member("floor_path", entry.floor_path).member("floor", entry.floor);
      break;
    case UndoEntry::kCommand:
      json->member_texts("argv", entry.argv).key("env").open('{');
      for (const Pair& pair : entry.env) json->member(pair.name, pair.value);
      json->close('}').member("timeout_ms", entry.timeout_ms).member_bool("survives_reboot", entry.survives_reboot);
      break;
    case UndoEntry::kProgram:
    case UndoEntry::kKeeper:
    case UndoEntry::kGuard:
      json->member("name", entry.name).member("pid", entry.id.pid).member("start_time", entry.id.start_time);
      json->member("exe", entry.exe_path).member("exe_device", static_cast<int64_t>(entry.exe.device));
      json->member("exe_inode", static_cast<int64_t>(entry.exe.inode)).member_bool("by_exe", entry.by_exe);
      break;
  }
}

inline Text text_of(const JsonValue* object, const char* name) {
  const JsonValue* value = object->find(name);
  Text none;
  none.data = nullptr;
  return value != nullptr && value->kind == JsonValue::kString ? value->text : none;
}
inline int64_t number_of(const JsonValue* object, const char* name) {
  const JsonValue* value = object->find(name);
  return value != nullptr && value->kind == JsonValue::kInteger ? value->number : 0;
}
inline bool bool_of(const JsonValue* object, const char* name) {
  const JsonValue* value = object->find(name);
  return value != nullptr && value->kind == JsonValue::kTrue;
}
inline Text bytes_of(const JsonValue* object, const char* name, const char* name_b64, Arena* arena) {
  Text coded = text_of(object, name_b64);
  Buf decoded;
  if (coded.data == nullptr || !unbase64(coded, &decoded)) return text_of(object, name);
  return arena->copy(decoded.text());
}

// A line's entry; false if it is none.
inline bool parse(const JsonValue* object, Arena* arena, UndoEntry* entry) {
  Text kind = text_of(object, "undo");
  size_t index = 0;
  while (index < kKindCount && !(kind.data != nullptr && kind == Text(kKinds[index]))) ++index;
  if (index == kKindCount) return false;
  entry->kind = static_cast<UndoEntry::Kind>(index);
  entry->boot_id = text_of(object, "boot_id");
  entry->token = text_of(object, "token");
  entry->path = text_of(object, "path");
  entry->write = bytes_of(object, "write", "write_b64", arena);
  entry->before = bytes_of(object, "before", "before_b64", arena);
  entry->set = text_of(object, "set");
  Text verify = text_of(object, "verify");
  for (size_t i = 0; verify.data != nullptr && i < 5; ++i) {
    if (verify == Text(kVerify[i])) entry->verify = static_cast<Verify>(i);
  }
  entry->verify_ms = number_of(object, "verify_ms");
  entry->given = bool_of(object, "given");
  entry->floor_path = text_of(object, "floor_path");
  entry->floor = number_of(object, "floor");
  entry->timeout_ms = number_of(object, "timeout_ms");
  entry->survives_reboot = bool_of(object, "survives_reboot");
  entry->name = text_of(object, "name");
  entry->exe_path = text_of(object, "exe");
  entry->id = {static_cast<pid_t>(number_of(object, "pid")), number_of(object, "start_time")};
  entry->exe = {static_cast<uint64_t>(number_of(object, "exe_device")),
                static_cast<uint64_t>(number_of(object, "exe_inode"))};
  entry->by_exe = bool_of(object, "by_exe");
  if (const JsonValue* argv = object->find("argv")) {
    entry->argv = {arena->make<Text>(argv->count), 0};
    for (const JsonValue* word = argv->first; word != nullptr; word = word->next)
      entry->argv[entry->argv.size++] = word->text;
  }
  if (const JsonValue* env = object->find("env")) {
    entry->env = {arena->make<Pair>(env->count), 0};
    for (const JsonValue* pair = env->first; pair != nullptr; pair = pair->next) {
      entry->env[entry->env.size++] = {pair->key, pair->text};
    }
  }
  bool node = entry->kind == UndoEntry::kNode && (entry->path.data == nullptr || entry->write.data == nullptr);
  bool open = entry->kind == UndoEntry::kOpen && (entry->boot_id.data == nullptr || entry->token.data == nullptr);
  bool command = entry->kind == UndoEntry::kCommand && entry->argv.size == 0;
  return !node && !open && !command;
}

}  // namespace undo_parts

constexpr size_t kSealSize = sizeof(",\"line_sha256\":\"") - 1 + 64 + 2;

// The sealed line without its newline fits its checksum.
inline bool seal_fits(Text line) {
  if (line.size < kSealSize) return false;
  Text body = line.first(line.size - kSealSize);
  Text tail = line.from(body.size);
  if (!tail.starts_with(",\"line_sha256\":\"") || tail.from(tail.size - 2) != Text("\"}")) return false;
  Sha256 hash;
  hash.add(body);
  char hex[65];
  hash.finish(hex);
  return Text(hex) == tail.from(tail.size - 66).first(64);
}

// What an undo journal holds.
struct UndoList {
  Arena arena;
  Vec<UndoEntry> entries;
  size_t damaged = 0;   // lines in the middle that are not usable
  size_t kept_end = 0;  // behind the last "kept" line: what comes later belongs to an agent that did not end
  size_t end = 0;       // behind the last whole line

  int read(const char* path) {
    Buf text;
    int error = read_file(path, &text, size_t{256} << 20);
    if (error != 0) return error == ENOENT ? 0 : error;
    Text kept = arena.copy(text.text());
    Text boot_id, token;
    for (size_t at = 0; at < kept.size;) {
      const void* newline = memchr(kept.data + at, '\n', kept.size - at);
      if (newline == nullptr) break;  // the last line is cut: its effect never happened
      size_t next = static_cast<size_t>(static_cast<const char*>(newline) - kept.data) + 1;
      Text line(kept.data + at, next - at - 1);
      UndoEntry entry;
      JsonError why;
      const JsonValue* object = seal_fits(line) ? JsonParser(line, &arena).parse(&why) : nullptr;
      if (object == nullptr || !undo_parts::parse(object, &arena, &entry)) {
        // A hole is what a power cut made of lines that were never on the disk: another boot does not need them.
        if (memchr(line.data, '\0', line.size) == nullptr) ++damaged;
      } else {
        if (entry.kind == UndoEntry::kOpen) boot_id = entry.boot_id, token = entry.token;
        entry.boot_id = boot_id, entry.token = token, entry.begin = at;
        if (entry.kind == UndoEntry::kKept) kept_end = next;
        entries.push(entry);
      }
      at = end = next;
    }
    return 0;
  }
  bool empty() const { return entries.size == 0 && damaged == 0; }
};

// The journal while an agent writes it.
class UndoLog {
 public:
  // Opens for writing behind the first ``keep`` bytes; the rest is dropped. Returns 0 or errno.
  int open_at(Text state, size_t keep) {
    state_ = state;
    Buf path;
    path.add(state), path.add(Text("/undo.jsonl"));
    fd_.set(open(path.zero_ended(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd_.ok()) return errno;
    size_ = lasting_ = keep;
    if (ftruncate(fd_.get(), static_cast<off_t>(keep)) != 0 || fsync(fd_.get()) != 0) return errno;
    Buf dir;
    dir.add(state);
    return sync_dir(dir.zero_ended());
  }

  // Writes the entry, on the disk if it outlives the boot. Returns 0, or errno with the journal as before.
  int append(const UndoEntry& entry) {
    Sink sink;
    sink.begin_line();
    Json json(&sink);
    undo_parts::print(&json, &sink, entry);
    sink.finish_line();
    int error = 0;
    if (lseek(fd_.get(), static_cast<off_t>(size_), SEEK_SET) < 0) error = errno;
    if (error == 0) error = write_all(fd_.get(), sink.text());
    if (error == 0 && entry.outlives_boot() && fdatasync(fd_.get()) != 0) error = errno;
    if (error != 0) {
      if (ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) return error;
      return error;
    }
    size_ += sink.text().size;
    if (entry.outlives_boot()) lasting_ = size_;
    return 0;
  }

  Text state() const { return state_; }  // the directory it lies in
  size_t size() const { return size_; }
  // Forgets what stands behind the first ``keep`` bytes: it has been undone. Should a power cut bring back lines that
  // another boot does not need, they are passed over then.
  int truncate(size_t keep) {
    if (ftruncate(fd_.get(), static_cast<off_t>(keep)) != 0) return errno;
    size_ = keep;
    if (lasting_ <= keep) return 0;
    lasting_ = keep;
    return fdatasync(fd_.get()) == 0 ? 0 : errno;
  }

 private:
  Fd fd_;
  Text state_;
  size_t size_ = 0;
  size_t lasting_ = 0;  // the end of the last line that outlives the boot
};

}  // namespace agent
