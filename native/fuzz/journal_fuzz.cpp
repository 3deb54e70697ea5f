// libFuzzer harness for the files an agent finds in its folders: the journal of results it continues, the undo journal
// it plays back, its lease and the note of the agent before it.
// clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -I.. journal_fuzz.cpp
//
// The first byte picks the file. In the two journals a line that begins with '+' is sealed here, so that the fuzzer gets
// past the checksums; other lines stand as they are.
#include "agent/journal.h"
#include "agent/state.h"

using namespace agent;

namespace {

char folder[] = "/dev/shm/journal_fuzz.XXXXXX";

void put(Text name, Text data) {
  Buf path;
  path.add(Text(folder)), path.add("/"), path.add(name);
  Fd fd;
  fd.set(open(path.zero_ended(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.ok() || write_all(fd.get(), data) != 0) abort();
}

void sealed(Text input, Buf* out) {
  for (size_t at = 0; at < input.size;) {
    const void* newline = memchr(input.data + at, '\n', input.size - at);
    size_t end = newline == nullptr ? input.size : static_cast<size_t>(static_cast<const char*>(newline) - input.data);
    Text line = input.from(at).first(end - at);
    if (line.starts_with("+")) {
      line = line.from(1);
      if (line.size > 0 && line.data[line.size - 1] == '}') line = line.first(line.size - 1);
      Sha256 hash;
      hash.add(line);
      char hex[65];
      hash.finish(hex);
      out->add(line), out->add(",\"line_sha256\":\""), out->add(Text(hex)), out->add("\"}");
    } else {
      out->add(line);
    }
    if (newline != nullptr) out->add("\n");
    at = end + 1;
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  if (mkdtemp(folder) == nullptr) abort();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Text input(reinterpret_cast<const char*>(data) + 1, size - 1);
  Buf lines;
  sealed(input, &lines);
  switch (data[0] % 4) {
    case 0: {
      put("journal.jsonl", lines.text());
      Journal journal;
      if (journal.open_in(Text(folder)) != 0) abort();
      size_t runs = journal.runs();
      Json json = journal.begin("run");  // a line can be added behind whatever was there, and is found again
      json.member("run_id", "a run of the harness");
      if (journal.commit(false) != 0) abort();
      Journal again;
      if (again.open_in(Text(folder)) != 0) abort();
      if (!again.has_run("a run of the harness") || again.runs() < runs) abort();
      break;
    }
    case 1: {
      put("undo.jsonl", lines.text());
      Buf path;
      path.add(Text(folder)), path.add("/undo.jsonl");
      UndoList list;
      if (list.read(path.zero_ended()) != 0 || list.end > lines.text().size || list.kept_end > list.end) abort();
      UndoLog log;
      if (log.open_at(Text(folder), list.end) != 0) abort();
      for (const UndoEntry& entry : list.entries)
        if (log.append(entry) != 0) abort();
      UndoList after;  // what was understood is understood again
      if (after.read(path.zero_ended()) != 0 || after.entries.size != 2 * list.entries.size) abort();
      if (after.damaged != list.damaged) abort();
      break;
    }
    case 2: {
      put("lease.json", input);
      Arena arena;
      Lease lease = Lease::read(Text(folder), &arena);
      if (lease.write(Text(folder)) != 0) abort();
      break;
    }
    default: {
      put("agent.json", input);
      Arena arena;
      AgentInfo info = AgentInfo::read(Text(folder), &arena);
      if (info.write(Text(folder)) != 0) abort();
    }
  }
  return 0;
}
