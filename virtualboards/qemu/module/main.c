// SPDX-License-Identifier: GPL-2.0 OR MIT
// A board for a virtual machine: registers frequency tables with the real cpufreq core, isolates idle cores as
// Qualcomm's core_ctl does, and offers thermal zones and the nodes of Adreno and Exynos Mali drivers.
// All of it is described by module parameters, so one build serves every kind of board on one kernel.

#include <linux/cpufreq.h>
#include <linux/module.h>
#include <linux/pm_qos.h>

#include "board.h"

static char *policies = "";
module_param(policies, charp, 0444);
MODULE_PARM_DESC(policies, "FIRST-LAST=KHZ,KHZ,...;... in the device's order");
static char *core_ctl = "";
module_param(core_ctl, charp, 0444);
MODULE_PARM_DESC(core_ctl, "FIRST-LAST=MIN,ENABLE;...");
static char *kgsl = "";
module_param(kgsl, charp, 0444);
MODULE_PARM_DESC(kgsl, "Hz, fastest first");
static char *kgsl_model = "Adreno";
module_param(kgsl_model, charp, 0444);
static char *mali = "";
module_param(mali, charp, 0444);
MODULE_PARM_DESC(mali, "kHz, fastest first");
static char *mali_name = "18500000.mali";
module_param(mali_name, charp, 0444);
static char *zones = "";
module_param(zones, charp, 0444);
MODULE_PARM_DESC(zones, "TYPE=TRIP_MILLIDEGREES,FIRST_CPU;... (-1: cools nothing)");

// Parsing of the parameters.

int board_parse(const char **at, unsigned int *into, int room)
{
	int count = 0;

	while (**at && **at != ';') {
		char *end;
		unsigned long value = simple_strtoul(*at, &end, 10);

		if (end == *at || count == room)
			return -EINVAL;
		into[count++] = value;
		*at = *end == ',' || *end == '-' || *end == '=' ? end + 1 : end;
		if (*end && *end != ',' && *end != '-' && *end != '=' && *end != ';')
			return -EINVAL;
		if (*end == '=' || *end == ';' || !*end)
			break;
	}
	return count;
}

// cpufreq: the core does everything; the driver only remembers the index.

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

static int cpufreq_start(void)
{
	const char *at = policies;

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


static int __init board_init(void)
{
	int error = cpufreq_start();

	if (!error)
		error = cores_start(core_ctl);
	if (!error)
		error = heat_start(zones);
	if (!error)
		error = adreno_start(kgsl, kgsl_model);
	if (!error)
		error = mali_start(mali, mali_name);
	if (error)
		pr_err("devicelab board: error %d\n", error);
	return error;
}

// Without an exit function it cannot be unloaded: the whole machine is thrown away.
module_init(board_init);

MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("devicelab: a board's tables and nodes in a virtual machine");
