// SPDX-License-Identifier: GPL-2.0 OR MIT
// Core isolation as Qualcomm's core_ctl does it (kernel/sched/core_ctl.c, msm-4.14): idle cores of a cluster are
// isolated while "online" still says 1. A mainline scheduler knows no isolation at run time, so the affinity calls are
// watched: one that leaves no core is answered with EINVAL, and the mask read back hides isolated cores.

#include <linux/cpu.h>
#include <linux/cpufreq.h>
#include <linux/device.h>
#include <linux/kernel_stat.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include "board.h"

#define MAX_CLUSTERS 4
#define PERIOD_MS 50

struct cluster {
	struct kobject *kobj;
	unsigned int first, last;
	unsigned int min_cpus, max_cpus, enable, delay_ms, busy_up, need;
	unsigned long shrink_at;
	bool shrinking;
	u64 idle_us[NR_CPUS > 64 ? 64 : NR_CPUS];
	u64 wall_us;
	struct cpumask busy;
};

static struct cluster clusters[MAX_CLUSTERS];
static int count;
static struct cpumask isolated;
static DEFINE_MUTEX(lock);
static struct delayed_work work;

static unsigned int active_cpus(struct cluster *c)
{
	unsigned int cpu, n = 0;

	for (cpu = c->first; cpu <= c->last; cpu++)
		n += cpu_online(cpu) && !cpumask_test_cpu(cpu, &isolated);
	return n;
}

// A task with no core left is widened to all of them, as the scheduler does when a core goes offline.
static void widen(void)
{
	struct task_struct *group, *task, *stuck;

	do {
		stuck = NULL;
		rcu_read_lock();
		for_each_process_thread(group, task) {
			if (!(task->flags & PF_KTHREAD) && cpumask_subset(task->cpus_ptr, &isolated)) {
				stuck = task;
				get_task_struct(stuck);
				break;
			}
		}
		rcu_read_unlock();
		if (stuck) {
			set_cpus_allowed_ptr(stuck, cpu_possible_mask);
			put_task_struct(stuck);
		}
	} while (stuck);
}

static void settle(struct cluster *c, bool now)
{
	unsigned int wanted, cpu;

	c->need = c->enable ? cpumask_weight(&c->busy) : c->max_cpus;
	wanted = min(max(c->min_cpus, c->need), c->max_cpus);
	if (wanted >= active_cpus(c)) {
		c->shrinking = false;
		for (cpu = c->first; cpu <= c->last && active_cpus(c) < wanted; cpu++)
			cpumask_clear_cpu(cpu, &isolated);
		return;
	}
	if (!c->shrinking) {
		c->shrinking = true;
		c->shrink_at = jiffies + msecs_to_jiffies(c->delay_ms);
	}
	if (!now && time_before(jiffies, c->shrink_at))
		return;
	for (cpu = c->first; cpu <= c->last && active_cpus(c) > wanted; cpu++)
		if (cpu_online(cpu) && (!cpumask_test_cpu(cpu, &c->busy) || active_cpus(c) > c->max_cpus))
			cpumask_set_cpu(cpu, &isolated);
	widen();
}

static void look(struct work_struct *unused)
{
	int i;

	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		struct cluster *c = &clusters[i];
		u64 now = ktime_to_us(ktime_get()), wall = now - c->wall_us;
		unsigned int cpu;

		for (cpu = c->first; cpu <= c->last; cpu++) {
			u64 ignored, idle = get_cpu_idle_time(cpu, &ignored, 1);
			u64 rested = idle - c->idle_us[cpu - c->first];

			c->idle_us[cpu - c->first] = idle;
			if (c->wall_us && rested * 100 < wall * (100 - c->busy_up))
				cpumask_set_cpu(cpu, &c->busy);
			else
				cpumask_clear_cpu(cpu, &c->busy);
		}
		c->wall_us = now;
		settle(c, false);
	}
	mutex_unlock(&lock);
	schedule_delayed_work(&work, msecs_to_jiffies(PERIOD_MS));
}

// Nodes: cpuN/core_ctl/*.

static struct cluster *cluster_of(struct kobject *kobj)
{
	int i;

	for (i = 0; i < count; i++)
		if (clusters[i].kobj == kobj)
			return &clusters[i];
	return NULL;
}

static ssize_t set(struct kobject *kobj, const char *buf, size_t n, size_t field)
{
	struct cluster *c = cluster_of(kobj);
	unsigned int value, size = c->last - c->first + 1;

	if (sscanf(buf, "%u", &value) != 1)
		return -EINVAL;
	mutex_lock(&lock);
	if (field == offsetof(struct cluster, max_cpus))
		value = min(value, size);
	if (field == offsetof(struct cluster, min_cpus))
		value = min(value, c->max_cpus);
	if (field == offsetof(struct cluster, enable))
		value = !!value;
	*(unsigned int *)((char *)c + field) = value;
	c->min_cpus = min(c->min_cpus, c->max_cpus);
	settle(c, false);
	mutex_unlock(&lock);
	return n;
}

