// Nodes that match patterns, one JSON object a line, as devicelab.model.tree.Node has them.
#pragma once

#include <dirent.h>
#include <fnmatch.h>

#include "json_write.h"
#include "text_set.h"

namespace agent {

class Snapshot {
 public:
  Snapshot() : out_(1) {}

  // ``*``, ``?`` and ``[...]`` do not cross a slash; a last component ``**`` stands for a whole subtree.
  void add(Text pattern) {
    if (pattern.size == 0 || *pattern.data != '/') return;
    Buf path;
    descend(&path, pattern);
  }
  int finish() { return out_.flush(); }

 private:
  static constexpr size_t kMaxNodes = 50000;
  static constexpr int kMaxDepth = 12;

  static bool has_wildcard(Text part) {
    for (size_t i = 0; i < part.size; ++i) {
      if (strchr("*?[\\", part.data[i]) != nullptr) return true;
    }
    return false;
  }

  // Sorted, so that two snapshots of the same tree are the same.
  static void names(const char* dir, Arena* arena, Vec<Text>* into) {
    DIR* open_dir = opendir(dir);
    if (open_dir == nullptr) return;
    while (dirent* entry = readdir(open_dir)) {
      Text name(entry->d_name);
      if (name != Text(".") && name != Text("..")) into->push(arena->copy(name));
    }
    closedir(open_dir);
    if (into->size < 2) return;
    qsort(into->data, into->size, sizeof(Text), [](const void* a, const void* b) {
      return strcmp(static_cast<const Text*>(a)->data, static_cast<const Text*>(b)->data);
    });
  }

  // ``path`` is what has been matched; ``rest`` starts with a slash.
  void descend(Buf* path, Text rest) {
    while (rest.size > 0 && *rest.data == '/') rest = rest.from(1);
    if (rest.size == 0) {
      node(path->size > 0 ? path->zero_ended() : "/");
      return;
    }
    size_t end = 0;
    while (end < rest.size && rest.data[end] != '/') ++end;
    Text part = rest.first(end), behind = rest.from(end);
    size_t length = path->size;
    if (part == Text("**") && behind.size == 0) {
      subtree(path, 0);
    } else if (!has_wildcard(part)) {
      path->add('/'), path->add(part);
      struct stat info{};
      if (lstat(path->zero_ended(), &info) == 0) descend(path, behind);
    } else {
      Arena arena;
      Vec<Text> found;
      names(length > 0 ? path->zero_ended() : "/", &arena, &found);
      Text shape = arena.copy(part);
      for (Text name : found) {
        if (fnmatch(shape.data, name.data, FNM_PERIOD) != 0) continue;
        path->add('/'), path->add(name);
        descend(path, behind);
        path->size = length;
      }
    }
    path->size = length;
  }

  // Links in it are told but not followed.
  void subtree(Buf* path, int depth) {
    if (depth >= kMaxDepth || count_ >= kMaxNodes) return;
    size_t length = path->size;
    Arena arena;
    Vec<Text> found;
    names(length > 0 ? path->zero_ended() : "/", &arena, &found);
    for (Text name : found) {
      path->add('/'), path->add(name);
      struct stat info{};
      if (lstat(path->zero_ended(), &info) == 0) {
        node(path->zero_ended());
        if (S_ISDIR(info.st_mode)) subtree(path, depth + 1);
      }
      path->size = length;
    }
  }

  void node(const char* path) {
    struct stat info{};
    if (count_ >= kMaxNodes || lstat(path, &info) != 0 || !seen_.add(path)) return;
    ++count_;
    Json json(&out_);
    bool link = S_ISLNK(info.st_mode);
    json.open('{').member("path", path).member("kind", link ? "link" : S_ISDIR(info.st_mode) ? "dir" : "file");
    json.member("mode", info.st_mode & 07777);
    if (link) {
      char target[4096];
      ssize_t got = readlink(path, target, sizeof target);
      if (got >= 0) json.member("target", Text(target, static_cast<size_t>(got)));
      if (stat(path, &info) != 0) info.st_mode = 0;
    }
    if (S_ISREG(info.st_mode)) {  // devices and pipes are not read: that may have effects
      Buf text;
      int error = read_file(path, &text, kNodeLimit);
      if (error == 0) {
        json.member("text", text.text());
      } else {
        json.member("errno", error);
      }
    }
    // Root passes every permission check, but sysfs refuses to write what has no write bit at all.
    json.member_bool("writable", (info.st_mode & 0222) != 0 && access(path, W_OK) == 0);
    json.close('}');
    out_.add('\n');
  }

  Sink out_;
  TextSet seen_;
  size_t count_ = 0;
};

// `agent snapshot FILE|-`
inline int snapshot(const char* patterns) {
  Buf text;
  int error =
      Text(patterns) == Text("-") ? read_fd(0, &text, size_t{16} << 20) : read_file(patterns, &text, size_t{16} << 20);
  if (error != 0) {
    fprintf(stderr, "agent: cannot read %s: %s\n", patterns, strerror(error));
    return 2;
  }
  // access() asks with the real user id; the effective one is what counts.
  if (getuid() != geteuid() && setreuid(geteuid(), static_cast<uid_t>(-1)) != 0) return 1;
  Snapshot all;
  Text rest = text.text();
  while (rest.size > 0) {
    const void* newline = memchr(rest.data, '\n', rest.size);
    size_t end = newline == nullptr ? rest.size : static_cast<size_t>(static_cast<const char*>(newline) - rest.data);
    all.add(trim(rest.first(end)));
    rest = rest.from(end < rest.size ? end + 1 : end);
  }
  return all.finish() == 0 ? 0 : 4;
}

}  // namespace agent
