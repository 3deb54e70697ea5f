// Undoing: entries in reverse, several times over, since some nodes take their old value only after another has its
// own.
#pragma once

#include "hunt.h"

namespace agent {

// Does the text read back show what was wanted?
inline bool shows(Verify verify, Text wanted, Text read) {
  wanted = trim(wanted), read = trim(read);
  Text a, b;
  int64_t x = 0, y = 0;
  bool numbers = (verify == Verify::kFirstInt || verify == Verify::kAtMost) && first_number(wanted, &a) &&
                 first_number(read, &b) && parse_number(a, &x) && parse_number(b, &y);
  switch (verify) {
    case Verify::kNone: return true;
    case Verify::kExact: return wanted == read;
    case Verify::kFirstInt: return numbers && x == y;
    case Verify::kAtMost: return numbers && y <= x;
    case Verify::kWord: break;
  }
  Text word;
  while (next_word(&read, &word)) {
    bool bracketed = word.size > 2 && *word.data == '[' && word.data[word.size - 1] == ']';
    if (word == wanted || (bracketed && Text(word.data + 1, word.size - 2) == wanted)) return true;
  }
  return false;
}

// The text that puts back what was read: the selected word or the number where the node shows more than it takes.
inline Text text_to_restore(Verify verify, Text read, Arena* arena) {
  Text found;
  if ((verify == Verify::kFirstInt || verify == Verify::kAtMost) && first_number(read, &found))
    return arena->copy(found);
  Text rest = read, word;
  while (verify == Verify::kWord && next_word(&rest, &word)) {
    if (word.size > 2 && *word.data == '[' && word.data[word.size - 1] == ']') {
      return arena->copy({word.data + 1, word.size - 2});
    }
  }
  return arena->copy(read);
}

struct Reading {
  int error = 0;
  Text text;  // as read
  bool good() const { return error == 0; }
};

// An attribute of sysfs comes whole in one read, a page at most; other files may come in pieces.
inline bool comes_whole(Text path) {
  return path.starts_with("/sys/devices/") || path.starts_with("/sys/class/") || path.starts_with("/sys/power/");
}

inline Reading read_node(Text path, Arena* arena, size_t limit = kNodeLimit) {
  Buf text;
  Reading reading;
  reading.error = read_file(path.data, &text, limit, comes_whole(path));
  reading.text = arena->copy(text.text());
  if (reading.error != 0) reading.text.data = nullptr;
  return reading;
}

class Replay {
 public:
  // ``same_boot`` false: nodes were reset by the reboot, only commands whose effect survives one are undone.
  Replay(Arena* arena, Text scratch) : arena_(arena), scratch_(scratch) {}

  void run(const Vec<UndoEntry>& entries, Text boot_id, Vec<StepResult>* results) {
    Vec<Item> items;
    for (size_t i = entries.size; i-- > 0;) {
      const UndoEntry& entry = entries[i];
      bool stale = !(entry.boot_id == boot_id);
      if (entry.kind == UndoEntry::kCommand && (!stale || entry.survives_reboot)) {
        results->push(undo_command(entry));
      } else if (entry.kind == UndoEntry::kHold && !stale) {
        StepResult released;
        released.path = entry.path;
        released.held = true;
        results->push(released);
      } else if (entry.kind == UndoEntry::kNode && !stale && !has_earlier(entries, i)) {
        Item item{&entry, results->size};
        StepResult first;
        first.path = entry.path;
        results->push(first);
        item.verified = attempt(entry, &results->data[item.result]);
        items.push(item);
      } else if (stale && (entry.kind == UndoEntry::kNode || entry.kind == UndoEntry::kCommand)) {
        ++stale_;
      }
    }
    settle(&items, results);
    for (const StepResult& result : *results) failed_ += !result.held;
  }

  size_t failed() const { return failed_; }
  size_t stale() const { return stale_; }

 private:
  static constexpr int kPasses = 6;

  struct Item {
    const UndoEntry* entry;
    size_t result;
    bool verified = false;
  };

  // The value saved first is the one the device had.
  static bool has_earlier(const Vec<UndoEntry>& entries, size_t index) {
    for (size_t i = 0; i < index; ++i) {
      bool same = entries[i].kind == UndoEntry::kNode && entries[i].path == entries[index].path;
      if (same && entries[i].boot_id == entries[index].boot_id) return true;
    }
    return false;
  }

  static bool is_back(const UndoEntry& entry, Text read) {
    if (shows(entry.verify, entry.write, read)) return true;
    if (!entry.given) return false;
    // An undo text from the plan ("0" to unlock) need not be what the node then shows.
    bool as_before = entry.before.data != nullptr && trim(entry.before) == trim(read);
    return as_before || !shows(entry.verify == Verify::kAtMost ? Verify::kFirstInt : entry.verify, entry.set, read);
  }

  bool attempt(const UndoEntry& entry, StepResult* result) {
    Reading before = read_node(entry.path, arena_);
    if (result->before.data == nullptr && before.good()) result->before = trim(before.text);
    bool as_read = !entry.given && entry.before.data != nullptr && entry.before == entry.write;
    result->error = write_node(entry.path.data, entry.write, as_read);
    Reading after = read_node(entry.path, arena_);
    result->after = after.good() ? trim(after.text) : after.text;
    // What cannot be written but shows its old value was never changed: the step's own write was refused too.
    bool untouched = after.good() && entry.before.data != nullptr && trim(entry.before) == trim(after.text);
    if (result->error != 0 && untouched) {
      result->error = 0;
      return result->held = true;
    }
    bool readable = after.good() || entry.verify == Verify::kNone;
    result->held = result->error == 0 && (readable ? entry.verify == Verify::kNone || is_back(entry, after.text)
                                                   : entry.before.data == nullptr);
    if (result->error == 0 && !readable && !result->held) result->error = after.error;
    return result->held;
  }

  // Looks again at everything, since a later write may have moved or enabled an earlier one.
  void settle(Vec<Item>* items, Vec<StepResult>* results) {
    int64_t patience = 200;
    for (const Item& item : *items) patience = item.entry->verify_ms > patience ? item.entry->verify_ms : patience;
    if (patience > 3000) patience = 3000;
    for (int pass = 1; pass < kPasses; ++pass) {
      bool all = true;
      for (Item& item : *items) {
        StepResult* result = &results->data[item.result];
        Reading now = read_node(item.entry->path, arena_);
        if (item.verified) {
          // Unreadable by now: its CPU went offline again, as it was found.
          if (!now.good() || item.entry->verify == Verify::kNone || is_back(*item.entry, now.text)) continue;
        } else if (now.good() && result->error == 0 && is_back(*item.entry, now.text)) {
          result->after = trim(now.text);
          result->held = item.verified = true;
          continue;
        }
        all = false;
        item.verified = attempt(*item.entry, result);
      }
      if (all) return;
      if (pass >= 2) wait_until(mono_ns() + patience * kMs / (kPasses - 2));
    }
  }

  StepResult undo_command(const UndoEntry& entry) {
    Launch launch;
    launch.argv = entry.argv;
    launch.env = entry.env;
    CommandResult done = run_command(launch, entry.timeout_ms, scratch_, false, arena_);
    StepResult result;
    result.is_command = true;
    result.command = entry.argv;
    result.error = done.timed_out ? ETIMEDOUT : done.error;
    result.exit_code = done.exit_code;
    result.output = done.output;
    result.held = done.good();
    return result;
  }

  Arena* arena_;
  Text scratch_;
  size_t failed_ = 0, stale_ = 0;
};

}  // namespace agent
