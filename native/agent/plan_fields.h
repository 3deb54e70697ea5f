// Typed fields of JSON objects, with the path of what is wrong. Mirrors pydantic's extra="forbid".
#pragma once

#include <stdarg.h>

#include "plan.h"

namespace agent {

// A name or index on the way from the root to a value; lives on the stack of the readers.
struct Place {
  const Place* parent = nullptr;
  Text name;         // a member
  size_t index = 0;  // or an item, where the name is empty

  static void print(const Place* place, Buf* out) {
    if (place == nullptr) return out->add('$');
    print(place->parent, out);
    if (place->name.size > 0) {
      out->add('.');
      out->add(place->name.first(64));
    } else {
      out->add('[');
      out->add_number(static_cast<int64_t>(place->index));
      out->add(']');
    }
  }
};

// Reads the members of one object. After the last ``take...`` call ``done()`` reports members nobody asked for.
class Fields {
 public:
  Fields(const JsonValue* object, const Place* place, Arena* arena, PlanError* error)
      : object_(object), place_(place), arena_(arena), error_(error) {
    if (object->kind != JsonValue::kObject) fail(nullptr, "expected an object");
  }

  bool good() const { return good_; }
  Arena* arena() const { return arena_; }
  PlanError* error() const { return error_; }
  const Place* place() const { return place_; }

  bool fail(const Place* at, const char* reason) {
    if (!good_) return false;
    good_ = false;
    if (error_->text[0] != '\0') return false;  // an object further in has said it already
    Buf where;
    Place::print(at != nullptr ? at : place_, &where);
    snprintf(error_->text, sizeof error_->text, "%s: %s", where.zero_ended(), reason);
    return false;
  }

  bool done() {
    for (const JsonValue* item = object_->first; good_ && item != nullptr; item = item->next) {
      Place at{place_, item->key, 0};
      if (taken_ < object_->count && !was_taken(item->key)) fail(&at, "there is no such member");
    }
    return good_;
  }

  const JsonValue* member(const char* name, bool needed = true) {
    if (!good_) return nullptr;
    if (names_ < sizeof known_ / sizeof known_[0]) known_[names_++] = name;
    const JsonValue* value = object_->find(name);
    if (value != nullptr) ++taken_;
    if (value == nullptr && needed) {
      Place at{place_, name, 0};
      fail(&at, "is missing");
    }
    return value;
  }

  // Texts go into argv, paths and environments, so they hold no zero byte.
  bool text(const JsonValue* value, const Place* at, Text* into) {
    if (value->kind != JsonValue::kString) return fail(at, "expected a string");
    if (value->text.size > 0 && memchr(value->text.data, 0, value->text.size) != nullptr) {
      return fail(at, "holds a zero byte");
    }
    *into = value->text;
    return true;
  }
  bool path(const JsonValue* value, const Place* at, Text* into) {
    if (!text(value, at, into)) return false;
    if (into->size == 0 || *into->data != '/') return fail(at, "expected an absolute path");
    return into->size < 4096 || fail(at, "the path is too long");
  }

  void take_text(const char* name, Text* into) {
    Place at{place_, name, 0};
    if (const JsonValue* value = member(name)) text(value, &at, into);
  }
  void take_id(const char* name, Text* into) {
    Place at{place_, name, 0};
    take_text(name, into);
    if (good_ && into->size == 0) fail(&at, "is empty");
    if (good_ && into->size > 512) fail(&at, "is too long");
  }
  void take_path(const char* name, Text* into) {
    Place at{place_, name, 0};
    if (const JsonValue* value = member(name)) path(value, &at, into);
  }
  void take_optional_text(const char* name, Text* into) {
    Place at{place_, name, 0};
    into->data = nullptr;
    const JsonValue* value = member(name, false);
    if (value != nullptr && value->kind != JsonValue::kNull) text(value, &at, into);
  }
  void take_bool(const char* name, bool* into) {
    Place at{place_, name, 0};
    const JsonValue* value = member(name, false);
    if (value == nullptr) return;
    if (!value->is_bool()) {
      fail(&at, "expected true or false");
      return;
    }
    *into = value->kind == JsonValue::kTrue;
  }
  bool integer(const JsonValue* value, const Place* at, int64_t low, int64_t high, int64_t* into) {
    if (value->kind != JsonValue::kInteger) return fail(at, "expected an integer");
    if (value->number < low || value->number > high) {
      char reason[96];
      snprintf(reason, sizeof reason, "is not between %lld and %lld", static_cast<long long>(low),
               static_cast<long long>(high));
      return fail(at, reason);
    }
    *into = value->number;
    return true;
  }
  void take_integer(const char* name, int64_t low, int64_t high, int64_t* into, bool needed = false) {
    Place at{place_, name, 0};
    if (const JsonValue* value = member(name, needed)) integer(value, &at, low, high, into);
  }
  // A time; a plan that waits for longer than a month is a mistake.
  void take_ms(const char* name, int64_t* into) { take_integer(name, 0, int64_t{31} * 86400 * 1000, into); }
  bool take_optional_integer(const char* name, int64_t* into) {
    Place at{place_, name, 0};
    const JsonValue* value = member(name, false);
    if (value == nullptr || value->kind == JsonValue::kNull) return false;
    return integer(value, &at, INT64_MIN / 4, INT64_MAX / 4, into);
  }

