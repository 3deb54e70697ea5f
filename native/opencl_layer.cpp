// Records the kernel launches of an unmodified OpenCL program and steers after how many of them its queues are flushed.
//
// One library, two forms: a *layer*, where an OpenCL loader exists (OPENCL_LAYERS names it), and a *stand-in* for
// libOpenCL.so that forwards to the vendor's, where none does (Android). Which one it is shows in how it is called
// first. It never prints, never ends the process, and leaves alone what it does not understand.

#include <dlfcn.h>

#include "cl/paths.h"
#include "opencl_layer/calls.h"

namespace layer {
namespace {

constexpr int kFormatVersion = 1;

// What an entry does that the driver lacks.
struct Refuse_I {
  template <typename... A>
  static I with(A...) {
    return CL_INVALID_OPERATION;
  }
};
struct Refuse_V {
  template <typename... A>
  static V with(A...) {}
};
struct Refuse_P {
  template <typename... A>
  static P with(A...) {
    return nullptr;
  }
};
struct Refuse_H {
  static P last(P one) { return one; }
  template <typename T, typename... A>
  static P last(T, A... rest) {
    return last(rest...);
  }
  template <typename... A>
  static H with(A... arguments) {
    if (I* error = static_cast<I*>(last(arguments...))) *error = CL_INVALID_OPERATION;
    return nullptr;
  }
};

#define LAYER_REFUSE(name, result, parameters, arguments) \
  result refuse_##name parameters { return Refuse_##result::with arguments; }
#define LAYER_NOTHING(name)
LAYER_API(LAYER_REFUSE, LAYER_NOTHING)
#undef LAYER_REFUSE

Dispatch front{};

void write_header(const char* form, const char* library) {
  Layer& s = state();
  const Settings& settings = s.settings;
  Line line;
  line.begin("header");
  line.number("layer", kFormatVersion);
  line.string("form", form);
  line.string("library", library);
  char program[256] = "";
  const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  program[length < 0 ? 0 : length] = '\0';
  line.string("program", program);
  line.string("policy", policy_name(settings.policy));
  line.number("k", settings.policy == Policy::constant ? settings.k : 0);
  line.array("schedule", settings.batches.data(), settings.policy == Policy::schedule ? settings.batches.size() : 0);
  line.truth("profiling", settings.profiling);
  line.truth("non_uniform", settings.non_uniform);
  line.number("detail", settings.detail);
  line.number("min_kernels", settings.min_kernels);
  line.string("wrong", settings.wrong);
  line.number("begin_ns", now_ns());
  line.end();
  s.output.write(line);
}

// Settings, file, wrappers, and refusals for what is missing in `s.next`.
void begin(Form form, const char* library) {
  Layer& s = state();
  read_settings(s.settings);
  s.output.open(s.settings.out);
  front = s.next;
  wrap(front);
#define LAYER_FILL(name, result, parameters, arguments) \
  if (form == Form::stand_in && front.name == nullptr) front.name = refuse_##name;
  LAYER_API(LAYER_FILL, LAYER_NOTHING)
#undef LAYER_FILL
  write_header(form == Form::layer ? "layer" : "stand-in", library);
  s.form.store(form, std::memory_order_release);
}

// The stand-in's vendor library -------------------------------------------------------------------------------------

void* vendor = nullptr;

// One of ours: the search for the vendor's library by name finds the stand-in first.
bool is_ours(void* handle) { return dlsym(handle, "devicelab_opencl_layer") != nullptr; }

void* open_vendor(const char* path) {
#if defined(RTLD_DEEPBIND) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // The vendor's own calls must not come back here.
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
#else
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
#endif
  if (handle != nullptr && (is_ours(handle) || dlsym(handle, "clGetPlatformIDs") == nullptr)) return nullptr;
  return handle;
}

const char* find_vendor() {
  const char* named = getenv("DEVICELAB_LAYER_OPENCL_LIB");
  if (named != nullptr && *named != '\0') {
    vendor = open_vendor(named);
    return named;
  }
  for (const char* path : kOpenClPaths) {
    vendor = open_vendor(path);
    if (vendor != nullptr) return path;
  }
  return "";
}

void begin_stand_in() {
  if (state().form.load(std::memory_order_acquire) != Form::none) return;
  const char* path = find_vendor();
  if (vendor != nullptr) {
#define LAYER_FIND(name, result, parameters, arguments) \
  {                                                     \
    void* address = dlsym(vendor, #name);               \
    memcpy(&state().next.name, &address, sizeof address); \
  }
    LAYER_API(LAYER_FIND, LAYER_NOTHING)
#undef LAYER_FIND
  }
  begin(Form::stand_in, path);
}

Dispatch& stand_in() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (state().form.load(std::memory_order_acquire) == Form::none) pthread_once(&once, begin_stand_in);
  return front;
}

// Functions of extensions -------------------------------------------------------------------------------------------

P own_function(const char* name, P found) {
#define LAYER_OWN(entry, result, parameters, arguments) \
  if (strcmp(name, #entry) == 0) return reinterpret_cast<P>(front.entry);
  LAYER_API(LAYER_OWN, LAYER_NOTHING)
#undef LAYER_OWN
  if (strcmp(name, "clCreateCommandQueueWithPropertiesKHR") == 0) {
    CreateWithList none = nullptr;
    const CreateWithList one = reinterpret_cast<CreateWithList>(found);
    if (!create_with_khr.compare_exchange_strong(none, one) && none != one) {
      note(Note::queue_untouched, "queues made by a second platform's clCreateCommandQueueWithPropertiesKHR are left alone");
      return found;
    }
    return reinterpret_cast<P>(create_queue_with_properties_khr);
  }
  if (strncmp(name, "clEnqueue", 9) == 0) {
    note(Note::extension_commands, "the program knows commands of extensions: they are passed on, not recorded");
    return wrap_extension(found);
  }
  if (strstr(name, "CommandBuffer") != nullptr || strstr(name, "Recording") != nullptr) {
    note(Note::command_buffers, "the program knows command buffers or recordable queues: kernels in them are not seen");
  }
  return found;
}

}  // namespace

P extension_address(P name) {
  const P found = state().next.clGetExtensionFunctionAddress(name);
  return found == nullptr || name == nullptr ? found : own_function(static_cast<const char*>(name), found);
}

P platform_extension_address(P platform, P name) {
  const P found = state().next.clGetExtensionFunctionAddressForPlatform(platform, name);
  return found == nullptr || name == nullptr ? found : own_function(static_cast<const char*>(name), found);
}

// At the end of the process.
void finish_records() {
  Layer& s = state();
  make_all_good(Why::order);
  s.ended.store(true);
  Line line;
  line.begin("end");
  int64_t inferences = 0;
  int64_t shorter = 0;
  int64_t dropped = 0;
  for (Queue& q : s.queues) {
    Lock lock(q.reading);
    inferences += q.inferences;
    shorter += q.shorter;
    dropped += q.dropped.load();
  }
  line.number("inferences", inferences);
  line.number("shorter", shorter);
  line.number("dropped", dropped);
  line.number("unseen", s.unseen.load());
  line.number("swallowed", s.swallowed.load());
  line.add(",\"flushes\":{");
  for (int i = 0; i < kWhys; ++i) line.add("%s\"%s\":%" PRId64, i == 0 ? "" : ",", why_name(i), s.flushes[i].load());
  line.add("}");
  line.end();
  s.output.write(line, true);
}

}  // namespace layer

#define LAYER_EXPORT extern "C" __attribute__((visibility("default")))

using layer::H;
using layer::I;
using layer::L;
using layer::P;
using layer::U;
using layer::V;
using layer::Z;

LAYER_EXPORT int devicelab_opencl_layer;
int devicelab_opencl_layer = 1;

// The layer's entry points (cl_loader_layers 1.0).
LAYER_EXPORT I clGetLayerInfo(U what, size_t room, void* target, size_t* needed) {
  if (what == CL_LAYER_API_VERSION) {
    return layer::answer(&CL_LAYER_API_VERSION_100, sizeof CL_LAYER_API_VERSION_100, room, target, needed);
  }
  constexpr char kName[] = "devicelab";
  if (what == CL_LAYER_NAME) return layer::answer(kName, sizeof kName, room, target, needed);
  return CL_INVALID_VALUE;
}

LAYER_EXPORT I clInitLayer(U entries, const void* target, U* entries_out, const void** dispatch_out) {
  layer::Layer& s = layer::state();
  if (target == nullptr || entries_out == nullptr || dispatch_out == nullptr) return CL_INVALID_VALUE;
  if (s.form.load() != layer::Form::none) return CL_INVALID_OPERATION;  // the loader is behind the stand-in
  const U known = entries < layer::kEntries ? entries : layer::kEntries;
  memcpy(&s.next, target, known * sizeof(void*));
  layer::begin(layer::Form::layer, "");
  *entries_out = known;
  *dispatch_out = &layer::front;
  return CL_SUCCESS;
}

// The stand-in's: every function of the specification.
#define LAYER_ENTRY(name, result, parameters, arguments) \
  LAYER_EXPORT result name parameters { return layer::stand_in().name arguments; }
LAYER_API(LAYER_ENTRY, LAYER_NOTHING)

// Functions of extensions that programs take from the library itself, if the vendor's has them.
#define LAYER_EXTENSIONS(X) \
  X(clCreateCommandQueueWithPropertiesKHR) X(clImportMemoryARM) X(clSetKernelExecInfoARM) X(clSVMAllocARM)          \
  X(clSVMFreeARM) X(clEnqueueSVMFreeARM) X(clEnqueueSVMMemcpyARM) X(clEnqueueSVMMemFillARM) X(clEnqueueSVMMapARM)   \
  X(clEnqueueSVMUnmapARM) X(clSetKernelArgSVMPointerARM) X(clNewRecordingQCOM) X(clEndRecordingQCOM)                \
  X(clReleaseRecordingQCOM) X(clRetainRecordingQCOM) X(clEnqueueRecordingQCOM) X(clEnqueueRecordingSVMQCOM)         \
  X(clGetDeviceImageInfoQCOM) X(clSetPerfHintQCOM) X(clGetKernelSuggestedLocalWorkSizeKHR)                          \
  X(clEnqueueAcquireExternalMemObjectsKHR) X(clEnqueueReleaseExternalMemObjectsKHR)

#define LAYER_EXTENSION(name)                                                                                         \
  LAYER_EXPORT intptr_t name(intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f, intptr_t g,      \
                             intptr_t h, intptr_t i, intptr_t j, intptr_t k, intptr_t l) {                            \
    layer::stand_in();                                                                                                \
    static std::atomic<layer::P> target{nullptr};                                                                     \
    layer::P known = target.load(std::memory_order_acquire);                                                          \
    if (known == nullptr && layer::vendor != nullptr && (known = dlsym(layer::vendor, #name)) != nullptr) {           \
      known = layer::own_function(#name, known);                                                                      \
      target.store(known, std::memory_order_release);                                                                 \
    }                                                                                                                 \
    if (known == nullptr) return 0;                                                                                   \
    return reinterpret_cast<layer::Words>(known)(a, b, c, d, e, f, g, h, i, j, k, l);                                 \
  }
LAYER_EXTENSIONS(LAYER_EXTENSION)
