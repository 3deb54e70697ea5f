/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Parts of the board module. Each start function takes a parameter's text; an empty one starts nothing. */
#ifndef DEVICELAB_BOARD_H
#define DEVICELAB_BOARD_H

/* Numbers separated by "," or "-", up to "=" or ";" (the "=" is consumed). Returns how many, or -EINVAL. */
int board_parse(const char **at, unsigned int *into, int room);
/* Limit the policy of a CPU to its step-th highest frequency (0: no limit). */
void board_limit(unsigned int cpu, unsigned int step);
/* How many frequencies the policy of a CPU has. */
unsigned int board_states(unsigned int cpu);

int cpufreq_start(const char *spec);
int cores_start(const char *spec);
int heat_start(const char *spec);
int adreno_start(const char *spec, const char *model);
int mali_start(const char *spec, const char *name);

/* What heat allows the GPU: levels taken off the top. */
extern unsigned int board_gpu_heat;

#endif