#define NODE(name, field)                                                                                \
	static ssize_t name##_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)         \
	{                                                                                                \
		return sysfs_emit(buf, "%u\n", cluster_of(kobj)->field);                                 \
	}                                                                                                \
	static ssize_t name##_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,  \
				    size_t n)                                                            \
	{                                                                                                \
		return set(kobj, buf, n, offsetof(struct cluster, field));                               \
	}                                                                                                \
	static struct kobj_attribute name##_node = __ATTR(name, 0644, name##_show, name##_store)

NODE(min_cpus, min_cpus);
NODE(max_cpus, max_cpus);
NODE(enable, enable);
NODE(offline_delay_ms, delay_ms);
NODE(busy_up_thres, busy_up);

static ssize_t need_cpus_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", cluster_of(kobj)->need);
}

static ssize_t active_cpus_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", active_cpus(cluster_of(kobj)));
}

static struct kobj_attribute need_cpus_node = __ATTR_RO(need_cpus);
static struct kobj_attribute active_cpus_node = __ATTR_RO(active_cpus);

static struct attribute *nodes[] = {
	&min_cpus_node.attr, &max_cpus_node.attr,  &enable_node.attr,	   &offline_delay_ms_node.attr,
	&busy_up_thres_node.attr, &need_cpus_node.attr, &active_cpus_node.attr, NULL,
};

static const struct attribute_group group = { .attrs = nodes };

static ssize_t isolate_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", cpumask_test_cpu(dev->id, &isolated));
}

static DEVICE_ATTR_RO(isolate);

// sched_setaffinity(pid, mask): answered here if no core is left; else the kernel goes on.

void devicelab_return(void);
asm(".pushsection .text\n"
    ".globl devicelab_return\n"
    ".type devicelab_return, @function\n"
    "devicelab_return:\n" ASM_RET ".size devicelab_return, .-devicelab_return\n"
    ".popsection\n");

static int before_set(struct kprobe *p, struct pt_regs *regs)
{
	const struct cpumask *mask = (const struct cpumask *)regs->si;
	unsigned int cpu;

	for_each_cpu_and(cpu, mask, cpu_online_mask)
		if (!cpumask_test_cpu(cpu, &isolated))
			return 0;
	regs->ax = -EINVAL;
	regs->ip = (unsigned long)devicelab_return;
	return 1;
}

static int enter_get(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	*(struct cpumask **)instance->data = (struct cpumask *)regs->si;
	return 0;
}

static int after_get(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct cpumask *mask = *(struct cpumask **)instance->data;

	if (!regs->ax)
		cpumask_andnot(mask, mask, &isolated);
	return 0;
}

static struct kprobe setter = { .symbol_name = "sched_setaffinity", .pre_handler = before_set };
static struct kretprobe getter = {
	.kp.symbol_name = "sched_getaffinity",
	.entry_handler = enter_get,
	.handler = after_get,
	.data_size = sizeof(struct cpumask *),
	.maxactive = 64,
};

int cores_start(const char *spec)
{
	unsigned int cpu;
	int error;

	while (*spec) {
		struct cluster *c = &clusters[count];
		unsigned int ends[2], values[2];

		if (count == MAX_CLUSTERS || board_parse(&spec, ends, 2) != 2 || board_parse(&spec, values, 2) != 2)
			return -EINVAL;
		if (ends[0] > ends[1] || ends[1] >= nr_cpu_ids || ends[1] - ends[0] >= ARRAY_SIZE(c->idle_us))
			return -EINVAL;
		c->first = ends[0], c->last = ends[1];
		c->max_cpus = c->need = c->last - c->first + 1;
		c->min_cpus = min(values[0], c->max_cpus), c->enable = !!values[1];
		c->delay_ms = 100, c->busy_up = 60;
		c->kobj = kobject_create_and_add("core_ctl", &get_cpu_device(c->first)->kobj);
		if (!c->kobj)
			return -ENOMEM;
		count++;
		error = sysfs_create_group(c->kobj, &group);
		if (error)
			return error;
		if (*spec == ';')
			spec++;
	}
	if (!count)
		return 0;
	for_each_possible_cpu(cpu) {
		error = device_create_file(get_cpu_device(cpu), &dev_attr_isolate);
		if (error)
			return error;
	}
	error = register_kprobe(&setter);
	if (!error)
		error = register_kretprobe(&getter);
	INIT_DELAYED_WORK(&work, look);
	schedule_delayed_work(&work, msecs_to_jiffies(PERIOD_MS));
	return error;
}
