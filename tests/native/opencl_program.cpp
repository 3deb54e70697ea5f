// An OpenCL program as others write them: opens the library by name, has its own idea of when to flush, and waits in the
// way that its first argument names. Prints what its kernels computed.
//   opencl_program LIBRARY WAY KERNELS INFERENCES OWN_FLUSH_EVERY

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using I = int32_t;
using U = uint32_t;
using L = uint64_t;
using P = void*;

namespace {

void* library;

template <typename R, typename... A>
R call(const char* name, A... arguments) {
  void* found = dlsym(library, name);
  if (found == nullptr) {
    fprintf(stderr, "no %s\n", name);
    exit(3);
  }
  return reinterpret_cast<R (*)(A...)>(found)(arguments...);
}

constexpr P kNone = nullptr;
P context;
P device;
int kernels;
int inferences;
int own;

P make_queue(L properties = 0) {
  return call<P>("clCreateCommandQueue", context, device, properties, kNone);
}
void flush(P queue) { call<I>("clFlush", queue); }
void finish(P queue) { call<I>("clFinish", queue); }
I status_of(P event) {
  I status = 9;
  call<I>("clGetEventInfo", event, U{0x11D3}, sizeof status, static_cast<P>(&status), kNone);
  return status;
}
void release(P event) { call<I>("clReleaseEvent", event); }

P launch(P queue, L& cell, bool wanted = false, std::vector<P> waits = {}) {
  P event = nullptr;
  const size_t global = 1;
  const I code = call<I>("clEnqueueNDRangeKernel", queue, static_cast<P>(&cell), U{1}, kNone,
                         static_cast<P>(const_cast<size_t*>(&global)), kNone, static_cast<U>(waits.size()),
                         static_cast<P>(waits.empty() ? nullptr : waits.data()),
                         static_cast<P>(wanted ? &event : nullptr));
  if (code != 0) exit(4);
  return event;
}

// The kernels of an inference with the program's own flushes; the last one's event.
P produce(P queue, L& cell, bool wanted) {
  P event = nullptr;
  for (int i = 0; i < kernels; ++i) {
    const bool last = i + 1 == kernels;
    event = launch(queue, cell, wanted && last);
    if (own > 0 && ((i + 1) % own == 0 || last)) flush(queue);
  }
  return event;
}

struct Signal {
  std::mutex mutex;
  std::condition_variable changed;
  bool set = false;
  void give() {
    std::lock_guard<std::mutex> lock(mutex);
    set = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return set; });
  }
};

void on_event(P, I, P user) { static_cast<Signal*>(user)->give(); }
void on_native(P user) { static_cast<Signal*>(user)->give(); }

void wait_for(P queue, P event, L& cell, const std::string& way) {
  if (way == "finish") finish(queue);
  if (way == "events") call<I>("clWaitForEvents", U{1}, static_cast<P>(&event));
  if (way == "read") {
    L value = 0;
    call<I>("clEnqueueReadBuffer", queue, static_cast<P>(&cell), U{1}, size_t{0}, sizeof value, static_cast<P>(&value),
            U{0}, kNone, kNone);
    if (value != cell) exit(5);
  }
  if (way == "write") {
    L other = 0;
    L value = 1;
    call<I>("clEnqueueWriteBuffer", queue, static_cast<P>(&other), U{1}, size_t{0}, sizeof value, static_cast<P>(&value),
            U{0}, kNone, kNone);
  }
  if (way == "map") {
    I code = 0;
    call<P>("clEnqueueMapBuffer", queue, static_cast<P>(&cell), U{1}, L{1}, size_t{0}, sizeof cell, U{0}, kNone, kNone,
            static_cast<P>(&code));
  }
  if (way == "svm") call<I>("clEnqueueSVMMap", queue, U{1}, L{1}, static_cast<P>(&cell), sizeof cell, U{0}, kNone, kNone);
  if (way == "poll") {
    while (status_of(event) > 0) std::this_thread::yield();
  }
  if (way == "stamps") {
    L value = 0;
    while (call<I>("clGetEventProfilingInfo", event, U{0x1283}, sizeof value, static_cast<P>(&value), kNone) != 0) {
      std::this_thread::yield();
    }
  }
  if (way == "marker") {
    P marker = nullptr;
    call<I>("clEnqueueMarkerWithWaitList", queue, U{0}, kNone, static_cast<P>(&marker));
    flush(queue);
    call<I>("clWaitForEvents", U{1}, static_cast<P>(&marker));
    release(marker);
  }
  if (way == "later-read") {
    L value = 0;
    P done = nullptr;
    call<I>("clEnqueueReadBuffer", queue, static_cast<P>(&cell), U{0}, size_t{0}, sizeof value, static_cast<P>(&value),
            U{0}, kNone, static_cast<P>(&done));
    flush(queue);
    while (status_of(done) > 0) std::this_thread::yield();
    release(done);
  }
  if (way == "memory") {  // no call at all: only a watchdog can know
    L seen = 0;
    L wanted = 0;
    static L before = 0;
    for (int i = 0; i < kernels; ++i) before = before * 31 + 7;
    wanted = before;
    do {
      seen = __atomic_load_n(&cell, __ATOMIC_SEQ_CST);
    } while (seen != wanted);
  }
  if (way == "native") {
    Signal signal;
    P argument = &signal;
    call<I>("clEnqueueNativeKernel", queue, reinterpret_cast<P>(on_native), static_cast<P>(&argument), sizeof argument,
            U{0}, kNone, kNone, U{0}, kNone, kNone);
    flush(queue);
    signal.wait();
  }
}

