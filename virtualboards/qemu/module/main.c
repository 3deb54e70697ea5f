// SPDX-License-Identifier: GPL-2.0 OR MIT
// A board for a virtual machine: registers frequency tables with the real cpufreq core, isolates idle cores as
// Qualcomm's core_ctl does, and offers thermal zones and the nodes of Adreno and Exynos Mali drivers.
// All of it is described by module parameters, so one build serves every kind of board on one kernel.

#include <linux/module.h>

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

static int __init board_init(void)
{
	int error = cpufreq_start(policies);

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
