// The lab's CPU load: overhead T_sleep_us inner_iter log2_outer_iter
//                     overhead --hold PERCENT
//
// Repeats 2^log2_outer_iter times { inner_iter times { sum += rand() }; sleep T_sleep_us } and prints the sum.
// Settings that last very long are ended from outside with SIGKILL, so nothing is set up that would need an end.
// With --hold it uses PERCENT of one core (0.0001 to 100) until it is ended, and says once what work and sleep that
// amounts to: "near T_sleep_us inner_iter".

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "overhead/digits.h"
#include "overhead/hold.h"

namespace {

constexpr int64_t kMaxLog2 = 62;  // the usage says so

// Digits alone: strtoll would let blanks, signs and trailing text pass.
bool parse_number(const char* text, int64_t& value) {
  if (*text == '\0') return false;
  int64_t sum = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9') return false;
    const int64_t digit = *text - '0';
    if (sum > (INT64_MAX - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  value = sum;
  return true;
}

// Percent with at most four decimals, in parts of a million; 0: it is none.
int64_t parse_share(const char* text) {
  constexpr int kDecimals = 4;
  char digits[24] = "";
  const char* point = strchr(text, '.');
  const size_t whole = point != nullptr ? static_cast<size_t>(point - text) : strlen(text);
  const size_t rest = point != nullptr ? strlen(point + 1) : 0;
  if (whole < 1 || whole > 3 || rest > kDecimals || (point != nullptr && rest == 0)) return 0;
  memcpy(digits, text, whole);
  memset(digits + whole, '0', kDecimals);
  if (point != nullptr) memcpy(digits + whole, point + 1, rest);
  int64_t share = 0;
  return parse_number(digits, share) && share <= overhead::kWhole ? share : 0;
}

void sleep_us(int64_t us) {
  timespec left{};
  left.tv_sec = static_cast<time_t>(us / 1000000);
  left.tv_nsec = static_cast<long>(us % 1000000 * 1000);
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t share = argc == 3 && strcmp(argv[1], "--hold") == 0 ? parse_share(argv[2]) : 0;
  if (share > 0) overhead::hold(share);
  int64_t t_sleep_us = 0;
  int64_t inner_iter = 0;
  int64_t log2_outer_iter = 0;
  if (argc != 4 || !parse_number(argv[1], t_sleep_us) || !parse_number(argv[2], inner_iter) ||
      !parse_number(argv[3], log2_outer_iter) || log2_outer_iter > kMaxLog2 || t_sleep_us / 1000000 > INT32_MAX) {
    fputs("usage: overhead T_sleep_us inner_iter log2_outer_iter  (integers from 0; log2_outer_iter <= 62), "
          "or overhead --hold PERCENT  (0.0001 to 100)\n",
          stderr);
    return 2;
  }
  // Unsigned, so that a long run wraps around instead of overflowing; printing it keeps the work alive.
  uint64_t sum = 0;
  const int64_t outer_iter = int64_t{1} << log2_outer_iter;
  for (int64_t outer = 0; outer < outer_iter; ++outer) {
    for (int64_t inner = 0; inner < inner_iter; ++inner) sum += static_cast<uint64_t>(rand());
    sleep_us(t_sleep_us);
  }
  overhead::Digits digits;
  fputs(digits.of(sum), stdout);
  putchar('\n');
  return fflush(stdout) == 0 ? 0 : 1;
}
