"""Where the program starts and ends: exit codes, and no traceback for anybody who did not ask for one."""

import gc
import os
import sys

from tcpdoctor.prepared import COMMANDS, prepared_text, read_prepared

TYPE_CHECKING = False  # importing typing takes a third of the time of `--version`
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the command line and exit with its code, one of those in tcpdoctor(1)."""
    # Start-up creates ten thousand objects that all stay: looking for garbage among them takes 4 ms.
    gc.set_threshold(100_000)
    try:
        _occupy_standard_descriptors()
        code = _answer(sys.argv[1:])
    except KeyboardInterrupt:
        from tcpdoctor.cli.output import INTERRUPTED

        code = INTERRUPTED
    # Everything is written by here, and tearing the interpreter down takes 5 ms.
    os._exit(code)


def _answer(arguments: list[str]) -> int:
    text = prepared_text(arguments)
    if text is not None and _is_written(text):
        return 0
    try:
        if arguments[:1] in (["check"], ["states"]):
            from tcpdoctor.cli.hot import answer_hot

            code = answer_hot(arguments, read_prepared().get(COMMANDS, {}))
            if code is not None:
                return code
        # Imported here: an interrupt during these 50 ms ends as quietly as a later one.
        from tcpdoctor.cli.app import run

        return run(arguments)
    except Exception as error:  # the outermost edge: whatever it is, exit 1 or 2 would be a false alarm
        from tcpdoctor.cli.output import UNKNOWN, complain, describe_crash

        if os.environ.get("TCPDOCTOR_TRACEBACK"):
            import traceback

            traceback.print_exc()
        complain(describe_crash(error))
        return UNKNOWN


def _is_written(text: str) -> bool:
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


def _occupy_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed, so that no socket or file of ours becomes stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


if __name__ == "__main__":
    main()
