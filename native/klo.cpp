// Kernel launch overhead: produces the kernels of a network one after another, flushes the command queue after K of
// them, and keeps when each was queued, submitted, started and ended. One process is one repetition.
//
// Standard output is JSON, one object a line: a header, one object an inference, and an end object, so that output
// that was cut short is seen to be.

#include "klo/base.h"
#include "klo/emulated.h"
#include "klo/network_file.h"
#include "klo/opencl.h"
#include "klo/options.h"
#include "klo/pacer.h"
#include "klo/samples.h"

namespace klo {
namespace {

constexpr int kFormatVersion = 1;
constexpr int64_t kProfileK = 4;  // flush period while a profile is taken for the planner

const char* policy_name(Policy policy) {
  constexpr const char* names[] = {"none", "constant", "static", "dynamic"};
  return names[static_cast<int>(policy)];
}

template <typename Gpu>
class Session {
 public:
  Session(const Options& options, const Network& net, Gpu& gpu, const char* backend)
      : options_(options), net_(net), gpu_(gpu), backend_(backend) {}

  void run() {
    find_costs();
    if (options_.policy == Policy::fixed) read_schedule(options_.schedule, net_.count(), schedule_);
    if (!options_.serving) print_header();
    if (options_.policy == Policy::dynamic) {
      run_dynamic();
    } else {
      Pacer pacer = options_.policy == Policy::fixed ? Pacer::fixed(schedule_, net_.count())
                                                     : Pacer::constant(options_.k, net_.count());
      measure(pacer);
    }
    if (!options_.serving) print_results();
  }

 private:
  void run_dynamic() {
    Pacer usual = Pacer::constant(kProfileK, net_.count());
    repeat(Phase::warmup, options_.warmup, usual);
    repeat(Phase::profile, options_.profile, usual);
    make_profile(done_, net_.count(), profile_);
    Planner planner(profile_.sums(), costs_of(costs_));
    Pacer pacer = Pacer::dynamic(planner, net_.count());
    measure(pacer);
    scale_pct_ = static_cast<int64_t>(planner.scale() * 100 + 0.5);
  }

  void measure(Pacer& pacer) {
    if (options_.serving) {
      serve(pacer);
      return;
    }
    if (options_.inferences > 0) repeat(Phase::warmup, options_.warmup, pacer);
    repeat(Phase::profiled, options_.inferences, pacer);
    if (options_.plain > 0) repeat(Phase::plain_warmup, options_.warmup, pacer);
    repeat(Phase::plain, options_.plain, pacer);
  }

  // As a tenant: every inference is a request.
  void serve(Pacer& pacer) {
    tenant::OpenLoop loop(options_.requests);
    if (!loop.prepare()) fail(kExitUsage, "--serve %.60s: not such arrivals", options_.requests.arrivals);
    repeat(Phase::plain_warmup, options_.warmup, pacer);
    const bool started = loop.run([&] {
      Inference one;
      one.phase = Phase::plain;
      one.reserve(net_.count());
      gpu_.begin(one);
      infer(one, pacer);
      gpu_.collect(one);
    });
    if (!started) fail(kExitFailed, "the agent went away before the start");
    printf("{\"tool\":\"klo\",\"version\":%d,\"backend\":\"%s\"", kFormatVersion, backend_);
    gpu_.print_header();
    fputs(",\"network\":", stdout);
    print_json_string(net_.name);
    printf(",\"kernels\":%d,\"policy\":\"%s\",\"work\":\"%016" PRIx64 "\"", net_.count(), policy_name(options_.policy),
           gpu_.hash());
    loop.print_settings();
    fputs("}\n", stdout);
    loop.print_requests();
  }

