// SPDX-License-Identifier: GPL-2.0 OR MIT
// Nodes of Samsung's Mali driver (gpu_custom_interface.c and gpu_dvfs_api.c, b_r19p0): a fixed clock, locks that read
// "locked / user". There is no GPU behind them. kHz, fastest first.

#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "board.h"

#define MAX_KHZ 32

static unsigned int khz[MAX_KHZ], clocks;
static unsigned int fixed, max_lock, min_lock, max_input, min_input;
static bool dvfs = true, tmu = true, always_on;
static DEFINE_MUTEX(lock);

static unsigned int heat_lock(void)
{
	return tmu && board_gpu_heat ? khz[min(board_gpu_heat, clocks - 1)] : 0;
}

static unsigned int upper(void)
{
	unsigned int heat = heat_lock();

	return heat && max_lock ? min(heat, max_lock) : heat ? heat : max_lock;
}

static ssize_t clock_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", always_on ? fixed : 0);
}

static ssize_t clock_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t n)
{
	unsigned int i;
	int value;

	if (kstrtoint(buf, 0, &value))
		return -ENOENT;
	mutex_lock(&lock);
	if (!value) {
		always_on = false, tmu = true, dvfs = true;
	} else {
		if (dvfs)
			fixed = khz[clocks > 2 ? clocks - 3 : 0];
		always_on = true, tmu = false, dvfs = false;
		for (i = 0; i < clocks; i++)
			if (khz[i] == value)
				fixed = value;
	}
	mutex_unlock(&lock);
	return n;
}

static DEVICE_ATTR_RW(clock);

static ssize_t take_lock(const char *buf, size_t n, bool top)
{
	unsigned int i, rounded = 0, *into = top ? &max_lock : &min_lock;
	int value;

	if (kstrtoint(buf, 0, &value))
		return -ENOENT;
	*(top ? &max_input : &min_input) = value;
	for (i = clocks; i-- > 0;)
		if (value >= (int)khz[i])
			rounded = khz[i];
	if (value && !rounded)
		return -ENOENT;
	if (dvfs)
		*into = !value || rounded == khz[top ? 0 : clocks - 1] ? 0 : rounded;
	return n;
}

static ssize_t dvfs_max_lock_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return upper() ? sysfs_emit(buf, "%u / %u\n", upper(), max_input) : sysfs_emit(buf, "-1\n");
}

static ssize_t dvfs_max_lock_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t n)
{
	return take_lock(buf, n, true);
}

static ssize_t dvfs_min_lock_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return min_lock ? sysfs_emit(buf, "%u / %u\n", min_lock, min_input) : sysfs_emit(buf, "-1\n");
}

static ssize_t dvfs_min_lock_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t n)
{
	return take_lock(buf, n, false);
}

static DEVICE_ATTR_RW(dvfs_max_lock);
static DEVICE_ATTR_RW(dvfs_min_lock);

static ssize_t dvfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", dvfs);
}

static ssize_t tmu_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", tmu);
}

static ssize_t dvfs_table_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	unsigned int i;
	int n = 0;

	for (i = 0; i < clocks; i++)
		n += sysfs_emit_at(buf, n, " %u", khz[i]);
	return n + sysfs_emit_at(buf, n, "\n");
}

static DEVICE_ATTR_RO(dvfs);
static DEVICE_ATTR_RO(tmu);
static DEVICE_ATTR_RO(dvfs_table);

static struct attribute *attrs[] = {
	&dev_attr_clock.attr, &dev_attr_dvfs_max_lock.attr, &dev_attr_dvfs_min_lock.attr,
	&dev_attr_dvfs.attr,  &dev_attr_tmu.attr,	    &dev_attr_dvfs_table.attr,
	NULL,
};

static const struct attribute_group group = { .attrs = attrs };

// /sys/kernel/gpu

static ssize_t gpu_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int i;
	int n = 0;

	if (!strcmp(attr->attr.name, "gpu_model"))
		return sysfs_emit(buf, "(Unknown Mali GPU)\n");
	if (!strcmp(attr->attr.name, "gpu_max_clock"))
		return sysfs_emit(buf, "%u\n", upper() ? upper() : khz[0]);
	if (!strcmp(attr->attr.name, "gpu_min_clock"))
		return sysfs_emit(buf, "%u\n", min_lock ? min_lock : khz[clocks - 1]);
	for (i = clocks; i-- > 0;)
		n += sysfs_emit_at(buf, n, "%u ", khz[i]);
	return n + sysfs_emit_at(buf, n, "\n");
}

static ssize_t gpu_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t n)
{
	return take_lock(buf, n, !strcmp(attr->attr.name, "gpu_max_clock"));
}

static struct kobj_attribute gpu_model_node = __ATTR(gpu_model, 0444, gpu_show, NULL);
static struct kobj_attribute gpu_freq_table_node = __ATTR(gpu_freq_table, 0444, gpu_show, NULL);
static struct kobj_attribute gpu_max_clock_node = __ATTR(gpu_max_clock, 0644, gpu_show, gpu_store);
static struct kobj_attribute gpu_min_clock_node = __ATTR(gpu_min_clock, 0644, gpu_show, gpu_store);

static struct attribute *gpu_attrs[] = {
	&gpu_model_node.attr, &gpu_freq_table_node.attr, &gpu_max_clock_node.attr, &gpu_min_clock_node.attr, NULL,
};

static const struct attribute_group gpu_group = { .attrs = gpu_attrs };

int mali_start(const char *spec, const char *name)
{
	struct platform_device *dev;
	struct kobject *kobj;
	int got, error;

	if (!*spec)
		return 0;
	got = board_parse(&spec, khz, MAX_KHZ);
	if (got < 1)
		return -EINVAL;
	clocks = got, fixed = khz[clocks - 1];
	dev = platform_device_register_simple(name, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	error = sysfs_create_group(&dev->dev.kobj, &group);
	if (error)
		return error;
	kobj = kobject_create_and_add("gpu", kernel_kobj);
	return kobj ? sysfs_create_group(kobj, &gpu_group) : -ENOMEM;
}
