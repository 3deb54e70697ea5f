// A strict JSON parser (RFC 8259) for files that may be hostile: bounded depth, no recursion, no duplicate keys.
#pragma once

#include "utf8.h"

namespace agent {

struct JsonValue {
  enum Kind : uint8_t { kNull, kFalse, kTrue, kInteger, kFraction, kString, kArray, kObject };
  Kind kind = kNull;
  bool keyed = false;          // stands in an object
  Text key;                    // its name there
  Text text;                   // of a string (decoded, zero-ended)
  int64_t number = 0;          // of an integer
  size_t begin = 0, end = 0;   // where it stands in the source
  size_t count = 0;            // items of an array or object
  JsonValue* first = nullptr;  // its first item
  JsonValue* next = nullptr;   // the item behind this one

  bool is_bool() const { return kind == kTrue || kind == kFalse; }
  const JsonValue* find(Text name) const {
    for (const JsonValue* item = first; item != nullptr; item = item->next) {
      if (item->keyed && item->key == name) return item;
    }
    return nullptr;
  }
};

struct JsonError {
  const char* reason = nullptr;
  size_t offset = 0;
};

class JsonParser {
 public:
  static constexpr size_t kMaxDepth = 16;

  JsonParser(Text source, Arena* arena) : source_(source), arena_(arena) {}

  // The whole source as one value, or null with ``error`` filled in.
  JsonValue* parse(JsonError* error) {
    JsonValue* root = nullptr;
    if (run(&root)) return root;
    *error = {reason_, at_};
    return nullptr;
  }

