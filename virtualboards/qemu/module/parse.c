// SPDX-License-Identifier: GPL-2.0 OR MIT
// Parsing of the module's parameters.

#include <linux/errno.h>
#include <linux/kernel.h>

#include "board.h"

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
