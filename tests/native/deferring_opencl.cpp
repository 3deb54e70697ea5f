// An OpenCL library that holds commands back until their queue is flushed, as strictly as the specification allows: a
// wait flushes nothing but the queue it is made on. A kernel adds its number to a buffer, so that a program's output shows
// whether everything was done, once and in order.
//   DEFERRING_LOG=FILE   at the end of the process: "flushes N kernels N" and what each flush covered

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using I = int32_t;
using U = uint32_t;
using L = uint64_t;
using P = void*;

namespace {

L now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<L>(t.tv_sec) * 1000000000 + static_cast<L>(t.tv_nsec);
}

std::mutex& mutex() {
  static auto* one = new std::mutex;
  return *one;
}
std::condition_variable& changed() {
  static auto* one = new std::condition_variable;
  return *one;
}
std::string& batches() {
  static auto* one = new std::string;
  return *one;
}
int flushes;
int kernels_done;

struct Queue;

struct Event {
  int references = 1;
  I status = 3;  // CL_QUEUED
  Queue* queue = nullptr;
  L stamps[4] = {};
  std::vector<std::function<void()>> callbacks;
};

struct Task {
  std::vector<Event*> waits;
  Event* event;
  std::function<void()> work;
  bool kernel;
};

struct Queue {
  int references = 1;
  L properties = 0;
  std::deque<Task> held;
  std::deque<Task> submitted;
  bool busy = false;
  bool over = false;
};

void drop(Event* event) {
  if (--event->references == 0) delete event;
}

void complete(std::unique_lock<std::mutex>& lock, Event* event) {
  event->status = 0;
  auto callbacks = std::move(event->callbacks);
  event->callbacks.clear();
  changed().notify_all();
  lock.unlock();
  for (auto& one : callbacks) one();
  lock.lock();
}

void work(Queue* queue) {
  std::unique_lock<std::mutex> lock(mutex());
  for (;;) {
    changed().wait(lock, [&] { return queue->over || !queue->submitted.empty(); });
    if (queue->submitted.empty()) break;
    Task task = std::move(queue->submitted.front());
    queue->submitted.pop_front();
    queue->busy = true;
    changed().wait(lock, [&] {
      for (Event* one : task.waits) {
        if (one->status > 0) return false;
      }
      return true;
    });
    for (Event* one : task.waits) drop(one);
    task.event->stamps[2] = now();
    lock.unlock();
    if (task.work) task.work();
    lock.lock();
    task.event->stamps[3] = now();
    if (task.kernel) ++kernels_done;
    queue->busy = false;
    if (task.event->references > 1) {  // the program, or a callback, knows it
      --task.event->references;
      complete(lock, task.event);
    } else {
      complete(lock, task.event);
      drop(task.event);
    }
  }
  delete queue;
}

// Everything that is held goes to the worker.
void submit(Queue* queue) {
  for (Task& task : queue->held) {
    task.event->status = 2;
    task.event->stamps[1] = now();
    queue->submitted.push_back(std::move(task));
  }
  queue->held.clear();
  changed().notify_all();
}

I enqueue(P handle, U count, P list, P out, bool blocking, bool kernel, std::function<void()> run) {
  auto* queue = static_cast<Queue*>(handle);
  std::unique_lock<std::mutex> lock(mutex());
  auto* event = new Event;
  event->queue = queue;
  event->stamps[0] = now();
  Task task{{}, event, std::move(run), kernel};
  for (U i = 0; i < count; ++i) {
    auto* one = static_cast<Event**>(list)[i];
    ++one->references;
    task.waits.push_back(one);
  }
  if (out != nullptr) {
    ++event->references;
    *static_cast<Event**>(out) = event;
  }
  ++event->references;
  queue->held.push_back(std::move(task));
  if (blocking) {
    submit(queue);
    changed().wait(lock, [&] { return event->status <= 0; });
  }
  drop(event);
  return 0;
}

