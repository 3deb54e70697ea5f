// Wrappers of everything that waits, flushes, asks or makes queues, and the table of all wrappers.
#pragma once

#include "cl/paths.h"
#include "opencl_layer/commands.h"

namespace layer {

void finish_records();

inline void device_string(P device, U what, const char* key, Line& line) {
  char text[4096] = "";
  size_t size = 0;
  if (state().next.clGetDeviceInfo(device, what, sizeof text - 1, text, &size) != CL_SUCCESS) text[0] = '\0';
  line.string(key, text);
}

inline void write_queue(const Queue* q, P device, const char* why) {
  Layer& s = state();
  Line line;
  line.begin("queue");
  line.number("queue", q == nullptr ? 0 : q->number);
  line.truth("handled", q != nullptr);
  line.string("why", why);
  L type = 0;
  s.next.clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof type, &type, nullptr);
  line.string("type", (type & CL_DEVICE_TYPE_GPU) != 0 ? "gpu" : (type & CL_DEVICE_TYPE_CPU) != 0 ? "cpu" : "other");
  line.truth("noop", is_noop());
  P platform = nullptr;
  char name[256] = "";
  s.next.clGetDeviceInfo(device, CL_DEVICE_PLATFORM, sizeof platform, &platform, nullptr);
  if (platform != nullptr) s.next.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, nullptr);
  line.string("platform", name);
  device_string(device, CL_DEVICE_NAME, "device", line);
  device_string(device, CL_DRIVER_VERSION, "driver", line);
  device_string(device, CL_DEVICE_VERSION, "device_version", line);
  device_string(device, CL_DEVICE_EXTENSIONS, "extensions", line);
  line.truth("in_order", q == nullptr || q->in_order);
  line.truth("profiling", q != nullptr && q->profiling);
  line.truth("profiling_added", q != nullptr && q->profiling_added);
  line.end();
  s.output.write(line);
}

inline P look_after(P handle, P device, L properties, const L* list, uint32_t listed, bool profiling, bool added) {
  Layer& s = state();
  Queue* q = s.queues.add();
  if (q == nullptr) {
    note(Note::too_many_queues, "more than 256 queues live at once: the others are left alone");
    return handle;
  }
  q->in_order = (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) == 0;
  q->profiling = profiling;
  q->profiling_added = added;
  q->properties = properties;
  q->listed = listed;
  for (uint32_t i = 0; i < listed; ++i) q->list[i] = list[i];
  if (!q->in_order) note(Note::out_of_order, "a queue is out of order: its T_idle says nothing");
  if (!s.begun.exchange(true)) atexit(finish_records);
  q->handle.store(handle, std::memory_order_release);
  write_queue(q, device, "");
  return handle;
}

inline P leave_alone(P handle, P device, const char* why) {
  if (handle == nullptr) return handle;
  note(Note::queue_untouched, "a queue is left alone: it has properties that the layer does not know");
  write_queue(nullptr, device, why);
  return handle;
}

constexpr L kKnownProperties = CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE | CL_QUEUE_PROFILING_ENABLE;

inline P create_queue(P context, P device, L properties, P error) {
  Layer& s = state();
  if ((properties & ~kKnownProperties) != 0) {
    return leave_alone(s.next.clCreateCommandQueue(context, device, properties, error), device, "properties");
  }
  const bool added = s.settings.profiling && (properties & CL_QUEUE_PROFILING_ENABLE) == 0;
  if (added) {
    P handle = s.next.clCreateCommandQueue(context, device, properties | CL_QUEUE_PROFILING_ENABLE, error);
    if (handle != nullptr) return look_after(handle, device, properties, nullptr, 0, true, true);
  }
  P handle = s.next.clCreateCommandQueue(context, device, properties, error);
  if (handle == nullptr) return handle;
  return look_after(handle, device, properties, nullptr, 0, (properties & CL_QUEUE_PROFILING_ENABLE) != 0, false);
}