void one_queue(const std::string& way) {
  L cell = 0;
  const P queue = make_queue(way == "stamps" ? 2 : 0);
  const bool wanted = way == "events" || way == "poll" || way == "stamps";
  for (int i = 0; i < inferences; ++i) {
    const P event = produce(queue, cell, wanted);
    if (way == "finish") {  // as C++ wrappers do
      call<I>("clRetainCommandQueue", queue);
      call<I>("clReleaseCommandQueue", queue);
    }
    wait_for(queue, event, cell, way);
    if (event != nullptr) release(event);
  }
  finish(queue);
  printf("%016llx\n", static_cast<unsigned long long>(cell));
  call<I>("clReleaseCommandQueue", queue);
}

void callback() {
  L cell = 0;
  const P queue = make_queue();
  for (int i = 0; i < inferences; ++i) {
    Signal signal;
    P event = nullptr;
    for (int k = 0; k < kernels; ++k) event = launch(queue, cell, k + 1 == kernels);
    call<I>("clSetEventCallback", event, I{0}, reinterpret_cast<P>(on_event), static_cast<P>(&signal));
    flush(queue);
    signal.wait();
    release(event);
  }
  printf("%016llx\n", static_cast<unsigned long long>(cell));
}

// As OpenCV does: a callback for every kernel, to let go of what it used, and a read at the end.
void on_kernel(P event, I, P user) {
  __atomic_add_fetch(static_cast<int*>(user), 1, __ATOMIC_SEQ_CST);
  release(event);
}

void callbacks() {
  L cell = 0;
  int called = 0;
  const P queue = make_queue();
  for (int i = 0; i < inferences; ++i) {
    for (int k = 0; k < kernels; ++k) {
      const P event = launch(queue, cell, true);
      call<I>("clSetEventCallback", event, I{0}, reinterpret_cast<P>(on_kernel), static_cast<P>(&called));
    }
    wait_for(queue, nullptr, cell, "read");
  }
  finish(queue);
  while (__atomic_load_n(&called, __ATOMIC_SEQ_CST) < kernels * inferences) std::this_thread::yield();
  printf("%d %016llx\n", called, static_cast<unsigned long long>(cell));
}

// The second queue waits for the first; `late`: the first is flushed only after the second was told to wait.
void two_queues(bool late) {
  L cell = 0;
  const P first = make_queue();
  const P second = make_queue();
  for (int i = 0; i < inferences; ++i) {
    P event = nullptr;
    for (int k = 0; k < kernels; ++k) event = launch(first, cell, k + 1 == kernels);
    if (!late) flush(first);
    launch(second, cell, false, {event});
    if (late) flush(first);
    flush(second);
    finish(second);
    release(event);
  }
  finish(first);
  printf("%016llx\n", static_cast<unsigned long long>(cell));
}

void user_event() {
  L cell = 0;
  const P queue = make_queue();
  for (int i = 0; i < inferences; ++i) {
    I code = 0;
    const P gate = call<P>("clCreateUserEvent", context, static_cast<P>(&code));
    const P event = launch(queue, cell, true, {gate});
    flush(queue);
    std::thread opener([&] { call<I>("clSetUserEventStatus", gate, I{0}); });
    call<I>("clWaitForEvents", U{1}, static_cast<P>(const_cast<P*>(&event)));
    opener.join();
    release(event);
    release(gate);
  }
  printf("%016llx\n", static_cast<unsigned long long>(cell));
}