I text(const char* value, size_t room, P target, P needed) {
  if (target != nullptr && room > strlen(value)) strcpy(static_cast<char*>(target), value);
  if (needed != nullptr) *static_cast<size_t*>(needed) = strlen(value) + 1;
  return 0;
}

struct Logger {
  ~Logger() {
    const char* path = getenv("DEFERRING_LOG");
    FILE* file = path == nullptr ? nullptr : fopen(path, "w");
    if (file == nullptr) return;
    fprintf(file, "flushes %d kernels %d\n%s\n", flushes, kernels_done, batches().c_str());
    fclose(file);
  }
} logger;

int object;

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API I clGetPlatformIDs(U, P* ids, U* count) {
  if (ids != nullptr) ids[0] = &object;
  if (count != nullptr) *count = 1;
  return 0;
}
API I clGetPlatformInfo(P, U, size_t room, P target, P needed) { return text("deferring", room, target, needed); }
API I clGetDeviceIDs(P, L, U, P* ids, U* count) {
  if (ids != nullptr) ids[0] = &object;
  if (count != nullptr) *count = 1;
  return 0;
}
API I clGetDeviceInfo(P, U what, size_t room, P target, P needed) {
  if (what == 0x1000 || what == 0x1031) {
    const L value = what == 0x1000 ? 4 : reinterpret_cast<uintptr_t>(&object);
    memcpy(target, &value, sizeof value);
    return 0;
  }
  return text("deferring", room, target, needed);
}
API P clCreateContext(P, U, P, P, P, I* code) {
  if (code != nullptr) *code = 0;
  return &object;
}
API I clReleaseContext(P) { return 0; }
API P clCreateCommandQueue(P, P, L properties, I* code) {
  auto* queue = new Queue;
  queue->properties = properties;
  std::thread(work, queue).detach();
  if (code != nullptr) *code = 0;
  return queue;
}
API I clRetainCommandQueue(P handle) {
  std::lock_guard<std::mutex> lock(mutex());
  ++static_cast<Queue*>(handle)->references;
  return 0;
}
API I clReleaseCommandQueue(P handle) {
  std::lock_guard<std::mutex> lock(mutex());
  auto* queue = static_cast<Queue*>(handle);
  submit(queue);
  if (--queue->references == 0) queue->over = true;
  changed().notify_all();
  return 0;
}
API I clGetCommandQueueInfo(P handle, U, size_t, P target, P) {
  memcpy(target, &static_cast<Queue*>(handle)->properties, sizeof(L));
  return 0;
}
API P clCreateBuffer(P, L, size_t size, P, I* code) {
  if (code != nullptr) *code = 0;
  return calloc(1, size);
}
API I clReleaseMemObject(P memory) {
  free(memory);
  return 0;
}
API I clEnqueueNDRangeKernel(P queue, P kernel, U, P, P, P, U count, P list, P event) {
  return enqueue(queue, count, list, event, false, true, [kernel] {
    auto* cell = static_cast<L*>(kernel);
    __atomic_store_n(cell, *cell * 31 + 7, __ATOMIC_SEQ_CST);
  });
}
API I clEnqueueTask(P queue, P kernel, U count, P list, P event) {
  return clEnqueueNDRangeKernel(queue, kernel, 1, nullptr, nullptr, nullptr, count, list, event);
}
API I clEnqueueReadBuffer(P queue, P memory, U blocking, size_t, size_t size, P to, U count, P list, P event) {
  return enqueue(queue, count, list, event, blocking != 0, false, [=] { memcpy(to, memory, size); });
}
API I clEnqueueWriteBuffer(P queue, P memory, U blocking, size_t, size_t size, P from, U count, P list, P event) {
  return enqueue(queue, count, list, event, blocking != 0, false, [=] { memcpy(memory, from, size); });
}
API P clEnqueueMapBuffer(P queue, P memory, U blocking, L, size_t, size_t, U count, P list, P event, I* code) {
  if (code != nullptr) *code = 0;
  enqueue(queue, count, list, event, blocking != 0, false, {});
  return memory;
}
API I clEnqueueUnmapMemObject(P queue, P, P, U count, P list, P event) {
  return enqueue(queue, count, list, event, false, false, {});
}
API I clEnqueueSVMMap(P queue, U blocking, L, P, size_t, U count, P list, P event) {
  return enqueue(queue, count, list, event, blocking != 0, false, {});
}
API I clEnqueueMarkerWithWaitList(P queue, U count, P list, P event) {
  return enqueue(queue, count, list, event, false, false, {});
}
API I clEnqueueBarrierWithWaitList(P queue, U count, P list, P event) {
  return enqueue(queue, count, list, event, false, false, {});
}
API I clEnqueueNativeKernel(P queue, void (*function)(P), P arguments, size_t, U, P, P, U count, P list, P event) {
  P copy = *static_cast<P*>(arguments);
  return enqueue(queue, count, list, event, false, false, [=] { function(copy); });
}
API I clFlush(P handle) {
  std::lock_guard<std::mutex> lock(mutex());
  auto* queue = static_cast<Queue*>(handle);
  ++flushes;
  int covered = 0;
  for (const Task& task : queue->held) covered += task.kernel ? 1 : 0;
  batches() += std::to_string(covered) + " ";
  submit(queue);
  return 0;
}
API I clFinish(P handle) {
  auto* queue = static_cast<Queue*>(handle);
  std::unique_lock<std::mutex> lock(mutex());
  submit(queue);
  changed().wait(lock, [&] { return queue->submitted.empty() && !queue->busy; });
  return 0;
}
API I clWaitForEvents(U count, Event** list) {
  std::unique_lock<std::mutex> lock(mutex());
  changed().wait(lock, [&] {
    for (U i = 0; i < count; ++i) {
      if (list[i]->status > 0) return false;
    }
    return true;
  });
  return 0;
}
API I clGetEventInfo(Event* event, U what, size_t, P target, P) {
  std::lock_guard<std::mutex> lock(mutex());
  if (what == 0x11D0) memcpy(target, &event->queue, sizeof event->queue);
  if (what == 0x11D2) memcpy(target, &event->references, sizeof event->references);
  if (what == 0x11D3) memcpy(target, &event->status, sizeof event->status);
  return 0;
}
API I clGetEventProfilingInfo(Event* event, U what, size_t, P target, P) {
  std::lock_guard<std::mutex> lock(mutex());
  if (event->queue == nullptr || (event->queue->properties & 2) == 0 || event->status != 0) return -7;
  memcpy(target, &event->stamps[what - 0x1280], sizeof(L));
  return 0;
}
API I clRetainEvent(Event* event) {
  std::lock_guard<std::mutex> lock(mutex());
  ++event->references;
  return 0;
}
API I clReleaseEvent(Event* event) {
  std::lock_guard<std::mutex> lock(mutex());
  drop(event);
  return 0;
}
API P clCreateUserEvent(P, I* code) {
  if (code != nullptr) *code = 0;
  return new Event;
}
API I clSetUserEventStatus(Event* event, I) {
  std::unique_lock<std::mutex> lock(mutex());
  complete(lock, event);
  return 0;
}
API I clSetEventCallback(Event* event, I, void (*callback)(Event*, I, P), P user) {
  std::unique_lock<std::mutex> lock(mutex());
  if (event->status <= 0) {
    lock.unlock();
    callback(event, 0, user);
    return 0;
  }
  ++event->references;
  event->callbacks.push_back([=] {
    callback(event, 0, user);
    clReleaseEvent(event);
  });
  return 0;
}
API I clEnqueueStrangeEXT(P queue, P cell) {
  return enqueue(queue, 0, nullptr, nullptr, false, false, [cell] { __atomic_store_n(static_cast<L*>(cell), 99, __ATOMIC_SEQ_CST); });
}
API P clGetExtensionFunctionAddressForPlatform(P, const char* name) {
  return strcmp(name, "clEnqueueStrangeEXT") == 0 ? reinterpret_cast<P>(clEnqueueStrangeEXT) : nullptr;
}