using CreateWithList = P (*)(P, P, P, P);

inline P create_queue_with(CreateWithList create, P context, P device, P properties, P error) {
  const L* list = static_cast<const L*>(properties);
  L wider[18] = {};
  uint32_t count = 0;
  int bits_at = -1;
  bool known = true;
  for (; list != nullptr && list[count] != 0 && count < 14; count += 2) {
    wider[count] = list[count];
    wider[count + 1] = list[count + 1];
    if (list[count] == CL_QUEUE_PROPERTIES) {
      bits_at = static_cast<int>(count) + 1;
    } else if (list[count] != CL_QUEUE_PRIORITY_KHR && list[count] != CL_QUEUE_THROTTLE_KHR) {
      known = false;
    }
  }
  const L bits = bits_at < 0 ? 0 : wider[bits_at];
  if (!known || (list != nullptr && list[count] != 0) || (bits & ~kKnownProperties) != 0) {
    return leave_alone(create(context, device, properties, error), device, "properties");
  }
  const uint32_t listed = list == nullptr ? 0 : count + 1;
  const bool added = state().settings.profiling && (bits & CL_QUEUE_PROFILING_ENABLE) == 0;
  if (added) {
    if (bits_at < 0) {
      wider[count] = CL_QUEUE_PROPERTIES;
      bits_at = static_cast<int>(count) + 1;
    }
    wider[bits_at] = bits | CL_QUEUE_PROFILING_ENABLE;
    P handle = create(context, device, wider, error);
    if (handle != nullptr) return look_after(handle, device, bits, list, listed, true, true);
  }
  P handle = create(context, device, properties, error);
  if (handle == nullptr) return handle;
  return look_after(handle, device, bits, list, listed, (bits & CL_QUEUE_PROFILING_ENABLE) != 0, false);
}

inline P create_queue_with_properties(P context, P device, P properties, P error) {
  return create_queue_with(state().next.clCreateCommandQueueWithProperties, context, device, properties, error);
}

inline std::atomic<CreateWithList> create_with_khr{nullptr};

inline P create_queue_with_properties_khr(P context, P device, P properties, P error) {
  return create_queue_with(create_with_khr.load(), context, device, properties, error);
}

// C++ wrappers retain and release a queue all the time, and every release flushes. Where K is steered the references
// are therefore counted here, and the driver hears of the last one.
inline I retain_queue(P handle) {
  Layer& s = state();
  Queue* q = s.queues.find(handle);
  const I code = q != nullptr && s.steers() ? CL_SUCCESS : s.next.clRetainCommandQueue(handle);
  if (code == CL_SUCCESS && q != nullptr) q->references.fetch_add(1, std::memory_order_relaxed);
  return code;
}

inline I release_queue(P handle) {
  Layer& s = state();
  Queue* q = s.queues.find(handle);
  if (q == nullptr) return s.next.clReleaseCommandQueue(handle);
  if (q->references.fetch_sub(1, std::memory_order_acq_rel) > 1) {
    return s.steers() ? own_flush(*q, handle) : s.next.clReleaseCommandQueue(handle);
  }
  before_wait(*q);
  read_rest(*q);
  {
    Lock lock(q->living);
    q->handle.store(nullptr, std::memory_order_release);
  }
  s.queues.give_back(q);
  return s.next.clReleaseCommandQueue(handle);
}

inline I set_queue_property(P handle, L properties, U enable, P old) {
  Layer& s = state();
  Queue* q = s.queues.find(handle);
  if (q == nullptr || !q->profiling_added || (properties & CL_QUEUE_PROFILING_ENABLE) == 0) {
    return s.next.clSetCommandQueueProperty(handle, properties, enable, old);
  }
  const L before = q->properties;
  const L others = properties & ~CL_QUEUE_PROFILING_ENABLE;
  I code = CL_SUCCESS;
  if (others != 0) code = s.next.clSetCommandQueueProperty(handle, others, enable, nullptr);
  if (code != CL_SUCCESS) return code;
  q->properties = enable != 0 ? before | properties : before & ~properties;
  if (old != nullptr) *static_cast<L*>(old) = before;
  return code;
}