// The queue is gone when its last event is waited for.
void released() {
  L cell = 0;
  for (int i = 0; i < inferences; ++i) {
    const P queue = make_queue();
    const P event = produce(queue, cell, true);
    call<I>("clReleaseCommandQueue", queue);
    call<I>("clWaitForEvents", U{1}, static_cast<P>(const_cast<P*>(&event)));
    release(event);
  }
  printf("%016llx\n", static_cast<unsigned long long>(cell));
}

void extension() {
  L cell = 0;
  const P queue = make_queue();
  const P found = call<P>("clGetExtensionFunctionAddressForPlatform", kNone, "clEnqueueStrangeEXT");
  launch(queue, cell);
  L told = 0;
  reinterpret_cast<I (*)(P, P)>(found)(queue, &told);
  flush(queue);
  while (__atomic_load_n(&told, __ATOMIC_SEQ_CST) != 99) std::this_thread::yield();
  printf("%llu\n", static_cast<unsigned long long>(told));
}

// Inference i + 1 is enqueued before i is waited for.
void pipelined() {
  L cell = 0;
  const P queue = make_queue();
  P before = nullptr;
  for (int i = 0; i < inferences; ++i) {
    const P event = produce(queue, cell, true);
    if (before != nullptr) {
      call<I>("clWaitForEvents", U{1}, static_cast<P>(&before));
      release(before);
    }
    before = event;
  }
  finish(queue);
  release(before);
  printf("%016llx\n", static_cast<unsigned long long>(cell));
}

void threads() {
  std::vector<std::thread> all;
  std::vector<L> cells(4, 0);
  const P shared = make_queue();
  L together = 0;
  for (int t = 0; t < 4; ++t) {
    all.emplace_back([&, t] {
      const P queue = make_queue();
      for (int i = 0; i < inferences; ++i) {
        produce(queue, cells[static_cast<size_t>(t)], false);
        finish(queue);
        launch(shared, together);
        if (i % 3 == 0) flush(shared);
        if (i % 5 == 0) finish(shared);
      }
      call<I>("clReleaseCommandQueue", queue);
    });
  }
  for (std::thread& one : all) one.join();
  finish(shared);
  for (const L cell : cells) printf("%016llx\n", static_cast<unsigned long long>(cell));
  printf("%016llx\n", static_cast<unsigned long long>(together));
}

// What a program can ask about its objects must not show the layer.
void questions() {
  L cell = 0;
  const P queue = make_queue();
  const P event = launch(queue, cell, true);
  U references = 0;
  L properties = 0;
  L stamp = 0;
  call<I>("clGetCommandQueueInfo", queue, U{0x1093}, sizeof properties, static_cast<P>(&properties), kNone);
  finish(queue);
  call<I>("clGetEventInfo", event, U{0x11D2}, sizeof references, static_cast<P>(&references), kNone);
  const I code = call<I>("clGetEventProfilingInfo", event, U{0x1283}, sizeof stamp, static_cast<P>(&stamp), kNone);
  printf("%u %llu %d\n", references, static_cast<unsigned long long>(properties), code);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fprintf(stderr, "%s\n", dlerror());
    return 3;
  }
  const std::string way = argv[2];
  kernels = atoi(argv[3]);
  inferences = atoi(argv[4]);
  own = atoi(argv[5]);
  I code = 0;
  U count = 0;
  P platform = nullptr;
  call<I>("clGetPlatformIDs", U{1}, static_cast<P>(&platform), static_cast<P>(&count));
  call<I>("clGetDeviceIDs", platform, L{4}, U{1}, static_cast<P>(&device), static_cast<P>(&count));
  context = call<P>("clCreateContext", kNone, U{1}, static_cast<P>(&device), kNone, kNone, static_cast<P>(&code));
  if (way == "callback") callback();
  else if (way == "callbacks") callbacks();
  else if (way == "two-queues") two_queues(false);
  else if (way == "two-queues-late") two_queues(true);
  else if (way == "user-event") user_event();
  else if (way == "released") released();
  else if (way == "extension") extension();
  else if (way == "pipelined") pipelined();
  else if (way == "threads") threads();
  else if (way == "questions") questions();
  else one_queue(way);
  call<I>("clReleaseContext", context);
  puts("done");
  return 0;
}
