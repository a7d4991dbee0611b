"""What processes are called, also those that are gone by the time somebody asks."""

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.perf_ring import Exited, Forked, Named
from tcpdoctor.kernel.processes import list_programs, read_name, read_task
from tcpdoctor.kernel.reading import Missing


class ProcessNames:
    """The names of the processes that run programs, kept up to date by what the kernel tells of them.

    A process that begins has its parent's name until it has one of its own; one that has ended has none, so
    that its number may pass to another.
    """

    def __init__(self, proc: str = "/proc") -> None:
        """Read who is there."""
        self._names: dict[int, str | None] = dict(list_programs(proc))
        self._proc = proc

    def learn(self, event: Named | Forked | Exited) -> None:
        """Take what happened next to a process."""
        if isinstance(event, Named):
            self._names[event.pid] = event.name
        elif isinstance(event, Forked):
            name = self._names.get(event.parent)
            if name is None:
                self._names.pop(event.pid, None)
            else:
                self._names[event.pid] = name
        else:
            self._names.pop(event.pid, None)

    def name(self, pid: int) -> str | None:
        """Return what a process is called; None for a thread of the kernel, and for who was never seen."""
        if pid not in self._names:
            self._names[pid] = self._read(pid)
        return self._names[pid]

    def _read(self, pid: int) -> str | None:
        try:
            task = read_task(pid, self._proc)
            return None if isinstance(task, Missing) or task.kernel else read_name(pid, self._proc)
        except (OSError, KernelReadError):
            return None  # it has ended meanwhile