inline I answer(const void* value, size_t size, Z room, P target, P needed) {
  if (target != nullptr && room < size) return CL_INVALID_VALUE;
  if (target != nullptr) memcpy(target, value, size);
  if (needed != nullptr) *static_cast<size_t*>(needed) = size;
  return CL_SUCCESS;
}

// A queue answers as if the program had made it alone.
inline I queue_info(P handle, U what, Z room, P target, P needed) {
  Layer& s = state();
  const Queue* q = s.queues.find(handle);
  if (q != nullptr && s.steers() && what == CL_QUEUE_REFERENCE_COUNT) {
    const U references = static_cast<U>(q->references.load());
    return answer(&references, sizeof references, room, target, needed);
  }
  if (q != nullptr && q->profiling_added) {
    if (what == CL_QUEUE_PROPERTIES) return answer(&q->properties, sizeof q->properties, room, target, needed);
    if (what == CL_QUEUE_PROPERTIES_ARRAY) return answer(q->list, q->listed * sizeof(L), room, target, needed);
  }
  return s.next.clGetCommandQueueInfo(handle, what, room, target, needed);
}

inline I flush_call(P handle) {
  Queue* q = state().queues.find(handle);
  return q == nullptr ? state().next.clFlush(handle) : own_flush(*q, handle);
}

inline I finish_call(P handle) {
  Layer& s = state();
  Queue* q = s.queues.find(handle);
  if (q == nullptr) {
    make_all_good(Why::order);
    return s.next.clFinish(handle);
  }
  before_wait(*q);
  const uint64_t head = q->head.load(std::memory_order_acquire);
  const I code = s.next.clFinish(handle);
  if (code == CL_SUCCESS) {
    after_wait(*q, head, true, "finish", now_ns());
  }
  return code;
}

constexpr U kFewQueues = 8;

inline I wait_for_events(U count, P list) {
  Layer& s = state();
  const P* events = static_cast<const P*>(list);
  Queue* found[kFewQueues];
  P last[kFewQueues];
  U queues = 0;
  bool all = false;
  for (U i = 0; i < count && events != nullptr; ++i) {
    Queue* q = queue_of(events[i]);
    U at = 0;
    while (at < queues && found[at] != q) ++at;
    if (q == nullptr || at == kFewQueues) {
      all = true;
      continue;
    }
    found[at] = q;
    last[at] = at < queues && q->behind(last[at]) > q->behind(events[i]) ? last[at] : events[i];
    if (at == queues) ++queues;
  }
  if (all && s.steers()) make_all_good(Why::order);
  for (U i = 0; i < queues; ++i) before_wait(*found[i]);
  const I code = s.next.clWaitForEvents(count, list);
  const int64_t end = now_ns();
  for (U i = 0; i < queues && code == CL_SUCCESS; ++i) after_event(*found[i], last[i], "events", end);
  return code;
}

// The program looks whether an event is complete: nothing that it has flushed may be held back.
inline void before_look(Queue* q) {
  Layer& s = state();
  if (!s.steers()) return;
  if (q == nullptr || s.crossed.load(std::memory_order_relaxed)) {
    make_all_good(Why::order);
  } else {
    q->activity.fetch_add(1, std::memory_order_relaxed);
    make_good(*q, Why::order);
  }
}