  void repeat(Phase phase, int64_t times, Pacer& pacer) {
    if (times > 0) gpu_.before(phase);
    for (int64_t i = 0; i < times || (i < kMaxInferences && times > 0 && gpu_.goes_on(phase)); ++i) {
      Inference one;
      one.phase = phase;
      one.reserve(net_.count());
      gpu_.begin(one);
      infer(one, pacer);
      gpu_.collect(one);
      done_.take(one);
    }
    if (times > 0) gpu_.after(phase);
  }

  void infer(Inference& one, Pacer& pacer) {
    const int kernels = net_.count();
    one.begin_ns = now_ns();
    int from = 0;
    int length = pacer.begin();
    int64_t mark = planned(one, pacer, one.begin_ns);
    for (int i = 0; i < kernels; ++i) {
      gpu_.enqueue(i);
      const int64_t enqueued = now_ns();
      one.host_ns.push(enqueued - one.begin_ns);
      const bool outdated = pacer.produced(i, enqueued - mark);
      mark = enqueued;
      if (i + 1 - from < length && outdated) {
        length = pacer.length(from, i + 1 - from, mark - one.begin_ns);
        mark = planned(one, pacer, mark);
      }
      if (i + 1 - from < length) continue;
      const int64_t due = mark;
      gpu_.flush();
      mark = now_ns();
      one.flush_ns.push(mark - due);
      one.batches.push(i + 1 - from);
      length = pacer.flushed(from, i + 1, mark - one.begin_ns);
      from = i + 1;
      mark = planned(one, pacer, mark);
    }
    gpu_.finish();
    one.end_ns = now_ns();
  }

  // Planning since `since` is over: counted, and the time from which the next kernel's production counts.
  static int64_t planned(Inference& one, const Pacer& pacer, int64_t since) {
    if (!pacer.plans()) return since;
    const int64_t now = now_ns();
    one.planning_ns += now - since;
    return now;
  }

  // What the planner is told the launch costs are.
  void find_costs() {
    if (options_.policy != Policy::dynamic) return;
    if (options_.lut != nullptr) {
      if (!read_costs(options_.lut, costs_)) fail(kExitUsage, "cannot read %s: %s", options_.lut, strerror(errno));
      costs_from_ = "lut";
    } else if (options_.costs_given) {
      for (int i = 0; i < kCosts; ++i) costs_[i] = options_.costs[i];
      costs_from_ = "arguments";
    } else if (gpu_.own_costs(costs_)) {
      costs_from_ = "emulation";
    } else {
      fail(kExitUsage, "--dynamic needs the launch costs measured on this device: --costs or --lut");
    }
  }

  void print_header() {
    printf("{\"event\":\"header\",\"klo\":%d,\"backend\":\"%s\"", kFormatVersion, backend_);
    gpu_.print_header();
    fputs(",\"network\":", stdout);
    print_json_string(net_.name);
    const bool constant = options_.policy == Policy::constant;
    const int64_t k = !constant ? 0 : options_.k == 0 || options_.k > net_.count() ? net_.count() : options_.k;
    printf(",\"kernels\":%d,\"policy\":\"%s\",\"k\":%" PRId64, net_.count(), policy_name(options_.policy), k);
    printf(",\"warmup\":%" PRId64 ",\"inferences\":%" PRId64 ",\"plain\":%" PRId64 ",\"work_pct\":%" PRId64
           ",\"seed\":%" PRId64,
           options_.warmup, options_.inferences, options_.plain, options_.work_pct, options_.seed);
    if (options_.policy == Policy::dynamic) {
      printf(",\"profile\":%" PRId64 ",\"costs_from\":\"%s\"", options_.profile, costs_from_);
      print_json_array("costs_ns", costs_, kCosts);
    }
    fputs(",\"layers\":[", stdout);
    for (size_t i = 0; i < net_.layers.size(); ++i) {
      printf(i == 0 ? "\"%s\"" : ",\"%s\"", kind_name(net_.layers[i].kind));
    }
    fputs("]}\n", stdout);
    fflush(stdout);
  }

