// SPDX-License-Identifier: GPL-2.0 OR MIT
// Thermal zones with one passive trip each, throttled by the kernel's own step_wise governor, and a node that sets the
// temperature from outside: /sys/devicelab_heat (millidegrees).

#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/thermal.h>

#include "board.h"

#define POLL_MS 100

static int temperature = 35000;
unsigned int board_gpu_heat;

struct spot {
	char type[THERMAL_NAME_LENGTH];
	int trip;
	int cpu; /* -1: cools nothing, -2: the GPU */
	unsigned long state;
	struct thermal_zone_device *dev;
	struct thermal_cooling_device *cooler;
};

static int cooler_max(struct thermal_cooling_device *dev, unsigned long *state)
{
	struct spot *z = dev->devdata;

	*state = z->cpu >= 0 ? board_states(z->cpu) - 1 : 4;
	return 0;
}

static int cooler_get(struct thermal_cooling_device *dev, unsigned long *state)
{
	*state = ((struct spot *)dev->devdata)->state;
	return 0;
}

static int cooler_set(struct thermal_cooling_device *dev, unsigned long state)
{
	struct spot *z = dev->devdata;

	z->state = state;
	if (z->cpu >= 0)
		board_limit(z->cpu, state);
	else
		board_gpu_heat = state;
	return 0;
}

static const struct thermal_cooling_device_ops cooler_ops = {
	.get_max_state = cooler_max,
	.get_cur_state = cooler_get,
	.set_cur_state = cooler_set,
};

static int zone_temp(struct thermal_zone_device *dev, int *temp)
{
	*temp = temperature;
	return 0;
}

static int zone_bind(struct thermal_zone_device *dev, struct thermal_cooling_device *cooler)
{
	struct spot *z = dev->devdata;

	if (cooler->devdata != z)
		return 0;
	return thermal_zone_bind_cooling_device(dev, 0, cooler, THERMAL_NO_LIMIT, THERMAL_NO_LIMIT,
						THERMAL_WEIGHT_DEFAULT);
}

static int zone_trip_type(struct thermal_zone_device *dev, int trip, enum thermal_trip_type *type)
{
	*type = THERMAL_TRIP_PASSIVE;
	return 0;
}

static int zone_trip_temp(struct thermal_zone_device *dev, int trip, int *temp)
{
	*temp = ((struct spot *)dev->devdata)->trip;
	return 0;
}

static struct thermal_zone_device_ops zone_ops = {
	.bind = zone_bind,
	.get_temp = zone_temp,
	.get_trip_type = zone_trip_type,
	.get_trip_temp = zone_trip_temp,
};

static ssize_t heat_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", temperature);
}

static ssize_t heat_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t n)
{
	int error = kstrtoint(buf, 10, &temperature);

	return error ? error : n;
}

static struct kobj_attribute heat_node = __ATTR(heat, 0644, heat_show, heat_store);

int heat_start(const char *spec)
{
	struct kobject *home = kobject_create_and_add("devicelab", NULL);
	int number = 0, error;

	if (!home)
		return -ENOMEM;
	error = sysfs_create_file(home, &heat_node.attr);
	while (*spec && !error) {
		struct spot *z = kzalloc(sizeof(*z), GFP_KERNEL);
		char name[THERMAL_NAME_LENGTH];
		int used = 0;

		if (!z)
			return -ENOMEM;
		if (sscanf(spec, "%19[^=]=%d,%d%n", z->type, &z->trip, &z->cpu, &used) != 3)
			return -EINVAL;
		spec += used;
		if (*spec == ';')
			spec++;
		if (z->cpu != -1) {
			snprintf(name, sizeof(name), z->cpu >= 0 ? "thermal-cpufreq-%d" : "thermal-gpufreq-%d",
				 z->cpu >= 0 ? number++ : 0);
			z->cooler = thermal_cooling_device_register(name, z, &cooler_ops);
			if (IS_ERR(z->cooler))
				return PTR_ERR(z->cooler);
		}
		z->dev = thermal_zone_device_register(z->type, z->cpu != -1, 0, z, &zone_ops, NULL, POLL_MS, POLL_MS);
		if (IS_ERR(z->dev))
			return PTR_ERR(z->dev);
		error = thermal_zone_device_enable(z->dev);
	}
	return error;
}