inline I event_info(P event, U what, Z room, P target, P needed) {
  Layer& s = state();
  if (what != CL_EVENT_COMMAND_EXECUTION_STATUS && what != CL_EVENT_REFERENCE_COUNT) {
    return s.next.clGetEventInfo(event, what, room, target, needed);
  }
  Queue* q = queue_of(event);
  if (what == CL_EVENT_COMMAND_EXECUTION_STATUS) before_look(q);
  const I code = s.next.clGetEventInfo(event, what, room, target, needed);
  if (code != CL_SUCCESS || q == nullptr || target == nullptr) return code;
  if (what == CL_EVENT_REFERENCE_COUNT) {
    *static_cast<U*>(target) -= std::min(kept(*q, event), *static_cast<U*>(target) - 1);
  } else if (*static_cast<I*>(target) == CL_COMPLETE) {
    after_event(*q, event, "look", now_ns());
  }
  return code;
}

inline I profiling_info(P event, U what, Z room, P target, P needed) {
  Queue* q = queue_of(event);
  before_look(q);
  // Without the layer its queue would have no timestamps.
  if (q != nullptr && q->profiling_added && (q->properties & CL_QUEUE_PROFILING_ENABLE) == 0) {
    return CL_PROFILING_INFO_NOT_AVAILABLE;
  }
  const I code = state().next.clGetEventProfilingInfo(event, what, room, target, needed);
  if (code == CL_SUCCESS && q != nullptr && target != nullptr) after_event(*q, event, "look", now_ns());
  return code;
}

using EventCallback = void (*)(P, I, P);

struct Called {
  EventCallback callback;
  P user;
};

inline void called(P event, I status, P user) {
  const Called kept_back = *static_cast<Called*>(user);
  free(user);
  const int64_t now = now_ns();
  Queue* q = status == CL_COMPLETE ? queue_of(event) : nullptr;
  if (q != nullptr && q->waits_by_callback()) after_event(*q, event, "callback", now, true);
  kept_back.callback(event, status, kept_back.user);
}

inline I set_event_callback(P event, I type, P callback, P user) {
  Layer& s = state();
  Queue* q = queue_of(event);
  before_look(q);
  if (q != nullptr) {
    q->must_pass.store(true);  // the flush that lets it be called must reach the driver
    q->callbacks.fetch_add(1);
  }
  Called* record = callback == nullptr ? nullptr : static_cast<Called*>(malloc(sizeof(Called)));
  if (record == nullptr) return s.next.clSetEventCallback(event, type, callback, user);
  record->callback = reinterpret_cast<EventCallback>(callback);
  record->user = user;
  const I code = s.next.clSetEventCallback(event, type, reinterpret_cast<P>(called), record);
  if (code != CL_SUCCESS) free(record);
  return code;
}

inline I set_user_event(P event, I status) {
  make_all_good(Why::order);
  return state().next.clSetUserEventStatus(event, status);
}

inline void pass_from_now_on() {
  state().pass_all.store(true);
  make_all_good(Why::order);
  note(Note::destructor_callbacks, "the program waits for destructor callbacks: its flushes are passed on");
}

inline I memory_callback(P memory, P callback, P user) {
  pass_from_now_on();
  return state().next.clSetMemObjectDestructorCallback(memory, callback, user);
}

inline I context_callback(P context, P callback, P user) {
  pass_from_now_on();
  return state().next.clSetContextDestructorCallback(context, callback, user);
}

inline I device_info(P device, U what, Z room, P target, P needed) {
  const U yes = 1;
  if (what == CL_DEVICE_NON_UNIFORM_WORK_GROUP_SUPPORT) return answer(&yes, sizeof yes, room, target, needed);
  return state().next.clGetDeviceInfo(device, what, room, target, needed);
}

P extension_address(P name);
P platform_extension_address(P platform, P name);

