/* The part of NVML that tells a card's energy, for tests: the file named by FAKE_NVML says what is drawn.

   "CARDS WATTS": so many cards, card 0 draws so much, every other one 10 W. "CARDS reset": the counters begin anew.
   Anything else, or no such file: NVML does not answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double millijoules[8];
static long long last_ns;

static int said(int* cards, char* power) {
  const char* path = getenv("FAKE_NVML");
  FILE* file = path != NULL ? fopen(path, "r") : NULL;
  if (file == NULL) return 0;
  int got = fscanf(file, "%d %31s", cards, power);
  fclose(file);
  return got == 2 && *cards > 0 && *cards <= 8;
}

extern "C" int nvmlInit_v2(void) {
  int cards;
  char power[32];
  return said(&cards, power) ? 0 : 9;
}

extern "C" int nvmlDeviceGetCount_v2(unsigned* count) {
  int cards = 0;
  char power[32];
  if (!said(&cards, power)) return 9;
  *count = (unsigned)cards;
  return 0;
}

extern "C" int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(static_cast<size_t>(index) + 1);
  return 0;
}

extern "C" int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* energy) {
  static double watts = 0;
  int cards = 0;
  char power[32] = "";
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long now_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
  for (int card = 0; last_ns != 0 && card < 8; ++card)
    millijoules[card] += (card == 0 ? watts : 10) * (double)(now_ns - last_ns) / 1e6;
  last_ns = now_ns;
  if (said(&cards, power)) {
    if (strcmp(power, "reset") == 0) memset(millijoules, 0, sizeof millijoules);
    if (strcmp(power, "reset") != 0) watts = atof(power);
  }
  *energy = 7000000ULL + (unsigned long long)millijoules[reinterpret_cast<size_t>(device) - 1];
  if (strcmp(power, "reset") == 0) *energy = 0;
  return 0;
}