 private:
  bool fail(const char* reason) {
    reason_ = reason;
    return false;
  }
  bool more() const { return at_ < source_.size; }
  char peek() const { return source_.data[at_]; }
  void skip_blanks() {
    while (more() && (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r')) ++at_;
  }

  bool run(JsonValue** root) {
    JsonValue* open[kMaxDepth];
    JsonValue* last[kMaxDepth];
    size_t depth = 0;
    for (;;) {
      skip_blanks();
      // An array or object that ends before a (first) item.
      if (depth > 0 && more() && open[depth - 1]->count == 0 && peek() == closer(open[depth - 1])) {
        open[depth - 1]->end = ++at_;
        --depth;
      } else {
        if (++values_ > kMaxValues) return fail("too many values");
        JsonValue* value = arena_->make<JsonValue>();
        if (depth > 0) {
          JsonValue* parent = open[depth - 1];
          if (parent->kind == JsonValue::kObject && !key(parent, value)) return false;
          if (parent->count++ == 0) {
            parent->first = value;
          } else {
            last[depth - 1]->next = value;
          }
          last[depth - 1] = value;
        } else {
          *root = value;
        }
        if (!scalar_or_opener(value)) return false;
        if (value->kind == JsonValue::kArray || value->kind == JsonValue::kObject) {
          if (depth == kMaxDepth) return fail("nested too deeply");
          open[depth++] = value;
          continue;
        }
      }
      // Behind a value: close what ends here, then a comma or the end.
      for (;;) {
        skip_blanks();
        if (depth == 0) return more() ? fail("text behind the value") : true;
        if (!more()) return fail("ends too early");
        if (peek() == closer(open[depth - 1])) {
          open[depth - 1]->end = ++at_;
          --depth;
          continue;
        }
        if (peek() != ',') return fail("expected a comma or the end of the list");
        ++at_;
        break;
      }
    }
  }

  static char closer(const JsonValue* value) { return value->kind == JsonValue::kObject ? '}' : ']'; }

  bool key(const JsonValue* parent, JsonValue* value) {
    if (!more() || peek() != '"') return fail("expected a name in quotes");
    if (!string(&value->key)) return false;
    value->keyed = true;
    if (parent->count > kMaxKeys) return fail("too many names in an object");
    if (parent->find(value->key) != nullptr) return fail("a name stands twice in an object");
    skip_blanks();
    if (!more() || peek() != ':') return fail("expected a colon");
    ++at_;
    skip_blanks();
    return true;
  }

  bool scalar_or_opener(JsonValue* value) {
    if (!more()) return fail("ends too early");
    value->begin = at_;
    char c = peek();
    bool good;
    if (c == '"') {
      value->kind = JsonValue::kString;
      good = string(&value->text);
    } else if (c == '{' || c == '[') {
      value->kind = c == '{' ? JsonValue::kObject : JsonValue::kArray;
      ++at_;
      good = true;
    } else if (c == '-' || is_digit(c)) {
      good = number(value);
    } else {
      good = word("null", JsonValue::kNull, value) || word("true", JsonValue::kTrue, value) ||
             word("false", JsonValue::kFalse, value) || fail("expected a value");
    }
    value->end = at_;
    return good;
  }

  bool word(Text name, JsonValue::Kind kind, JsonValue* value) {
    if (!source_.from(at_).starts_with(name)) return false;
    at_ += name.size;
    value->kind = kind;
    return true;
  }

  bool digits() {
    size_t begin = at_;
    while (more() && is_digit(peek())) ++at_;
    return at_ > begin;
  }

  bool number(JsonValue* value) {
    size_t begin = at_;
    if (peek() == '-') ++at_;
    if (more() && peek() == '0') {
      ++at_;
      if (more() && is_digit(peek())) return fail("a number starts with 0");
    } else if (!digits()) {
      return fail("expected digits");
    }
    value->kind = JsonValue::kInteger;
    if (more() && peek() == '.') {
      ++at_;
      value->kind = JsonValue::kFraction;
      if (!digits()) return fail("expected digits");
    }
    if (more() && (peek() == 'e' || peek() == 'E')) {
      ++at_;
      value->kind = JsonValue::kFraction;
      if (more() && (peek() == '+' || peek() == '-')) ++at_;
      if (!digits()) return fail("expected digits");
    }
    if (value->kind == JsonValue::kInteger && !parse_number({source_.data + begin, at_ - begin}, &value->number)) {
      return fail("the number is too large");
    }
    return true;
  }

  bool hex4(uint32_t* point) {
    if (source_.size - at_ < 4) return fail("ends too early");
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      char c = source_.data[at_++];
      int digit = is_digit(c)            ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
      if (digit < 0) return fail("expected four hex digits");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    *point = value;
    return true;
  }

  bool string(Text* decoded) {
    size_t begin = ++at_;
    size_t end = begin;
    while (end < source_.size && source_.data[end] != '"') end += source_.data[end] == '\\' ? 2 : 1;
    if (end >= source_.size) return fail("a string does not end");
    char* out = static_cast<char*>(arena_->take(end - begin + 1));  // decoding never makes it longer
    size_t size = 0;
    while (at_ < end) {
      char c = peek();
      if (static_cast<unsigned char>(c) < 0x20) return fail("a control character stands in a string");
      if (c != '\\') {
        size_t length = utf8_length(source_.from(at_));
        if (length == 0) return fail("not UTF-8");
        memcpy(out + size, source_.data + at_, length);
        size += length, at_ += length;
        continue;
      }
      ++at_;
      if (!escape(out, &size)) return false;
    }
    ++at_;
    out[size] = '\0';
    *decoded = {out, size};
    return true;
  }

  bool escape(char* out, size_t* size) {
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    char c = source_.data[at_++];
    if (c != 'u') {
      const char* found = c == '\0' ? nullptr : strchr(from, c);
      if (found == nullptr) return fail("an unknown escape in a string");
      out[(*size)++] = to[found - from];
      return true;
    }
    uint32_t point = 0, low = 0;
    if (!hex4(&point)) return false;
    if (point >= 0xd800 && point <= 0xdbff) {
      if (!source_.from(at_).starts_with("\\u")) return fail("half a surrogate pair");
      at_ += 2;
      if (!hex4(&low)) return false;
      if (low < 0xdc00 || low > 0xdfff) return fail("half a surrogate pair");
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    size_t length = 0;
    if (!utf8_encode(point, out + *size, &length)) return fail("half a surrogate pair");
    *size += length;
    return true;
  }

  static constexpr size_t kMaxKeys = 256;  // looking for duplicates is quadratic

  static constexpr size_t kMaxValues = 1 << 20;  // each needs about a hundred bytes

  Text source_;
  Arena* arena_;
  size_t at_ = 0, values_ = 0;
  const char* reason_ = nullptr;
};

}  // namespace agent
