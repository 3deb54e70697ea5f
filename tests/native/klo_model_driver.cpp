// Answers questions about klo's model header, for tests that compare it with the Python model. One line a question:
//   makespan n F Ls Lb f p... g... m batch...   -> makespan
//   best     n F Ls Lb f p... g...            -> best constant k
//   dynamic  n F Ls Lb f p... g... q...       -> makespan, then the batch lengths (q: what production really takes)

#include <stdio.h>
#include <string.h>

#include "klo/base.h"
#include "klo/model.h"

namespace {

double number() {
  double value = 0;
  if (scanf("%lf", &value) != 1) exit(2);
  return value;
}

void read(int n, klo::Array<double>& values, klo::Array<double>& sums) {
  sums.push(0);
  for (int i = 0; i < n; ++i) {
    values.push(number());
    sums.push(sums[static_cast<size_t>(i)] + values[static_cast<size_t>(i)]);
  }
}

void dynamic(const klo::Sums& sums, const klo::Costs& costs) {
  klo::Array<double> q;
  klo::Array<double> q_sums;
  read(sums.n, q, q_sums);
  klo::Planner planner(sums, costs);
  planner.begin();
  klo::Array<int> batches;
  double host = 0;
  double gpu = -1;
  int from = 0;
  int length = planner.next(0, 0, 0);
  for (int i = 0; i < sums.n; ++i) {
    host += q[static_cast<size_t>(i)];
    if (i > 0) planner.produced(i, q[static_cast<size_t>(i)]);
    if (i + 1 - from < length && planner.outdated()) length = planner.next(from, i + 1 - from, host);
    if (i + 1 - from < length) continue;
    host += costs.flush(i + 1 - from);
    double start = host + costs.start_idle_ns;
    if (gpu >= 0 && gpu + costs.gap_ns > start) start = gpu + costs.gap_ns;
    gpu = start + sums.g[i + 1] - sums.g[from];
    batches.push(i + 1 - from);
    planner.flushed(from, i + 1, host);
    from = i + 1;
    if (from < sums.n) length = planner.next(from, 0, host);
  }
  printf("%.17g", gpu);
  for (const int batch : batches) printf(" %d", batch);
  putchar('\n');
}

}  // namespace

int main() {
  char word[16];
  while (scanf("%15s", word) == 1) {
    const int n = static_cast<int>(number());
    klo::Costs costs;
    costs.flush_ns = number();
    costs.start_idle_ns = number();
    costs.gap_ns = number();
    costs.flush_per_kernel_ns = number();
    klo::Array<double> p, g, p_sums, g_sums;
    read(n, p, p_sums);
    read(n, g, g_sums);
    const klo::Sums sums{n, p_sums.data(), g_sums.data()};
    if (strcmp(word, "makespan") == 0) {
      klo::Array<int> batches;
      const int count = static_cast<int>(number());
      for (int i = 0; i < count; ++i) batches.push(static_cast<int>(number()));
      printf("%.17g\n", klo::makespan(sums, costs, batches.data(), count));
    } else if (strcmp(word, "best") == 0) {
      printf("%d\n", klo::best_every(sums, costs, klo::State(), 0, 1.0));
    } else {
      dynamic(sums, costs);
    }
  }
  return 0;
}