  // Printed after the last inference: a reader of the output must not run while one is measured.
  void print_results() {
    int64_t crossed = 0;
    if (options_.policy == Policy::dynamic) {
      fputs("{\"event\":\"profile\"", stdout);
      print_json_array("p_ns", profile_.p_ns.data(), profile_.p_ns.size());
      print_json_array("g_ns", profile_.g_ns.data(), profile_.g_ns.size());
      fputs("}\n", stdout);
    }
    for (size_t i = 0; i < done_.size(); ++i) {
      print_inference(done_[i], static_cast<int>(i));
      if (done_[i].phase == Phase::profiled) crossed += out_of_order(done_[i]);
    }
    gpu_.print_beside();
    printf("{\"event\":\"end\",\"inferences\":%zu,\"out_of_order\":%" PRId64 ",\"work\":\"%016" PRIx64 "\"", done_.size(),
           crossed, gpu_.hash());
    if (options_.policy == Policy::dynamic) printf(",\"scale_pct\":%" PRId64, scale_pct_);
    gpu_.print_end();
    fputs("}\n", stdout);
  }

  const Options& options_;
  const Network& net_;
  Gpu& gpu_;
  const char* backend_;
  Array<int> schedule_;
  Array<Inference> done_;
  Profile profile_;
  int64_t costs_[kCosts] = {};
  const char* costs_from_ = "";
  int64_t scale_pct_ = 100;
};

void list_networks() {
  for (const NamedNetwork& one : kNetworks) {
    Network net;
    load_network(one.name, net);
    int64_t macs = 0;
    for (const Layer& layer : net.layers) macs += layer.macs();
    printf("{\"network\":\"%s\",\"kernels\":%d,\"macs\":%" PRId64 ",\"weights\":%" PRId64 "}\n", one.name, net.count(), macs,
           net.weight_elements - 1);
  }
}

// True: measured. False: there is no OpenCL here, and `why` says why.
bool run_opencl(const Options& options, const Network& net, Array<char>& why) {
  ClLibrary cl;
  if (!load_cl(cl, why)) return false;
  Array<ClDevice> devices;
  list_devices(cl, devices);
  const ClDevice* device = choose_device(devices, options);
  if (device == nullptr) {
    why.clear();
    for (const char* c = devices.empty() ? " no device in it" : " no device fits --platform and --device"; *c != '\0'; ++c) {
      why.push(*c);
    }
    why.push('\0');
    return false;
  }
  ClGpu gpu(options, net, cl, *device);
  Session<ClGpu>(options, net, gpu, "opencl").run();
  return true;
}

void run(const Options& options) {
  Network net;
  load_network(options.network, net);
  if (options.backend != Backend::emulated) {
    Array<char> why;
    if (run_opencl(options, net, why)) return;
    if (options.backend == Backend::opencl) fail(kExitFailed, "no OpenCL here:%s", why.data());
    fprintf(stderr, "klo: no OpenCL here, so the GPU is emulated:%s\n", why.data());
  }
  if (options.foreground.period_ns > 0) fail(kExitUsage, "--foreground needs OpenCL: an emulated GPU is nobody else's");
  EmulatedGpu gpu(options, net);
  Session<EmulatedGpu>(options, net, gpu, "emulated").run();
}

void list_opencl() {
  ClLibrary cl;
  Array<char> why;
  if (!load_cl(cl, why)) fail(kExitFailed, "no OpenCL here:%s", why.data());
  Array<ClDevice> devices;
  list_devices(cl, devices);
  print_devices(cl, devices);
  if (devices.empty()) fail(kExitFailed, "%s has no device", cl.path);
}

}  // namespace
}  // namespace klo

int main(int argc, char** argv) {
  const klo::Options options = klo::parse_options(argc, argv);
  if (options.list_networks) {
    klo::list_networks();
  } else if (options.list_devices) {
    klo::list_opencl();
  } else {
    klo::run(options);
  }
  return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : klo::kExitFailed;
}
