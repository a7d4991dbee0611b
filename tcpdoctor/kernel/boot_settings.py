"""Settings on the kernel's command line: ``sysctl.net.ipv4.tcp_sack=0``, since Linux 5.8."""

from collections.abc import Mapping

from tcpdoctor.kernel.procfile import read_kernel_file
from tcpdoctor.kernel.text import clean, decode

_PREFIXES = ("sysctl.", "sysctl/")


def read_boot_settings(path: str = "/proc/cmdline") -> Mapping[str, str]:
    """Return the values by place below /proc/sys; nothing where the command line cannot be read.

    Source: Linux fs/proc/proc_sysctl.c, process_sysctl_arg(): every dot becomes a slash.
    """
    try:
        words = decode(read_kernel_file(path)).split()
    except OSError:
        return {}
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.startswith(_PREFIXES):
            found[clean(key[7:].replace(".", "/"))] = clean(value)
    return found
