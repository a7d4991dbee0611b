"""Where the program starts and ends: exit codes, and no traceback for anybody who did not ask for one.

Every Python since 2.7 can read this file and the package's ``__init__``, so that an old one is told in one
line what is needed instead of being shown a syntax error.
"""

import errno
import gc
import os
import sys

UNKNOWN, INTERRUPTED = 3, 130
OLDEST = (3, 10)


def main():  # type: () -> None
    """Run the command line and exit with its code, one of those in tcpdoctor(1); it does not return."""
    try:
        if sys.version_info < OLDEST:
            give_up("Python 3.10 or later is needed, this is " + sys.version.split()[0] + "; " + REMEDY)
        if sys.byteorder != "little":
            give_up("big-endian machines are not supported: nothing was ever tested on one")
        # Start-up creates ten thousand objects that all stay: looking for garbage among them takes 4 ms.
        gc.set_threshold(100000)
        _occupy_standard_descriptors()
        code = _answer(_without_debug(sys.argv[1:]))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except MemoryError:
        give_up("out of memory: nothing was concluded")
    except ImportError as error:
        give_up("this installation is not whole: " + str(error) + "; install tcpdoctor again")
    except BaseException as error:  # nothing may end with 1 or 2, which would be a finding
        give_up(_refused(error) or "a fault of this program: " + type(error).__name__ + ": " + str(error))
    # Everything is written by here, and tearing the interpreter down takes 5 ms.
    os._exit(code)


REMEDY = "run it with a newer one, such as python3.12, or look from another host"


def give_up(text):  # type: (str) -> None
    """Say one line and exit 3: the last resort, which needs nothing but a working write(2).

    Nagios and its relatives show what is on standard output, so they are told there as well.
    """
    line = "".join(char if " " <= char <= "~" else "?" for char in text)[:400]
    try:
        if _asks_for_nagios():
            os.write(1, ("TCPDOCTOR UNKNOWN - " + line.replace("|", "/") + "\n").encode("ascii"))
        else:
            os.write(2, ("tcpdoctor: " + line + "\n").encode("ascii"))
    except OSError:
        pass  # nobody can hear it; the exit code still tells
    os._exit(UNKNOWN)


def _refused(error):  # type: (BaseException) -> str
    """Say what a sandbox or a limit refuses where that is why we cannot go on; else nothing."""
    number = error.errno if isinstance(error, OSError) else None
    if number in LIMITS:
        return LIMITS[number]
    if number not in (errno.EPERM, errno.ENOSYS) or getattr(error, "filename", None):
        return ""
    call = "a system call"
    try:
        os.uname()
    except OSError:
        call = "uname(2)"  # Python's own modules ask for it when they are loaded
    return call + " is refused here (" + os.strerror(number) + "); allow it in the sandbox's seccomp filter"


LIMITS = {
    errno.EMFILE: "too many files are open for this process's limit; raise it (ulimit -n)",
    errno.ENFILE: "the host has no room for another open file: sysctl fs.file-nr fs.file-max",
    errno.ENOMEM: "out of memory: nothing was concluded",
}


def _asks_for_nagios():  # type: () -> bool
    return any(word == "nagios" or word.endswith("=nagios") for word in sys.argv[1:])


def _without_debug(arguments):  # type: (list[str]) -> list[str]
    """Take --debug out, wherever it stands: what it asks for holds from before anything is parsed."""
    if "--debug" in arguments:
        os.environ["TCPDOCTOR_TRACEBACK"] = "1"
    return [word for word in arguments if word != "--debug"]


def _answer(arguments):  # type: (list[str]) -> int
    # Imported here, as all below: an old Python cannot read it, and an interrupt ends as quietly as later.
    from tcpdoctor.prepared import COMMANDS, prepared_text, read_prepared

    text = prepared_text(arguments)
    if text is not None and _is_written(text):
        return 0
    try:
        if arguments[:1] in (["check"], ["states"]):
            from tcpdoctor.cli.hot import answer_hot

            code = answer_hot(arguments, read_prepared().get(COMMANDS, {}))
            if code is not None:
                return code
        from tcpdoctor.cli.app import run

        return run(arguments)
    except Exception as error:  # the outermost edge: whatever it is, exit 1 or 2 would be a false alarm
        _show_traceback()
        name = getattr(error, "name", None) or ""
        if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "tcpdoctor" not in name):
            raise
        from tcpdoctor.cli.output import complain, describe_crash

        refused = _refused(error)
        text = "tcpdoctor: " + refused if refused else describe_crash(error)
        if isinstance(error, OSError) and not _has_proc():
            text = WITHOUT_PROC
        if _asks_for_nagios():
            give_up(text.removeprefix("tcpdoctor: "))
        complain(text)
        return UNKNOWN


WITHOUT_PROC = "tcpdoctor: /proc is not mounted here, and everything is read there: mount -t proc proc /proc"


def _has_proc():  # type: () -> bool
    return os.path.exists("/proc/self/stat")


def _show_traceback():  # type: () -> None
    if os.environ.get("TCPDOCTOR_TRACEBACK"):
        import traceback

        traceback.print_exc()


def _is_written(text):  # type: (str) -> bool
    """Write to standard output; False where that failed and nothing was written, so that all can be told."""
    data, done = text.encode(), 0
    while done < len(data):
        try:
            done += os.write(1, data[done:])
        except BrokenPipeError:
            return True  # a reader that closed the pipe has seen enough
        except OSError:
            if not done:
                return False
            raise
    return True


def _occupy_standard_descriptors():  # type: () -> None
    """Open /dev/null where 0, 1 or 2 is closed, so that no socket or file of ours becomes stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


if __name__ == "__main__":
    main()