  // A list whose items ``read(value, place, &item)`` turns into T; null counts as absent where ``nullable``.
  template <class T, class Read>
  bool take_list(const char* name, List<T>* into, Read read, bool needed = false, bool nullable = false) {
    Place at{place_, name, 0};
    const JsonValue* value = member(name, needed);
    if (value == nullptr || (nullable && value->kind == JsonValue::kNull)) return false;
    if (value->kind != JsonValue::kArray) return fail(&at, "expected a list");
    if (value->count > kMaxItems) return fail(&at, "has too many items");
    into->data = arena_->make<T>(value->count);
    into->size = value->count;
    size_t index = 0;
    for (const JsonValue* item = value->first; item != nullptr; item = item->next, ++index) {
      Place place{&at, {}, index};
      if (!read(item, &place, &into->data[index])) return fail(&place, "is not valid");
    }
    return true;
  }
  void take_texts(const char* name, List<Text>* into, bool needed = false) {
    take_list(name, into, [this](const JsonValue* v, const Place* at, Text* t) { return text(v, at, t); }, needed);
  }
  void take_paths(const char* name, List<Text>* into) {
    take_list(name, into, [this](const JsonValue* v, const Place* at, Text* t) { return path(v, at, t); });
  }
  void take_argv(const char* name, List<Text>* into) {
    Place at{place_, name, 0};
    take_texts(name, into, true);
    if (good_ && (into->size == 0 || into->data[0].size == 0)) fail(&at, "names no program");
  }
  bool take_cpus(const char* name, List<int>* into, bool needed) {
    Place at{place_, name, 0};
    auto read = [this](const JsonValue* value, const Place* place, int* cpu) {
      int64_t number = 0;
      if (!integer(value, place, 0, kMaxCpus - 1, &number)) return false;
      *cpu = static_cast<int>(number);
      return true;
    };
    bool given = take_list(name, into, read, needed, !needed);
    if (good_ && given && into->size == 0) fail(&at, "names no CPU");
    return given;
  }
  void take_env(const char* name, List<Pair>* into) {
    Place at{place_, name, 0};
    const JsonValue* value = member(name, false);
    if (value == nullptr) return;
    if (value->kind != JsonValue::kObject) {
      fail(&at, "expected an object");
      return;
    }
    into->data = arena_->make<Pair>(value->count);
    for (const JsonValue* item = value->first; good_ && item != nullptr; item = item->next) {
      Place place{&at, item->key, 0};
      Pair* pair = &into->data[into->size++];
      pair->name = item->key;
      bool sound = item->key.size > 0 && memchr(item->key.data, '=', item->key.size) == nullptr &&
                   memchr(item->key.data, 0, item->key.size) == nullptr;
      if (!sound) {
        fail(&at, "holds a name that no variable can have");
      } else {
        text(item, &place, &pair->value);
      }
    }
  }

 private:
  static constexpr size_t kMaxItems = 100000;

  bool was_taken(Text name) const {
    for (size_t i = 0; i < names_; ++i) {
      if (name == Text(known_[i])) return true;
    }
    return false;
  }

  const JsonValue* object_;
  const Place* place_;
  Arena* arena_;
  PlanError* error_;
  bool good_ = true;
  size_t taken_ = 0;
  const char* known_[24] = {};
  size_t names_ = 0;
};

}  // namespace agent
