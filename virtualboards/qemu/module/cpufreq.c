// SPDX-License-Identifier: GPL-2.0 OR MIT
// cpufreq: the core does everything; the driver only remembers the index.

#include <linux/cpufreq.h>
#include <linux/pm_qos.h>

#include "board.h"

#define MAX_POLICIES 8
#define MAX_TABLE 64

struct fake_policy {
	struct cpumask cpus;
	struct cpufreq_frequency_table table[MAX_TABLE + 1];
	unsigned int index;
	struct freq_qos_request heat;
	bool limited;
};

static struct fake_policy fake[MAX_POLICIES];
static int fakes;

static struct fake_policy *fake_of(unsigned int cpu)
{
	int i;

	for (i = 0; i < fakes; i++)
		if (cpumask_test_cpu(cpu, &fake[i].cpus))
			return &fake[i];
	return NULL;
}

static int fake_init(struct cpufreq_policy *policy)
{
	struct fake_policy *mine = fake_of(policy->cpu);

	if (!mine)
		return -ENODEV;
	cpumask_copy(policy->cpus, &mine->cpus);
	policy->freq_table = mine->table;
	policy->driver_data = mine;
	policy->cpuinfo.transition_latency = 1000;
	policy->cur = mine->table[mine->index].frequency;
	return 0;
}

static int fake_exit(struct cpufreq_policy *policy)
{
	return 0;
}

static int fake_target(struct cpufreq_policy *policy, unsigned int index)
{
	struct fake_policy *mine = policy->driver_data;

	mine->index = index;
	return 0;
}

static unsigned int fake_get(unsigned int cpu)
{
	struct fake_policy *mine = fake_of(cpu);

	return mine ? mine->table[mine->index].frequency : 0;
}

static struct cpufreq_driver fake_driver = {
	.name = "fakefreq",
	.flags = CPUFREQ_NEED_INITIAL_FREQ_CHECK,
	.init = fake_init,
	.exit = fake_exit,
	.verify = cpufreq_generic_frequency_table_verify,
	.target_index = fake_target,
	.get = fake_get,
	.attr = cpufreq_generic_attr,
};

int cpufreq_start(const char *spec)
{
	const char *at = spec;

	while (*at) {
		struct fake_policy *mine = &fake[fakes];
		unsigned int ends[2], khz[MAX_TABLE];
		int got, i;

		if (fakes == MAX_POLICIES || board_parse(&at, ends, 2) != 2)
			return -EINVAL;
		got = board_parse(&at, khz, MAX_TABLE);
		if (got < 1 || ends[1] >= nr_cpu_ids || ends[0] > ends[1])
			return -EINVAL;
		for (i = ends[0]; i <= ends[1]; i++)
			cpumask_set_cpu(i, &mine->cpus);
		for (i = 0; i < got; i++) {
			mine->table[i].driver_data = i;
			mine->table[i].frequency = khz[i];
		}
		mine->table[got].frequency = CPUFREQ_TABLE_END;
		fakes++;
		if (*at == ';')
			at++;
	}
	return fakes ? cpufreq_register_driver(&fake_driver) : 0;
}

// Heat limits a policy by a request of its own, as the kernel's cooling device does.
void board_limit(unsigned int cpu, unsigned int step)
{
	struct fake_policy *mine = fake_of(cpu);
	struct cpufreq_policy *policy;
	unsigned int khz = 0, count = 0, i, j, best;

	if (!mine)
		return;
	for (i = 0; mine->table[i].frequency != CPUFREQ_TABLE_END; i++)
		count++;
	// The step-th highest, whatever the order of the table.
	for (j = 0, best = UINT_MAX; j <= step && j < count; j++, best = khz) {
		khz = 0;
		for (i = 0; i < count; i++)
			if (mine->table[i].frequency < best && mine->table[i].frequency > khz)
				khz = mine->table[i].frequency;
	}
	policy = cpufreq_cpu_get(cpumask_first(&mine->cpus));
	if (!policy)
		return;
	if (!mine->limited)
		mine->limited = freq_qos_add_request(&policy->constraints, &mine->heat, FREQ_QOS_MAX,
						     FREQ_QOS_MAX_DEFAULT_VALUE) >= 0;
	if (mine->limited)
		freq_qos_update_request(&mine->heat, step ? (s32)khz : FREQ_QOS_MAX_DEFAULT_VALUE);
	cpufreq_cpu_put(policy);
}

unsigned int board_states(unsigned int cpu)
{
	struct fake_policy *mine = fake_of(cpu);
	unsigned int count = 0;

	while (mine && mine->table[count].frequency != CPUFREQ_TABLE_END)
		count++;
	return count;
}
