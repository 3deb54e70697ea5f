// libFuzzer harness for what the agent parses: plan files, and the undo journal's lines.
// clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -I.. plan_fuzz.cpp
#include "agent/plan_read.h"
#include "agent/undo.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace agent;
  Text input(reinterpret_cast<const char*>(data), size);
  Buf text;
  text.add(input);
  Plan plan;
  PlanError error;
  if (!plan.load(&text, &error) && error.text[0] == '\0') abort();  // every refusal has a reason
  Arena arena;
  JsonError why;
  const JsonValue* value = JsonParser(input, &arena).parse(&why);
  if (value == nullptr && why.reason == nullptr) abort();
  UndoEntry entry;
  if (value != nullptr && value->kind == JsonValue::kObject && undo_parts::parse(value, &arena, &entry)) {
    Sink sink;  // what was understood can be written down again
    Json json(&sink);
    undo_parts::print(&json, &sink, entry);
  }
  return 0;
}
