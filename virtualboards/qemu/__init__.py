"""Virtual boards with a real kernel: Debian's, in QEMU, with a module that registers the board's frequency tables.

Hotplug, affinity, /proc/stat, limits and time_in_state are the kernel's own there. Reached over ssh (transport
``qemu``). Needs Debian's packages ``qemu-system-x86 linux-image-cloud-amd64 linux-headers-cloud-amd64 dropbear-bin
busybox-static gcc make`` (or kernel packages of another flavour); nothing of it has to be booted on the host.
"""
