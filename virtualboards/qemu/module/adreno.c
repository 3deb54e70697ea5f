// SPDX-License-Identifier: GPL-2.0 OR MIT
// Nodes of Adreno's kgsl driver (drivers/gpu/msm/kgsl_pwrctrl.c, msm-4.14): power levels that are clamped silently,
// level 0 the fastest. There is no GPU behind them.

#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/module.h>

#include "board.h"

#define MAX_LEVELS 32
#define NEAR_HZ 5000000

static unsigned int hz[MAX_LEVELS], levels;
static unsigned int max_level, min_level, limit_level, level, idle_ms = 80;
static unsigned int flags[6] = { 0, 0, 0, 0, 1, 0 };
static unsigned int devfreq_min, devfreq_max;
static const char *model_name;
static char governor[16] = "msm-adreno-tz";
static const char *const governors[] = { "msm-adreno-tz", "performance", "powersave" };
static DEFINE_MUTEX(lock);

static unsigned int thermal_level(void)
{
	return min(max(limit_level, board_gpu_heat), levels - 1);
}

static void settle(void)
{
	unsigned int fastest = min(max(thermal_level(), max_level), levels - 1);
	unsigned int slowest = max(min_level, thermal_level());
	unsigned int i, wanted = levels - 1;
	unsigned int target = !strcmp(governor, "performance") ? devfreq_max : devfreq_min;

	for (i = levels; i-- > 0;)
		if (hz[i] <= target)
			wanted = i;
	level = clamp(wanted, fastest, max(fastest, slowest));
}

static int nearest(unsigned int clock)
{
	int i;

	for (i = levels - 1; i >= 0; i--)
		if (abs((int)hz[i] - (int)clock) < NEAR_HZ)
			return i;
	return -1;
}

#define SHOW(name, format, value)                                                                       \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf)        \
	{                                                                                               \
		return sysfs_emit(buf, format "\n", value);                                             \
	}

#define STORE(name, action)                                                                             \
	static ssize_t name##_store(struct device *dev, struct device_attribute *attr, const char *buf, \
				    size_t n)                                                           \
	{                                                                                               \
		unsigned int value;                                                                     \
		int error = kstrtou32(buf, 0, &value);                                                  \
                                                                                                        \
		if (error)                                                                              \
			return error;                                                                   \
		mutex_lock(&lock);                                                                      \
		action;                                                                                 \
		settle();                                                                               \
		mutex_unlock(&lock);                                                                    \
		return n;                                                                               \
	}                                                                                               \
	static DEVICE_ATTR_RW(name)

SHOW(num_pwrlevels, "%u", levels)
static DEVICE_ATTR_RO(num_pwrlevels);
SHOW(gpu_model, "%s", model_name)
static DEVICE_ATTR_RO(gpu_model);
SHOW(gpu_busy_percentage, "%d %%", 0)
static DEVICE_ATTR_RO(gpu_busy_percentage);
SHOW(max_pwrlevel, "%u", max_level)
STORE(max_pwrlevel, max_level = min(value, min_level));
SHOW(min_pwrlevel, "%u", min_level)
STORE(min_pwrlevel, min_level = max(min(value, levels - 1), max_level));
SHOW(thermal_pwrlevel, "%u", thermal_level())
STORE(thermal_pwrlevel, limit_level = min(value, levels - 1));
SHOW(max_gpuclk, "%u", hz[thermal_level()])
STORE(max_gpuclk, if (nearest(value) >= 0) limit_level = nearest(value));
SHOW(gpuclk, "%u", hz[level])
STORE(gpuclk, (void)value);
SHOW(idle_timer, "%u", idle_ms)
STORE(idle_timer, idle_ms = value);

#define FLAG(name, index)                  \
	SHOW(name, "%u", flags[index])     \
	STORE(name, flags[index] = !!value)

FLAG(force_clk_on, 0);
FLAG(force_bus_on, 1);
FLAG(force_rail_on, 2);
FLAG(force_no_nap, 3);
FLAG(bus_split, 4);

static ssize_t gpu_available_frequencies_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	unsigned int i;
	int n = 0;

	for (i = 0; i < levels; i++)
		n += sysfs_emit_at(buf, n, "%u ", hz[i]);
	return n + sysfs_emit_at(buf, n, "\n");
}

