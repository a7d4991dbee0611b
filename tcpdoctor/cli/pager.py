"""A pager for texts that are longer than the terminal, as git uses one: colours stay, short ones pass.

What runs is what the user says with $PAGER; as root, whose PATH others may have a say in, it is
/usr/bin/less alone.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence

_LESS = ("/usr/bin/less", "/bin/less")
_AS_GIT_DOES = "FRX"
"""$LESS where the user has set none: quit if it fits, keep colours, leave the screen as it is."""


def page_text(text: str) -> bool:
    """Show a text in a pager; False where there is none, or it could not be started."""
    command = _pager()
    if command is None:
        return False
    environment = {**os.environ, "LESS": os.environ.get("LESS", _AS_GIT_DOES), "LESSSECURE": "1"}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it belongs to the pager while that runs
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as pager:
            pager.communicate(text.encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    return True


def _pager() -> Sequence[str] | None:
    """What to run; None: the text is printed as it is."""
    wanted = os.environ.get("PAGER") if os.geteuid() else None
    if wanted is not None:
        words = shlex.split(wanted) if wanted.strip() else []
        found = shutil.which(words[0]) if words else None
        return None if found is None or words[0] == "cat" else [os.path.abspath(found), *words[1:]]
    return next(([path] for path in _LESS if os.access(path, os.X_OK)), None)
