// A set of texts, kept as two 64-bit checksums each (FNV-1a and a linear congruence), with open addressing.
#pragma once

#include "text.h"

namespace agent {

class TextSet {
 public:
  // False if it was there already.
  bool add(Text text) {
    if ((count_ + 1) * 2 > table_.size) grow();
    Entry* slot = find(sum(text));
    if (slot->first != 0) return false;
    *slot = sum(text);
    ++count_;
    return true;
  }
  bool has(Text text) { return table_.size > 0 && find(sum(text))->first != 0; }
  size_t size() const { return count_; }

 private:
  struct Entry {
    uint64_t first, second;
  };

  static Entry sum(Text text) {
    Entry entry{14695981039346656037u, 1469598103934665603u};
    for (size_t i = 0; i < text.size; ++i) {
      unsigned char c = static_cast<unsigned char>(text.data[i]);
      entry.first = (entry.first ^ c) * 1099511628211u;
      entry.second = (entry.second + c) * 6364136223846793005u + 1442695040888963407u;
    }
    if (entry.first == 0) entry.first = 1;  // 0 marks a free slot
    return entry;
  }

  Entry* find(Entry wanted) {
    for (size_t slot = wanted.first & (table_.size - 1);; slot = (slot + 1) & (table_.size - 1)) {
      Entry* entry = &table_.data[slot];
      if (entry->first == 0 || (entry->first == wanted.first && entry->second == wanted.second)) return entry;
    }
  }

  void grow() {
    Vec<Entry> old;
    old.take(&table_);
    size_t size = old.size > 0 ? old.size * 2 : 64;
    table_.reserve(size);
    table_.size = size;
    memset(static_cast<void*>(table_.data), 0, size * sizeof(Entry));
    for (const Entry& entry : old) {
      if (entry.first != 0) *find(entry) = entry;
    }
  }

  Vec<Entry> table_;
  size_t count_ = 0;
};

}  // namespace agent