static DEVICE_ATTR_RO(gpu_available_frequencies);

static struct attribute *level_attrs[] = {
	&dev_attr_num_pwrlevels.attr,	 &dev_attr_gpu_model.attr,	  &dev_attr_gpu_busy_percentage.attr,
	&dev_attr_max_pwrlevel.attr,	 &dev_attr_min_pwrlevel.attr,	  &dev_attr_thermal_pwrlevel.attr,
	&dev_attr_max_gpuclk.attr,	 &dev_attr_gpuclk.attr,		  &dev_attr_idle_timer.attr,
	&dev_attr_force_clk_on.attr,	 &dev_attr_force_bus_on.attr,	  &dev_attr_force_rail_on.attr,
	&dev_attr_force_no_nap.attr,	 &dev_attr_bus_split.attr,	  &dev_attr_gpu_available_frequencies.attr,
	NULL,
};

ATTRIBUTE_GROUPS(level);

// The devfreq directory, by the rules before 5.5: a minimum above the maximum is refused.

static ssize_t freq_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int i;
	int n = 0;

	if (!strcmp(attr->attr.name, "governor"))
		return sysfs_emit(buf, "%s\n", governor);
	if (!strcmp(attr->attr.name, "available_governors")) {
		for (i = 0; i < ARRAY_SIZE(governors); i++)
			n += sysfs_emit_at(buf, n, "%s%s", i ? " " : "", governors[i]);
		return n + sysfs_emit_at(buf, n, "\n");
	}
	if (!strcmp(attr->attr.name, "available_frequencies")) {
		for (i = levels; i-- > 0;)
			n += sysfs_emit_at(buf, n, "%u%s", hz[i], i ? " " : "");
		return n + sysfs_emit_at(buf, n, "\n");
	}
	if (!strcmp(attr->attr.name, "cur_freq"))
		return sysfs_emit(buf, "%u\n", hz[level]);
	return sysfs_emit(buf, "%u\n", !strcmp(attr->attr.name, "min_freq") ? devfreq_min : devfreq_max);
}

static ssize_t freq_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t n)
{
	unsigned int value, i;

	if (!strcmp(attr->attr.name, "governor")) {
		for (i = 0; i < ARRAY_SIZE(governors); i++) {
			if (sysfs_streq(buf, governors[i])) {
				strscpy(governor, governors[i], sizeof(governor));
				settle();
				return n;
			}
		}
		return -ENODEV;
	}
	if (sscanf(buf, "%u", &value) != 1)
		return -EINVAL;
	if (!strcmp(attr->attr.name, "min_freq")) {
		value = value ? value : hz[levels - 1];
		if (value > devfreq_max)
			return -EINVAL;
		devfreq_min = value;
	} else {
		value = value ? value : hz[0];
		if (value < devfreq_min)
			return -EINVAL;
		devfreq_max = value;
	}
	settle();
	return n;
}

#define FREQ(name, mode) \
	static struct kobj_attribute freq_##name = __ATTR(name, mode, freq_show, (mode) == 0444 ? NULL : freq_store)

FREQ(governor, 0644);
FREQ(min_freq, 0644);
FREQ(max_freq, 0644);
FREQ(cur_freq, 0444);
FREQ(available_governors, 0444);
FREQ(available_frequencies, 0444);

static struct attribute *freq_attrs[] = {
	&freq_governor.attr, &freq_min_freq.attr,	     &freq_max_freq.attr,
	&freq_cur_freq.attr, &freq_available_governors.attr, &freq_available_frequencies.attr,
	NULL,
};

static const struct attribute_group freq_group = { .name = "devfreq", .attrs = freq_attrs };

int adreno_start(const char *spec, const char *model)
{
	struct class *class;
	struct device *dev;
	int got;

	if (!*spec)
		return 0;
	got = board_parse(&spec, hz, MAX_LEVELS);
	if (got < 1)
		return -EINVAL;
	levels = got, model_name = model;
	min_level = level = levels - 1;
	devfreq_min = hz[levels - 1], devfreq_max = hz[0];
	class = class_create(THIS_MODULE, "kgsl");
	if (IS_ERR(class))
		return PTR_ERR(class);
	dev = device_create_with_groups(class, NULL, 0, NULL, level_groups, "kgsl-3d0");
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	return sysfs_create_group(&dev->kobj, &freq_group);
}