// The driver's table with the layer's wrappers in it.
inline void wrap(Dispatch& front) {
  const auto replace = [](auto& slot, auto wrapper) {
    if (slot != nullptr) slot = wrapper;
  };
#define LAYER_COMMAND(name, blocking, kind) \
  replace(front.name, Command<&Dispatch::name, decltype(Dispatch::name), blocking, Kind::kind>::call)
  LAYER_COMMAND(clEnqueueReadBuffer, 1, plain);
  LAYER_COMMAND(clEnqueueWriteBuffer, 1, plain);
  LAYER_COMMAND(clEnqueueReadBufferRect, 1, plain);
  LAYER_COMMAND(clEnqueueWriteBufferRect, 1, plain);
  LAYER_COMMAND(clEnqueueReadImage, 1, plain);
  LAYER_COMMAND(clEnqueueWriteImage, 1, plain);
  LAYER_COMMAND(clEnqueueMapBuffer, 1, plain);
  LAYER_COMMAND(clEnqueueMapImage, 1, plain);
  LAYER_COMMAND(clEnqueueSVMMap, 0, plain);
  LAYER_COMMAND(clEnqueueSVMMemcpy, 0, plain);
  LAYER_COMMAND(clEnqueueCopyBuffer, -1, plain);
  LAYER_COMMAND(clEnqueueCopyBufferRect, -1, plain);
  LAYER_COMMAND(clEnqueueCopyImage, -1, plain);
  LAYER_COMMAND(clEnqueueCopyImageToBuffer, -1, plain);
  LAYER_COMMAND(clEnqueueCopyBufferToImage, -1, plain);
  LAYER_COMMAND(clEnqueueFillBuffer, -1, plain);
  LAYER_COMMAND(clEnqueueFillImage, -1, plain);
  LAYER_COMMAND(clEnqueueUnmapMemObject, -1, plain);
  LAYER_COMMAND(clEnqueueMigrateMemObjects, -1, plain);
  LAYER_COMMAND(clEnqueueMarkerWithWaitList, -1, plain);
  LAYER_COMMAND(clEnqueueBarrierWithWaitList, -1, plain);
  LAYER_COMMAND(clEnqueueSVMMemFill, -1, plain);
  LAYER_COMMAND(clEnqueueSVMUnmap, -1, plain);
  LAYER_COMMAND(clEnqueueSVMMigrateMem, -1, plain);
  LAYER_COMMAND(clEnqueueNativeKernel, -1, opaque);
  LAYER_COMMAND(clEnqueueSVMFree, -1, opaque);
  LAYER_COMMAND(clEnqueueAcquireGLObjects, -1, opaque);
  LAYER_COMMAND(clEnqueueReleaseGLObjects, -1, opaque);
  LAYER_COMMAND(clEnqueueAcquireEGLObjectsKHR, -1, opaque);
  LAYER_COMMAND(clEnqueueReleaseEGLObjectsKHR, -1, opaque);
#undef LAYER_COMMAND
  replace(front.clEnqueueNDRangeKernel, enqueue_kernel);
  replace(front.clEnqueueTask, enqueue_task);
  replace(front.clEnqueueMarker, enqueue_marker);
  replace(front.clEnqueueBarrier, enqueue_barrier);
  replace(front.clEnqueueWaitForEvents, enqueue_wait);
  replace(front.clCreateCommandQueue, create_queue);
  replace(front.clCreateCommandQueueWithProperties, create_queue_with_properties);
  replace(front.clRetainCommandQueue, retain_queue);
  replace(front.clReleaseCommandQueue, release_queue);
  replace(front.clSetCommandQueueProperty, set_queue_property);
  replace(front.clGetCommandQueueInfo, queue_info);
  replace(front.clFlush, flush_call);
  replace(front.clFinish, finish_call);
  replace(front.clWaitForEvents, wait_for_events);
  replace(front.clGetEventInfo, event_info);
  replace(front.clGetEventProfilingInfo, profiling_info);
  replace(front.clSetEventCallback, set_event_callback);
  replace(front.clSetUserEventStatus, set_user_event);
  replace(front.clSetMemObjectDestructorCallback, memory_callback);
  replace(front.clSetContextDestructorCallback, context_callback);
  replace(front.clGetExtensionFunctionAddress, extension_address);
  replace(front.clGetExtensionFunctionAddressForPlatform, platform_extension_address);
  if (state().settings.non_uniform) replace(front.clGetDeviceInfo, device_info);
}

}  // namespace layer
