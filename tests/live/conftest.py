"""Live tests compare with other programs that read the same kernel."""

import os
import shutil

import pytest

PACKAGES = {
    "ss": "iproute2",
    "nstat": "iproute2",
    "ip": "iproute2",
    "sysctl": "procps",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "strace": "strace",
}
"""The programs, and where Debian has them; .ci/setup installs what is missing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = [program for program in PACKAGES if shutil.which(program) is None]
    if not absent or os.environ.get("CI"):
        return
    packages = " ".join(dict.fromkeys(PACKAGES[program] for program in absent))
    reason = f"no {', '.join(absent)} to compare with: apt-get install {packages}"
    for item in items:
        if item.path.parent.name == "live":
            item.add_marker(pytest.mark.skip(reason=reason))
