"""What sets values of sysctls on this host: files of settings, TuneD's profile, the kernel's command line."""

from tcpdoctor.cli.sysctl_look import apply_files
from tcpdoctor.diagnosis.sysctl_origin import Origin, Source, Sources, origin
from tcpdoctor.facts.sysctl_words import value_as_printed
from tcpdoctor.kernel.boot_settings import read_boot_settings
from tcpdoctor.kernel.live import Identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl_files import Reader, read_tree
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.tuned import read_reapplied, read_tuned


def read_sources() -> tuple[Sources, tuple[str, ...]]:
    """Return all that sets values on this host, and what of it could not be looked at."""
    tree = read_tree()
    applied = apply_files({reader: tree.of(reader) for reader in Reader})
    tuned = read_tuned()
    unseen = [
        f"{clean(file.path, 300)}: {file.content.reason}"
        for file in tree.of(Reader.PROCPS)
        if isinstance(file.content, Missing) and file.content.reason.startswith("permission denied")
    ]
    reapplied = {}
    if isinstance(tuned, Missing):
        unseen.append(f"TuneD's profile: {tuned.reason}")
        tuned = None
    elif tuned is not None:
        unseen += [f"TuneD's profile {each}" for each in tuned.missing]
        reapplied = {each.path: Source("file", each.file, each.line, each.value) for each in read_reapplied()}
    files = [applied.last[reader] for reader in Reader]
    return Sources(read_boot_settings(), files, tuned, reapplied), tuple(unseen)


def origin_here(path: str, value: Reading[SysctlValue], sources: Sources, who: Identity) -> Origin:
    """Return what set a value at a place below /proc/sys, as far as that can be seen."""
    if isinstance(value, Missing):
        return Origin(None, None)
    found = origin(path, value_as_printed(value), sources)
    if found.by is None and who.initial_namespace is False:
        return Origin(None, None)  # files are applied to the initial namespace: there is no wonder
    return found
