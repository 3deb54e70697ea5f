"""What is to be measured: the file, its checks, the plan, tenants, targets, bounds and evidence. Pure."""
